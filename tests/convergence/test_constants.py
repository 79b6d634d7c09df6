"""Every constant and every right-hand side, pinned: numbers worked out by hand from docs/theory.md.

A bound that is too large still holds, and no row can see that; these tests do. All inputs are small whole numbers, so
that a factor, an exponent or a term that changes shows.
"""

from dataclasses import replace

import numpy as np
import pytest

from zopog_ref.convergence import (
    assumptions,
    comparison,
    complexity,
    coupling,
    proposition,
    runs,
    smoothing_lemmas,
    theorem,
)
from zopog_ref.convergence.assumptions import Constants
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.problems import GaussianWells

# n = 2, N = 4, d = 3, tau = 1/2, alpha_min = 1/10, F = 2, L_alpha = 6, L_z = 5; variances are primes
C = Constants(2, 4, 3, 0.5, 0.1, 2.0, 6.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0)
PLAN = theorem.Plan(0.1, 0.01, 0.2, 4, 8, 2)


def exact(value: float) -> object:
    return pytest.approx(value, rel=1e-12)


def test_rounding_and_family_error() -> None:
    assert comparison.ROUNDING == 1e-10
    assert comparison.FAMILY_ERROR == 1e-4
    assert not comparison.equal(1 + 1e-8, 1.0).holds(5)  # a part in 1e8 is seen
    assert not comparison.Inequality(1 + 1e-8, 1.0).holds()
    assert comparison.Inequality(1 + 1e-10, 1.0).holds()


def test_assumptions() -> None:
    # F (1 + tau) / (2 tau^2 a^2) = 2 * 1.5 / (2 * 0.25 * 0.01)
    assert assumptions.smoothness_in_alpha(2.0, 0.1, 0.5) == exact(600)
    # n (1 - 1/N) / (tau a)^2 = 2 * 0.75 / 0.0025
    assert assumptions.score_moment_bound(2, 4, 0.1, 0.5) == exact(600)
    assert assumptions.batch_variance_in_alpha(2.0, 2, 4, 0.1, 0.5) == exact(600)  # F^2/4 of that
    assert assumptions.noise_variance_in_alpha(2.0, 2, 4, 0.1, 0.5) == exact(600)
    assert assumptions.batch_variance_in_alpha(3.0, 2, 4, 0.1, 0.5) == exact(1350)
    assert assumptions.noise_variance_in_alpha(3.0, 2, 4, 0.1, 0.5) == exact(1350)
    assert assumptions.policy_variance(2.0, 2, 4, 0.1, 0.5) == exact(3000)  # five times as much
    assert assumptions.policy_variance(3.0, 2, 4, 0.1, 0.5) == exact(6750)
    assert assumptions.slope_bound(2.0, 5.0) == exact(10)
    # F I / (4 (I-1) tau a) = 2 * 5 / (4 * 4 * 0.05), and twice that with fresh noise
    assert assumptions.largest_step_in_alpha(2.0, 5, 0.1, 0.5) == exact(12.5)
    assert assumptions.largest_step_in_alpha(2.0, 5, 0.1, 0.5, fresh=True) == exact(25)


def test_constants_of_a_problem() -> None:
    wells = GaussianWells(2, 3, np.zeros((9, 1, 2)), F=2.0, s=0.5)
    for one_noise in (False, True):
        c = assumptions.constants(wells, 0.1, 0.5, one_noise)
        assert (c.n, c.n_candidates, c.d, c.tau, c.alpha_min, c.F) == (2, 3, 2, 0.5, 0.1, 2.0)
        assert [exact(x) for x in (600, 8, 8000 / 3, 1600 / 3, 16 / np.e)] == [
            c.L_alpha, c.L_z, c.sigma2_g, c.sigma2_alpha, c.sigma2_z
        ]  # fmt: skip
        assert [c.gamma2_alpha, c.gamma2_z] == ([exact(1600 / 3), exact(16 / np.e)] if one_noise else [0, 0])


def test_constants_without_a_temperature_have_temperature_one() -> None:
    wells = GaussianWells(2, 3, np.zeros((9, 1, 2)))
    assert assumptions.constants(wells, 0.1) == assumptions.constants(wells, 0.1, 1.0, False)


def test_proposition() -> None:
    assert proposition.proved_bound(C, 4, 2) == exact(7 / 4 + 11 / 2 + 17)
    assert proposition.reported_bound(C, 4, 2) == exact(14 / 16 + 22 / 2)


