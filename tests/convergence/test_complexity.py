"""[C1]: the sizes suffice, in both units; the exponents are those of a search that knows no formula."""

from dataclasses import replace

import numpy as np
import pytest

from zopog_ref.convergence import complexity
from zopog_ref.convergence.assumptions import constants
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.lines_rates import _exponents, _sizes_suffice

BENCH = Bench(seed=5, effort=TINY)
C = BENCH.run_constants
ONE_NOISE = constants(BENCH.wells, 1 / 6, 1.0, True)


def test_sizes_suffice() -> None:
    assert all(c.holds() for c in _sizes_suffice(BENCH))


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("field", ["steps", "policy_samples", "direction_pairs", "batch"])
def test_sizes_suffice_twin(field: str, projected: bool) -> None:
    """Each size is needed: with a twentieth of it the bound is not met (mu, twenty times as much)."""
    sizes = complexity.complexity(C, 1.0, 0.05, projected)
    small = replace(sizes, **{field: getattr(sizes, field) / 20})
    assert complexity.stationarity(C, sizes, 1.0, projected) <= 0.05**2
    assert complexity.stationarity(C, small, 1.0, projected) > 0.05**2
    assert complexity.stationarity(C, replace(sizes, mu=20 * sizes.mu), 1.0, projected) > 0.05**2


def test_samples_of_the_reported_order_do_not_suffice() -> None:
    sizes = complexity.complexity(C, 1.0, 0.05)
    reported = replace(sizes, policy_samples=np.sqrt(C.sigma2_g) / 0.05)
    assert complexity.stationarity(C, reported, 1.0) > 0.05**2


def test_one_noise_needs_small_steps() -> None:
    """gamma^2 is lowered by no sample size; small steps lower everything."""
    assert complexity.stationarity(ONE_NOISE, complexity.complexity(C, 1.0, 0.05), 1.0) > 0.05**2
    small = complexity.small_steps(ONE_NOISE, 1.0, 0.05)
    assert complexity.stationarity(ONE_NOISE, small, 1.0) <= 0.05**2 * (1 + 1e-9)
    assert complexity.stationarity(ONE_NOISE, replace(small, eta=2 * small.eta, steps=small.steps / 2), 1.0) > 0.05**2


def test_exponents() -> None:
    found = _exponents(BENCH)
    assert all(c.holds(1) for c in found)
    assert [c.right for c in found] == [-4, -6, -4, -4, 4]


def test_formulas_have_the_exponents_of_the_search() -> None:
    for sizes, unit, exponent in (
        (complexity.complexity, complexity.calls, -4), (complexity.complexity, complexity.examples, -6),
        (complexity.small_steps, complexity.calls, -4), (complexity.small_steps, complexity.examples, -4),
    ):  # fmt: skip
        few, many = (unit(sizes(C, 1.0, e)) for e in (1e-5, 1e-6))
        assert np.log10(few / many) == pytest.approx(exponent, abs=1e-4)
    reported = [complexity.reported_evaluations(20, 100, e) for e in (1e-6, 1e-7)]
    assert np.log10(reported[0] / reported[1]) == pytest.approx(-3)


def test_the_search_is_never_dearer_than_the_formulas() -> None:
    for epsilon in (0.1, 0.01):
        for free, sizes in ((False, complexity.complexity), (True, complexity.small_steps)):
            for unit in (complexity.calls, complexity.examples):
                assert unit(complexity.cheapest(C, 1.0, epsilon, unit, free)) <= unit(sizes(C, 1.0, epsilon))


def test_the_step_is_common_and_allowed() -> None:
    steep = replace(C, L_alpha=1e-3)
    for c in (C, steep):
        sizes = complexity.complexity(c, 1.0, 0.1)
        assert sizes.eta == 1 / max(c.L_alpha, c.L_z)
        assert sizes.direction_pairs >= 4 * (c.d + 2)
        assert complexity.stationarity(c, sizes, 1.0) <= 0.01
