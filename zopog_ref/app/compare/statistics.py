"""Which differences between methods are more than chance: every pair, the best, the manual prompt."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_ref.app.compare.paired import Estimate, best_p_values, crossed, fixed_seeds, holm, nested, sign_test
from zopog_ref.app.errors import InputError

LEVEL = 0.95
HIGHER_IS_BETTER = {"accuracy": True, "nll": False, "brier": False}


@dataclass(frozen=True)
class Scores:
    """Of one run on its test rows: which rows, and by metric a score a row."""

    rows: NDArray[np.int64]
    of: dict[str, NDArray[np.float64]]


def statistics(scores: Mapping[str, Mapping[int, Scores]], manual: str) -> dict[str, Any]:
    """scores: method -> seed -> scores. By metric: means with intervals, the best method and those tied with it,
    differences to the best and to the manual prompt, and of every pair. All intervals are at LEVEL.

    Seeds that one of two methods lacks (a failed run) are left out of that pair alone.
    """
    names = list(scores)
    same = _same_rows(scores)
    found: dict[str, Any] = {"level": LEVEL, "methods": names, "same_test_rows": same, "metrics": {}}
    for metric, higher in HIGHER_IS_BETTER.items():
        sign = 1.0 if higher else -1.0
        own = {name: _mean([s.of[metric] for s in scores[name].values()], same) for name in names}
        pairs = {(a, b): difference(scores[a], scores[b], metric, same) for a in names for b in names if a != b}
        below = np.ones((len(names), len(names)))  # of "row is at least as good as column"
        for (a, b), pair in pairs.items():
            if pair is not None:
                below[names.index(a), names.index(b)] = pair.p_below if higher else pair.p_above
        p_best = best_p_values(below)
        best = max(names, key=lambda name: sign * own[name].mean)
        found["metrics"][metric] = {
            "higher_is_better": higher,
            "best": best,
            "methods": {
                name: {
                    **(_json(own[name]) or {}),
                    "p_best": float(p_best[i]),
                    "among_best": bool(p_best[i] > 1 - LEVEL),
                    "against_best": _json(pairs.get((name, best))),
                }
                for i, name in enumerate(names)
            },
            "differences": [[_json(pairs.get((a, b))) for b in names] for a in names],
        }
        if manual in names:
            _against_manual(found["metrics"][metric]["methods"], pairs, scores, metric, manual, same)
    return found


def _against_manual(
    rows: dict[str, Any], pairs: Mapping[tuple[str, str], Estimate | None], scores: Mapping[str, Mapping[int, Scores]],
    metric: str, manual: str, same: bool,
) -> None:  # fmt: skip
    """Difference of every method to the manual prompt, with Holm's correction over the methods."""
    others = [name for name in rows if name != manual and pairs[name, manual] is not None]
    if not others:
        return
    adjusted = holm([pairs[name, manual].p_value for name in others])  # type: ignore[union-attr]
    for name, p in zip(others, adjusted):
        entry = {**(_json(pairs[name, manual]) or {}), "p_holm": float(p)}
        gaps = _gaps(scores[name], scores[manual], metric)
        if same:
            entry["these_runs"] = _json(fixed_seeds(np.stack(gaps), LEVEL))
        if metric == "accuracy":
            counts = [(int((gap > 0).sum()), int((gap < 0).sum())) for gap in gaps]
            entry["each_seed"] = [{"wins": w, "losses": k, "p": sign_test(w, k)} for w, k in counts]
        rows[name]["against_manual"] = entry


def difference(a: Mapping[int, Scores], b: Mapping[int, Scores], metric: str, same: bool) -> Estimate | None:
    """Mean of a's scores minus b's over the seeds both have; None when they have none in common.

    Errors: InputError when a seed's test rows differ between the two.
    """
    gaps = _gaps(a, b, metric)
    return _mean(gaps, same) if gaps else None


def _gaps(a: Mapping[int, Scores], b: Mapping[int, Scores], metric: str) -> list[NDArray[np.float64]]:
    common = sorted(a.keys() & b.keys())
    for seed in common:
        if not np.array_equal(a[seed].rows, b[seed].rows):
            raise InputError(f"the runs with seed {seed} were tested on different rows: they cannot be compared")
    return [a[seed].of[metric] - b[seed].of[metric] for seed in common]


def _mean(values: list[NDArray[np.float64]], same: bool) -> Estimate:
    return crossed(np.stack(values), LEVEL) if same else nested(list(values), LEVEL)


def _same_rows(scores: Mapping[str, Mapping[int, Scores]]) -> bool:
    rows = [s.rows for runs in scores.values() for s in runs.values()]
    return all(np.array_equal(rows[0], other) for other in rows)


def _json(estimate: Estimate | None) -> dict[str, Any] | None:
    """None for what does not exist; degrees of freedom as they are."""
    if estimate is None:
        return None
    return {**{k: v for k, v in asdict(estimate).items() if k != "level"}, "p": estimate.p_value}
