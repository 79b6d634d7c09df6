"""Which points of a picture of score against calls are worth their calls."""

from collections.abc import Sequence


def on_frontier(points: Sequence[tuple[float, float]], higher: bool) -> list[bool]:
    """Of points (calls, score): whether no other is better for as many calls, or as good for fewer.

    Equal points are both on it. higher: whether a higher score is better.
    """
    signed = [(calls, score if higher else -score) for calls, score in points]
    return [not any(_beats(other, point) for other in signed) for point in signed]


def _beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a != b and a[0] <= b[0] and a[1] >= b[1]
