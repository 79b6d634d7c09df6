"""Small cases whose values are known: what a true line, or a sampled one, would not show if it changed."""

from math import e, exp, inf, isnan, log1p, nan, pi, sqrt

import numpy as np
import pytest

from zopog_ref import read_loss
from zopog_ref.algorithm import ZOPoG
from zopog_ref.convergence import (
    comparison,
    noise_in_z,
    noise_lemmas,
    problems,
    prompt_lemmas,
    rates,
    readout_block,
    runs,
    sharp_problems,
)
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.comparison import Equality, Inequality
from zopog_ref.convergence.exact import binary_noise, noisy_atoms, normal_nodes, policy_moments, prompt_atoms
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, batches, shared_moments
from zopog_ref.policy_gradient import literal
from zopog_ref.zeroth_order import two_point_gradient

BENCH = Bench(seed=4, effort=TINY)


def near(value: object) -> object:
    return pytest.approx(value, rel=1e-10)


def equality(gap: float, uncertainty: float, exact: bool = True) -> Equality:
    return Equality(3.0, 2.0, gap, uncertainty, exact, "a")


def test_what_an_equality_says() -> None:
    assert (equality(-6.0, 2.0).z, equality(0.0, 0.0).z, equality(-1.0, 0.0).z, equality(1.0, 0.0).z) == (
        -3,
        0,
        -inf,
        inf,
    )
    assert equality(-1.0, 1.0).ratio == 1.5
    assert isnan(Equality(3.0, 0.0, 3.0, 1.0, True).ratio)
    assert equality(-3.0, 1.0).holds(3.0)
    assert not equality(-3.0, 1.0).holds(2.9)
    assert not equality(nan, 1.0).holds(9.0)
    assert comparison.worst([equality(1.0, 1.0), equality(-2.0, 1.0), equality(1.5, 1.0)]).gap == -2
    assert isnan(comparison.worst([equality(9.0, 1.0), equality(nan, 1.0), equality(8.0, 1.0)]).gap)


def test_what_an_inequality_says() -> None:
    assert Inequality(0.0, 0.0).holds()
    assert Inequality(-1.0 - 1e-10, -1.0).holds()
    assert not Inequality(-1.0 + 1e-8, -1.0).holds()
    assert Inequality(-1.0 + 1e-10, -1.0).holds()  # rounding is allowed below 0 as well
    pairs = [(1.0, 4.0), (-4.0, -1.0), (-4.0, 1.0), (4.0, -1.0), (1.0, 0.0), (0.0, -2.0), (-2.0, 0.0)]
    found = [Inequality(*pair).ratio for pair in pairs]
    assert found[:6] == [0.25, 0.25, -4, -4, inf, 0]
    assert isnan(found[6])
    assert isnan(Inequality(0.0, 0.0).ratio)
    assert comparison.tightest([Inequality(1.0, 4.0), Inequality(3.0, 4.0), Inequality(2.0, 4.0)]).left == 3


def test_two_sides_compared() -> None:
    one = comparison.equal(3.0, 4.0, "x")
    assert (one.left, one.right, one.gap, one.uncertainty, one.exact, one.case) == (3, 4, -1, 4e-10, True, "x")
    many = comparison.equal([3.0, 4.0], [6.0, -8.0])
    assert (many.left, many.right, many.gap, many.uncertainty) == (5, 10, 12, near(8e-10))
    assert comparison.equal([3.0, 4.0], [6.0, 8.0], scale=2.0).uncertainty == near(2e-10)
    for left in ([1.0], [nan, 1.0], [1.0, inf]):
        found = comparison.equal(left, [3.0, 4.0])
        assert (isnan(found.left), found.right, found.gap, found.exact) == (True, 5, inf, True)
        assert found.uncertainty == near(4e-10)
    found = comparison.estimated([1.0, 3.0, 5.0, 7.0], 3.0, "x")
    assert (found.left, found.right, found.gap, found.exact) == (4, 3, 1, False)
    assert found.uncertainty == near(sqrt(20 / 3) / 2)


def test_rounding_is_made_room_for() -> None:
    assert comparison.loosened(Inequality(1.0, 2.0), 1e-4).rounding == 1e-4
    assert comparison.loosened(Inequality(1.0, 2.0), 1e-12).rounding == 1e-9
    assert comparison.loosened(equality(1.0, 2.0, False), 1e-4).uncertainty == 2
    assert comparison.loosened(equality(1.0, 2.0), 1e-4).uncertainty == near(2e6)
    assert comparison.loosened(equality(1.0, 2.0), 1e-12).uncertainty == 2
    assert comparison.z_threshold(10, 0.2) == near(2.3263478740408408)  # the 1% of a normal variable
    assert comparison.z_threshold(1) == comparison.z_threshold(10, 1e-3)


