"""The table of a comparison as the terminal shows it."""

from typing import Any


def ranked(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The task's methods, the highest test accuracy first."""
    return sorted(task["methods"], key=lambda method: -method.get("accuracy", {"mean": 0.0})["mean"])


def table(found: dict[str, Any]) -> str:
    """Every task's methods with accuracy, interval, difference to the manual prompt and cost."""
    out = []
    for task in found["tasks"]:
        out.append(
            f"{task['name']}: {task['rows']} test rows, always the most frequent class {_percent(task['majority'])}"
        )
        header = (
            "",
            "method",
            "accuracy",
            "± std",
            "95% interval",
            "over manual (95%)",
            "p, Holm",
            "NLL",
            "ECE",
            "calls",
            "s",
        )
        rows = [header, *(_row(task, method) for method in ranked(task))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        out += [
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))
            ).rstrip()
            for row in rows
        ]
        out.append("")
    out.append("* best, or not told from it: these contain the best method with 95% confidence (docs/compare.md)")
    out += [f"failed: {f['task']}, {f['method']}, seed {f['seed']}: {f['error']}" for f in found["failed"]]
    return "\n".join(out) + "\n"


def _row(task: dict[str, Any], method: dict[str, Any]) -> tuple[str, ...]:
    cost = (f"{method['calls']:.0f}", f"{method['seconds']:.0f}")
    if not task["statistics"] or "accuracy" not in method:
        return ("", method["name"], *["-"] * 7, *cost)
    s = task["statistics"]["metrics"]["accuracy"]["methods"][method["name"]]
    gain = s.get("against_manual")
    std = method["accuracy"]["std"]
    return (
        "*" if s["among_best"] else "", method["name"], _percent(s["mean"]), "-" if std is None else f"{100 * std:.1f}",
        f"{100 * s['low']:.1f} to {100 * s['high']:.1f}",
        f"{100 * gain['mean']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})" if gain else "-",
        f"{gain['p_holm']:.2g}" if gain else "-", f"{method['nll']['mean']:.3f}", f"{method['ece']['mean']:.3f}", *cost,
    )  # fmt: skip


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
