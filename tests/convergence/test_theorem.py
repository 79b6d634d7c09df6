"""[D1], [D2], [T1], [C1]: they hold, and a step in the wrong direction breaks them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.convergence.mutants import ascent, climbing
from zopog_ref.backend import NUMPY
from zopog_ref.convergence import runs, theorem
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.lines_continuous import descent_alpha, descent_z
from zopog_ref.policy_gradient import policy_gradient
from zopog_ref.zeroth_order import two_point_gradient

BENCH = Bench(seed=5, effort=TINY)


def test_descent_in_alpha() -> None:
    found = descent_alpha(BENCH)
    assert all(c.holds() for c in found)
    assert found[-1].right < 0  # at the smallest step a decrease is certain, so the check has teeth


def test_descent_in_z() -> None:
    found = descent_z(BENCH)
    assert all(c.holds() for c in found)
    assert found[-1].right < 0


def test_descent_twins() -> None:
    assert not all(c.holds() for c in descent_alpha(replace(BENCH, policy=ascent)))
    assert not all(c.holds() for c in descent_z(replace(BENCH, zeroth=climbing)))


def quiet_plan() -> theorem.Plan:
    """Steps so small that noise and bias terms are a small part of the right side of T1."""
    c = BENCH.run_constants
    return theorem.Plan(2e-3 / c.L_alpha, 2e-3 * theorem.largest_eta_z(c, 20), 1e-3, 20, 20, 8)


def test_theorem_1() -> None:
    plan = quiet_plan()
    run = runs.trace(BENCH.wells, BENCH.start, plan, 25, range(3), fresh=True)
    assert runs.theorem_1(BENCH.run_constants, plan, run, 0.0).holds()
    assert runs.theorem_1(BENCH.run_constants, plan, run, None).holds()
    shared = runs.trace(BENCH.wells, BENCH.start, plan, 25, range(3), fresh=False)
    assert runs.theorem_1(BENCH.run_constants, plan, shared, None, shared=True).holds()
    assert run.smallest_alpha.min() > BENCH.run_constants.alpha_min  # [A4] by itself


def test_a_run_is_cut_where_a4_ends() -> None:
    plan = quiet_plan()
    run = runs.trace(
        BENCH.wells, BENCH.start, replace(plan, eta_alpha=1 / BENCH.run_constants.L_alpha), 25, range(3), True
    )
    level = float(np.median(run.smallest_alpha.min(axis=0)[1:]))
    cut = run.within(level)
    steps = cut.alpha_slope2.shape[1]
    assert 0 < steps < 25
    assert cut.smallest_alpha.min() >= level > run.smallest_alpha[:, steps + 1].min()
    with pytest.raises(ValueError, match="first step"):
        run.within(1.0)


def test_theorem_1_twin(monkeypatch) -> None:
    """Algorithm 1 climbing instead of descending breaks the telescoped form."""
    monkeypatch.setattr(NUMPY, "policy_gradient", lambda *args: -policy_gradient(*args))
    monkeypatch.setattr(NUMPY, "two_point_gradient", lambda *args: -two_point_gradient(*args))
    plan = quiet_plan()
    run = runs.trace(BENCH.wells, BENCH.start, plan, 25, range(3), fresh=True)
    assert not runs.theorem_1(BENCH.run_constants, plan, run, None).holds()


def test_trace_gradients_are_those_of_the_enumeration() -> None:
    from zopog_ref.convergence.problems import exact_gradients

    alpha = BENCH.start.alpha + 0.1 * BENCH.rng(0).random((2, 3))
    value, a2, z2 = runs.exact_state(BENCH.wells, alpha, BENCH.z)
    exact = exact_gradients(BENCH.wells, alpha, BENCH.z)
    np.testing.assert_allclose([value, a2, z2], [exact.value, (exact.alpha**2).sum(), exact.z @ exact.z], rtol=1e-12)


@pytest.mark.parametrize("epsilon", [0.3, 0.05])
def test_complexity(epsilon: float) -> None:
    c = BENCH.run_constants
    sizes = theorem.complexity(c, 1.0, epsilon)
    plan = theorem.Plan(
        1 / c.L_alpha, 1 / c.L_z, sizes.mu, int(np.ceil(sizes.policy_samples)), int(np.ceil(sizes.direction_pairs)),
        int(np.ceil(sizes.batch)),
    )  # fmt: skip
    least = min(plan.eta_alpha / 2, plan.eta_z / 4)
    assert theorem.average_bound(c, plan, int(np.ceil(sizes.steps)), 1.0) / least <= epsilon**2
    reported = replace(plan, policy_samples=int(np.ceil(np.sqrt(c.sigma2_g) / epsilon)))  # I of order 1/eps: the twin
    assert theorem.average_bound(c, reported, int(np.ceil(sizes.steps)), 1.0) / least > epsilon**2


def test_complexity_exponent() -> None:
    few, many = (theorem.complexity(BENCH.run_constants, 1.0, e).evaluations for e in (1e-6, 1e-7))
    assert np.log10(few / many) == pytest.approx(-4, abs=1e-6)
    reported = [theorem.reported_evaluations(20, 100, e) for e in (1e-6, 1e-7)]
    assert np.log10(reported[0] / reported[1]) == pytest.approx(-3)


def test_a_vertex_is_not_stationary_in_alpha() -> None:
    """L is multilinear in p: at its minimum alpha is on the floor, where grad_alpha L does not vanish but nothing moves."""
    best = BENCH.wells.prompts[BENCH.wells.table(BENCH.z).mean(axis=1).argmin()]
    alpha = np.full((2, 3), 1e-11)
    alpha[np.arange(2), best] = 1.0
    z_only = runs.exact_slopes(BENCH.wells, alpha, BENCH.z)[2]
    assert runs.exact_state(BENCH.wells, alpha, BENCH.z)[1] > 1e-4
    assert runs.mapping2(BENCH.wells, alpha, BENCH.z, 0.01) == pytest.approx(float(z_only @ z_only), abs=1e-6)
