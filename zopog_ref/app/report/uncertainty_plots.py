"""Reliability diagram and rejection curve as SVG text, in the classes and colours of verify_page.css."""

from collections.abc import Mapping
from html import escape
from typing import TypeVar

import numpy as np

from zopog_ref.app.report.verify_plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from zopog_ref.app.scores.uncertainty import RejectionCurve, Reliability

T = TypeVar("T")
Span = tuple[float, float]  # the ends of the vertical axis
WHOLE: Span = (0.0, 1.0)
_LEAST_SHARE, _POINTS = 0.02, 200
COLOURS = 6  # of the palette; a seventh curve begins it again


def reliability_diagram(tables: Mapping[str, Reliability]) -> str:
    """Accuracy against confidence, a curve for each name; a dot's area is its bin's share of the rows.

    The dashed diagonal is perfect calibration: above it, answers are better than they claim to be.
    """
    body, keys = (
        [_axes(WHOLE, "confidence", "accuracy"), _path([0, 1], [0, 1], WHOLE, "line dashed", "var(--soft)")],
        [],
    )
    for colour, (name, table) in _coloured(tables):
        filled = table.rows > 0
        x, y = table.confidence[filled], table.accuracy[filled]
        radius = 2 + 10 * np.sqrt(table.rows[filled] / table.rows.sum())
        body.append(_path(x, y, WHOLE, f"line c{colour}"))
        places = (_place(a, b, WHOLE) for a, b in zip(x, y))
        body += [
            f'<circle class="dot c{colour}" cx="{px:.1f}" cy="{py:.1f}" r="{r:.1f}"><title>{n} rows</title></circle>'
            for (px, py), r, n in zip(places, radius, table.rows[filled])
        ]
        keys.append((colour, f"{name}, ECE {table.ece:.3f}"))
    return _figure(body, keys, "accuracy against confidence")


def rejection_plot(curves: Mapping[str, RejectionCurve]) -> str:
    """Accuracy of the surest rows against the share of rows that are answered, a curve for each name.

    Drawn from a share of 2% on: the accuracy of a handful of rows is noise.
    """
    if not curves:
        raise ValueError("there is no curve to draw")
    drawn = {name: curve.accuracy[curve.coverage >= _LEAST_SHARE] for name, curve in curves.items()}
    low, high = (float(extreme([extreme(y) for y in drawn.values()])) for extreme in (np.min, np.max))
    span = max(0.0, np.floor(low * 10 - 0.5) / 10), min(1.0, np.ceil(high * 10 + 0.5) / 10)
    body, keys = [_axes(span, "share of rows answered, surest first", "accuracy on them")], []
    for colour, (name, curve) in _coloured(curves):
        y, x = drawn[name], curve.coverage[curve.coverage >= _LEAST_SHARE]
        some = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
        body.append(_path(x[some], y[some], span, f"line c{colour}"))
        keys.append((colour, f"{name}, area {curve.area:.3f}"))
    return _figure(body, keys, "accuracy against the share of rows answered")


def _coloured(named: Mapping[str, T]) -> list[tuple[int, tuple[str, T]]]:
    return [(i % COLOURS + 1, item) for i, item in enumerate(named.items())]


def _place(x: float, y: float, span: Span) -> tuple[float, float]:
    up = (y - span[0]) / (span[1] - span[0])
    return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _path(x, y, span: Span, style: str, stroke: str = "") -> str:  # type: ignore[no-untyped-def]
    points = "L".join("{:.1f} {:.1f}".format(*_place(a, b, span)) for a, b in zip(x, y))
    colour = f' style="stroke:{stroke}"' if stroke else ""
    return f'<path class="{style}"{colour} d="M{points}"/>'


def _axes(span: Span, x_label: str, y_label: str) -> str:
    bottom, out = HEIGHT - BOTTOM, []
    for tick in np.linspace(0, 1, 6):
        px = _place(tick, span[0], span)[0]
        anchor = "end" if tick == 1 else "middle"  # the last one would leave the picture
        out.append(f'<path class="grid" d="M{px:.1f} {TOP}L{px:.1f} {bottom}"/>')
        out.append(f'<text x="{px:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{tick:.0%}</text>')
    for tick in np.linspace(*span, 6):
        py = _place(0, tick, span)[1]
        out.append(f'<path class="grid" d="M{LEFT} {py:.1f}L{WIDTH - RIGHT} {py:.1f}"/>')
        out.append(f'<text x="{LEFT - 7}" y="{py + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    turn = f'transform="translate(13 {(TOP + bottom) / 2}) rotate(-90)"'
    out.append(f'<text class="axis" {turn} text-anchor="middle">{escape(y_label)}</text>')
    return "".join(out)


def _figure(body: list[str], keys: list[tuple[int, str]], what: str) -> str:
    label = escape(f"{what}; " + ", ".join(text for _, text in keys))
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(body)}</svg>'
    legend = "".join(f'<span class="key"><i class="c{colour}"></i>{escape(text)}</span>' for colour, text in keys)
    return f'{svg}<div class="legend">{legend}</div>'
