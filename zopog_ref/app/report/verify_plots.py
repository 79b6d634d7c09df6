"""Log-log charts as SVG text: no library, colours from the page's variables, so that they follow light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46


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


def chart(series: Sequence[Series], x_label: str, y_label: str, note: str = "") -> str:
    """A log-log chart with a legend below it, as an HTML figure body."""
    xs = np.concatenate([np.asarray(s.x, float) for s in series])
    ys = np.concatenate([np.asarray(s.y, float) for s in series])
    xs, ys = xs[xs > 0], ys[ys > 0]
    x_range, y_range = _padded(xs), _padded(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (np.log10(x) - x_range[0]) / (x_range[1] - x_range[0])
        up = (np.log10(y) - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    body = [_axes(x_range, y_range, place, x_label, y_label)]
    body += [_curve(s, place) for s in series]
    drawn = "".join(body)
    label = escape(f"{y_label} against {x_label}; " + ", ".join(s.name for s in series if s.name))
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{drawn}</svg>'
    keys = "".join(f'<span class="key"><i class="{_style(s)}"></i>{escape(s.name)}</span>' for s in series if s.name)
    return f'{svg}<div class="legend">{keys}</div>' + (f"<p>{note}</p>" if note else "")


def _style(series: Series) -> str:
    return f"c{series.colour}" + (" dashed" if series.dashed else "")


def _padded(values: ArrayLike) -> tuple[float, float]:
    logs = np.log10(np.asarray(values, float))
    low, high = float(logs.min()), float(logs.max())
    margin = max(0.05 * (high - low), 0.05)
    return low - margin, high + margin


def _curve(series: Series, place) -> str:  # type: ignore[no-untyped-def]
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    keep = (x > 0) & (y > 0)
    points = [place(a, b) for a, b in zip(x[keep], y[keep])]
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    out = "" if series.only_dots else f'<path class="line {_style(series)}" d="{path}"/>'
    if series.dashed:
        return out
    if series.error is not None:
        for a, b, e in zip(x[keep], y[keep], np.asarray(series.error, float)[keep]):
            (px, low), (_, high) = place(a, max(b - 2 * e, b / 1e3)), place(a, b + 2 * e)
            out += f'<path class="bar c{series.colour}" d="M{px:.1f} {low:.1f}L{px:.1f} {high:.1f}"/>'
    return out + "".join(f'<circle class="dot c{series.colour}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points)


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten, every second or third where there are many; 1-2-5 steps where the range is short."""
    if high - low < 1.5:
        steps = [float(np.log10(m) + k) for k in range(int(low) - 1, int(high) + 2) for m in (1, 2, 5)]
        return [t for t in steps if low <= t <= high]
    first, last = int(np.ceil(low)), int(np.floor(high))
    return [float(t) for t in range(first, last + 1, max(1, -(-(last - first) // 6)))]


def _number(log: float) -> str:
    value = 10**log
    if 0.01 <= value < 10_000:
        return f"{value:.3g}"
    return f'10<tspan dy="-5" font-size="8.5">{"−" if log < 0 else ""}{abs(round(log))}</tspan>'


def _axes(x_range, y_range, place, x_label: str, y_label: str) -> str:  # type: ignore[no-untyped-def]
    out = []
    bottom, left = HEIGHT - BOTTOM, LEFT
    for tick in _ticks(*x_range):
        px = place(10**tick, 10 ** y_range[0])[0]
        out.append(f'<path class="grid" d="M{px:.1f} {TOP}L{px:.1f} {bottom}"/>')
        out.append(f'<text x="{px:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(tick)}</text>')
    for tick in _ticks(*y_range):
        py = place(10 ** x_range[0], 10**tick)[1]
        out.append(f'<path class="grid" d="M{left} {py:.1f}L{WIDTH - RIGHT} {py:.1f}"/>')
        out.append(f'<text x="{left - 7}" y="{py + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    turn = f'transform="translate(13 {(TOP + bottom) / 2}) rotate(-90)"'
    out.append(f'<text class="axis" {turn} text-anchor="middle">{escape(y_label)}</text>')
    return "".join(out)
