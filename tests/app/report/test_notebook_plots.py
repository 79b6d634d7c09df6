"""The plots of a notebook: which points they draw and where, what they write below, what they refuse."""

import re

import pytest

from zopog_ref.app.report.notebook import Picture, curves

Places = list[tuple[float, float]]


def drawn(picture: Picture) -> list[Places]:
    """The corners of every curve, in pixels: x to the right, y down."""
    paths = re.findall(r'class="curve c\d" d="M([^"]+)"', picture.drawn)
    return [[(float(x), float(y)) for x, y in (place.split() for place in path.split("L"))] for path in paths]


def test_x_goes_to_the_right_and_y_up() -> None:
    [[(x0, y0), (x1, y1), (x2, y2)]] = drawn(curves({"a": ([0, 10, 40], [0.0, 1.0, 0.5])}, "step", "loss"))
    assert x0 < x1 < x2
    assert (x1 - x0) * 4 == pytest.approx(x2 - x0, abs=0.5)
    assert y1 < y2 < y0
    assert y0 - y2 == pytest.approx((y0 - y1) / 2, abs=0.2)


def test_logarithms_are_to_the_base_ten_on_both_axes() -> None:
    log = curves({"a": ([1, 100, 1000], [10, 0.1, 1000])}, "I", "variance", log=True)
    plain = curves({"a": ([0, 2, 3], [1, -1, 3])}, "log₁₀ I", "log₁₀ variance")
    assert log.drawn == plain.drawn
    assert "log₁₀ variance" in log.drawn


def test_every_curve_stays_inside_the_picture() -> None:
    found = drawn(curves({"low": ([1, 2], [0, 1]), "high": ([5, 90], [-7, 60])}, "x"))
    assert len(found) == 2
    assert all(0 <= x <= 460 and 0 <= y <= 330 for line in found for x, y in line)


@pytest.mark.parametrize(("points", "dots"), [(20, 20), (21, 0)])
def test_few_points_have_dots(points: int, dots: int) -> None:
    picture = curves({"a": (list(range(points)), list(range(points)))}, "x")
    assert picture.drawn.count("<circle") == dots


@pytest.mark.parametrize("count", [0, 5])
def test_none_and_more_than_can_be_told_apart_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} curves were given; 1 to 4"):
        curves({str(i): ([0, 1], [0, 1]) for i in range(count)}, "x")


def test_names_are_text() -> None:
    picture = curves({"a <b>": ([0, 1], [0, 1]), "c": ([0, 1], [1, 0])}, "x")
    shown = picture._repr_html_()
    assert re.findall(r'class="c(\d)">●</span> ([^<]+)<', shown) == [("1", "a &lt;b&gt;"), ("2", "c")]
    assert "<b>" not in shown
    assert repr(picture) == "a plot of a <b>, c"
