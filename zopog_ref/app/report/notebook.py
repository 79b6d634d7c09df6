"""Curves in a notebook: SVG with its own style, which needs no package, no script and no network."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

from zopog_ref.app.report.svg import LARGE, Axes, Dots, Line, Svg, padded, panel

__all__ = ["Picture", "curves"]

_COLOURS = ("#3b78d8", "#d2691e", "#2e9d64", "#9257e0")  # seen on white and on black
_STYLE = (
    ".zopog-picture svg{width:100%;height:auto}.zopog-picture text{font:11.5px system-ui,sans-serif;fill:currentColor}"
    ".zopog-picture .grid{stroke:currentColor;opacity:.2;fill:none}"
    ".zopog-picture .curve{fill:none;stroke:currentColor;stroke-width:2}.zopog-picture .dot{fill:currentColor}"
    + "".join(f".zopog-picture .c{i}{{color:{colour}}}" for i, colour in enumerate(_COLOURS, 1))
)


class Picture:
    """What a notebook shows of a plot."""

    def __init__(self, drawn: Svg, names: Sequence[str]) -> None:
        self.drawn, self.names = drawn, tuple(names)

    def __repr__(self) -> str:
        return f"a plot of {', '.join(self.names)}"

    def _repr_html_(self) -> str:
        keys = " ".join(
            f'<span><span class="c{i}">●</span> {escape(name)}</span>' for i, name in enumerate(self.names, 1)
        )
        style = f"<style>{_STYLE}</style>"
        return f'<div class="zopog-picture" style="max-width:460px">{style}{self.drawn}<div>{keys}</div></div>'


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str = "", *, log: bool = False
) -> Picture:
    """Up to four named curves, each (x, y). log: of both, to the base 10.

    Errors: ValueError for more than four, or for none.
    """
    if not 1 <= len(lines) <= len(_COLOURS):
        raise ValueError(f"{len(lines)} curves were given; 1 to {len(_COLOURS)} can be told apart")
    scale = log10 if log else float
    points = [[(scale(x), scale(y)) for x, y in zip(*line, strict=True)] for line in lines.values()]
    spans = [
        padded([point[axis] for line in points for point in line], low=float("-inf"), high=float("inf"))
        for axis in (0, 1)
    ]
    if log:
        x_label, y_label = f"log₁₀ {x_label}", f"log₁₀ {y_label}".rstrip()
    axes = Axes(spans[0], spans[1], x_label, y_label, percent_y=False, frame=LARGE)
    marks = [
        mark
        for i, line in enumerate(points, 1)
        for mark in ((Line(line, f"c{i}"), Dots(line, f"c{i}")) if len(line) <= 20 else (Line(line, f"c{i}"),))
    ]
    return Picture(panel(axes, marks, f"{', '.join(lines)} against {x_label}"), list(lines))
