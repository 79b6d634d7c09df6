"""Paired comparisons: closed forms, enumeration, coverage by simulation; and the wrong ways, which must fail."""

from itertools import product
from math import atan, pi, sqrt
from statistics import NormalDist

import numpy as np
import pytest

from zopog_ref.app.compare import paired
from zopog_ref.app.compare.paired import best_p_values, crossed, fixed_seeds, holm, nested, sign_test

# -- Student's t ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5, 12.0, 300.0])
def test_the_tail_of_student_s_t(t: float) -> None:
    assert paired.student_tail(t, 1) == pytest.approx(0.5 - atan(t) / pi, rel=1e-9)
    assert paired.student_tail(t, 2) == pytest.approx(0.5 - t / (2 * sqrt(2 + t * t)), rel=1e-7, abs=1e-12)
    x = t / sqrt(4 + t * t)
    assert paired.student_tail(t, 4) == pytest.approx(0.5 - x * (3 - x * x) / 4, rel=1e-6, abs=1e-10)
    assert paired.student_tail(-t, 3) == pytest.approx(1 - paired.student_tail(t, 3))
    if t < 5:
        assert paired.student_tail(t, 1e6) == pytest.approx(1 - NormalDist().cdf(t), rel=1e-4)


@pytest.mark.parametrize("freedom", [1, 2, 2.7, 30, 5000.5])
@pytest.mark.parametrize("probability", [0.01, 0.5, 0.9, 0.975, 0.9995])
def test_the_quantile_inverts_the_tail(freedom: float, probability: float) -> None:
    t = paired.student_quantile(probability, freedom)
    assert 1 - paired.student_tail(t, freedom) == pytest.approx(probability, rel=1e-9)


def test_quantiles_of_a_printed_table() -> None:
    found = [paired.student_quantile(0.975, f) for f in (1, 2, 5, 10, 100)]
    assert found == pytest.approx([12.706, 4.3027, 2.5706, 2.2281, 1.9840], rel=1e-4)
    with pytest.raises(ValueError, match="between 0 and 1"):
        paired.student_quantile(1.0, 3)


# -- the two-way layout --------------------------------------------------------------------------------------------


def every_layout(a: float, b: float, e: float) -> np.ndarray:
    """All 2 x 2 layouts d_sr = ±a ± b ± e, equally likely: (256, 2, 2)."""
    signs = np.array(list(product((-1, 1), repeat=8)), float)
    return a * signs[:, :2, None] + b * signs[:, None, 2:4] + e * signs[:, 4:].reshape(-1, 2, 2)


@pytest.mark.parametrize(("a", "b", "e"), [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.3, 0.7, 1.1), (2, 0.1, 0.5)])
def test_the_variance_is_unbiased_by_enumeration(a: float, b: float, e: float) -> None:
    layouts = every_layout(a, b, e)
    variance = np.mean(layouts.mean(axis=(1, 2)) ** 2)
    squares = [paired.mean_squares(layout) for layout in layouts]
    assert variance == pytest.approx(a * a / 2 + b * b / 2 + e * e / 4)
    assert np.mean([(s + r - rest) / 4 for s, r, rest in squares]) == pytest.approx(variance)
    kept = np.mean([crossed(layout).error ** 2 for layout in layouts])
    assert kept >= variance - 1e-12  # cutting a negative component at 0 can only add


def test_taking_all_answers_for_independent_is_biased() -> None:
    layouts = every_layout(1.0, 0.3, 0.3)
    naive = np.mean([np.var(layout, ddof=1) / 4 for layout in layouts])
    assert naive < 0.75 * np.mean(layouts.mean(axis=(1, 2)) ** 2)


def test_one_seed_is_the_paired_t_interval() -> None:
    d = np.random.default_rng(0).normal(0.2, 1, (1, 30))
    found = crossed(d)
    error = d.std(ddof=1) / sqrt(30)
    assert (found.mean, found.error, found.freedom) == pytest.approx((d.mean(), error, 29))
    assert found.high - found.mean == pytest.approx(2.0452 * error, rel=1e-4)
    assert found == nested([d[0]]) == fixed_seeds(d)


def test_seeds_that_differ_by_constants_are_the_t_interval_of_their_means() -> None:
    """No row or rest variance: S independent means are all there is."""
    means = np.array([0.1, 0.3, 0.35])
    found = crossed(np.repeat(means[:, None], 500, axis=1))
    assert (found.error, found.freedom) == pytest.approx((means.std(ddof=1) / sqrt(3), 2))
    other = nested([np.full(7, m) for m in means])
    assert (found.low, found.high) == pytest.approx((other.low, other.high))


def test_no_difference_and_the_same_difference_everywhere() -> None:
    assert (crossed(np.zeros((3, 9))).p, crossed(np.zeros((3, 9))).high) == (1.0, 0.0)
    same = crossed(np.full((3, 9), -0.25))
    assert (same.p, same.p_below, same.p_above) == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="seeds x rows"):
        crossed(np.zeros(5))