def test_terms_in_z() -> None:
    # mu^2 L^2 / 2 d (d+2) (d+4) = 0.04 * 25 / 2 * 105
    assert smoothing_lemmas.curvature_term(0.2, 5.0, 3) == exact(52.5)
    # (10 (2 + 13) + 52.5) / 8 + 13 / 2
    assert smoothing_lemmas.variance_bound_shared(3, 2.0, 13.0, 0.2, 5.0, 8, 2) == exact(202.5 / 8 + 6.5)
    assert smoothing_lemmas.variance_bound_per_example(3, 2.0, 13.0, 0.2, 5.0, 8, 2) == exact(202.5 / 16 + 13 / 8 + 6.5)


def test_steps() -> None:
    assert theorem.largest_eta_alpha(C) == exact(1 / 6)
    assert theorem.largest_eta_z(C, 8) == exact(8 / 20 / 5)
    assert theorem.largest_eta_z(C, 200) == exact(1 / 5)
    assert PLAN.directions == 8
    assert replace(PLAN, per_example=True).directions == 16


def test_noise_terms() -> None:
    assert theorem.alpha_noise(C, PLAN) == exact(6 * 0.01 / 2 * 24.25)
    assert theorem.projected_noise(C, PLAN) == exact(0.15 * 24.25)
    bias = 0.01 / 2 * 0.04 * 25 * 3
    shared = 10 * 13 / 8 + 13 / 2 + 19 + 52.5 / 8
    assert theorem.z_noise(C, PLAN) == exact(bias + 5 * 1e-4 / 2 * shared)
    each = 10 * 13 / 16 + 13 / 2 + 19 + 52.5 / 16 + 13 / 8
    assert theorem.z_noise(C, replace(PLAN, per_example=True)) == exact(bias + 5 * 1e-4 / 2 * each)


def test_sides_of_the_theorem() -> None:
    assert theorem.progress(C, PLAN, np.array([3.0]), np.array([8.0]))[0] == exact(0.05 * 3 + 0.0025 * 8)
    whole = theorem.alpha_noise(C, PLAN) + theorem.z_noise(C, PLAN)
    assert theorem.average_bound(C, PLAN, 5, 2.0) == exact(0.4 + whole)
    clipped = theorem.projected_noise(C, PLAN) + theorem.z_noise(C, PLAN)
    assert theorem.projected_average_bound(C, PLAN, 5, 2.0) == exact(0.4 + clipped)


def test_right_sides_of_descent() -> None:
    """The gain in front of the squared gradients: eta/2, eta/4 (clipped) and eta/4 in z."""
    from zopog_ref.convergence import lines_descent

    bench = Bench(seed=5)
    half = lines_descent._half(bench, "none", replace(PLAN, policy_samples=2, batch=1), 0.01)
    c = assumptions.constants(bench.one_position, 0.01)
    slope2 = float((half.gradient() ** 2).sum())
    assert theorem.descent_in_alpha(half, c).right == exact(theorem.alpha_noise(c, half.plan) - 0.05 * slope2)
    moved = theorem.projected_step2(half.alpha, half.gradient(), 0.1, 0.01)
    assert theorem.projected_descent(half, c).right == exact(theorem.projected_noise(c, half.plan) - 0.025 * moved)
    case = bench.on_wells(0.1, 4)
    slope = case.weight @ case.problem.slope_table(case.z).mean(axis=1)
    z_plan, z_c = replace(PLAN, direction_pairs=1, batch=1), bench.small_constants
    found = theorem.descent_in_z(case, z_c, z_plan)
    assert found.right == exact(theorem.z_noise(z_c, z_plan) - 0.0025 * float(slope @ slope))
    given = lines_descent.opposite_given("none", bench.noise)
    bowl = theorem.bowl_constants(given[0][1].problem, 1.0)
    right = theorem.z_noise(bowl, PLAN) - 0.0025 * (0.09 + 0.04)  # the slope at z = (0.3, 0.2) is z
    assert theorem.descent_on_bowls(given, bowl, PLAN, "").right == exact(right)


