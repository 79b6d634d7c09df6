"""Pictures as SVG text: axes, lines and dots whose colours are classes of style.css and follow light and dark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

Points = Sequence[tuple[float, float]]
Span = tuple[float, float]


class Svg(str):
    """Markup whose texts are escaped already: a template takes it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def mark(name: str, body: str = "", title: str = "", **attributes: object) -> Svg:
    """One element. `class_` is its class, `a_b` an attribute a-b; floats have one decimal; body is markup."""
    parts = [name]
    for key, value in attributes.items():
        text = f"{value:.1f}" if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    inside = body + (f"<title>{escape(title)}</title>" if title else "")
    return Svg(f"<{' '.join(parts)}>{inside}</{name}>" if inside else f"<{' '.join(parts)}/>")


def picture(width: int, height: int, body: Iterable[str], label: str) -> Svg:
    """The whole; label describes it to whoever cannot see it."""
    view = f'viewBox="0 0 {width} {height}"'
    what = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return Svg(f"<svg {view} {what}>{''.join(body)}</svg>")


def path(points: Points) -> str:
    """Straight lines through the points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


@dataclass(frozen=True)
class Frame:
    """Size of a picture and the margins of its axes; ruled: with lines across for the ticks of x too."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    ruled: bool


SMALL, LARGE = Frame(300, 196, 38, 10, 8, 34, False), Frame(460, 330, 62, 14, 14, 46, True)


