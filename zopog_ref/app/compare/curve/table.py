"""A curve as the terminal shows it, and as CSV."""

import csv
import io

from zopog_ref.app.compare.curve.results import METRICS, Curve, CurveTask, Row
from zopog_ref.app.compare.statistics import FEW_SEEDS
from zopog_ref.app.report.terminal import table as aligned


def table(found: Curve) -> str:
    """Every task's rows, a column a budget: accuracy in percent."""
    out = []
    for task in found.tasks:
        out.append(f"{task.name}: {task.test_rows} test rows, always the most frequent class {task.majority:.1%}")
        header = ("accuracy, % of calls:", *(f"{budget:,}" for budget in found.budgets))
        rows = [_line(found, task, row) for row in task.ranked(found.budgets[-1])]
        out += [aligned(header, rows, "l" + "r" * len(found.budgets)), ""]
    out.append(
        "* the highest of its column, or not surely lower (paired, 95%); ! nothing better for as few calls; "
        "- the budget does not pay it; ? not run"
    )
    if len(found.seeds) <= FEW_SEEDS:
        out.append(f"too few seeds ({len(found.seeds)}) for intervals to trust: give five or more")
    out += [f"failed: {f.task}, {f.method}, seed {f.seed}: {f.error}" for f in found.failed]
    return "\n".join(out) + "\n"


def _line(found: Curve, task: CurveTask, row: Row) -> tuple[str, ...]:
    cells = []
    for budget in found.budgets:
        at = row.on(budget)
        if at is None:
            cells.append("-" if budget < row.least else "?")
        else:
            marks = ("*" if at.accuracy.tied else "") + ("!" if at.accuracy.frontier else "")
            cells.append(f"{marks} {100 * at.accuracy.mean:.1f}".strip())
    return (row.name, *cells)


def as_csv(found: Curve) -> str:
    """A line for every task, row and budget."""
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    of_metrics = [f"{metric}{what}" for metric in METRICS for what in ("", "_low", "_high", "_tied", "_frontier")]
    lines.writerow(["model", "task", "row", "method", "reading", "budget", "calls", "templates", "seeds", *of_metrics])
    for task in found.tasks:
        for row in task.rows:
            for at in row.at:
                numbers: list[object] = []
                for mean in (at.accuracy, at.nll):
                    numbers += [f"{value:.6f}" for value in (mean.mean, mean.low, mean.high)]
                    numbers += [int(mean.tied), int(mean.frontier)]
                about = (row.name, row.of, row.reading, at.budget, f"{at.calls:g}", at.templates)
                lines.writerow([found.model, task.name, *about, " ".join(map(str, at.seeds)), *numbers])
    return text.getvalue()
