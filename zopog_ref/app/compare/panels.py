"""The figures of a comparison's report: curves, pairs, calibration, confusion; a panel a method."""

# ruff: noqa: E501 (HTML text)

from html import escape
from typing import Any

import numpy as np

from zopog_ref.app.compare.plan import MANUAL
from zopog_ref.app.compare.table import ranked
from zopog_ref.app.report.compare_plots import Axes, Line, padded, panel

Curve = list[tuple[float, float]]
LEAST_COVERAGE = 0.1  # below it a rejection curve jumps with single rows


def curves(task: dict[str, Any], budget: int) -> str:
    """Best dev metric so far against calls: every seed thin, their mean thick, the other methods' means grey."""
    methods = [m for m in ranked(task) if any(cell["curve"] for cell in m["cells"])]
    if not methods:
        return ""
    each = {m["name"]: [_best_so_far(cell["curve"], budget) for cell in m["cells"] if cell["curve"]] for m in methods}
    means = {name: _mean(runs) for name, runs in each.items()}
    axes = Axes((0, budget), padded([y for runs in each.values() for run in runs for _, y in run]), "API calls")
    cells = []
    for m in methods:
        name = m["name"]
        lines = [Line(means[other], "other", other, steps=True) for other in means if other != name]
        lines += [Line(run, "seed", f"seed {cell['seed']}", steps=True) for run, cell in zip(each[name], m["cells"])]
        lines.append(Line(means[name], "main", name, steps=True))
        last = means[name][-1][1]
        cells.append(
            _figure(
                name,
                f"{last:.1%} on dev",
                panel(axes, lines, label=f"{name}: best {task['metric']} on dev against calls"),
            )
        )
    return (
        '<h3>How it learns</h3><p class="note">The best dev score so far, which is what a run deploys, against calls. Thick: mean over seeds; thin: each seed; grey: '
        f'the other methods. The dev rows are as few as the training rows, so these are noisier than the test.</p><div class="panels">{"".join(cells)}</div>'
    )


def _best_so_far(curve: list[list[float]], budget: int) -> Curve:
    best, out = -np.inf, []
    for calls, metric, _ in curve:
        best = max(best, metric)
        out.append((float(calls), float(best)))
    return [*out, (float(budget), out[-1][1])] if out[-1][0] < budget else out


def _mean(runs: list[Curve]) -> Curve:
    """Mean of staircases, from where all have a value."""
    places = sorted({x for run in runs for x, _ in run})
    start = max(run[0][0] for run in runs)
    values = []
    for run in runs:
        x, y = np.array(run).T
        values.append(y[np.maximum(np.searchsorted(x, places, side="right") - 1, 0)])
    return [(x, float(y)) for x, y in zip(places, np.mean(values, axis=0)) if x >= start]


def differences(task: dict[str, Any]) -> str:
    """Every pair: accuracy of the row minus the column, in points."""
    s = task["statistics"]
    order = [m["name"] for m in ranked(task) if m["name"] in s["methods"]]
    at = {name: i for i, name in enumerate(s["methods"])}
    table = s["metrics"]["accuracy"]["differences"]
    known = [abs(pair["mean"]) for row in table for pair in row if pair]
    most = max(known, default=0.0) or 1.0
    rows = []
    for a in order:
        cells = [_pair(table[at[a]][at[b]], a, b, most) if a != b else "<td></td>" for b in order]
        rows.append(f'<tr><th class="side">{escape(a)}</th>{"".join(cells)}</tr>')
    head = "".join(f"<th>{escape(name)}</th>" for name in order)
    return (
        '<h3>Every pair</h3><p class="note">Accuracy of the row minus accuracy of the column, in points, on the same test rows and seeds. Bold: the 95% interval of this one '
        "pair leaves out zero; with many pairs some do so by chance.</p>"
        f'<div class="scroll"><table class="grid-table"><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'
    )


def _pair(pair: dict[str, Any] | None, a: str, b: str, most: float) -> str:
    if pair is None:
        return '<td class="faint">-</td>'
    sure = pair["low"] > 0 or pair["high"] < 0
    text = f"{100 * pair['mean']:+.1f}".replace("-", "−")
    colour = "--good" if pair["mean"] > 0 else "--c2"
    share = 45 * abs(pair["mean"]) / most
    title = escape(f"{a} minus {b}: {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f} points, p {pair['p']:.3g}")
    shown = f"<b>{text}</b>" if sure else text
    return f'<td class="{"" if sure else "faint"}" title="{title}" style="background:color-mix(in srgb,var({colour}) {share:.0f}%,var(--panel))">{shown}</td>'


def calibration(task: dict[str, Any]) -> str:
    """Reliability diagrams, accuracy-rejection curves, and the numbers behind them."""
    methods = [m for m in ranked(task) if m["name"] in task["statistics"]["methods"]]
    reliable = "".join(_reliability(m) for m in methods)
    return (
        '<h3>Does it know when it is right?</h3><p class="note">Accuracy of the answers against the confidence they came with, all seeds together; the area of a dot is its share '
        "of the rows. On the dashed line confidence is honest; below it, the method claims too much.</p>"
        f'<div class="panels">{reliable}</div>'
        '<p class="note" style="margin-top:1.6em">Accuracy when only the surest answers are given, by the share of rows answered. A curve that rises to the left knows its errors.</p>'
        f'<div class="panels">{_rejections(methods)}</div>{_uncertainty_table(methods)}'
    )