def layouts(rng: np.random.Generator, seeds: int, rows: int, a: float, b: float, e: float) -> np.ndarray:
    return rng.normal(0, a, (seeds, 1)) + rng.normal(0, b, (1, rows)) + rng.normal(0, e, (seeds, rows))


def coverage(interval, a: float, b: float, e: float, seeds: int = 3, rows: int = 40, times: int = 250) -> float:  # type: ignore[no-untyped-def]
    """How often an interval at 95% covers the true mean, 0."""
    rng = np.random.default_rng(1)
    return float(np.mean([interval(layouts(rng, seeds, rows, a, b, e)).p > 0.05 for _ in range(times)]))


@pytest.mark.parametrize(("a", "b", "e"), [(0, 1, 1), (0.1, 1, 1), (0.3, 1, 1), (2, 1, 1)])
def test_the_interval_covers(a: float, b: float, e: float) -> None:
    assert coverage(crossed, a, b, e) > 0.91


def test_intervals_that_forget_a_source_of_chance_do_not_cover() -> None:
    def every_answer_for_itself(d: np.ndarray) -> paired.Estimate:
        return crossed(d.reshape(1, -1))

    def seeds_alone(d: np.ndarray) -> paired.Estimate:
        return nested(list(d))

    assert coverage(every_answer_for_itself, 1, 1, 1) < 0.6
    assert coverage(fixed_seeds, 1, 1, 1) < 0.75
    assert coverage(seeds_alone, 0, 1, 0.2) < 0.75  # the rows that all seeds share are chance too


# -- counts, corrections, the best ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (3, 3), (5, 1), (0, 7), (2, 6)])
def test_the_sign_test_by_enumeration(wins: int, losses: int) -> None:
    n = wins + losses
    far = [abs(sum(signs)) >= abs(wins - losses) for signs in product((-1, 1), repeat=n)]
    assert sign_test(wins, losses) == pytest.approx(np.mean(far))


def test_the_sign_test_and_the_interval_agree_on_many_rows() -> None:
    for wins, losses in ((260, 200), (240, 215), (300, 200)):
        d = np.concatenate([np.ones(wins), -np.ones(losses), np.zeros(2500)])[None]
        assert crossed(d).p == pytest.approx(sign_test(wins, losses), rel=0.2)


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """By enumeration: a hypothesis' adjusted p is the largest min(1, |I| min_I p) over the sets I that hold it."""
    rng = np.random.default_rng(3)
    for p in [*rng.random((20, 4)) ** 3, np.array([0.01, 0.01, 0.04, 0.9])]:
        sets = [[i for i in range(4) if bits[i]] for bits in product((0, 1), repeat=4)]
        closed = [max(min(1.0, len(s) * min(p[s])) for s in sets if i in s) for i in range(4)]
        assert holm(p) == pytest.approx(closed)


def test_the_best_of_two_is_a_one_sided_test() -> None:
    below = np.array([[1.0, 0.97], [0.03, 1.0]])
    assert best_p_values(below) == pytest.approx([0.97, 0.03])
    assert best_p_values(np.ones((1, 1))) == [1.0]
    with pytest.raises(ValueError, match="all pairs"):
        best_p_values(np.ones((2, 3)))


def best_is_kept(correction: int | None, methods: int = 6, times: int = 200) -> float:
    """How often the set of the best holds method 0, when all are equally good."""
    rng, kept = np.random.default_rng(4), 0
    for _ in range(times):
        scores = [layouts(rng, 4, 40, 1.0, 0.0, 0.1) for _ in range(methods)]
        below = np.ones((methods, methods))
        for j in range(1, methods):
            below[0, j] = crossed(scores[0] - scores[j]).p_below
        value = best_p_values(below)[0] if correction is None else below[0, 1:].min() * correction
        kept += value > 0.05
    return kept / times


def test_the_set_of_the_best_holds_the_best() -> None:
    assert best_is_kept(None) > 0.93
    assert best_is_kept(1) < 0.9  # without Bonferroni's factor it is lost too often


def test_intervals_hold_only_what_is_possible() -> None:
    from zopog_ref.app.compare.statistics import Scores, statistics

    rows, nearly = np.arange(4), {seed: np.array([1.0, 1.0, 1.0, float(seed != 1)]) for seed in (0, 1, 2)}
    runs = {"manual": nearly, "b": {seed: 1 - good for seed, good in nearly.items()}}
    scores = {
        name: {
            seed: Scores(rows, {"accuracy": good, "nll": 1e-3 + 0.01 * (1 - good), "brier": 2 * good})
            for seed, good in each.items()
        }
        for name, each in runs.items()
    }
    found = statistics(scores, "manual")
    for metric, low, high in (("accuracy", 0.0, 1.0), ("nll", 0.0, np.inf), ("brier", 0.0, 2.0)):
        for standing in found.metrics[metric].methods.values():
            assert low <= standing.low <= standing.mean <= standing.high <= high
    assert found.metrics["accuracy"].methods["manual"].high == 1.0  # not clipped it is above
    assert found.metrics["accuracy"].methods["b"].low == 0.0
    assert found.metrics["accuracy"].methods["b"].against_manual.low < -0.9  # differences are as they were