def test_left_sides_in_z() -> None:
    """||z||^2 / 2 in one dimension: E L(z+) - L = -eta z^2 + (eta^2/2) z^2 (1 + 2/I_2), by both functions."""
    from zopog_ref.convergence.lines_descent import bowl_given
    from zopog_ref.convergence.sharp_problems import plain_bowl

    bowl, c = plain_bowl(1), theorem.bowl_constants(plain_bowl(1), 0.0)
    for pairs in (1, 4):
        plan = theorem.Plan(1.0, 0.3, 1e-3, 2, pairs, 1)
        left = -0.3 * 0.64 + 0.045 * 0.64 * (1 + 2 / pairs)
        assert theorem.descent_on_bowls(bowl_given(bowl, 0.8), c, plan, "").left == pytest.approx(left, rel=1e-9)
        if pairs == 1:
            case = bowl_given(bowl, 0.8)[0][1]
            assert theorem.descent_in_z(case, c, plan).left == pytest.approx(left, rel=1e-9)


def test_left_sides_over_batches() -> None:
    """Opposite examples, B = 1, I_2 = 1: the two functions agree, and the slope of a batch is +-1 in the mean."""
    from zopog_ref.convergence.lines_descent import bowl_given
    from zopog_ref.convergence.sharp_problems import opposite_examples

    problem, plan = opposite_examples(1), theorem.Plan(1.0, 0.3, 1e-3, 2, 1, 1)
    given, c = bowl_given(problem, 0.8), theorem.bowl_constants(problem, 1.0)
    left = -0.3 * 0.64 + 0.045 * 3 * (0.64 + 1)  # E||g||^2 = 3 E||grad f||^2
    assert theorem.descent_in_z(given[0][1], c, plan).left == pytest.approx(left, rel=1e-9)
    assert theorem.descent_on_bowls(given, c, plan, "").left == pytest.approx(left, rel=1e-9)


def test_a_step_on_the_floor() -> None:
    alpha, slope = np.array([[0.5, 0.1]]), np.array([[1.0, 0.5]])
    assert theorem.projected_step2(alpha, slope, 0.1, 1e-3) == exact(1.25)
    assert theorem.projected_step2(alpha, slope, 0.1, 0.1) == exact(1.0)
    assert theorem.projected_step2(alpha, slope, 0.1, 0.08) == exact(1.04)


def test_terms_of_shared_draws() -> None:
    S, A2 = np.sqrt(10), 600.0
    assert coupling.gradient2_in_alpha(C) == exact(A2)
    assert coupling.mixed_smoothness(C) == exact(S / (np.sqrt(2) * 0.05))
    G2 = A2 + 7 / 4 + 11 / 2
    assert coupling.step2_in_alpha(C, PLAN) == exact(G2)
    assert coupling.batch_deviation(C, 2) == exact(2 * S)
    m = S * (1 + np.sqrt(2 + 4 * np.log(4))) / np.sqrt(1000)
    assert coupling.batch_deviation(C, 1000) == exact(m)
    plan = replace(PLAN, batch=1000)
    G = np.sqrt(A2 + 7 / 4 + 11 / 1000)
    X = 2 * coupling.mixed_smoothness(C) * 0.1 * G * m
    more = 10 / 8 * (2 * S * m + m**2) + 2 * np.sqrt(19) * m + m**2
    assert coupling.shared_batch_term(C, plan) == exact(0.01 * X * (1 + 0.05) + 5 * 1e-4 / 2 * more)
    more += 10 / 8 * (1 / 1000 - 1) * (2 * S * m + m**2) + (2 * np.sqrt(13) * m + m**2) / 8
    per_example = replace(plan, per_example=True)
    assert coupling.shared_batch_term(C, per_example) == exact(0.01 * X * (1 + 0.05) + 5 * 1e-4 / 2 * more)
    G_z = np.sqrt(10 * 10 + 52.5)
    first = 4 * 0.1 * 0.01 * np.sqrt(A2) * coupling.mixed_smoothness(C) * G_z
    assert coupling.reused_noise_term(C, plan) == exact(first + 6 * 0.01 / 2 * A2)


