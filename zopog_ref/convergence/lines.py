"""The rows of `zopog verify`: every labelled line with its statement, the function that checks it and its test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Comparison, Equality, Inequality, z_threshold

Status = Literal["proved", "reported", "reported, confirmed", "measured"]


@dataclass(frozen=True)
class Line:
    """One row. key is unique; label is that of docs/theory.md; required rows decide the exit code."""

    key: str
    label: str
    statement: str
    status: Status
    function: Callable[..., Any]
    test: str  # file::function under tests/convergence
    check: Callable[[Bench], Comparison | Sequence[Comparison]]
    required: bool = True


@dataclass(frozen=True)
class Result:
    """A row with its numbers: of several comparisons the one furthest from holding stands for the row."""

    line: Line
    comparisons: tuple[Comparison, ...]
    threshold: float

    @property
    def holds(self) -> bool:
        """All comparisons of the row hold."""
        return all(c.holds(self.threshold) for c in self.comparisons)

    @property
    def shown(self) -> Comparison:
        """The comparison to print."""
        return max(self.comparisons, key=_distance)

    @property
    def ratios(self) -> tuple[float, float] | None:
        """The smallest and the largest share of a bound that is used, over the row's comparisons."""
        found = [c.ratio for c in self.comparisons if isinstance(c, Inequality) and c.ratio == c.ratio]
        return (min(found), max(found)) if found else None


def _distance(c: Comparison) -> float:
    value = abs(c.z) if isinstance(c, Equality) else c.ratio
    return float("inf") if value != value and isinstance(c, Equality) else (-1.0 if value != value else value)


def evaluate(lines: Sequence[Line], bench: Bench, progress: Callable[[Line], None] = lambda line: None) -> list[Result]:
    """Check lines. The z threshold comes from how many sampled equalities the whole run has (Bonferroni)."""
    found = []
    for line in lines:
        progress(line)
        checked = line.check(bench)
        found.append((line, (checked,) if not isinstance(checked, Sequence) else tuple(checked)))
    threshold = z_threshold(max(1, sampled(c for _, comparisons in found for c in comparisons)))
    return [Result(line, comparisons, threshold) for line, comparisons in found]


def sampled(comparisons: Any) -> int:
    """How many of the comparisons carry a Monte-Carlo error."""
    return sum(isinstance(c, Equality) and not c.exact for c in comparisons)
