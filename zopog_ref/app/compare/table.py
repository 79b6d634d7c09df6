"""The table of a comparison as the terminal shows it."""

from zopog_ref.app.compare.results import Comparison, Method, TaskResult
from zopog_ref.app.report.terminal import table as aligned

_HEADER = (
    "", "method", "accuracy", "± std", "95% interval", "over manual (95%)", "p, Holm", "NLL", "ECE", "calls", "s",
)  # fmt: skip


def table(found: Comparison) -> str:
    """Every task's methods with accuracy, interval, difference to the manual prompt and cost."""
    out = []
    for task in found.tasks:
        majority = "-" if task.majority is None else f"{task.majority:.1%}"
        out.append(f"{task.name}: {task.rows} test rows, always the most frequent class {majority}")
        out += [aligned(_HEADER, [_row(task, method) for method in task.ranked], "ll" + "r" * 9), ""]
    out.append("* best, or not told from it: these contain the best method with 95% confidence (docs/compare.md)")
    out += [f"failed: {f.task}, {f.method}, seed {f.seed}: {f.error}" for f in found.failed]
    return "\n".join(out) + "\n"


def _row(task: TaskResult, method: Method) -> tuple[str, ...]:
    cost = (f"{method.calls:.0f}", f"{method.seconds:.0f}")
    if not task.statistics or not method.accuracy:
        return ("", method.name, *["-"] * 7, *cost)
    s, std = task.accuracy.methods[method.name], method.accuracy.std
    over = p = "-"
    if gain := s.against_manual:
        over = f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        p = f"{gain.p_holm:.2g}"
    deviation = "-" if std is None else f"{100 * std:.1f}"
    interval = f"{100 * s.low:.1f} to {100 * s.high:.1f}"
    losses = (f"{method.nll.mean:.3f}", f"{method.ece.mean:.3f}")
    mark = "*" if s.among_best else ""
    return (mark, method.name, f"{s.mean:.1%}", deviation, interval, over, p, *losses, *cost)