def test_sizes() -> None:
    c = replace(C, gamma2_alpha=0.0, gamma2_z=0.0)
    share = 0.01 / 8
    found = complexity.complexity(c, 2.0, 0.1)
    assert (found.eta, found.steps) == (exact(1 / 6), exact(48 / share))
    assert found.policy_samples == exact(2 * 7 / share)
    assert found.direction_pairs == exact(2 * 5 / 6 * 10 * 13 / share)
    assert found.batch == exact(max(2 * 11, 2 * 5 / 6 * 13) / share)
    by_variance = share * 2 * found.direction_pairs / (5 / 3 * 25 * 105)
    assert found.mu == exact(np.sqrt(min(share / (50 * 3), by_variance)))
    projected = complexity.complexity(c, 2.0, 0.1, projected=True)
    assert (projected.policy_samples, projected.batch) == (exact(6 * 7 / share), exact(6 * 11 / share))
    assert found.calls == exact(found.steps * (found.policy_samples + 2 * found.direction_pairs))
    assert found.examples == exact(found.calls * found.batch)


def test_small_steps() -> None:
    found = complexity.small_steps(C, 2.0, 0.1)
    mu = min(0.1 / np.sqrt(8 * 25 * 3), 1 / (5 * 7))
    assert (found.mu, found.policy_samples, found.direction_pairs, found.batch) == (exact(mu), 2, 1, 1)
    V = 10 * 13 + 13 + 19 + smoothing_lemmas.curvature_term(mu, 5.0, 3)
    Q = 3 * (3.5 + 11 + 17) + 2.5 * V
    assert found.eta == exact(min(1 / 6, 1 / 100, 0.01 / (8 * Q)))
    assert found.steps == exact(32 / (found.eta * 0.01))
    assert found.plan == theorem.Plan(found.eta, found.eta, mu, 2, 1, 1)


def test_sizes_at_their_least() -> None:
    """Where nothing is noisy the least sizes are taken, and mu comes from the curvature of V."""
    quiet = replace(C, d=30, sigma2_g=1e-9, sigma2_alpha=1e-9, sigma2_z=1e-9, gamma2_alpha=0.0, gamma2_z=0.0)
    found = complexity.complexity(quiet, 2.0, 0.1)
    assert (found.policy_samples, found.direction_pairs, found.batch) == (2, 128, 1)
    share = 0.01 / 8
    assert found.mu == exact(np.sqrt(share * 2 * 128 / (5 / 3 * 25 * 30 * 32 * 34)))
    between = replace(quiet, sigma2_z=13.0)  # only z is noisy: B comes from it
    assert complexity.complexity(between, 2.0, 0.1).batch == exact(5 / 3 * 13 / share)


def test_small_steps_at_their_largest() -> None:
    found = complexity.small_steps(C, 2.0, 10.0)
    assert found.mu == exact(1 / 35)
    assert found.eta == exact(1 / 100)  # 1 / (4 (d + 2) L_z)


def test_stationarity() -> None:
    c = replace(C, gamma2_alpha=0.0, gamma2_z=0.0)
    sizes = complexity.complexity(c, 2.0, 0.1)
    plan, steps = sizes.plan, int(np.ceil(sizes.steps))
    for projected, bound in ((False, theorem.average_bound), (True, theorem.projected_average_bound)):
        assert complexity.stationarity(c, sizes, 2.0, projected) == exact(24 * bound(c, plan, steps, 2.0))


def test_both_sides_along_a_run() -> None:
    columns = ([5, 4, 2], [4.5, 3], [2, 4], [1, 3], [0.5, 1.5], [6, 10], [0.1, 0.1, 0.1])
    seen = runs.Trace(*(np.array([column], float) for column in columns))
    noise_alpha, noise_z = theorem.alpha_noise(C, PLAN), theorem.z_noise(C, PLAN)
    for found, left, right in (
        (runs.policy_halves(C, PLAN, seen, True, 0.2), 0.15, 0.75 + 0.03 + 0.2),
        (runs.policy_halves(C, PLAN, seen, False), 0.15, 0.75 + noise_alpha),
        (runs.zeroth_halves(C, PLAN, seen, 0.2), 0.02, 0.75 + noise_z + 0.2),
        (runs.theorem_1(C, PLAN, seen, None, 0.2), 0.17, 1.5 + noise_alpha + noise_z + 0.2),
        (runs.theorem_1(C, PLAN, seen, 1.0), 0.17, 2 + noise_alpha + noise_z),
        (runs.projected_theorem(C, PLAN, seen, True), 0.07, 1.5 + 0.15 + noise_z),
        (runs.projected_theorem(C, PLAN, seen, False), 0.07, 1.5 + theorem.projected_noise(C, PLAN) + noise_z),
    ):
        assert (found.left, found.right) == (exact(left), exact(right))