def test_sharp_problems() -> None:
    t, z, x = np.array([1, 2]), np.array([[2.0, -3.0], [0.5, 1.0]]), np.array([3, 4])
    zero = np.zeros(2, int)
    for prompt, row in ((t, x), (zero, zero), (t, -t)):
        kink = sharp_problems.OddKink(2, 0.25)
        assert kink.of(prompt, z, row).tolist() == [-0.25 + 2.5, 0.375 - 0.625]
        assert kink.slope_of(prompt, z, row).tolist() == [[-1.75, -2.75], [-0.25, -0.75]]
        cubic = sharp_problems.Cubic(2)
        assert cubic.of(prompt, z, row).tolist() == near([0.25 * -19, 0.25 * 1.125])
        assert cubic.slope_of(prompt, z, row).tolist() == [[3, 6.75], [0.1875, 0.75]]
    for problem in (sharp_problems.OddKink(2), sharp_problems.Cubic(2)):
        assert (problem.n, problem.n_candidates, problem.rows, problem.F) == (1, 1, 1, inf)
    assert (kink.L_z, kink.rho, cubic.rho, cubic.L_z, sharp_problems.OddKink(2).s) == (1, inf, 1.5, inf, 0)


def test_coupled_sines() -> None:
    cost, sign = np.array([[0.0, 0.5, 0.25], [2.0, 0.0, 1.0]]), np.array([[1.0, -1.0, 0.5], [0.0, 1.0, -0.5]])
    waves = sharp_problems.CoupledSines(cost, sign, 3.0, 5.0)
    assert (waves.rows, waves.n, waves.n_candidates, waves.d, waves.F, waves.L_z) == (3, 1, 2, 1, 18, 8)
    z = np.array([0.6])
    np.testing.assert_allclose(waves.table(z), cost + 3 * (1 + sign * np.sin(0.6)) + 5 * (1 - np.sin(0.6)), rtol=1e-12)
    np.testing.assert_allclose(waves.slope_table(z)[..., 0], (3 * sign - 5) * np.cos(0.6), rtol=1e-12)


def test_bowls_and_opposites() -> None:
    z = np.array([0.5, -2.0])
    bowl, examples, two = (
        make(2)
        for make in (sharp_problems.plain_bowl, sharp_problems.opposite_examples, sharp_problems.opposite_prompts)
    )
    assert [(p.n, p.n_candidates, p.rows) for p in (bowl, examples, two)] == [(1, 1, 1), (1, 1, 2), (1, 2, 1)]
    assert bowl.table(z).tolist() == [[2.125]]
    assert bowl.slope_table(z).tolist() == [[[0.5, -2]]]
    slopes = np.array([examples.slope_table(z)[0], two.slope_table(z)[:, 0]]) - z
    assert sorted(slopes[0].tolist()) == sorted(slopes[1].tolist()) == [[-1, 0], [1, 0]]
    assert (examples.table(0 * z).tolist(), two.table(0 * z).tolist()) == ([[0.5, 0.5]], [[0.5], [0.5]])


def test_half_range_nodes() -> None:
    weight, u = sharp_problems.half_range_nodes()
    for power, moment in ((0, 1), (1, sqrt(2 / pi)), (2, 1), (4, 3)):
        assert weight @ np.abs(u[:, 0]) ** power == near(moment)
    assert weight @ u[:, 0] == pytest.approx(0, abs=1e-14)


def given_two_positions() -> tuple[list, ZerothCase]:
    """One noise a half step on a quadratic with n = 1, N = 2, d = 2 and three rows."""
    problem = problems.table_quadratic(BENCH.rng(0), 1, 2, 2, 3)
    case = ZerothCase("", problem, np.full(2, 0.5), np.array([0.4, -0.7]), 0.2, normal_nodes(2, 3))
    return noise_in_z.cases_of("per_step", case, np.array([[0.3, 0.5]]), 1.0, binary_noise(1, 3)), case


