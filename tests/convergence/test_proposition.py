"""[V7]: the exact error, the proved bound, and the reported one that fails."""

from dataclasses import replace

import numpy as np
import pytest

from zopog_ref.convergence import proposition
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.exact import MODES, binary_noise, draws_of_a_step, prompt_atoms

BENCH = Bench(seed=2)
ATOMS = prompt_atoms(BENCH.binary_alpha)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_exact_error(batch: int) -> None:
    assert proposition.exact_error(BENCH.small_wells, ATOMS, BENCH.z, 2, batch).holds(1)


def test_exact_error_twin() -> None:
    """Batches without replacement (all of the population, once) have a smaller error: the formula must notice."""
    table = BENCH.small_wells.table(BENCH.z)
    whole = proposition.mean_squared_error(ATOMS, table.mean(axis=1, keepdims=True), 2, 1)
    assert whole < 0.999 * proposition.mean_squared_error(ATOMS, table, 2, BENCH.small_wells.rows)


@pytest.mark.parametrize("batch", [1, 3])
def test_bounded_error(batch: int) -> None:
    assert proposition.bounded_error(BENCH.small_wells, ATOMS, BENCH.z, BENCH.small_constants, 2, batch).holds()


def test_bounded_error_twin() -> None:
    small = replace(BENCH.small_constants, sigma2_g=0.01, sigma2_alpha=0.0)
    assert not proposition.bounded_error(BENCH.small_wells, ATOMS, BENCH.z, small, 2, 3).holds()


def test_reported_fails() -> None:
    """1/I^2 cannot hold for large I, and before that it may: the sigma_g of V6 is generous."""
    losses, c = BENCH.small_wells.table(BENCH.z).mean(axis=1), BENCH.small_constants
    first = proposition.reported_fails_from(ATOMS, losses, c)
    assert first > 2
    assert proposition.reported_at(ATOMS, losses, c, first // 2).holds()
    assert not proposition.reported_at(ATOMS, losses, c, first).holds()
    assert not proposition.reported_at(ATOMS, losses, c, 1000 * first).holds()


def test_reported_never_fails_where_the_variance_is_of_order_two() -> None:
    """n = 1, N = 2, alpha = (a, a): x s is constant, and the search for the first failing I ends."""
    atoms, losses = prompt_atoms(np.full((1, 2), 0.5)), np.array([0.1, 0.8])
    assert proposition.leading_coefficient(atoms, losses) == pytest.approx(0, abs=1e-15)
    assert proposition.reported_fails_from(atoms, losses, BENCH.small_constants) is None
    assert (
        proposition.reported_fails_from(prompt_atoms(np.array([[0.5, 0.4]])), losses, BENCH.small_constants) is not None
    )


def test_no_leading_order() -> None:
    assert all(proposition.no_leading_order(size).holds(1) for size in (2, 3, 4))
    apart = [size * (size - 1) * proposition.variance_formula(a.weight, losses, a.score, size)
             for a, losses in [(prompt_atoms(np.array([[0.5, 0.4]])), np.array([0.2, 0.9]))] for size in (2, 200)]  # fmt: skip
    assert apart[1] > 2 * apart[0]  # elsewhere it is not constant


@pytest.mark.parametrize("mode", MODES)
def test_exact_error_in_modes(mode) -> None:
    draws = draws_of_a_step(mode, BENCH.binary_alpha[:1], 0.7, binary_noise(1, 6))
    table = BENCH.one_position.table(BENCH.z)[:, :2]
    assert proposition.exact_error_in_mode(draws, table, 2, 2, mode).holds(1)


def test_exact_error_in_modes_twin() -> None:
    """One noise a step is not fresh noise: their errors differ, and more so with many samples."""
    table, noise = BENCH.one_position.table(BENCH.z)[:, :2], binary_noise(1, 6)
    one, fresh = (
        proposition.error_in_mode(draws_of_a_step(mode, BENCH.binary_alpha[:1], 0.7, noise), table, 500, 500)
        for mode in ("per_step", "per_sample")
    )
    assert one > 10 * fresh


def test_sharp_error() -> None:
    """sigma_alpha^2 is attained without noise, and gamma_alpha^2 = 1/(90 a^2) is left under one noise a step."""
    noise = binary_noise(1, 12)
    assert proposition.sharp_error("none", noise, True).ratio > 0.99
    assert not proposition.sharp_error("per_step", noise, False).holds()
    assert proposition.sharp_error("per_step", noise, True).left == pytest.approx(1 / (90 * 0.04), rel=0.01)


def test_leading_coefficient_is_what_remains_at_large_i() -> None:
    losses = BENCH.small_wells.table(BENCH.z).mean(axis=1)
    many = 10**7 * proposition.variance_formula(ATOMS.weight, losses, ATOMS.score, 10**7)
    assert proposition.leading_coefficient(ATOMS, losses) == pytest.approx(many, rel=1e-5)


def test_right_side_of_the_sharp_error() -> None:
    """sigma_g^2 = (5/4)(1/2)/0.04, sigma_alpha^2 = gamma_alpha^2 = (1/4)(1/2)/0.04."""
    noise = binary_noise(1, 4)
    assert proposition.sharp_error("none", noise, True).right == pytest.approx(15.625 / 4000 + 3.125)
    assert proposition.sharp_error("per_sample", noise, True).right == pytest.approx(15.625 / 4000)
    assert proposition.sharp_error("per_step", noise, True).right == pytest.approx(15.625 / 4000 + 3.125)