def _reliability(method: dict[str, Any]) -> str:
    tables = [cell["uncertainty"]["mean"]["reliability"] for cell in method["cells"] if "uncertainty" in cell]
    rows = np.sum([t["rows"] for t in tables], axis=0)
    sums = {what: np.sum([_sums(t, what) for t in tables], axis=0) for what in ("confidence", "accuracy")}
    filled = [b for b in range(len(rows)) if rows[b]]
    dots = [
        (sums["confidence"][b] / rows[b], sums["accuracy"][b] / rows[b], 1.5 + 12 * float(np.sqrt(rows[b] / rows.sum())),
         f"{rows[b]:,} answers with confidence {sums['confidence'][b] / rows[b]:.0%}: {sums['accuracy'][b] / rows[b]:.0%} right")
        for b in filled
    ]  # fmt: skip
    axes = Axes((0, 1), (0, 1), "confidence", percent_x=True)
    lines = [Line([(0, 0), (1, 1)], "level", "honest"), Line([(x, y) for x, y, _, _ in dots], "seed")]
    drawn = panel(axes, lines, dots, f"{method['name']}: accuracy against confidence")
    return _figure(method["name"], f"ECE {method['ece']['mean']:.3f}", drawn)


def _sums(table: dict[str, Any], what: str) -> np.ndarray:
    """Sums of a bin's values; an empty bin (None) has none."""
    return np.array([0.0 if value is None else value * n for value, n in zip(table[what], table["rows"])])


def _rejections(methods: list[dict[str, Any]]) -> str:
    means: dict[str, Curve] = {}
    heights: list[float] = []
    for m in methods:
        kept = [cell["uncertainty"]["mean"]["rejection"] for cell in m["cells"] if "uncertainty" in cell]
        if len({tuple(k["coverage"]) for k in kept}) == 1:
            means[m["name"]] = _enough(kept[0]["coverage"], np.mean([k["accuracy"] for k in kept], axis=0).tolist())
            heights += [y for k in kept for _, y in _enough(k["coverage"], k["accuracy"])]
    axes = Axes((0, 1), padded(heights), "share of rows answered", percent_x=True)
    out = []
    for m in methods:
        if m["name"] not in means:
            continue
        lines = [Line(curve, "other", name) for name, curve in means.items() if name != m["name"]]
        lines += [
            Line(_enough(k["coverage"], k["accuracy"]), "seed", f"seed {cell['seed']}")
            for cell in m["cells"] if "uncertainty" in cell for k in [cell["uncertainty"]["mean"]["rejection"]]
        ]  # fmt: skip
        lines.append(Line(means[m["name"]], "main", m["name"]))
        drawn = panel(axes, lines, label=f"{m['name']}: accuracy against the share of rows answered")
        out.append(_figure(m["name"], f"area {m['rejection_area']['mean']:.3f}", drawn))
    return "".join(out)


def _enough(coverage: list[float], accuracy: list[float]) -> Curve:
    """The curve from where it is of enough rows to mean something."""
    return [(x, y) for x, y in zip(coverage, accuracy) if x >= LEAST_COVERAGE]


def _uncertainty_table(methods: list[dict[str, Any]]) -> str:
    """Calibration and scoring, of the mean prediction and of the votes of several prompts."""
    what = (
        ("nll", "NLL"),
        ("brier", "Brier"),
        ("ece", "ECE"),
        ("auroc_errors", "AUROC of errors"),
        ("rejection_area", "rejection area"),
    )
    rows = []
    for m in methods:
        for kind in ("mean", "votes"):
            found = [cell["uncertainty"][kind] for cell in m["cells"] if kind in cell.get("uncertainty", {})]
            if found:
                numbers = ([f[key] for f in found if f[key] is not None] for key, _ in what)
                cells = "".join(f"<td>{np.mean(v):.3f}</td>" if v else "<td>-</td>" for v in numbers)
                name = m["name"] if kind == "mean" else f"{m['name']}, votes of its prompts"
                rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for _, name in what)
    return f'<div class="scroll" style="margin-top:1.2em"><table><tr><th>method</th>{head}</tr>{"".join(rows)}</table></div>'


def confusion(task: dict[str, Any]) -> str:
    """A confusion matrix a method, all seeds together, each row in percent of its class."""
    classes = list(task["labels"])
    cells = []
    for m in ranked(task):
        if "confusion" not in m:
            continue
        counts = np.array(m["confusion"], float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        rows = "".join(
            f'<tr><th class="side" title="{escape(name)}">{escape(name)}</th>'
            + "".join(_share(v, i == j, name, classes[j]) for j, v in enumerate(row))
            + "</tr>"
            for i, (name, row) in enumerate(zip(classes, shares))
        )
        head = "".join(f'<th class="head" title="{escape(name)}">{escape(name)}</th>' for name in classes)
        body = f'<table class="grid-table"><tr><th></th>{head}</tr>{rows}</table>'
        cells.append(_figure(m["name"], f"macro F1 {m['macro_f1']['mean']:.3f}", body))
    return (
        '<h3>What it mistakes for what</h3><p class="note">Rows: the true class; columns: the answer; percent of the true class, all seeds together.</p>'
        f'<div class="panels">{"".join(cells)}</div>'
    )


def _share(value: float, right: bool, true: str, answer: str) -> str:
    colour = "--good" if right else "--c2"
    faint = "" if value >= 0.1 else ' class="faint"'
    title = escape(f"{true} answered as {answer}: {value:.1%}")
    return f'<td{faint} title="{title}" style="background:color-mix(in srgb,var({colour}) {60 * value:.0f}%,var(--panel))">{100 * value:.0f}</td>'


def _figure(name: str, number: str, drawn: str) -> str:
    shown = "manual prompt" if name == MANUAL else name
    return f"<figure><figcaption><b>{escape(shown)}</b><span>{escape(number)}</span></figcaption>{drawn}</figure>"
