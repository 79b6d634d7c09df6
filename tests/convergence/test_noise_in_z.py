"""[G4]: one noise for the pairs of a half step, exactly and by the algorithm; each with a way to fail."""

from dataclasses import replace

import numpy as np
import pytest

from zopog_ref.convergence import noise_in_z
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.exact import binary_noise
from zopog_ref.convergence.lines_continuous import _algorithm_modes, _one_noise
from zopog_ref.convergence.lines_descent import opposite_given
from zopog_ref.convergence.smoothing_lemmas import shared_moments

BENCH = Bench(seed=1, effort=TINY)


def test_one_noise_variance() -> None:
    assert all(c.holds(1) for c in _one_noise(BENCH))


def test_one_noise_variance_is_not_that_of_fresh_noise() -> None:
    """With the marginal distribution in place of the given one the variance is another: the term matters."""
    given, fresh = (opposite_given(mode, binary_noise(1, 12)) for mode in ("per_step", "per_sample"))
    batch = np.zeros(1, np.int64)
    one, other = (noise_in_z.one_noise_variance(case, batch, 2).left for case in (given, fresh))
    assert one > 1.05 * other
    assert noise_in_z.one_noise_variance(fresh, batch, 2).holds(1)  # one case: the exact [Z5] again


def test_noise_excess_of_opposite_prompts() -> None:
    """p is uniform over the noise at alpha = (a, a), tau = 1: Var(2p - 1) = 1/3."""
    assert noise_in_z.noise_excess(opposite_given("per_step", binary_noise(1, 12))) == pytest.approx(1 / 3)
    assert noise_in_z.noise_excess(opposite_given("per_sample", binary_noise(1, 12))) == 0


def test_the_marginal_case_is_the_mean_of_the_given_ones() -> None:
    noise = binary_noise(1, 12)
    means = [
        sum(w * shared_moments(case, np.zeros(1, np.int64), 1, noise_in_z.two_point_gradient).mean for w, case in given)
        for given in (opposite_given("per_step", noise), opposite_given("per_sample", noise))
    ]
    np.testing.assert_allclose(*means, atol=1e-12)


def test_half_step_of_the_algorithm() -> None:
    assert all(abs(c.z) < 4.5 for c in _algorithm_modes(BENCH))


def test_half_step_of_the_algorithm_twin() -> None:
    """The prediction of one mode does not fit another: fresh noise would show in per_step, and one noise elsewhere."""
    problem = opposite_given("none", binary_noise(1, 12))[0][1].problem
    alpha = np.full((1, 2), 0.5)
    for ran, predicted in (("per_sample", "per_step"), ("per_step", "per_sample")):
        given = opposite_given(predicted, binary_noise(1, 12))
        assert abs(noise_in_z.half_step_of_the_algorithm(problem, given, alpha, ran, 40, 400, 5).z) > 10


def test_the_counter_example() -> None:
    """n = 1, N = 2, d = 2, I_2 = 200, B = 64: 0.354 of 0.061 allowed without gamma_z^2, of 0.394 with it."""
    given = opposite_given("per_step", binary_noise(1, 12))
    without, with_it = (noise_in_z.variance_bound_in_mode(given, 64, 200, False, 1.0, g) for g in (0.0, 1 / 3))
    assert without.left == pytest.approx(0.354, abs=0.002)
    assert without.right == pytest.approx(0.061, abs=0.001)
    assert not without.holds()
    assert with_it.holds()
    assert with_it.ratio > 0.85


def test_every_mode_holds_with_per_example_directions() -> None:
    for mode, gamma in (("none", 0.0), ("per_sample", 0.0), ("per_step", 1 / 3)):
        given = opposite_given(mode, binary_noise(1, 12))
        assert noise_in_z.variance_bound_in_mode(given, 2, 300, True, 1.0, gamma).holds()
    assert not noise_in_z.variance_bound_in_mode(given, 2, 9000, True, 0.001, 0.0).holds()


def test_reweighted_keeps_the_rest() -> None:
    case = opposite_given("none", binary_noise(1, 12))[0][1]
    other = noise_in_z.reweighted(case, np.array([0.1, 0.9]))
    assert replace(other, weight=case.weight) == case or (other.z == case.z).all()
