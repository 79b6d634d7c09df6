"""A verification run as data: one dictionary a row for verify.json, and the table for the terminal."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zopog_ref.app.report.terminal import table as aligned
from zopog_ref.convergence.comparison import FAMILY_ERROR, Comparison, Equality
from zopog_ref.convergence.lines import Line, Result, sampled

ROOT = Path(__file__).resolve().parents[3]  # the repository, where there is one


def function_link(line: Line) -> str:
    """path#Lline of the function, relative to the repository."""
    path = Path(inspect.getfile(line.function)).resolve().relative_to(ROOT)
    return f"{path.as_posix()}#L{inspect.getsourcelines(line.function)[1]}"


def test_link(line: Line) -> str:
    """path#Lline of the test, relative to the repository; without the line where the tests are not installed."""
    file, name = line.test.split("::")
    path = ROOT / "tests" / "convergence" / file
    relative = f"tests/convergence/{file}"
    if not path.exists():
        return relative
    lines = path.read_text(encoding="utf-8").splitlines()
    return f"{relative}#L{next((i for i, text in enumerate(lines, 1) if text.startswith(f'def {name}(')), 1)}"


def row(result: Result) -> dict[str, Any]:
    """A row for verify.json: the comparison furthest from holding, and all of them under "cases"."""
    line = result.line
    return {
        "key": line.key, "label": line.label, "statement": line.statement, "status": line.status,
        **_numbers(result.shown), "ratios": [_finite(x) for x in result.ratios or ()],
        "threshold": result.threshold, "holds": result.holds, "required": line.required,
        "function": function_link(line), "test": test_link(line), "cases": [_numbers(c) for c in result.comparisons],
    }  # fmt: skip


def _numbers(c: Comparison) -> dict[str, Any]:
    common = {"left": _finite(c.left), "right": _finite(c.right), "ratio": _finite(c.ratio), "case": c.case}
    if isinstance(c, Equality):
        return {"relation": "=", **common, "z": _finite(c.z), "uncertainty": float(c.uncertainty), "exact": c.exact}
    return {"relation": "<=", **common}


def _finite(value: float) -> float | None:
    """JSON has no nan and no infinity."""
    return float(value) if abs(value) < float("inf") else None


def summary(results: Sequence[Result], skipped: Sequence[str]) -> dict[str, Any]:
    """Counts, and the family-wise error that goes with the z threshold."""
    required = [r for r in results if r.line.required]
    return {
        "rows": len(results), "required": len(required), "required_holding": sum(r.holds for r in required),
        "sampled_comparisons": sampled(c for r in results for c in r.comparisons),
        "z_threshold": results[0].threshold if results else None, "family_wise_error": FAMILY_ERROR,
        "skipped": list(skipped),
    }  # fmt: skip


def verdict(result: Result, failing: str = "FAILS") -> str:
    """holds, FAILS, or for a row that nothing rests on: does not hold."""
    if result.holds:
        return "holds"
    return failing if result.line.required else "does not hold"


def span(result: Result) -> str:
    """The share of a bound that is used, from the least of the row's cases to the most."""
    if result.ratios is None:
        return "-"
    low, high = result.ratios
    return f"{high:.2g}" if high - low < 0.01 * abs(high) else f"{low:.2g} to {high:.2g}"


def table(results: Sequence[Result], failing: str = "FAILS") -> str:
    """The table for the terminal; failing is the verdict of a required row that does not hold."""
    rows = []
    for r in results:
        c, line = r.shown, r.line
        measure = f"z = {c.z:9.2g}" if isinstance(c, Equality) else f"ratio {span(r)}"
        numbers = (f"{c.left:.5g}", f"{c.right:.5g}", measure)
        rows.append((line.label, line.statement[:52], line.status, *numbers, verdict(r, failing)))
    header = ("label", "statement", "status", "left", "right", "ratio or z", "verdict")
    return aligned(header, rows, "lllrrrl", (4, 52, 20, 10, 10, 20))
