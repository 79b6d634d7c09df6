"""report.html: a comparison in one file that needs nothing else, safe to send; what it says is in its templates."""

from collections.abc import Iterator
from typing import Any

from zopog_ref.app.compare.panels import pictures
from zopog_ref.app.compare.plan import MANUAL
from zopog_ref.app.compare.results import Comparison, TaskResult
from zopog_ref.app.report.html import counted, render

_MOST_SEEDS_TO_WARN = 4
Sentence = tuple[str, str, str]  # what stands before a name, the name (bold), and after it


def page(found: Comparison) -> str:
    """The whole page, from what compare.json holds."""
    tasks = [task for task in found.tasks if task.methods]
    runs = [cell for task in found.tasks for m in task.methods if m.name != MANUAL for cell in m.cells]
    findings = [list(_findings(task, f"On {task.name}, " if len(tasks) > 1 else "")) for task in tasks]
    if len(tasks) == 1:  # a line a sentence
        findings = [[sentence] for sentence in findings[0]]
    return render(
        "compare.html",
        found=found,
        runs=runs,
        planned=len(found.methods) * len(found.seeds) * len(found.tasks),
        computing=_time(sum(cell.seconds for cell in runs)),
        few_seeds=len(found.seeds) <= _MOST_SEEDS_TO_WARN,
        findings=findings,
        overview=_overview(tasks),
        tasks=[(task, pictures(task, found.budget)) for task in tasks],
    )


def _findings(task: TaskResult, where: str) -> Iterator[Sentence]:
    """What the statistics say of a task."""
    if task.statistics is None:
        yield f"{task.name} has no test rows: there is nothing to compare on.", "", ""
        return
    standings, best = task.accuracy.methods, task.accuracy.best
    top, tied = standings[best], [name for name, s in standings.items() if s.among_best and name != best]
    told = f"not told from it: {', '.join(tied)}." if tied else "no other method is as good, at 95% confidence."
    ends = f" ends highest, at {top.mean:.1%} of {task.rows:,} test rows ({top.low:.1%} to {top.high:.1%}); {told}"
    yield where, best, ends
    gains = {name: s.against_manual for name, s in standings.items() if s.against_manual}
    above = [name for name, gain in gains.items() if gain.p_holm <= 0.05 and gain.mean > 0]
    under = [name for name, gain in gains.items() if gain.p_holm <= 0.05 and gain.mean < 0]
    if gains:
        which = f"{len(above)} of {len(gains)} methods" if above else f"None of {counted(len(gains), 'method')}"
        names = f": {', '.join(above)}" if 0 < len(above) < len(gains) else ""
        rest = f" Below it: {', '.join(under)}." if under else ""
        beat = f"{which} {'beat' if len(above) > 1 else 'beats'} the manual prompt ({standings[MANUAL].mean:.1%})"
        yield f"{beat} by more than chance, after Holm’s correction{names}.{rest}", "", ""
    nll = task.statistics.metrics["nll"]
    loss = f": {nll.methods[nll.best].mean:.3f} nats of negative log-likelihood a row."
    yield "The most honest probabilities are those of ", nll.best, loss


def _overview(tasks: list[TaskResult]) -> dict[str, Any]:
    """Methods x tasks, the highest mean accuracy first."""
    tested = [task for task in tasks if task.statistics]
    names = dict.fromkeys(name for task in tested for name in task.accuracy.methods)
    rows = [(name, [task.accuracy.methods.get(name) for task in tested]) for name in names]
    rows.sort(key=lambda row: sum(s.mean for s in row[1] if s), reverse=True)
    return {"tasks": [task.name for task in tested], "rows": rows}


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
