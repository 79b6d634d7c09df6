"""Small panels as SVG text: many beside one another, one a method, each with the others in grey behind it.

Colours and line styles are those of the page's style sheet, so that they follow light and dark.
"""

# ruff: noqa: E501 (SVG text)

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

WIDTH, HEIGHT = 300, 196
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 8, 34
STRIP_WIDTH, STRIP_HEIGHT, STRIP_MARGIN = 340, 26, 8

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A curve of a panel. kind: main, seed (thin), other (grey, behind), level (dashed); steps: a staircase."""

    points: Points
    kind: str
    name: str = ""
    steps: bool = False


@dataclass(frozen=True)
class Axes:
    """Ranges and labels; percent: ticks as percentages."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    percent_x: bool = False

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Of a point, in the panel."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def panel(
    axes: Axes, lines: Iterable[Line], dots: Iterable[tuple[float, float, float, str]] = (), label: str = ""
) -> str:
    """A panel with its lines and dots (x, y, radius, tooltip); label describes it to whoever cannot see it."""
    body = [_grid(axes)]
    body += [_line(axes, line) for line in sorted(lines, key=lambda line: _ORDER.index(line.kind))]
    for x, y, radius, title in dots:
        px, py = axes.place(x, y)
        body.append(
            f'<circle class="dot c1" cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}"><title>{escape(title)}</title></circle>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'


_ORDER = ("other", "level", "seed", "main")


def _line(axes: Axes, line: Line) -> str:
    if not line.points:
        return ""
    placed = [axes.place(x, y) for x, y in line.points]
    path = f"M{placed[0][0]:.1f} {placed[0][1]:.1f}"
    for (_, before), (px, py) in pairwise(placed):
        path += f"L{px:.1f} {before:.1f}L{px:.1f} {py:.1f}" if line.steps else f"L{px:.1f} {py:.1f}"
    title = f"<title>{escape(line.name)}</title>" if line.name else ""
    return f'<path class="curve {line.kind}" d="{path}">{title}</path>'


def _grid(axes: Axes) -> str:
    bottom, out = HEIGHT - BOTTOM, []
    for tick in ticks(*axes.y, 5):
        py = axes.place(axes.x[0], tick)[1]
        out.append(f'<path class="grid" d="M{LEFT} {py:.1f}L{WIDTH - RIGHT} {py:.1f}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{percent(tick)}</text>')
    for tick in ticks(*axes.x, 5):
        px = axes.place(tick, axes.y[0])[0]
        text = percent(tick) if axes.percent_x else thousands(tick)
        anchor = "end" if px > WIDTH - RIGHT - 12 else "middle"
        out.append(f'<path class="grid" d="M{px:.1f} {bottom}L{px:.1f} {bottom + 4}"/>')
        out.append(f'<text x="{px:.1f}" y="{bottom + 15}" text-anchor="{anchor}">{text}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(axes.x_label)}</text>')
    return "".join(out)


def strip(span: tuple[float, float], low: float, high: float, mean: float, each: Sequence[float], levels: Sequence[tuple[float, str]],
          good: bool, label: str) -> str:  # fmt: skip
    """One row of the table: interval, mean, a dot for each seed, and dashed lines for what to beat."""
    middle = STRIP_HEIGHT / 2
    body = [f'<path class="grid" d="M{STRIP_MARGIN} {middle}L{STRIP_WIDTH - STRIP_MARGIN} {middle}"/>']
    for value, name in levels:
        body.append(f'<path class="curve level" d="M{_across(span, value):.1f} 0L{_across(span, value):.1f} {STRIP_HEIGHT}">'
                    f"<title>{escape(name)}</title></path>")  # fmt: skip
    tone = "best" if good else "rest"
    ends = [_across(span, min(max(v, span[0]), span[1])) for v in (low, high)]
    body.append(
        f'<rect class="reach {tone}" x="{ends[0]:.1f}" y="{middle - 5}" width="{max(ends[1] - ends[0], 1):.1f}" height="10" rx="5"/>'
    )
    for value in each:
        body.append(
            f'<circle class="seed {tone}" cx="{_across(span, value):.1f}" cy="{middle}" r="3.2"><title>{value:.1%}</title></circle>'
        )
    at = _across(span, mean)
    body.append(f'<path class="mean {tone}" d="M{at:.1f} {middle - 9}L{at:.1f} {middle + 9}"/>')
    return (
        f'<svg viewBox="0 0 {STRIP_WIDTH} {STRIP_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'
    )


def strip_axis(span: tuple[float, float]) -> str:
    """The scale above the strips."""
    marks = "".join(
        f'<text x="{_across(span, tick):.1f}" y="12" text-anchor="middle">{percent(tick)}</text>'
        f'<path class="grid" d="M{_across(span, tick):.1f} 16L{_across(span, tick):.1f} 20"/>'
        for tick in ticks(*span, 7)
    )
    return f'<svg viewBox="0 0 {STRIP_WIDTH} 20" aria-hidden="true">{marks}</svg>'


def _across(span: tuple[float, float], value: float) -> float:
    return STRIP_MARGIN + (value - span[0]) / (span[1] - span[0]) * (STRIP_WIDTH - 2 * STRIP_MARGIN)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers of [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** floor(log10((high - low) / most))
    while (floor(high / step + 1e-9) - ceil(low / step - 1e-9)) + 1 > most:
        step *= 2.5 if f"{step:e}"[0] == "2" else 2
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def padded(values: Iterable[float], share: float = 0.06, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """A range that holds the values with some room, inside [low, high]."""
    known = list(values)
    least, most = min(known), max(known)
    room = max(share * (most - least), 0.01)
    return max(low, least - room), min(high, most + room)


def percent(value: float) -> str:
    """0.25 as 25%; one decimal where it says something."""
    text = f"{100 * value:.1f}".removesuffix(".0")
    return f"{text}%"


def thousands(value: float) -> str:
    """4000 as 4k."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