def test_one_noise_on_two_coordinates_and_three_rows() -> None:
    given, case = given_two_positions()
    assert noise_in_z.one_noise_variance(given, np.array([0, 2]), 2).holds(1)
    weight, every = np.array([w for w, _ in given]), np.arange(3)
    moments = [shared_moments(each, every, 1, two_point_gradient) for _, each in given]
    target = weight @ np.stack([m.mean for m in moments])  # grad L: a quadratic has no bias
    error, second = noise_in_z.squared_error(given, 2, 5, False, two_point_gradient)
    assert second == near(error + target @ target)
    by_hand = 0.0
    for batch in batches(3, 2):
        for w, (_, each) in zip(weight, given):
            one = shared_moments(each, batch, 1, two_point_gradient)
            by_hand += w / 9 * (one.trace_covariance / 5 + sum((one.mean - target) ** 2))
    assert error == near(by_hand)
    found = noise_in_z.variance_bound_in_mode(given, 2, 5, False, 0.3, 0.7)
    curvature = noise_in_z.variance_bound_shared(2, 0.0, 0.0, 0.2, case.problem.L_z, 5, 2)
    assert found.right == near(8 * (target @ target + 0.3) / 5 + curvature + 0.3 / 2 + 0.7)
    exact = sum(w * (m.trace_covariance / 4 + sum((m.mean - target) ** 2)) for w, m in zip(weight, moments))
    step = noise_in_z.half_step_of_the_algorithm(case.problem, given, np.array([[0.3, 0.5]]), "per_step", 4, 2, 1)
    assert step.right == near(exact)


def test_signals_and_variances_of_the_modes_by_hand() -> None:
    """One position, two tokens: grad = (l_0 - l_1) E[p (1 - p)] (1/a, -1/b)."""
    a, b, noise, losses = 0.3, 0.5, binary_noise(1, 5), np.array([0.2, 1.0])
    alpha = np.array([[a, b]])
    found = noise_lemmas.mode_statistics(alpha, noise, np.stack([losses, 2 * losses]), 2)
    r = a * np.exp(noise.gumbel[:, 0, 0] - noise.gumbel[:, 0, 1]) / b
    for mode, spread in (
        ("none", a * b / (a + b) ** 2), ("per_sample", noise.weight @ (r / (1 + r) ** 2)),
        ("per_step", noise.weight @ (r / (1 + r) ** 2)),
    ):  # fmt: skip
        signal = (0.8 * spread) ** 2 * (1 / a**2 + 1 / b**2)
        assert [each.gradient2 for each in found[mode]] == near([signal, 4 * signal])
    fresh, plain = noisy_atoms(alpha, 1.0, noise), prompt_atoms(alpha)
    assert found["none"][0].variance == near(policy_moments(literal, plain, losses, 2).trace_covariance)
    exact = policy_moments(literal, fresh, losses[fresh.prompt], 2).trace_covariance
    assert found["per_sample"][0].variance == near(exact)
    assert found["per_step"][0].variance == near(noise_lemmas.per_step_variance(alpha, 1.0, noise, losses, 2).left)


def test_random_problems_have_their_spread() -> None:
    quadratic = problems.table_quadratic(np.random.default_rng(1), 2, 3, 4, 5)
    assert np.linalg.eigvalsh(quadratic.H).tolist() == near(np.linspace(0.3, 2, 4).tolist())
    assert quadratic.table(np.zeros(4)).shape == (9, 5)
    found = problems.gaussian_wells(np.random.default_rng(2), 2, 3, 4, 5, s=2.0)
    rng = np.random.default_rng(2)
    centre, own = rng.standard_normal((9, 1, 4)), rng.standard_normal((9, 5, 4))
    np.testing.assert_allclose(found.w, 2 * centre + 0.8 * own, rtol=1e-12)
    assert (found.F, found.s, problems.gaussian_wells(rng, 1, 2, 1, 1).F, problems.gaussian_wells(rng, 1, 2, 1, 1).s) == (1, 2, 1, 1)  # fmt: skip
    binary = problems.binary_vocabulary(rng, 2, 3, 4)
    assert (binary.n, binary.n_candidates, binary.w.shape) == (2, 2, (4, 4, 3))
    alpha = problems.random_alpha(np.random.default_rng(3), 2, 3, 0.1)
    rows = np.random.default_rng(3).random((2, 3)) / 3 * [[1], [2]]
    np.testing.assert_allclose(alpha, 0.1 + rows, rtol=1e-12)


def test_the_paper_s_shape_with_twice_the_gradient() -> None:
    c = np.array([[0.0, 0.2, 1.0], [0.5, 0.5, 0.8]])
    table = problems.SeparableTable(c, F=2.0)
    G = c - c.mean(axis=1, keepdims=True)  # F / n = 1
    along, spread = prompt_lemmas.at_paper_shape(table, 2, 3, BENCH.rng(0), lambda *given: 2 * G)
    assert (along.left, along.right, spread.left) == (near(2), 1, near((G**2).sum()))
    assert along.uncertainty == pytest.approx(0, abs=1e-12)


