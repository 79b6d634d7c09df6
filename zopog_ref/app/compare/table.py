"""The table of a comparison as the terminal shows it."""

from zopog_ref.app.compare.plan import MANUAL, READ
from zopog_ref.app.compare.results import Comparison, Method, TaskResult
from zopog_ref.app.compare.statistics import FEW_SEEDS
from zopog_ref.app.report.terminal import table as aligned
from zopog_ref.app.run.typed_json import ABSENT


def table(found: Comparison) -> str:
    """Every task's methods, with and without a readout: accuracy with its interval, what it cost, and what that bought
    beyond the best of what costs next to nothing."""
    out, base = [], READ if found.readout != "none" else MANUAL
    header = ("", "method", "calls", "accuracy (95%)", f"over {base}", "NLL", "ECE", "s")
    for task in found.tasks:
        majority = "-" if task.majority is None else f"{task.majority:.1%}"
        out.append(f"{task.name}: {task.rows} test rows, always the most frequent class {majority}")
        out += [aligned(header, [_row(task, method, base) for method in task.ranked], "ll" + "r" * 6), ""]
    out.append(
        "* best, or not significantly worse: these contain the best method with 95% confidence (docs/compare.md)"
    )
    if len(found.seeds) <= FEW_SEEDS:
        out.append(f"too few seeds ({len(found.seeds)}) for intervals to trust: give five or more")
    out += [f"failed: {f.task}, {f.method}, seed {f.seed}: {f.error}" for f in found.failed]
    return "\n".join(out) + "\n"


def _row(task: TaskResult, method: Method, base: str) -> tuple[str, ...]:
    calls, seconds = f"{method.calls:.0f}", "-" if method.seconds is ABSENT else f"{method.seconds:.0f}"
    if not task.statistics or not method.accuracy:
        return ("", method.name, calls, "-", "-", "-", "-", seconds)
    s, over = task.accuracy.methods[method.name], "-"
    if gain := (s.against_readout if base == READ else s.against_manual):
        over = f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    interval = f"{100 * s.mean:.1f}% ({100 * s.low:.1f} to {100 * s.high:.1f})"
    losses = (f"{method.nll.mean:.3f}", f"{method.ece.mean:.3f}")
    return ("*" if s.among_best else "", method.name, calls, interval, over, *losses, seconds)
