"""report.html: a comparison in one file that needs nothing else, safe to send; what it says is in its templates."""

import shlex
from typing import Any

from zopog_ref.app.compare.in_short import findings as sentences
from zopog_ref.app.compare.panels import pictures
from zopog_ref.app.compare.results import Comparison, TaskResult
from zopog_ref.app.compare.statistics import FEW_SEEDS
from zopog_ref.app.report.html import elsewhere, render
from zopog_ref.app.run.presets import TEMPLATE_ALONE


def page(found: Comparison) -> str:
    """The whole page, from what compare.json holds."""
    tasks = [task for task in found.tasks if task.methods]
    runs = [cell for task in found.tasks for m in task.searched for cell in m.cells]
    findings = [list(sentences(task, f"On {task.name}, " if len(tasks) > 1 else "")) for task in tasks]
    if len(tasks) == 1:  # a line a sentence
        findings = [[sentence] for sentence in findings[0]]
    searched = [m for m in found.methods if m.method != TEMPLATE_ALONE]
    return render(
        "compare.html",
        found=found,
        runs=runs,
        searched=searched,
        planned=len(searched) * len(found.seeds) * len(found.tasks),
        computing=_time(sum(cell.seconds for cell in runs)),
        few_seeds=len(found.seeds) <= FEW_SEEDS,
        findings=findings,
        overview=_overview(tasks),
        tasks=[(task, pictures(task, found.budget)) for task in tasks],
        command=_command(found),
    )


def _command(found: Comparison) -> str:
    """What asks for the same comparison; a task of somebody's own has to be given as it was."""
    names = ",".join(m.name for m in found.methods) or "none"
    words = ["--tasks", ",".join(task.name for task in found.tasks), "--methods", names]
    words += ["--model", elsewhere(found.model)]
    words += ["--seeds", ",".join(map(str, found.seeds)), "--budget", str(found.budget), "--shots", str(found.shots)]
    return shlex.join(["zopog", "compare", *words, "--readout", found.readout])


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
