"""[A1] to [A4]: constants against what is observed; with a constant that is too small the check fails."""

from dataclasses import replace

import numpy as np
import pytest

from zopog_ref.convergence import assumptions
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.problems import GaussianWells, Kink, TableQuadratic, exact_gradients, gaussian_wells

BENCH = Bench(seed=4)


@pytest.mark.parametrize("tau", [0.4, 1.0])
def test_smoothness_in_alpha(tau: float) -> None:
    assert assumptions.observed_smoothness_in_alpha(BENCH.wells, 0.1, tau, BENCH.rng(0), 10).holds()


def test_smoothness_in_alpha_is_within_a_factor_four() -> None:
    """One position, two tokens, losses 0 and F at alpha = (a, a), tau = 1: the Hessian is F/(4 a^2), the bound F/a^2."""
    a = 0.2
    table = TableQuadratic(1, 2, np.array([[0.0], [1.0]]), np.zeros((2, 1, 1)), np.eye(1))
    alpha, step = np.array([[a, a]]), np.array([[0.0, 1e-6]])
    change = exact_gradients(table, alpha + step, np.zeros(1)).alpha - exact_gradients(table, alpha, np.zeros(1)).alpha
    curvature = np.linalg.norm(change) / 1e-6
    assert curvature == pytest.approx(assumptions.smoothness_in_alpha(1.0, a, 1.0) / 4, rel=1e-4)


def test_smoothness_in_alpha_twin(monkeypatch) -> None:
    monkeypatch.setattr(assumptions, "smoothness_in_alpha", lambda F, alpha_min, tau: F * (1 + tau) / 2)
    assert not assumptions.observed_smoothness_in_alpha(BENCH.wells, 0.1, 0.5, BENCH.rng(0), 10).holds()


@pytest.mark.parametrize("problem", [BENCH.wells, BENCH.quadratic], ids=["wells", "quadratic"])
def test_smoothness_in_z(problem) -> None:
    observed = assumptions.observed_smoothness_in_z(problem, BENCH.rng(1), 20)
    assert observed.holds()
    assert observed.ratio > 0.9  # the constant is sharp, so one a tenth smaller would fail


def test_hessian_constant_of_wells() -> None:
    """rho = 1.3801 F/s^3 against the largest third difference along lines through the centre; a smaller one fails."""
    well = GaussianWells(1, 1, np.zeros((1, 1, 1)), F=2.0, s=0.5)
    x, h = np.linspace(-2, 2, 4001)[:, None], 1e-4
    slope = [well.slope_of(np.zeros(1, int), x + k * h, np.zeros(1, int))[:, 0] for k in (-1, 0, 1)]
    third = np.abs(slope[0] - 2 * slope[1] + slope[2]).max() / h**2
    assert third == pytest.approx(well.rho, rel=1e-3)


def test_slope_constant_of_wells() -> None:
    largest = max(
        np.linalg.norm(BENCH.wells.slope_table(z), axis=-1).max() for z in BENCH.rng(2).normal(size=(2000, 2))
    )
    assert 0.95 * BENCH.wells.largest_slope < largest <= BENCH.wells.largest_slope
    assert BENCH.wells.largest_slope**2 <= assumptions.slope_bound(BENCH.wells.F, BENCH.wells.L_z)


def test_batch_variance() -> None:
    for found in assumptions.observed_batch_variance(BENCH.wells, 0.1, 0.7, BENCH.rng(3), 20):
        assert found.holds()


def test_batch_variance_twin() -> None:
    """Constants of a problem with a tenth of the loss do not bound this one."""
    c = assumptions.constants(replace(BENCH.wells, F=0.1), 1.0)
    alpha, z = np.full((2, 3), 0.4), BENCH.z
    assert assumptions.variance_of_slopes(BENCH.wells, alpha, z, 1.0) > c.sigma2_z
    assert assumptions.variance_over_examples(BENCH.wells, alpha, z, 1.0) > c.sigma2_alpha


def test_losses() -> None:
    assert all(c.holds() for c in assumptions.observed_losses(BENCH.wells, BENCH.rng(4), 10))


def test_losses_twin() -> None:
    assert not assumptions.observed_losses(BENCH.quadratic.__class__(
        2, 2, BENCH.quadratic.c - 5, BENCH.quadratic.w, BENCH.quadratic.H), BENCH.rng(4), 10)[0].holds()  # fmt: skip


def test_unbounded_losses_have_no_constants() -> None:
    with pytest.raises(ValueError, match="unbounded"):
        assumptions.constants(BENCH.quadratic, 0.1)


def test_lower_bound() -> None:
    assert assumptions.observed_lower_bound(0.2, 0.1).holds()
    assert not assumptions.observed_lower_bound(0.05, 0.1).holds()


def test_slopes_of_wells_of_any_depth_and_width_are_their_derivatives() -> None:
    """F = 2, s = 1/2: with F = s = 1, as elsewhere, a power of s that is lost does not show."""
    rng, h = BENCH.rng(5), 1e-6
    wells = gaussian_wells(rng, 1, 2, 2, 3, 2.0, 0.5)
    for z in 0.4 * rng.standard_normal((4, 2)):
        difference = np.stack([(wells.table(z + h * e) - wells.table(z - h * e)) / (2 * h) for e in np.eye(2)], axis=-1)
        np.testing.assert_allclose(wells.slope_table(z), difference, rtol=0, atol=1e-8)
        np.testing.assert_allclose(wells.smoothed_slope_table(z, 1e-5), difference, rtol=0, atol=1e-8)
    assert wells.table(np.full(2, 50.0)) == pytest.approx(2.0)  # far away: F
    centre = wells.w[1, 2]
    one_off = wells.of(np.array(1), centre + np.array([0.5, 0.0]), np.array(2))
    assert one_off == pytest.approx(2 * (1 - np.exp(-0.5)))  # at r = s


def test_slope_of_the_kink() -> None:
    z = np.array([-2.0, 0.5, 3.0])
    assert Kink(3).slope_table(z).tolist() == [[[0.0, 0.5, 3.0]]]
    assert Kink(3).table(z) == 0.5 * (0.25 + 9.0)
