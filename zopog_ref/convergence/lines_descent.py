"""Rows on descent [D1], [D2], Theorem 1 [T1] and lower-bounded parameters [A4], in every noise mode."""

import numpy as np

from zopog_ref.algorithm import ZOPoGState
from zopog_ref.convergence import assumptions, coupling, noise_in_z, readout_block, runs, theorem
from zopog_ref.convergence.assumptions import Constants, constants
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Comparison, Equality, Inequality, equal
from zopog_ref.convergence.exact import MODES, Mode, Noise, binary_noise
from zopog_ref.convergence.lines import Line
from zopog_ref.convergence.noise_in_z import Given
from zopog_ref.convergence.problems import GaussianWells, TableQuadratic
from zopog_ref.convergence.sharp_problems import (
    OddKink,
    half_range_nodes,
    opposite_examples,
    opposite_prompts,
    plain_bowl,
)
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, zeroth_case
from zopog_ref.convergence.theorem import Plan, PolicyHalf


def opposite_given(mode: Mode, noise: Noise) -> Given:
    """The two opposite prompts at z = 0, alpha = (1/2, 1/2), d = 2: gamma_z^2 = 1/3 under per_step, sigma_z^2 = 1."""
    alpha = np.full((1, 2), 0.5)
    case = zeroth_case("opposite prompts", opposite_prompts(2), alpha, np.array([0.3, 0.2]), 0.03, 4)
    return noise_in_z.cases_of(mode, case, alpha, 1.0, noise)


def bowl_given(problem: TableQuadratic, z: float = 0.0) -> Given:
    """One prompt, d = 1, at z."""
    case = zeroth_case("bowl", problem, np.ones((1, 1)), np.full(problem.d, z), 1e-3, 4)
    return [(1.0, case)]


def _half(bench: Bench, mode: Mode, plan: Plan, alpha_min: float) -> PolicyHalf:
    return PolicyHalf(
        bench.one_position, bench.binary_alpha[:1], bench.z, 1.0, mode, binary_noise(1, 8), plan, alpha_min
    )


def descent_alpha(bench: Bench) -> list[Inequality]:
    """[D1] at three shares of the largest step, and in the noisy modes; at the smallest a decrease is sure."""
    c, plans = bench.small_constants, [bench.small_plan(share, 0.02) for share in (1.0, 0.1, 1e-4)]
    none = binary_noise(2, 2)
    halves = [
        PolicyHalf(bench.small_wells, bench.binary_alpha, bench.z, 1.0, "none", none, p, c.alpha_min) for p in plans
    ]
    found = [theorem.descent_in_alpha(half, c, bench.policy) for half in halves]
    for mode in ("per_sample", "per_step") if bench.with_fresh_noise else ("per_step",):
        c = constants(bench.one_position, c.alpha_min, 1.0, mode == "per_step")
        plan = Plan(1e-4 * theorem.largest_eta_alpha(c), 0.1, 0.02, 2, 1, 1)
        found.append(theorem.descent_in_alpha(_half(bench, mode, plan, c.alpha_min), c, bench.policy))
    return found


def descent_clipped(bench: Bench) -> list[Inequality]:
    """[D1b] where the smallest alpha of a row lies on the floor and is clipped, at the largest step and a small one."""
    found = []
    for mode in ("none", "per_step"):
        floor = float(bench.binary_alpha[:1].min())
        c = constants(bench.one_position, floor, 1.0, mode == "per_step")
        for share in (1.0, 1e-3):
            plan = Plan(share * theorem.largest_eta_alpha(c), 0.1, 0.02, 2, 1, 1)
            found.append(theorem.projected_descent(_half(bench, mode, plan, floor), c, bench.policy))
    return found


def descent_z(bench: Bench) -> list[Inequality]:
    """[D2] on wells at three shares of the largest step, where its bias term is needed, and where sigma_z^2/B is."""
    c = bench.small_constants
    found = [
        theorem.descent_in_z(bench.on_wells(mu, 8), c, bench.small_plan(share, mu), bench.zeroth)
        for share, mu in ((1.0, 0.02), (0.1, 0.02), (1e-3, 1e-3))
    ]
    mu, kink = 0.1, OddKink(1, 0.053)  # slope 2/3 of the bias
    case = ZerothCase("kink", kink, np.ones(1), np.zeros(1), mu, half_range_nodes(20))
    plan = Plan(1.0, 1e-4, mu, 2, 1, 1)
    found.append(theorem.descent_in_z(case, theorem.bowl_constants(kink, 0.0), plan, bench.zeroth))
    noisy, many = opposite_examples(1), Plan(1.0, 1.0, 1e-3, 2, 400, 1)
    found.append(_bowl(bowl_given(noisy), theorem.bowl_constants(noisy, 1.0), many, "opposite examples", bench))
    return found


