"""report.html of a curve: a task's pictures, its tables, and what to do with how many calls."""

from typing import NamedTuple

from zopog_ref.app.compare.curve.panels import pictures
from zopog_ref.app.compare.curve.results import METRICS, At, Curve, CurveTask, Row
from zopog_ref.app.compare.plan import READ
from zopog_ref.app.compare.statistics import FEW_SEEDS
from zopog_ref.app.report.html import render


class Verdict(NamedTuple):
    """Of one budget: the highest row, what is not significantly worse, and the best search beside it."""

    budget: int
    best: Row
    at: At
    tied: list[str]
    search: Row | None
    search_at: At | None


def page(found: Curve) -> str:
    """The whole page, from what curve.json holds."""
    tasks = [task for task in found.tasks if task.rows]
    runs = {(task.name, row.of, at.run) for task in tasks for row in task.rows for at in row.at}
    return render(
        "curve.html",
        found=found,
        tasks=[(task, pictures(task, found.budgets), verdicts(task, found.budgets)) for task in tasks],
        metrics=METRICS,
        runs=len(runs) * len(found.seeds),
        missing=sum(sum(task.unfinished.values()) for task in found.tasks),
        few_seeds=len(found.seeds) <= FEW_SEEDS,
    )


def verdicts(task: CurveTask, budgets: list[int]) -> list[Verdict]:
    """What each budget buys, by test accuracy; the template with a readout goes before a row that equals it."""
    out = []
    for budget in budgets:
        rows = [(row, at) for row in task.rows if (at := row.on(budget))]
        if not rows:
            continue
        best, at = max(rows, key=lambda pair: (pair[1].accuracy.mean, pair[0].name == READ, -pair[1].calls))
        tied = [row.name for row, other in rows if other.accuracy.tied and row is not best]
        searches = [pair for pair in rows if not pair[0].baseline]
        search = max(searches, key=lambda pair: pair[1].accuracy.mean, default=(None, None))
        out.append(Verdict(budget, best, at, tied, *search))
    return out
