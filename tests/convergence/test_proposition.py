"""[V7]: the exact error, the proved bound, and the reported one that fails."""

from dataclasses import replace

import pytest

from zopog_ref.convergence import proposition
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.exact import prompt_atoms

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