def _bowl(given: Given, c: Constants, plan: Plan, name: str, bench: Bench) -> Inequality:
    return theorem.descent_on_bowls(given, c, plan, name, bench.zeroth)


def descent_limit(bench: Bench) -> list[Inequality]:
    """[D2] at its largest step on a bowl, d = 1: at I_2 = 12 the true limit is 1.29 times that, at 4 it is 3 times."""
    bowl, found = plain_bowl(1), []
    for pairs in (1, 4, 12, 48):
        c = theorem.bowl_constants(bowl, 0.0)
        plan = Plan(1.0, theorem.largest_eta_z(c, pairs), 1e-3, 2, pairs, 1)
        found.append(_bowl(bowl_given(bowl, 0.8), c, plan, "bowl", bench))
    return found


def descent_modes(bench: Bench) -> list[Inequality]:
    """[D2] where one noise a half step counts: opposite prompts, I_2 = 200, B = 64, both kinds of directions."""
    found = []
    for mode in MODES:
        given = opposite_given(mode, binary_noise(1, 12))
        for per_example in (False, True):
            problem, batch = given[0][1].problem, 2 if per_example else 64
            c = theorem.bowl_constants(problem, 1.0, 1 / 3 if mode == "per_step" else 0.0)
            pairs = 200
            plan = Plan(1.0, theorem.largest_eta_z(c, pairs), 0.03, 2, pairs, batch, per_example)
            name = f"{mode}, {'per-example' if per_example else 'shared'}"
            found.append(_bowl(given, c, plan, name, bench))
    return found


def first_form(bench: Bench) -> list[Inequality]:
    """[Z5] and [D2] as they stood before, under per_step and without its term: false, by a factor 6 and 5."""
    given = opposite_given("per_step", binary_noise(1, 12))
    c = theorem.bowl_constants(given[0][1].problem, 1.0)
    plan = Plan(1.0, theorem.largest_eta_z(c, 200), 0.03, 2, 200, 64)
    variance = noise_in_z.variance_bound_in_mode(given, 64, 200, False, 1.0, 0.0, bench.zeroth, "Z5 without its term")
    return [variance, _bowl(given, c, plan, "D2 without its term", bench)]


def run_trace(bench: Bench, fresh: bool) -> runs.Trace:
    """The runs of [T1] and [A4], made once."""
    run = runs.RunOf(bench.wells, bench.start, bench.run_plan, fresh, backend=bench.backend)
    return _trace(bench, f"trace {fresh}", run, bench.effort.steps)


def _trace(bench: Bench, key: str, run: runs.RunOf, steps: int) -> runs.Trace:
    if key not in bench.cache:
        seeds = [(1000 * bench.seed + r) % 2**63 for r in range(bench.effort.runs)]
        bench.cache[key] = runs.trace(run, steps, seeds)
    return bench.cache[key]  # type: ignore[return-value]


def theorem_rows(bench: Bench) -> list[Inequality]:
    """[T1] with a fresh batch for each half: the sum with L* and with E L_T, and each kind of half step alone."""
    run, c, plan = run_trace(bench, True), bench.run_constants, bench.run_plan
    whole = [runs.theorem_1(c, plan, run, lowest) for lowest in (0.0, None)]
    return [
        *whole,
        *(runs.policy_halves(c, plan, run, exact) for exact in (False, True)),
        runs.zeroth_halves(c, plan, run),
    ]