def test_the_size_of_a_term() -> None:
    case = prompt_lemmas.PolicyCase("", prompt_atoms(np.array([[0.2, 0.8]])), np.array([0.5, -3.0]))
    assert prompt_lemmas._largest_term(case) == near(3 * 0.8 / 0.2)  # token 0: (1 - p) / alpha = 4


def test_slope_and_curve_by_hand() -> None:
    x = np.exp([0.0, 1.0, 2.0])
    y, error = np.exp([0.0, 1.0, 4.0]), np.exp([0.0, 1.0, 4.0]) / np.sqrt([1.0, 2.0, 1.0])
    assert rates.slope(x, y, error) == near((2.0, sqrt(1 / 2)))  # u = -1, 0, 1 with weights 1, 2, 1
    curve = rates.Curve("c", "x", x, y, error, np.exp([0.0, 3.0, 6.0]))
    found = rates.slope_against(curve, 1.5)
    assert (found.left, found.right, found.gap, found.uncertainty) == near((2.0, 1.5, 0.5, sqrt(1 / 2)))
    assert not found.exact
    assert rates.predicted_slope(curve) == near(3.0)
    points = curve.against_prediction()
    assert [(p.left, p.right, p.gap, p.uncertainty, p.exact) for p in points][1] == near((e, e**3, e - e**3, e / sqrt(2), False))  # fmt: skip
    draws = [np.array([1.0, 3.0, 5.0, 7.0]), np.array([2.0, 2.0, 4.0, 4.0])]
    found = rates._curve("c", "x", [1, 2], lambda i: draws[i], [5.0, 6.0])
    assert (found.y.tolist(), found.predicted.tolist()) == ([4, 3], [5, 6])
    assert found.error.tolist() == near([sqrt(20 / 3) / 2, sqrt(4 / 3) / 2])
    assert rates._curve("c", "x", [1], lambda i: draws[i]).predicted is None


def test_biases_by_hand() -> None:
    problem, z = BENCH.one_position, BENCH.z
    wells, kink = rates.bias_curves(problem, z, (0.1, 0.2))
    exact = [
        np.linalg.norm((problem.smoothed_slope_table(z, mu) - problem.slope_table(z)).mean(axis=(0, 1)))
        for mu in (0.1, 0.2)
    ]
    np.testing.assert_allclose(wells.y, exact, rtol=1e-6)
    np.testing.assert_allclose(kink.y, np.array([0.1, 0.2]) / sqrt(2 * pi), rtol=1e-10)
    for curve in (wells, kink):
        np.testing.assert_allclose(curve.error, 1e-6 * curve.y, rtol=1e-12)


def test_round_off_by_hand() -> None:
    """A loss that float32 shifts by a quarter of mu's square: what is left of it, and the best radius of its formula."""
    problem, z, radii, d = BENCH.one_position, BENCH.z, (1e-3, 1e-2, 0.1, 1.5), 2
    found = rates.float32_radius(problem, z, radii, 7, BENCH.rng(0))
    truth = problem.slope_table(z)[0, 0]
    bias = [((problem.smoothed_slope_table(z, mu)[0, 0] - truth) ** 2).sum() for mu in radii]
    np.testing.assert_allclose(found.bias, bias, rtol=1e-12)
    b2 = bias[1] / 1e-8
    assert found.best == near((d * 2.0**-48 / 12 / (4 * b2)) ** (1 / 6))
    rng, zero = BENCH.rng(0), np.zeros(7, int)
    for i, mu in enumerate(radii):
        u, near_z = rng.standard_normal((7, d)), z + 1e-4 * rng.standard_normal((7, d))
        plus, minus = (problem.of(zero, near_z + sign * mu * u, zero) for sign in (1, -1))
        lost = [value.astype(np.float32) - value for value in (plus, minus)]
        squared = (((lost[0] - lost[1]) / (2 * mu))[:, None] * u) ** 2
        assert found.roundoff[i] == pytest.approx(squared.sum(axis=1).mean(), rel=1e-6)
        assert found.error[i] == pytest.approx(squared.sum(axis=1).std(ddof=1) / sqrt(7), rel=1e-6)


