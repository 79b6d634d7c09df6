"""The tables of docs/benchmark.md are those of the results that are kept beside their tasks."""

from pathlib import Path

from benchmarks.curve import tables

ROOT = Path(__file__).parents[2]


def test_the_page_says_what_the_results_say() -> None:
    page = (ROOT / "docs" / "benchmark.md").read_text("utf-8")
    assert tables.filled(page) == page
    results = sorted((ROOT / "benchmarks" / "curve" / "results").glob("*.csv"))
    assert results
    for path in results:
        before, mark, after = page.partition(f"<!-- {path.stem} -->")
        cell = f"{100 * float(tables.read(path)[-1]['accuracy']):.1f}"
        changed = before + mark + after.replace(cell, "99.9", 1)
        assert changed != page
        assert tables.filled(changed) == page  # the twin


def test_a_table_has_a_dash_for_what_was_not_run() -> None:
    line = {
        "row": "zo-pog", "budget": "50", "accuracy": "0.5", "accuracy_low": "0.4", "accuracy_high": "0.6", "nll": "1.25",
        "accuracy_tied": "1", "accuracy_frontier": "0", "seeds": "42 14 81",
    }  # fmt: skip
    other = line | {"row": "manual", "budget": "3", "accuracy_tied": "0", "accuracy_frontier": "1", "seeds": "42"}
    assert tables.table([line, other]).splitlines() == [
        "| | 3 calls | 50 calls | NLL at the last |",
        "|---|---|---|---|",
        "| zo-pog | – | **50.0** (40.0–60.0) | 1.250 |",
        "| manual | 50.0 ○ (40.0–60.0, 1 seed) | – | 1.250 |",
    ]