def one_batch(bench: Bench) -> list[Inequality]:
    """[T1] with one batch for both halves: along runs, at steps so small that climbing shows, and where it counts."""
    found, c = [], bench.run_constants
    for name, plan in (("trace False", bench.run_plan), ("quiet", bench.quiet_plan)):
        run = runs.RunOf(bench.wells, bench.start, plan, False, backend=bench.backend)
        steps = bench.effort.steps if name == "trace False" else 25
        further = coupling.shared_batch_term(c, plan)
        seen = _trace(bench, name, run, steps)
        found.append(runs.theorem_1(c, plan, seen, None, further))
    found += [runs.policy_halves(c, plan, seen, True), runs.zeroth_halves(c, plan, seen, further)]
    found.append(coupling.one_batch_example(True, True, bench.policy, bench.zeroth))
    found.append(coupling.one_batch_example(False, False, bench.policy, bench.zeroth))
    return found


def one_noise_for_two(bench: Bench) -> list[Inequality]:
    """[D1] where z has seen the g of the policy half, with its term, and with a fresh g, without."""
    noise = binary_noise(2, 8)
    return [coupling.reused_noise_example(noise, reused, reused, bench.policy) for reused in (True, False)]


def without_terms(bench: Bench) -> list[Inequality]:
    """Both examples without their terms: false."""
    shared = coupling.one_batch_example(True, False, bench.policy, bench.zeroth)
    return [shared, coupling.reused_noise_example(binary_noise(2, 8), True, False, bench.policy)]


def noisy_theorem(bench: Bench) -> list[Inequality]:
    """[T1] along runs with Gumbel noise, from a place where grad L = 0 and only noise moves z: two wells."""
    w = np.zeros((2, 1, 2))
    w[:, 0, 0] = 0.3, -0.3
    problem, noise = GaussianWells(1, 2, w), binary_noise(1, 10)
    start, found = ZOPoGState(0, np.full((1, 2), 0.5), np.zeros(2)), []
    for mode in ("per_sample", "per_step") if bench.with_fresh_noise else ("per_step",):
        c = constants(problem, 0.25, 1.0, mode == "per_step")
        plan = Plan(1e-6, 0.5, 1e-3, 2, 400, 200)
        run = runs.RunOf(problem, start, plan, True, mode=mode, noise=noise, backend=bench.backend)
        seen = _trace(bench, f"noisy {mode}", run, 4 if bench.effort.runs > 3 else 8)
        found.append(runs.zeroth_halves(c, plan, seen))
    return found


def clipped_theorem(bench: Bench) -> list[Inequality]:
    """[T1b] along runs at D1's largest step that are clipped at alpha_min = 1/(2N)."""
    c, plan = bench.run_constants, bench.clipped_plan
    run = runs.RunOf(bench.wells, bench.start, plan, True, floor=c.alpha_min, backend=bench.backend)
    seen = _trace(bench, "clipped", run, min(bench.effort.steps, 30))
    return [runs.projected_theorem(c, plan, seen, exact) for exact in (False, True)]