def test_a_readout_s_loss_by_hand() -> None:
    loss = readout_block.ReadoutLoss(np.array([[1.0, -1.0]]), np.array([0]), np.ones(1), 2.0)
    q, W = 1 / (1 + e**2), np.eye(2)
    assert loss.value(W) == near(log1p(exp(-2)))
    assert loss.value(W + 0.5) == near(log1p(exp(-2)) + 1.0)
    assert loss.smoothness == 3
    np.testing.assert_allclose(loss.gradient(W), [[-q, q], [q, -q]], rtol=1e-12)
    for share in (1.0, 0.5):
        found = readout_block.never_raised(loss, W, lambda loss, W: W, share)
        assert (found.left, found.right) == near((log1p(exp(-2)), log1p(exp(-2)) - share * 4 * q**2 / 6))
    loud = readout_block.ReadoutLoss(np.array([[2000.0, -2000.0]]), np.array([1]), np.ones(1), 2.0)
    assert loud.value(W) == near(4000)
    np.testing.assert_allclose(loud.gradient(W), [[2000, -2000], [-2000, 2000]], rtol=1e-12)
    checked = readout_block.gradient_is_the_derivative(loss, 3 * W)
    assert checked.uncertainty == pytest.approx(1e-8 * np.abs(loss.gradient(3 * W)).max(), rel=1e-4)


def test_a_loud_readout_does_not_overflow() -> None:
    problem = readout_block.ScoredPrompts(np.full((2, 1, 3), 2000.0) * [1, -1, 0], np.zeros((2, 3)), np.array([1]))
    objective = problem.objective(np.eye(3), readout_block.Ledger(budget=9))
    assert objective.losses(np.array([[0]]), np.zeros((1, 1)), np.array([0])).tolist() == [[4000]]


def test_three_blocks_by_hand() -> None:
    """The mean progress promised and the mean drop, over the blocks that the stepper saw."""
    seen = []

    def half_way(loss, W):
        after = readout_block.step(loss, W)
        promised = readout_block.never_raised(loss, W, lambda loss, W: after)
        seen.append((loss.value(W) - promised.right, loss.value(W) - promised.left))
        return after

    descent, calls = readout_block.three_blocks(readout_block.scored_prompts(BENCH.rng(1)), 3, 1, half_way)
    np.testing.assert_allclose([descent.left, descent.right], np.mean(seen, axis=0), rtol=1e-9)
    assert calls.left == calls.right == 3 * (4 + 2 * 2)


def test_a_stalled_readout_falls_short_by_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theta stays: each fold lacks share ||grad J||^2 / (2 L_W), the largest of which is returned."""
    asked = []

    def stands(theta, x, labels, rows, share, pull=read_loss.PULL):
        loss = readout_block.ReadoutLoss(x, labels, np.full(len(x), rows / len(x)), pull)
        asked.append(share * float((loss.gradient(theta.T) ** 2).sum()) / (2 * loss.smoothness))
        return theta

    monkeypatch.setattr(read_loss, "refit", stands)
    for folds in (1, 2):
        asked.clear()
        descent, calls = readout_block.sampled_blocks(readout_block.scored_prompts(BENCH.rng(5)), 3, 1, folds)
        assert descent.left == near(max(asked))
        assert (descent.right, calls.left, calls.right) == (0, 24, 24)


def test_the_counters_of_both_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    counters, step = [], ZOPoG.step
    monkeypatch.setattr(
        ZOPoG, "step", lambda self, state, *given: counters.append(state.step) or step(self, state, *given)
    )
    runs.trace(runs.RunOf(BENCH.wells, BENCH.start, BENCH.run_plan), 3, [1])
    assert counters == [0, 1, 4, 5, 8, 9]


def test_where_runs_end() -> None:
    """Without a step, the loss at the first token of a uniform alpha and at z = 0; with some, a mean and its error."""
    problem = BENCH.wells

    def end(steps: int, *seeds: int) -> runs.ModeResult:
        return runs.final_loss(problem, "none", "shared", 0.05, 0.5, steps, 2, seeds)

    start = ZOPoG(problem.n, problem.n_candidates, problem.d, runs.Settings(), 1)
    [prompt] = start.prompts(start.init())
    number = int(prompt.tokens @ [3, 1])
    assert end(0, 1, 1).loss == near(problem.table(prompt.z)[number].mean())
    first, second = end(4, 1, 1).loss, end(4, 2, 2).loss
    assert first != second
    both = end(4, 1, 2)
    assert (both.mode, both.directions, end(4, 1, 1).error) == ("none", "shared", 0)
    assert (both.loss, both.error) == near(((first + second) / 2, abs(first - second) / 2))
