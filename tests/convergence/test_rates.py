"""The measured curves against their predictions, and the slopes that are excluded."""

import numpy as np
import pytest

from tests.convergence.mutants import one_over_I, two_point
from zopog_ref.convergence import lines_rates, rates
from zopog_ref.convergence.cases import TINY, Bench

BENCH = Bench(seed=6, effort=TINY)


def test_policy_variance() -> None:
    curve = lines_rates.policy_curve(BENCH)
    assert all(abs(point.z) < 4.5 for point in curve.against_prediction())
    measured, error = rates.slope(curve.x, curve.y, curve.error)
    assert abs(measured - rates.predicted_slope(curve)) < 4.5 * error
    assert (measured + 2) / error > 10  # -2 is excluded


def test_policy_variance_twin() -> None:
    """1/I in place of 1/(I-1) changes the variance at I = 2 by a factor 4."""
    curve = lines_rates.policy_curve(Bench(seed=6, effort=TINY, policy=one_over_I))
    assert abs(curve.against_prediction()[0].z) > 10


def test_noise_floor() -> None:
    fresh, one = (lines_rates.noise_curve(BENCH, per_step) for per_step in (False, True))
    assert all(abs(point.z) < 4.5 for curve in (fresh, one) for point in curve.against_prediction())
    assert one.y[-1] > 3 * fresh.y[-1]  # the floor of per_step, and none for per_sample


def test_zeroth_curves() -> None:
    assert abs(rates.slope_against(lines_rates.pairs_curve(BENCH), -1.0).z) < 4.5
    assert abs(rates.slope_against(lines_rates.dimension_curve(BENCH), 1.0).z) < 4.5
    assert abs(rates.slope_against(lines_rates.pairs_curve(BENCH), -2.0).z) > 10
    assert abs(rates.slope_against(lines_rates.dimension_curve(BENCH), 0.0).z) > 10


def test_radius() -> None:
    assert abs(rates.slope_against(lines_rates.radius_curve(BENCH), 0.0).z) < 4.5


def test_radius_twin() -> None:
    """Scaled by mu twice, the estimate is not flat in mu."""
    rng = BENCH.rng(0)
    squares = [
        rates.zeroth_errors(rates.plain_quadratic(rng, 5, 1, 0.0), np.zeros(5), mu, 1, 1, False, 500, rng,
                            lambda a, b, u, mu: two_point(a, b, u, 1.0)).mean()
        for mu in (0.01, 1.0)
    ]  # fmt: skip
    assert squares[1] > 2 * squares[0]


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_batch_curves(spread: float) -> None:
    per_example, shared = (lines_rates.batch_curve(BENCH, spread, per) for per in (True, False))
    assert all(abs(point.z) < 4.75 for curve in (per_example, shared) for point in curve.against_prediction())
    assert shared.y[-1] > per_example.y[-1]


def test_bias() -> None:
    wells, kink = lines_rates.bias_curves(BENCH)
    assert rates.slope_against(wells, 2.0).gap == pytest.approx(0, abs=0.01)
    assert rates.slope_against(kink, 1.0).gap == pytest.approx(0, abs=1e-6)
    assert abs(rates.slope_against(wells, 1.0).gap) > 0.9


def test_float32() -> None:
    found = lines_rates.roundoff(BENCH)
    total = found.bias + found.roundoff
    at_best = np.exp(np.interp(np.log(found.best), np.log(found.mu), np.log(total)))
    assert at_best < 2 * total.min()
    assert total[0] > 100 * at_best  # mu a hundred times smaller: round-off
    assert total[-1] > 100 * at_best  # mu a hundred times larger: bias


def test_predictions_by_hand() -> None:
    """(d+1)||grad||^2 / I_2 with d = 20 and slopes of length 1; d + 1; (d+2)||grad||^2 on a well."""
    rng = BENCH.rng(1)
    np.testing.assert_allclose(rates.pairs_curve(rng, (1, 3), 5).predicted, [21, 7], rtol=1e-12)
    found = rates.dimension_curve(rng, (2, 5), 5)
    assert (found.predicted.tolist(), found.x.tolist()) == ([3, 6], [3, 6])
    wells = BENCH.wells
    slope2 = float((wells.slope_table(BENCH.z)[0, 0] ** 2).sum())
    np.testing.assert_allclose(rates.radius_curve(rng, wells, BENCH.z, (0.1, 0.2), 5).predicted, 4 * slope2, rtol=1e-12)


def test_points_of_a_curve_against_their_predictions() -> None:
    for found in (
        lines_rates.pairs_curve(BENCH), lines_rates.dimension_curve(BENCH),
    ):  # fmt: skip
        assert all(abs(point.z) < 4.75 for point in found.against_prediction())
