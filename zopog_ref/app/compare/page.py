"""report.html of a comparison: one file that needs nothing else, with no script; every text from data is escaped."""

# ruff: noqa: E501 (HTML text)

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from zopog_ref.app.compare.panels import calibration, confusion, curves, differences
from zopog_ref.app.compare.plan import MANUAL
from zopog_ref.app.compare.prompts import prompts
from zopog_ref.app.compare.table import ranked
from zopog_ref.app.report.compare_plots import padded, strip, strip_axis

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><main>{body}</main></body></html>
"""
_KEYS = """<p class="keys"><span><svg viewBox="0 0 34 14"><path class="mean rest" d="M17 1L17 13"/></svg>mean</span>
<span><svg viewBox="0 0 34 14"><circle class="seed rest" cx="17" cy="7" r="3.2"/></svg>one seed</span>
<span><svg viewBox="0 0 34 14"><rect class="reach rest" x="1" y="2" width="32" height="10" rx="5"/></svg>95% interval over seeds and test rows</span>
<span><svg viewBox="0 0 34 14"><path class="curve level" d="M17 0L17 14"/></svg>manual prompt</span></p>"""
_MOST_SEEDS_TO_WARN = 4


def page(found: dict[str, Any]) -> str:
    """The whole page, from what compare.json holds."""
    folder = Path(__file__).parents[1] / "report"
    style = "".join((folder / name).read_text(encoding="utf-8") for name in ("verify_page.css", "compare_page.css"))
    tasks = [task for task in found["tasks"] if task["methods"]]
    body = [_head(found), _failed(found), _short(found, tasks)]
    if len(tasks) > 1:
        body.append(_overview(tasks))
    body += [_task(task, found) for task in tasks]
    body.append(_foot(found))
    title = escape("zopog compare: " + ", ".join(task["name"] for task in found["tasks"]))
    return _PAGE.format(title=title, style=style, body="".join(body))


def count(number: int, what: str) -> str:
    """3 methods, 1 method."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def points(value: float) -> str:
    """A difference of accuracies, in percentage points with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _head(found: dict[str, Any]) -> str:
    methods, seeds = found["methods"], found["seeds"]
    cells = [
        cell
        for task in found["tasks"]
        for method in task["methods"]
        for cell in method["cells"]
        if method["name"] != MANUAL
    ]
    planned = len(methods) * len(seeds) * len(found["tasks"])
    tiles = [
        (
            "bad" if len(cells) < planned else "good",
            f"{len(cells)} of {planned}" if len(cells) < planned else f"All {planned}",
            "runs finished",
        ),
        (
            "",
            f"{sum(cell['calls'] for cell in cells):,}",
            f"API calls, {sum(cell['sequences'] for cell in cells):,} sequences",
        ),
        ("", count(len(seeds), "seed"), "draws of the few shots and of all noise: " + ", ".join(map(str, seeds))),
        ("", _time(sum(cell["seconds"] for cell in cells)), "of computing, all runs together"),
    ]
    shown = "".join(
        f'<div class="tile {tone}"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for tone, big, small in tiles
    )
    return (
        f'<header><p class="eyebrow">zopog compare</p><h1>{count(len(methods), "method")}, {found["budget"]:,} calls each</h1>'
        f'<p class="lead">Every run learns a prompt for the frozen model <em>{escape(found["model"])}</em>{_precision(found)} from {found["shots"]} rows a class, and sees '
        f'nothing of the model but what a call answers: one call is one prompt on one mini-batch. {_fairness(methods)}</p><div class="tiles">{shown}</div></header>'
    )


def _precision(found: dict[str, Any]) -> str:
    """Which answers came in fewer bits; the scores in the tables never do."""
    if found["precision"] == "fp32":
        return ""
    where = "training and dev questions" if found["precision_scope"] == "all" else "policy steps and dev scores"
    return f" (in {escape(found['precision'])} for {where})"


def _fairness(methods: Sequence[dict[str, Any]]) -> str:
    """What is equal, and what is not: a call on more rows is a larger call."""
    sizes = {method["batch_size"] for method in methods}
    if len(sizes) == 1:
        return "All methods have the same rows and the same budget."
    each = ", ".join(f"{method['name']} {method['batch_size']}" for method in methods)
    return f"<b>A call is not the same for all:</b> the mini-batches have different sizes ({escape(each)}); compare sequences too."


def _failed(found: dict[str, Any]) -> str:
    return "".join(
        f'<p class="failed"><b>failed</b> {escape(f["task"])}, {escape(f["method"])}, seed {f["seed"]}: {escape(f["error"])}</p>'
        for f in found["failed"]
    )


def _short(found: dict[str, Any], tasks: Sequence[dict[str, Any]]) -> str:
    items = _sentences(tasks[0], False) if len(tasks) == 1 else [" ".join(_sentences(task, True)) for task in tasks]
    if len(found["seeds"]) <= _MOST_SEEDS_TO_WARN:
        items.append(
            f"With {count(len(found['seeds']), 'seed')} the intervals are wide wherever seeds differ much; more seeds narrow them more than more test rows do."
        )
    return (
        f'<section><h2>In short</h2><ul class="short">{"".join(f"<li>{item}</li>" for item in items)}</ul></section>'
        if items
        else ""
    )


def _sentences(task: dict[str, Any], several: bool) -> list[str]:
    """What the statistics say of a task, as HTML."""
    if task["statistics"] is None:
        return [f"{escape(task['name'])} has no test rows: there is nothing to compare on."]
    where = f"On {escape(task['name'])}, " if several else ""
    s = task["statistics"]["metrics"]["accuracy"]
    best = s["best"]
    tied = [name for name, row in s["methods"].items() if row["among_best"] and name != best]
    top = s["methods"][best]
    told = f"not told from it: {escape(', '.join(tied))}." if tied else "no other method is as good, at 95% confidence."
    first = f"{where}<b>{escape(best)}</b> ends highest, at {top['mean']:.1%} of {task['rows']:,} test rows ({top['low']:.1%} to {top['high']:.1%}); {told}"
    out = [first[0].upper() + first[1:]]
    rows = {name: row["against_manual"] for name, row in s["methods"].items() if row.get("against_manual")}
    above = [name for name, row in rows.items() if row["p_holm"] <= 0.05 and row["mean"] > 0]
    under = [name for name, row in rows.items() if row["p_holm"] <= 0.05 and row["mean"] < 0]
    manual = s["methods"][MANUAL]["mean"] if MANUAL in s["methods"] else None
    if manual is not None and rows:
        which = f"{len(above)} of {len(rows)} methods" if above else f"None of {count(len(rows), 'method')}"
        names = f": {escape(', '.join(above))}" if 0 < len(above) < len(rows) else ""
        verb = "beat" if len(above) > 1 else "beats"
        out.append(
            f"{which} {verb} the manual prompt ({manual:.1%}) by more than chance, after Holm’s correction{names}."
            + (f" Below it: {escape(', '.join(under))}." if under else "")
        )
    n = task["statistics"]["metrics"]["nll"]
    out.append(
        f"The most honest probabilities are those of <b>{escape(n['best'])}</b>: {n['methods'][n['best']]['mean']:.3f} nats of negative log-likelihood a row."
    )
    return out


def _overview(tasks: Sequence[dict[str, Any]]) -> str:
    """Methods x tasks, when there are several."""
    tasks = [task for task in tasks if task["statistics"]]
    names = list(dict.fromkeys(name for task in tasks for name in task["statistics"]["methods"]))
    head = "".join(f"<th>{escape(task['name'])}</th>" for task in tasks)
    means = {n: [t["statistics"]["metrics"]["accuracy"]["methods"].get(n) for t in tasks] for n in names}
    rows = []
    for name in sorted(names, key=lambda n: -sum(row["mean"] for row in means[n] if row)):
        cells = "".join(
            "<td>-</td>"
            if row is None
            else f'<td style="background:color-mix(in srgb,var(--{"good" if row["among_best"] else "soft"}) {24 if row["among_best"] else 7}%,var(--panel))">{"<b>" if row["among_best"] else ""}{row["mean"]:.1%}{"</b>" if row["among_best"] else ""}</td>'
            for row in means[name]
        )
        rows.append(f'<tr><th class="side">{escape(name)}</th>{cells}</tr>')
    return (
        '<section><h2>Across tasks</h2><p class="note">Test accuracy, mean over seeds; green: best, or not told from it.</p>'
        f'<div class="scroll"><table class="grid-table"><tr><th></th>{head}</tr>{"".join(rows)}</table></div></section>'
    )


def _task(task: dict[str, Any], found: dict[str, Any]) -> str:
    labels = ", ".join(f"{value} = {word}" if value != word else value for value, word in task["labels"].items())
    head = (
        f'<section class="task"><h2>{escape(task["name"])}</h2><p class="template">{escape(task["template"])}</p>'
        f'<p class="note">{escape(task["description"])}{". " if task["description"] else ""}Labels: {escape(labels)}.'
        + (f' {task["rows"]:,} test rows; always answering the most frequent class: {task["majority"]:.1%}.' if task["rows"] else "")
        + (f' {task["truncated"]} texts were cut to the model’s positions.' if task["truncated"] else "") + "</p>"
    )  # fmt: skip
    parts = [head]
    if task["statistics"]:
        parts += [_ranking(task), curves(task, found["budget"]), differences(task), calibration(task), confusion(task)]
    else:
        parts.append(curves(task, found["budget"]))
    parts += [prompts(task), _cost(task)]
    return "".join(parts) + "</section>"


def _ranking(task: dict[str, Any]) -> str:
    """The table: strips on one axis, numbers, what is tied with the best."""
    s = task["statistics"]["metrics"]["accuracy"]
    rows = [method for method in ranked(task) if method["name"] in s["methods"]]
    values = [
        v
        for m in rows
        for v in (*m["accuracy"]["each"], s["methods"][m["name"]]["low"], s["methods"][m["name"]]["high"])
    ]
    means = [s["methods"][m["name"]]["mean"] for m in rows]
    room = max(0.05, 1.5 * (max(means) - min(means)))  # an interval of two seeds may be wider than the page: it is cut
    span = padded([min(max(v, min(means) - room), max(means) + room) for v in values])
    manual = s["methods"].get(MANUAL, {}).get("mean")
    levels = [] if manual is None else [(manual, f"manual prompt, {manual:.1%}")]
    body = "".join(_rank_row(task, method, s["methods"][method["name"]], span, levels, s["best"]) for method in rows)
    return (
        '<h3>Who wins</h3><p class="note">Test accuracy. Green: these contain the best method with 95% confidence; with the others, somebody is surely better.</p>'
        f'{_KEYS}<table class="rank"><thead><tr><th>method</th><th class="number">accuracy</th><th class="strip">{strip_axis(span)}</th><th class="number">over manual</th>'
        '<th class="number">p, Holm</th><th class="number">NLL</th><th class="number">ECE</th><th class="number">seconds</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _rank_row(
    task: dict[str, Any],
    method: dict[str, Any],
    row: dict[str, Any],
    span: tuple[float, float],
    levels: list[tuple[float, str]],
    best: str,
) -> str:
    name, std = method["name"], method["accuracy"]["std"]
    gain = row.get("against_manual")
    kind = " ".join(["among"] * row["among_best"] + ["manual"] * (name == MANUAL))
    pill = (
        '<span class="pill">best</span>'
        if name == best
        else '<span class="pill">tied</span>'
        if row["among_best"]
        else ""
    )
    label = f"{name}: {row['mean']:.1%}, interval {row['low']:.1%} to {row['high']:.1%}"
    drawn = strip(
        span, row["low"], row["high"], row["mean"], method["accuracy"]["each"], levels, row["among_best"], label
    )
    over = f"{points(gain['mean'])} <small>({points(gain['low'])} to {points(gain['high'])})</small>" if gain else ""
    deviation = "" if std is None or name == MANUAL else f" <small>± {100 * std:.1f}</small>"
    p = "" if not gain else "&lt; 0.001" if gain["p_holm"] < 0.001 else f"{gain['p_holm']:.3f}"
    seconds = "" if name == MANUAL else f"{method['seconds']:,.0f}"
    cells = (
        ("over manual", over),
        ("p, Holm", p),
        ("NLL", f"{method['nll']['mean']:.3f}"),
        ("ECE", f"{method['ece']['mean']:.3f}"),
        ("seconds", seconds),
    )
    rest = "".join(
        f'<td class="number" data-label="{what}">{text}</td>' if text else '<td class="number"></td>'
        for what, text in cells
    )
    return (
        f'<tr class="{kind}"><td><span class="name">{escape("manual prompt" if name == MANUAL else name)}</span>{pill}</td>'
        f'<td class="number value-cell"><span class="value">{row["mean"]:.1%}</span>{deviation}</td><td class="strip">{drawn}</td>{rest}</tr>'
    )


def _cost(task: dict[str, Any]) -> str:
    methods = [method for method in ranked(task) if method["name"] != MANUAL]
    what = (("calls", "calls"), ("sequences", "sequences"), ("tokens", "tokens"), ("seconds", "seconds"))
    most = {key: max(method[key] for method in methods) or 1 for key, _ in what}
    rows = "".join(
        f"<tr><td>{escape(method['name'])}</td>"
        + "".join(
            f'<td><span class="meter" style="width:{70 * method[key] / most[key]:.0f}px"></span>{method[key]:,.0f}</td>'
            for key, _ in what
        )
        + "</tr>"
        for method in methods
    )
    head = "".join(f"<th>{name}</th>" for _, name in what)
    return (
        '<h3>What it cost</h3><p class="note">Mean over the runs. Calls are what the budget counts; sequences and tokens are what the model reads for them; '
        f'seconds depend on the machine and on what else it was doing.</p><div class="scroll"><table><tr><th>method</th>{head}</tr>{rows}</table></div>'
    )


def _foot(found: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(m['name'])}</td><td>{escape(m['about'])}</td><td>{escape(m['settings'])}</td><td>n {m['n']}, N {m['N']}, d {m['d']}, "
        f"scale {m['scale']:g}, batch {m['batch_size']}, {escape(m['loss'])}<br>{escape(', '.join(f'{k} {v}' for k, v in m['own'].items()))}</td></tr>"
        for m in found["methods"]
    )
    packages = ", ".join(f"{escape(name)} {escape(version)}" for name, version in found["versions"].items())
    return (
        '<section><h2>Settings</h2><div class="scroll"><table class="settings"><tr><th>method</th><th></th><th>settings</th><th>values</th></tr>'
        f"{rows}</table></div></section><footer><p>{packages}. All numbers of this page are in compare.json; every run is an ordinary run folder of zopog tune. "
        "Intervals treat seeds and test rows both as drawn by chance; docs/compare.md has the formulas.</p></footer>"
    )


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