@dataclass(frozen=True)
class Axes:
    """Ranges and labels. percent_x, percent_y: ticks as percentages. log_x, log_y: the range is of powers of ten.

    at_x: where the ticks of x stand, in place of round numbers.
    """

    x: Span
    y: Span
    x_label: str
    y_label: str = ""
    percent_x: bool = False
    percent_y: bool = True
    log_x: bool = False
    log_y: bool = False
    at_x: Sequence[float] = ()
    frame: Frame = SMALL

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Of a point, in the picture."""
        f = self.frame
        x, y = log10(x) if self.log_x else x, log10(y) if self.log_y else y
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return f.left + across * (f.width - f.left - f.right), f.height - f.bottom - up * (f.height - f.top - f.bottom)

    def grid(self) -> Iterable[str]:
        """Ticks with their numbers, and the labels."""
        f, bottom, right = self.frame, self.frame.height - self.frame.bottom, self.frame.width - self.frame.right
        for tick, text in self._ticks(self.y, self.percent_y, self.log_y):
            at = self.place(1.0, tick)[1]
            yield mark("path", class_="grid", d=f"M{f.left} {at:.1f}L{right} {at:.1f}")
            yield mark("text", text, x=f.left - 6, y=at + 4, text_anchor="end")
        for tick, text in [(t, thousands(t)) for t in self.at_x] or self._ticks(self.x, self.percent_x, self.log_x):
            at = self.place(tick, 1.0)[0]
            ends = (f.top, bottom) if f.ruled else (bottom, bottom + 4)
            yield mark("path", class_="grid", d=f"M{at:.1f} {ends[0]}L{at:.1f} {ends[1]}")
            anchor = (
                "end" if at > right - 12 and not (self.log_x and not self.at_x) else "middle"
            )  # the last number would leave the picture
            yield mark("text", text, x=at, y=bottom + 15, text_anchor=anchor)
        middle, low = (f.left + right) / 2, f.height - (8 if f.ruled else 4)
        yield mark("text", escape(self.x_label), class_="axis", x=middle, y=low, text_anchor="middle")
        if self.y_label:
            turn = f"translate(13 {(f.top + bottom) / 2}) rotate(-90)"
            yield mark("text", escape(self.y_label), class_="axis", transform=turn, text_anchor="middle")

    @staticmethod
    def _ticks(span: Span, as_percent: bool, log: bool) -> list[tuple[float, str]]:
        if log:
            return [(10**t, _power(t)) for t in powers(*span)]
        return [(t, percent(t) if as_percent else thousands(t)) for t in ticks(*span, 5)]


@dataclass(frozen=True)
class Line:
    """A curve. kind: main, seed (thin), other (grey, behind), level (dashed), c1 to c6; steps: a staircase."""

    points: Points
    kind: str
    name: str = ""
    steps: bool = False

    def drawn(self, axes: Axes) -> Iterable[str]:
        placed = [axes.place(x, y) for x, y in self.points]
        if self.steps:
            corners = [[(x, before), (x, y)] for (_, before), (x, y) in pairwise(placed)]
            placed = [*placed[:1], *(corner for both in corners for corner in both)]
        if placed:
            yield mark("path", title=self.name, class_=f"curve {self.kind}", d=path(placed))


@dataclass(frozen=True)
class Band:
    """What lies between two curves over the same x. kind: as of a line."""

    low: Points
    high: Points
    kind: str

    @property
    def points(self) -> Points:
        """Once around."""
        return [*self.low, *reversed(self.high)]

    def drawn(self, axes: Axes) -> Iterable[str]:
        if len(self.low) > 1:
            yield mark("path", class_=f"band {self.kind}", d=path([axes.place(x, y) for x, y in self.points]) + "Z")


@dataclass(frozen=True)
class Dots:
    """Points with a radius, a tooltip, and the half length of a bar where they have one."""

    points: Points
    kind: str = "c1"
    radius: Sequence[float] = ()
    titles: Sequence[str] = ()
    reach: Sequence[float] = ()

    def drawn(self, axes: Axes) -> Iterable[str]:
        for (x, y), r in zip(self.points, self.reach):
            ends = axes.place(x, max(y - r, y / 1e3)), axes.place(x, y + r)
            yield mark("path", class_=f"bar {self.kind}", d=path(ends))
        for i, (x, y) in enumerate(self.points):
            px, py = axes.place(x, y)
            title = self.titles[i] if self.titles else ""
            radius = float(self.radius[i]) if self.radius else 3.0
            yield mark("circle", title=title, class_=f"dot {self.kind}", cx=px, cy=py, r=radius)


def panel(axes: Axes, marks: Iterable[Line | Band | Dots], label: str = "") -> Svg:
    """Axes with what is drawn on them, the last on top."""
    frame = axes.frame
    body = [*axes.grid(), *(text for each in marks for text in each.drawn(axes))]
    return picture(frame.width, frame.height, body, label)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers of [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** floor(log10((high - low) / most))
    while (floor(high / step + 1e-9) - ceil(low / step - 1e-9)) + 1 > most:
        step *= 2.5 if f"{step:e}"[0] == "2" else 2
    return [i * step for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Logarithms: powers of ten, every second or third where there are many; 1-2-5 steps where the range is short."""
    if high - low < 1.5:
        steps = [log10(m) + k for k in range(int(low) - 1, int(high) + 2) for m in (1, 2, 5)]
        return [t for t in steps if low <= t <= high]
    first, last = ceil(low), floor(high)
    return [float(t) for t in range(first, last + 1, max(1, -(-(last - first) // 6)))]


def padded(
    values: Iterable[float], share: float = 0.06, low: float = 0.0, high: float = 1.0, least: float = 0.01
) -> Span:
    """A range that holds the values with some room, at least `least`, inside [low, high]."""
    known = list(values)
    room = max(share * (max(known) - min(known)), least)
    return max(low, min(known) - room), min(high, max(known) + room)


def percent(value: float) -> str:
    """0.25 as 25%; one decimal where it says something."""
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


def thousands(value: float) -> str:
    """4000 as 4k."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _power(log: float) -> str:
    value = 10**log
    if 0.01 <= value < 10_000:
        return f"{value:.3g}"
    return f'10<tspan dy="-5" font-size="8.5">{"−" if log < 0 else ""}{abs(round(log))}</tspan>'
