"""What the pictures of a comparison are made of, in closed form: mean staircases, pairs, calibration."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from zopog_ref.app.compare import panels
from zopog_ref.app.compare.page import _overview, _time
from zopog_ref.app.compare.results import Bins


def run(*curve: tuple[int, float]) -> Any:
    return SimpleNamespace(curve=[(calls, metric, None) for calls, metric in curve])


def test_the_mean_of_staircases_has_a_step_where_a_run_has_one() -> None:
    runs = [[(0.0, 0.0), (10.0, 1.0)], [(5.0, 0.5), (20.0, 1.0)]]
    assert panels._mean(runs) == [(5.0, 0.25), (10.0, 0.75), (20.0, 1.0)]  # from where both have a value


def test_the_best_so_far_never_falls_and_goes_on_to_the_budget() -> None:
    assert panels._best_so_far(run((10, 0.5), (20, 0.4), (30, 0.6)), 40) == [(10, 0.5), (20, 0.5), (30, 0.6), (40, 0.6)]
    assert panels._best_so_far(run((10, 0.5), (40, 0.4)), 40) == [(10, 0.5), (40, 0.5)]


def pair(mean: float) -> Any:
    return SimpleNamespace(mean=mean, low=mean - 1, high=mean + 1)


def test_a_pair_is_its_row_less_its_column() -> None:
    """Methods a, b, c with means 0.5, 0.3, 0.4, in the order of their means."""
    mean = {"a": 0.5, "b": 0.3, "c": 0.4}
    table = [[pair(mean[i] - mean[j]) if i != j else None for j in mean] for i in mean]
    task: Any = SimpleNamespace(accuracy=SimpleNamespace(methods=mean, differences=table))
    found = panels._pairs(task, ["a", "c", "b"])
    assert [name for name, _ in found] == ["a", "c", "b"]
    for name, row in found:
        assert [other for other, _, _ in row] == ["a", "c", "b"]
        for other, estimate, share in row:
            assert (estimate is None) == (name == other)
            assert share == pytest.approx(abs(mean[name] - mean[other]) / 0.2)
            if estimate:
                assert estimate.mean == pytest.approx(mean[name] - mean[other])


def test_calibration_of_all_seeds_together_weighs_their_rows() -> None:
    bins = [
        Bins(rows=[1, 3, 0], confidence=[0.2, 0.8, None], accuracy=[0.0, 1.0, None]),
        Bins(rows=[3, 0, 0], confidence=[0.4, None, None], accuracy=[1.0, None, None]),
    ]
    cells = [SimpleNamespace(uncertainty=SimpleNamespace(mean=SimpleNamespace(reliability=b))) for b in bins]
    method: Any = SimpleNamespace(name="m", cells=cells, ece=SimpleNamespace(mean=0.125))
    name, number, drawn = panels._reliability(method)
    assert (name, number) == ("m", "ECE 0.125")
    assert re.findall(r"<title>(\d+ answers[^<]+)<", drawn) == [
        "4 answers with confidence 35%: 75% right",
        "3 answers with confidence 80%: 100% right",
    ]


def test_uncertainty_is_the_mean_over_the_seeds_that_have_it() -> None:
    def unsure(nll: float, area: float | None) -> Any:
        return SimpleNamespace(nll=nll, brier=0.5, ece=0.1, auroc_errors=None, rejection_area=area)

    cells = [
        SimpleNamespace(uncertainty=SimpleNamespace(mean=unsure(1.0, 0.2), votes=unsure(4.0, 0.5))),
        SimpleNamespace(uncertainty=SimpleNamespace(mean=unsure(2.0, None), votes=None)),
        SimpleNamespace(uncertainty=None),
    ]
    methods: Any = [SimpleNamespace(name="m", cells=cells)]
    assert panels._uncertainty(methods) == [
        ("m", [1.5, 0.5, 0.1, None, 0.2]),
        ("m, votes of its prompts", [4.0, 0.5, 0.1, None, 0.5]),
    ]


def test_the_overview_begins_with_the_highest_mean() -> None:
    def task(name: str, **means: float) -> Any:
        methods = {method: SimpleNamespace(mean=mean) for method, mean in means.items()}
        return SimpleNamespace(name=name, statistics=True, accuracy=SimpleNamespace(methods=methods))

    untested: Any = SimpleNamespace(name="untested", statistics=None)
    found = _overview([task("x", a=0.1, b=0.9), untested, task("y", a=0.7, b=0.2)])
    assert found["tasks"] == ["x", "y"]
    assert [(name, [s.mean for s in row]) for name, row in found["rows"]] == [("b", [0.9, 0.2]), ("a", [0.1, 0.7])]


@pytest.mark.parametrize(("seconds", "said"), [(119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h")])
def test_times_as_people_say_them(seconds: float, said: str) -> None:
    assert _time(seconds) == said
