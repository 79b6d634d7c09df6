"""The pictures of a curve: score against calls on a logarithmic axis, with bands and the frontier."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from math import log10
from typing import NamedTuple

from zopog_ref.app.compare.curve.results import METRICS, At, CurveTask, Mean, Row
from zopog_ref.app.report.plots import INFINITE, Chart, described
from zopog_ref.app.report.svg import LARGE, SMALL, Axes, Band, Dots, Line, Svg, padded, panel

COLOURS = 6  # of the page's palette
_LEAST = 1e-3  # nats, of what is drawn on a logarithmic axis
Panel = tuple[str, str, Svg]
Marks = list[Line | Band | Dots]


class Pictures(NamedTuple):
    """Of one task: by metric the large picture, and a small one for every method."""

    large: dict[str, Chart]
    small: dict[str, Sequence[Panel]]


def pictures(task: CurveTask, budgets: Sequence[int]) -> Pictures:
    """Everything that is drawn of a task."""
    return Pictures(
        {metric: _large(task, metric, budgets) for metric in METRICS},
        {metric: _small(task, metric, budgets) for metric in METRICS},
    )


def _axes(task: CurveTask, metric: str, budgets: Sequence[int]) -> Axes:
    """y holds every mean, and of the bands what is near them: an interval of two seeds may be wider than the page."""
    accuracy = metric == "accuracy"
    scale: Callable[[float], float] = (lambda y: y) if accuracy else (lambda y: log10(max(y, _LEAST)))
    means = [getattr(at, metric) for row in task.rows for at in row.at]
    values = [scale(mean.mean) for mean in means]
    room = max(0.05, 0.25 * (max(values) - min(values)))
    ends = [scale(end) for mean in means for end in (mean.low, mean.high)]
    near = [end for end in ends if min(values) - room <= end <= max(values) + room]
    y = padded([*values, *near], 0.04, 0.0 if accuracy else -INFINITE, 1.0 if accuracy else INFINITE)
    first = log10(min([*(at.calls for row in task.rows for at in row.at if at.calls), *budgets]))
    x = (first - 0.06, max(log10(budgets[-1]), first + 0.5) + 0.06)
    label = "test accuracy" if accuracy else "NLL, nats a row"
    return Axes(
        x, y, "API calls", label, percent_y=accuracy, log_x=True, log_y=not accuracy, at_x=_apart(budgets), frame=LARGE
    )


def _apart(budgets: Sequence[int]) -> list[float]:
    """Those whose numbers do not run into each other."""
    kept: list[float] = []
    for budget in reversed(budgets):
        if not kept or log10(kept[-1] / budget) > 0.25:
            kept.append(float(budget))
    return kept


def _own(row: Row) -> list[At]:
    """Its points with calls, a run once; the manual prompt as it is has none."""
    return [at for at in row.at if at.run == at.budget and at.calls]


def _line(row: Row, metric: str, kind: str, end: float) -> Marks:
    """A search joins its points with straight lines; a baseline keeps what it has when calls are left."""
    points = [(at.calls, getattr(at, metric).mean) for at in _own(row)]
    if not points:  # the manual prompt as it is
        level = getattr(row.at[-1], metric).mean
        return [Line([(1e-9, level), (end, level)], "level", row.name)]
    if row.baseline:
        points.append((end, points[-1][1]))
    return [Line(points, kind, row.name, steps=row.baseline)]


def _full(row: Row, metric: str, kind: str, end: float) -> Marks:
    """The line with its band and its dots, which say their numbers."""
    own = _own(row)
    if not own:
        return _line(row, metric, kind, end)
    reach: list[tuple[float, Mean]] = [(at.calls, getattr(at, metric)) for at in own]
    if row.baseline:
        reach.append((end, reach[-1][1]))
    band = Band([(x, m.low) for x, m in reach], [(x, m.high) for x, m in reach], kind)
    titles = [_told(row, at, getattr(at, metric), metric) for at in own]
    dots = Dots([(at.calls, getattr(at, metric).mean) for at in own], kind, titles=titles)
    return [band, *_line(row, metric, kind, end), dots]


def _told(row: Row, at: At, mean: Mean, metric: str) -> str:
    form = ".1%" if metric == "accuracy" else ".3f"
    return f"{row.name}, {at.calls:,.0f} calls: {mean.mean:{form}} ({mean.low:{form}} to {mean.high:{form}})"


def frontier(rows: Iterable[Row], metric: str) -> list[tuple[float, float]]:
    """The points that nothing beats for as few calls, from the left."""
    on = [(at.calls, getattr(at, metric)) for row in rows for at in row.at]
    return sorted({(calls, mean.mean) for calls, mean in on if mean.frontier})


def _frontier_line(task: CurveTask, metric: str, left: float, end: float, kind: str) -> Line:
    """A staircase; what the manual prompt gives for no call stands at the left end."""
    points = [(max(calls, left), score) for calls, score in frontier(task.rows, metric)]
    return Line([*points, (end, points[-1][1])], kind, "the best for so many calls", steps=True)


def _large(task: CurveTask, metric: str, budgets: Sequence[int]) -> Chart:
    axes = _axes(task, metric, budgets)
    left, end = (10**at for at in axes.x)
    coloured = _coloured(task, metric, budgets)
    marks: Marks = []
    for row in task.rows:
        if row not in coloured:
            marks += _line(row, metric, "other", end)
    marks.append(_frontier_line(task, metric, left, end, "best"))
    for number, row in enumerate(coloured, start=1):
        marks += _full(row, metric, f"c{number}", end)
    points = [point for point in frontier(task.rows, metric) if point[0] >= left]
    marks.append(Dots(points, "ring", radius=[6.0] * len(points)))
    keys = [(f"c{number}", row.name) for number, row in enumerate(coloured, start=1)]
    keys += [("best", "frontier"), ("level", "manual")]
    visible = [_within(mark, axes) for mark in marks]
    return Chart(panel(axes, visible, described(axes.x_label, axes.y_label, keys)), keys)


def _within(mark: Line | Band | Dots, axes: Axes) -> Line | Band | Dots:
    """A line from the left end of the axis on, where it would begin before it; a band no higher than the picture."""
    if isinstance(mark, Line):
        return replace(mark, points=[(max(x, 10 ** axes.x[0]), y) for x, y in mark.points])
    if isinstance(mark, Band):
        bottom, top = (10**end if axes.log_y else end for end in axes.y)
        low, high = ([(x, min(max(y, bottom), top)) for x, y in side] for side in (mark.low, mark.high))
        return replace(mark, low=low, high=high)
    return mark


def _coloured(task: CurveTask, metric: str, budgets: Sequence[int]) -> list[Row]:
    """Rows with a colour of their own: those on the frontier, then in turn the best with a readout and without."""
    sign = -1 if METRICS[metric] else 1
    rows = [row for row in task.rows if _own(row)]
    chosen = [row for row in rows if any(getattr(at, metric).frontier for at in _own(row))]
    there = [(row, at) for row in rows if (at := row.on(budgets[-1]))]
    there.sort(key=lambda pair: sign * getattr(pair[1], metric).mean)
    for pair in zip_longest(*([row for row, _ in there if row.reading == r] for r in ("tuned + readout", "tuned"))):
        chosen += [row for row in pair if row is not None and row not in chosen]
    return chosen[:COLOURS]


def _small(task: CurveTask, metric: str, budgets: Sequence[int]) -> list[Panel]:
    """A method's own answers and those with its readout, before the frontier and the other methods."""
    axes = replace(_axes(task, metric, budgets), y_label="", frame=SMALL)
    left, end = (10**at for at in axes.x)
    form = ".1%" if metric == "accuracy" else ".3f"
    out = []
    for method in dict.fromkeys(row.of for row in task.rows if not row.baseline):
        own = [row for row in task.rows if row.of == method]
        marks: Marks = [m for row in task.rows if row.of != method for m in _line(row, metric, "other", end)]
        marks.append(_frontier_line(task, metric, left, end, "best"))
        for row in own:
            marks += _full(row, metric, "c1" if row.reading == "tuned + readout" else "c2", end)
        last = [f"{getattr(row.at[-1], metric).mean:{form}}" for row in own]
        what = f"{method}: {axes.y_label or metric} against calls"
        out.append((method, " and ".join(last), panel(axes, [_within(m, axes) for m in marks], what)))
    return out
