"""[D1], [D2], [T1], [C1]: they hold, and a step in the wrong direction breaks them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.convergence.mutants import ascent, climbing
from zopog_ref import policy_gradient, two_point_gradient
from zopog_ref.convergence import coupling, lines_descent, runs, theorem
from zopog_ref.convergence.assumptions import constants, largest_step_in_alpha
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.exact import MODES, binary_noise, prompt_weights
from zopog_ref.convergence.lines_descent import descent_alpha, descent_z
from zopog_ref.convergence.problems import GaussianWells, TableQuadratic
from zopog_ref.convergence.sharp_problems import plain_bowl
from zopog_ref.convergence.theorem import Plan, PolicyHalf

BENCH = Bench(seed=5, effort=TINY)


def test_descent_in_alpha() -> None:
    found = descent_alpha(BENCH)
    assert all(c.holds() for c in found)
    assert found[-1].right < 0  # at the smallest step a decrease is certain, so the check has teeth


def test_descent_in_z() -> None:
    found = descent_z(BENCH)
    assert all(c.holds() for c in found)
    assert found[2].right < 0


def test_descent_twins() -> None:
    assert not all(c.holds() for c in descent_alpha(replace(BENCH, policy=ascent)))
    assert not all(c.holds() for c in descent_z(replace(BENCH, zeroth=climbing)))


def test_projected_descent() -> None:
    found = lines_descent.descent_clipped(BENCH)
    assert all(c.holds() for c in found)


def test_projected_step_is_the_gradient_where_nothing_clips() -> None:
    alpha, slope = np.array([[0.5, 0.1]]), np.array([[1.0, 0.5]])
    assert theorem.projected_step2(alpha, slope, 0.1, 1e-3) == pytest.approx(1.25)
    assert theorem.projected_step2(alpha, slope, 0.1, 0.1) == pytest.approx(1.0)  # the second entry does not move


def test_descent_limit() -> None:
    assert all(c.holds() for c in lines_descent.descent_limit(BENCH))


@pytest.mark.parametrize("factor", [1.3, 4.0])
def test_descent_limit_twin(monkeypatch, factor: float) -> None:
    """A limit 1.3 times larger is too large at I_2 = 12."""
    limit = theorem.largest_eta_z
    monkeypatch.setattr(theorem, "largest_eta_z", lambda c, directions: factor * limit(c, directions))
    assert not all(c.holds() for c in lines_descent.descent_limit(BENCH))


def test_descent_modes() -> None:
    assert all(c.holds() for c in lines_descent.descent_modes(BENCH))


def test_first_form_fails() -> None:
    variance, descent = lines_descent.first_form(BENCH)
    assert variance.ratio == pytest.approx(5.8, abs=0.2)
    assert not descent.holds()


@pytest.mark.parametrize("name", ["bias", "noise of a batch", "gamma"])
def test_terms_of_d2_are_needed(monkeypatch, name: str) -> None:
    """Without its bias, without sigma_z^2/B (and with half of it), without gamma_z^2, [D2] fails in its rows."""
    whole = theorem.z_noise

    def less(c, plan):
        lost = {
            "bias": plan.eta_z / 2 * plan.mu**2 * c.L_z**2 * c.d,
            "noise of a batch": 0.5 * c.L_z * plan.eta_z**2 / 2 * c.sigma2_z / plan.batch,
            "gamma": c.L_z * plan.eta_z**2 / 2 * c.gamma2_z,
        }
        return whole(c, plan) - lost[name]

    monkeypatch.setattr(theorem, "z_noise", less)
    rows = lines_descent.descent_z(BENCH) + lines_descent.descent_modes(BENCH)
    assert not all(c.holds() for c in rows)


def test_theorem_1() -> None:
    found = lines_descent.theorem_rows(BENCH)
    assert all(c.holds() for c in found)
    run = lines_descent.run_trace(BENCH, True)
    assert run.smallest_alpha.min() > BENCH.run_constants.alpha_min  # [A4] by itself


ZERO_ALPHA, ZERO_Z = (lambda *args: np.zeros_like(args[2])), (lambda *args: np.zeros(args[2].shape[-1]))


@pytest.mark.parametrize("changes", [
    {"policy": ascent}, {"zeroth": climbing}, {"policy": ascent, "zeroth": climbing},
    {"policy": ZERO_ALPHA}, {"zeroth": ZERO_Z}, {"policy": ZERO_ALPHA, "zeroth": ZERO_Z},
], ids=["alpha climbs", "z climbs", "both climb", "alpha stands", "z stands", "both stand"])  # fmt: skip
@pytest.mark.parametrize("row", [lines_descent.theorem_rows, lines_descent.one_batch], ids=["T1", "T1-shared"])
def test_theorem_1_twins(changes, row) -> None:
    """Climbing or standing still in either block breaks Theorem 1, also with one batch for both halves."""
    assert not all(c.holds() for c in row(replace(BENCH, cache={}, **changes)))


def test_noisy_theorem() -> None:
    assert all(c.holds() for c in lines_descent.noisy_theorem(BENCH))


def test_noisy_theorem_twin(monkeypatch) -> None:
    """Without gamma_z^2 the rows on per_step noise fail."""
    monkeypatch.setattr(lines_descent, "constants", lambda *args: constants(*args[:3]))
    per_sample, per_step = lines_descent.noisy_theorem(replace(BENCH, cache={}))
    assert per_sample.holds()
    assert not per_step.holds()


def test_one_batch() -> None:
    assert all(c.holds() for c in lines_descent.one_batch(BENCH))


def test_one_noise_for_two() -> None:
    assert all(c.holds() for c in lines_descent.one_noise_for_two(BENCH))


def test_terms_are_needed() -> None:
    assert not any(c.holds() for c in lines_descent.without_terms(BENCH))


def test_the_shared_term_vanishes_with_the_batch() -> None:
    c, plan = BENCH.run_constants, replace(BENCH.quiet_plan, eta_z=1e-3)
    few, many = (coupling.shared_batch_term(c, replace(plan, batch=B)) for B in (10**6, 10**8))
    assert few / many == pytest.approx(10, rel=0.02)
    assert coupling.shared_batch_term(c, replace(plan, batch=1)) < 4 * coupling.shared_batch_term(
        c, replace(plan, batch=8)
    )


@pytest.mark.parametrize("n", [1, 3, 6])
def test_deviation_of_a_batch(n: int) -> None:
    """E max_t ||e_B(t)||^2 of 2^n prompts whose slopes are +-S, sign by sign: 0.2 to 0.4 of m^2."""
    rng, B = np.random.default_rng(n), 400
    c = replace(BENCH.run_constants, n=n, n_candidates=2, F=1.0, L_z=1.0)
    slopes = 2.0 * rng.integers(2, size=(2000, 2**n, B)) - 1  # S = 1
    seen = (slopes.mean(axis=2) ** 2).max(axis=1)
    assert 0.15 * coupling.batch_deviation(c, B) ** 2 < seen.mean() < coupling.batch_deviation(c, B) ** 2
    assert coupling.batch_deviation(c, 1) == 2


def test_mixed_smoothness() -> None:
    """grad_alpha L at two z close by, against L_za."""
    c, rng = BENCH.run_constants, BENCH.rng(1)
    for _ in range(10):
        alpha = c.alpha_min * (1 + rng.random((2, 3)))
        z, step = rng.standard_normal(2), 1e-3 * rng.standard_normal(2)
        a, b = (runs.exact_slopes(BENCH.wells, alpha, x)[1] for x in (z, z + step))
        assert np.linalg.norm(a - b) <= coupling.mixed_smoothness(c) * np.linalg.norm(step)


def test_projected_theorem() -> None:
    found = lines_descent.clipped_theorem(BENCH)
    assert all(c.holds() for c in found)
    climbing_alpha = lines_descent.clipped_theorem(replace(BENCH, policy=ascent, cache={}))
    assert not all(c.holds() for c in climbing_alpha)


def test_steps_that_cannot_leave() -> None:
    c, plan = BENCH.run_constants, BENCH.run_plan
    largest = largest_step_in_alpha(c.F, plan.policy_samples, c.alpha_min, 1.0)
    assert theorem.steps_inside(largest, plan.eta_alpha, BENCH.start.alpha, c.alpha_min) >= BENCH.effort.steps
    assert theorem.steps_inside(2.0, 0.01, np.array([[0.5, 0.25]]), 0.1) == 7


def test_trace_gradients_are_those_of_the_enumeration() -> None:
    from zopog_ref.convergence.problems import exact_gradients

    alpha = BENCH.start.alpha + 0.1 * BENCH.rng(0).random((2, 3))
    value, a2, z2 = runs.exact_state(BENCH.wells, alpha, BENCH.z)
    exact = exact_gradients(BENCH.wells, alpha, BENCH.z)
    np.testing.assert_allclose([value, a2, z2], [exact.value, (exact.alpha**2).sum(), exact.z @ exact.z], rtol=1e-12)


def test_a_vertex_is_not_stationary_in_alpha() -> None:
    """L is multilinear in p: at its minimum alpha is on the floor, where grad_alpha L does not vanish but nothing moves."""
    best = BENCH.wells.prompts[BENCH.wells.table(BENCH.z).mean(axis=1).argmin()]
    alpha = np.full((2, 3), 1e-11)
    alpha[np.arange(2), best] = 1.0
    z_only = runs.exact_slopes(BENCH.wells, alpha, BENCH.z)[2]
    assert runs.exact_state(BENCH.wells, alpha, BENCH.z)[1] > 1e-4
    assert runs.mapping2(BENCH.wells, alpha, BENCH.z, 0.01) == pytest.approx(float(z_only @ z_only), abs=1e-6)


def test_both_sides_along_a_trace_by_hand() -> None:
    """Two runs of two steps, whole numbers: L falls from 10 to 4 in the mean, by 2 in the policy halves, 1 in z's."""
    two = np.ones((2, 2))
    trace = runs.Trace(
        value=np.array([[11.0, 8.0, 5.0], [9.0, 6.0, 3.0]]), between=np.array([[9.0, 6.0], [7.0, 4.0]]),
        alpha_slope2=4 * two, moved2=3 * two, alpha_error=7 * two, z_slope2=5 * two, smallest_alpha=np.ones((2, 3)),
    )  # fmt: skip
    c = BENCH.run_constants
    plan = theorem.Plan(0.2, 0.4, 0.1, 4, 8, 2)
    noise_a, noise_z, clipped = theorem.alpha_noise(c, plan), theorem.z_noise(c, plan), theorem.projected_noise(c, plan)

    def sides(found) -> list[float]:
        return [found.left, found.right]

    def near(*values: float) -> object:
        return pytest.approx(list(values), rel=1e-12)

    assert sides(runs.theorem_1(c, plan, trace, None, 0.5)) == near(0.1 * 4 + 0.1 * 5, 6 / 2 + noise_a + noise_z + 0.5)
    assert sides(runs.theorem_1(c, plan, trace, 1.0)) == near(0.9, 9 / 2 + noise_a + noise_z)
    assert sides(runs.policy_halves(c, plan, trace, False, 0.5)) == near(0.4, 2 + noise_a + 0.5)
    assert sides(runs.policy_halves(c, plan, trace, True)) == near(0.4, 2 + c.L_alpha * 0.04 / 2 * 7)
    assert sides(runs.zeroth_halves(c, plan, trace, 0.5)) == near(0.5, 1 + noise_z + 0.5)
    assert sides(runs.projected_theorem(c, plan, trace, False)) == near(0.05 * 3 + 0.5, 3 + clipped + noise_z)
    assert sides(runs.projected_theorem(c, plan, trace, True)) == near(0.65, 3 + 1.5 * 0.2 * 7 + noise_z)