def largest_step(bench: Bench) -> list[Equality]:
    """The largest |g_ij| where it is attained: half of the prompts with a token and the loss F, the others with 0."""
    found, alpha = [], np.full((1, 2), 0.25)
    for samples in (2, 8):
        tokens = np.repeat([[0], [1]], samples // 2, axis=0)
        losses = 1.7 * (tokens[:, 0] == 0)
        g = np.abs(np.asarray(bench.policy(losses, tokens, alpha, np.full((1, 2), 0.5), 0.7)))
        right = assumptions.largest_step_in_alpha(1.7, samples, 0.25, 0.7)
        found.append(equal(g, np.full((1, 2), right), f"I = {samples}"))
    return found


def lower_bound(bench: Bench) -> list[Comparison]:
    """[A4] along T1's runs, whose steps are so small that no draw can lead out."""
    smallest = float(run_trace(bench, True).smallest_alpha.min())
    return [assumptions.observed_lower_bound(smallest, bench.run_constants.alpha_min), *largest_step(bench)]


def lower_bound_at_limit(bench: Bench) -> Inequality:
    """[A4] at D1's largest step: what [C1] asks for under [A4], and what [T1b] does without."""
    c = bench.run_constants
    plan = Plan(theorem.largest_eta_alpha(c), theorem.largest_eta_z(c, 10), 0.02, 20, 10, 16)
    run = runs.trace(runs.RunOf(bench.wells, bench.start, plan, False, backend=bench.backend), 50, [bench.seed])
    return assumptions.observed_lower_bound(float(run.smallest_alpha.min()), c.alpha_min)


def readout_step(bench: Bench) -> list[Comparison]:
    """[W1] from the identity and from far away; its gradient."""
    rng = bench.rng(37)
    found: list[Comparison] = []
    for pull, far in ((0.3, 0.0), (0.01, 3.0)):
        loss = readout_block.ReadoutLoss(
            2 * rng.standard_normal((30, 3)), rng.integers(3, size=30), np.full(30, 1 / 30), pull
        )
        W = np.eye(3) + far * rng.standard_normal((3, 3))
        found += [readout_block.never_raised(loss, W), readout_block.gradient_is_the_derivative(loss, W)]
        near = W
        for _ in range(200):  # where a refit of something else would climb
            near = readout_block.step(loss, near)
        for share, start in ((1.0, W), (1 / 3, W), (1.0, near), (1 / 3, near)):  # what read_loss does
            found.append(readout_block.never_raised(loss, start, readout_block.refit_by(share), share))
    return found


def three_blocks(bench: Bench) -> list[Inequality]:
    """[W2] along a run of Algorithm 1, with its own W-block and as `readout_folds` runs it."""
    problem, seed = readout_block.scored_prompts(bench.rng(38)), bench.seed % 2**62
    found = readout_block.three_blocks(problem, 40, seed)
    for folds in (1, 3):
        found += readout_block.sampled_blocks(problem, 20, seed, folds)
    return found


_A, _T = "test_assumptions.py::", "test_theorem.py::"
DESCENT = (
    Line("A4", "A4", "alpha >= 1/(2N) in T1's runs, whatever is drawn.", "proved", assumptions.largest_step_in_alpha,
         _A + "test_lower_bound", lower_bound),
    Line("A4-limit", "A4", "alpha >= 1/(2N) at C1's step, I = 20 (see T1b).", "measured",
         assumptions.observed_lower_bound, _A + "test_lower_bound", lower_bound_at_limit, required=False),
    Line("D1", "D1", "A policy step decreases L in the mean, every noise mode.", "proved", theorem.descent_in_alpha,
         _T + "test_descent_in_alpha", descent_alpha),
    Line("D1b", "D1b", "So does the clipped step, without A4.", "proved", theorem.projected_descent,
         _T + "test_projected_descent", descent_clipped),
    Line("D2", "D2", "A zeroth-order step decreases L in the mean.", "proved", theorem.descent_in_z,
         _T + "test_descent_in_z", descent_z),
    Line("D2-limit", "D2", "It does at its largest step, I2 from 1 to 48.", "proved", theorem.descent_on_bowls,
         _T + "test_descent_limit", descent_limit),
    Line("D2-noise", "D2", "It does in every noise mode, with gamma_z^2.", "proved", theorem.descent_on_bowls,
         _T + "test_descent_modes", descent_modes),
    Line("Z5-first", "Z5", "Z5 and D2 under per_step without gamma_z^2.", "measured", noise_in_z.variance_bound_in_mode,
         _T + "test_first_form_fails", first_form, required=False),
    Line("T1", "T1", "Theorem 1 along runs, and each half alone.", "proved", runs.theorem_1, _T + "test_theorem_1",
         theorem_rows),
    Line("T1-noise", "T1", "The same with Gumbel noise, both modes.", "proved", runs.theorem_1,
         _T + "test_noisy_theorem", noisy_theorem),
    Line("T1-shared", "T1", "The same with one batch for both halves.", "proved", coupling.shared_batch_term,
         _T + "test_one_batch", one_batch),
    Line("T1-reuse", "T1", "The same with one noise for two halves.", "proved", coupling.reused_noise_term,
         _T + "test_one_noise_for_two", one_noise_for_two),
    Line("T1-first", "T1", "Both without their further terms.", "measured", coupling.one_batch_example,
         _T + "test_terms_are_needed", without_terms, required=False),
    Line("T1b", "T1b", "Theorem 1 for the clipped step, without A4.", "proved", runs.projected_theorem,
         _T + "test_projected_theorem", clipped_theorem),
    Line("W1", "W1", "A W-step of the readout never raises its loss.", "proved", readout_block.never_raised,
         "test_readout_block.py::test_never_raised", readout_step),
    Line("W2", "W2", "Three blocks: the W-step adds descent, and no calls.", "proved", readout_block.three_blocks,
         "test_readout_block.py::test_three_blocks", three_blocks),
)  # fmt: skip
