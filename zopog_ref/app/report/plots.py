"""The plots of the pages: a row's strip with its scale, and log-log charts with a legend."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log10
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.app.report.svg import LARGE, Axes, Dots, Line, Span, Svg, mark, padded, panel, percent, picture, ticks

STRIP_WIDTH, STRIP_HEIGHT, STRIP_MARGIN = 340, 26, 8
INFINITE = float("inf")


class Chart(NamedTuple):
    """A picture with its legend, (class, name) each, and a sentence below."""

    svg: Svg
    keys: list[tuple[str, str]]
    note: str = ""


@dataclass(frozen=True)
class Series:
    """One curve. colour 1 to 6 of the page's palette; dashed for what is predicted, dots for what is measured.

    A dashed curve without a name has no place in the legend: it is the prediction of the dots of its colour.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    colour: int
    error: ArrayLike | None = None
    dashed: bool = False
    only_dots: bool = False

    @property
    def style(self) -> str:
        """Its classes in style.css."""
        return f"c{self.colour} dashed" if self.dashed else f"c{self.colour}"

    def marks(self) -> Iterable[Line | Dots]:
        """Line and dots, where both coordinates are positive; bars of two standard errors."""
        x, y = np.asarray(self.x, float), np.asarray(self.y, float)
        keep = (x > 0) & (y > 0)
        points = list(zip(x[keep].tolist(), y[keep].tolist()))
        if not self.only_dots:
            yield Line(points, self.style)
        if not self.dashed:
            reach = () if self.error is None else (2 * np.asarray(self.error, float)[keep]).tolist()
            yield Dots(points, self.style, reach=reach)


def chart(series: Sequence[Series], x_label: str, y_label: str, note: str = "") -> Chart:
    """A log-log chart."""
    marks = [mark for s in series for mark in s.marks()]
    logs = [(log10(x), log10(y)) for mark in marks for x, y in mark.points]
    x, y = (padded(values, 0.05, -INFINITE, INFINITE, 0.05) for values in zip(*logs))
    keys = [(s.style, s.name) for s in series if s.name]
    axes = Axes(x, y, x_label, y_label, log_x=True, log_y=True, frame=LARGE)
    return Chart(panel(axes, marks, described(x_label, y_label, keys)), keys, note)


def described(x_label: str, y_label: str, keys: Iterable[tuple[str, str]]) -> str:
    """A chart in words."""
    return f"{y_label} against {x_label}; " + ", ".join(name for _, name in keys)


def strip(
    span: Span,
    interval: Span,
    mean: float,
    each: Iterable[float],
    levels: Iterable[tuple[float, str]],
    good: bool,
    label: str,
) -> Svg:
    """One row of the table: interval, mean, a dot for each seed, and dashed lines for what to beat."""
    middle, tone = STRIP_HEIGHT / 2, "best" if good else "rest"
    low, high = (_across(span, min(max(end, span[0]), span[1])) for end in interval)

    def upright(value: float, top: float, bottom: float) -> str:
        at = _across(span, value)
        return f"M{at:.1f} {top}L{at:.1f} {bottom}"

    body = [
        mark("path", class_="grid", d=f"M{STRIP_MARGIN} {middle}L{STRIP_WIDTH - STRIP_MARGIN} {middle}"),
        *(mark("path", title=name, class_="curve level", d=upright(v, 0, STRIP_HEIGHT)) for v, name in levels),
        mark("rect", class_=f"reach {tone}", x=low, y=middle - 5, width=max(high - low, 1.0), height=10, rx=5),
        *(mark("circle", title=f"{v:.1%}", class_=f"seed {tone}", cx=_across(span, v), cy=middle, r=3.2) for v in each),
        mark("path", class_=f"mean {tone}", d=upright(mean, middle - 9, middle + 9)),
    ]
    return picture(STRIP_WIDTH, STRIP_HEIGHT, body, label)


def strip_axis(span: Span) -> Svg:
    """The scale above the strips."""
    body = []
    for tick in ticks(*span, 7):
        at = _across(span, tick)
        body.append(mark("text", percent(tick), x=at, y=12, text_anchor="middle"))
        body.append(mark("path", class_="grid", d=f"M{at:.1f} 16L{at:.1f} 20"))
    return picture(STRIP_WIDTH, 20, body, "")


def _across(span: Span, value: float) -> float:
    return STRIP_MARGIN + (value - span[0]) / (span[1] - span[0]) * (STRIP_WIDTH - 2 * STRIP_MARGIN)