def test_settings_of_a_plan() -> None:
    plan = theorem.Plan(0.2, 0.4, 0.1, 4, 8, 2)
    assert runs.settings_of(plan, 1e-3).directions == "shared"
    assert runs.settings_of(replace(plan, per_example=True), 1e-3).directions == "per_example"


def test_steps_until_a_run_is_stationary() -> None:
    """A plan that hardly moves: the mean of the measure is that of the start, under eps at once or never."""
    start, plan = BENCH.start, theorem.Plan(1e-12, 1e-12, 0.1, 2, 3, 1)
    size = np.sqrt(runs.mapping2(BENCH.wells, start.alpha, start.z, 1e-12))
    at_once = runs.evaluations_to_reach(BENCH.wells, start, plan, 1.01 * size, 3, range(2))
    assert (at_once.steps, at_once.evaluations, at_once.error, at_once.unfinished) == (1, 8, 0, 0)
    never = runs.evaluations_to_reach(BENCH.wells, start, plan, 0.99 * size, 3, range(2))
    assert (never.steps, never.evaluations, never.error, never.unfinished) == (3, 24, 0, 2)


def test_a_half_step_is_clipped_by_hand() -> None:
    """alpha = (a, a) on the floor, losses 0 and 1, two samples: half of the pairs differ and raise alpha_0 by eta/(2a)."""
    a, eta = 0.2, 0.01
    problem = TableQuadratic(1, 2, np.array([[0.0], [1.0]]), np.zeros((2, 1, 1)), np.eye(1))
    noise = binary_noise(1, 2)
    half = PolicyHalf(problem, np.full((1, 2), a), np.zeros(1), 1.0, "none", noise, Plan(eta, 1, 1, 2, 1, 1), a)
    after = a / (2 * a + eta / (2 * a))  # p of the second token
    assert half.mean_change(policy_gradient) == pytest.approx((after - 0.5) / 2, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_a_half_step_averages_over_the_noise(mode) -> None:
    half = lines_descent._half(BENCH, mode, Plan(1, 1, 1, 2, 1, 1), 0.01)
    losses = BENCH.one_position.table(BENCH.z).mean(axis=1)

    def value(alpha) -> float:
        return prompt_weights(alpha, 1.0, half.noise_of_L) @ losses

    shift = 1e-6 * np.eye(2)[:, None]
    slope = [(value(half.alpha + h) - value(half.alpha - h)) / 2e-6 for h in shift]
    np.testing.assert_allclose(half.gradient()[0], slope, rtol=1e-6)


def test_descent_on_a_bowl_by_hand() -> None:
    """z = 0.8, d = 1, twice the estimate: E g = 1.6 and E g^2 = 4 * 3 * 0.64 with one pair."""
    bowl = plain_bowl(1)
    given = lines_descent.bowl_given(bowl, 0.8)
    plan = Plan(1.0, 0.1, 1e-3, 2, 1, 1)
    c = theorem.bowl_constants(bowl, 0.0)
    found = theorem.descent_on_bowls(given, c, plan, "", lambda *given: 2 * two_point_gradient(*given))
    assert found.left == pytest.approx(-0.1 * 1.6 * 0.8 + 0.005 * 12 * 0.64, rel=1e-9)


@pytest.mark.parametrize("fresh", [False, True])
def test_the_halves_of_a_run_share_a_batch_or_not(fresh: bool, monkeypatch) -> None:
    asked, losses = [], GaussianWells.losses
    monkeypatch.setattr(GaussianWells, "losses", lambda *given: asked.append(given[-1].tolist()) or losses(*given))
    runs.trace(runs.RunOf(BENCH.wells, BENCH.start, BENCH.run_plan, fresh), 3, [1])
    assert [first == second for first, second in zip(asked[::2], asked[1::2])] == [not fresh] * 3
