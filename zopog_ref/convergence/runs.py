"""Algorithm 1 run on problems with exact gradients: Theorem 1 [T1], the complexity [C1], the three noise modes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zopog_ref.algorithm import Settings, ZOPoG, ZOPoGState
from zopog_ref.backend import NUMPY, Backend
from zopog_ref.convergence.assumptions import Constants
from zopog_ref.convergence.comparison import Inequality
from zopog_ref.convergence.exact import (
    Mode,
    Noise,
    log_prompt_probability,
    no_noise,
    prompt_atoms,
    token_probabilities,
)
from zopog_ref.convergence.problems import Problem
from zopog_ref.convergence.proposition import mean_squared_error
from zopog_ref.convergence.theorem import (
    Plan,
    alpha_noise,
    average_bound,
    progress,
    projected_average_bound,
    projected_noise,
    projected_step2,
    z_noise,
)
from zopog_ref.distribution import score
from zopog_ref.objective import FunctionObjective, Ledger

FLOAT64 = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """What R runs of T steps did, exactly: values (R, T+1), everything else (R, T), but smallest_alpha (R, T+1)."""

    value: FLOAT64  # L(alpha_t, z_t)
    between: FLOAT64  # L(alpha_{t+1}, z_t), after the policy half
    alpha_slope2: FLOAT64  # ||grad_alpha L(alpha_t, z_t)||^2
    moved2: FLOAT64  # ||P_t||^2, the projected step of [D1b]
    alpha_error: FLOAT64  # E||g_alpha - grad_alpha L||^2 at (alpha_t, z_t) by the exact [V7], no noise
    z_slope2: FLOAT64  # ||grad_z L(alpha_{t+1}, z_t)||^2
    smallest_alpha: FLOAT64  # before any clipping at alpha_min, where the floor is far below


def settings_of(plan: Plan, alpha_min: float, **changes: object) -> Settings:
    """The algorithm's settings of a plan; no Gumbel noise unless asked for, so that L is a finite sum."""
    chosen = dict(
        policy_samples=plan.policy_samples, direction_pairs=plan.direction_pairs, mu=plan.mu, eta_alpha=plan.eta_alpha,
        eta_z=plan.eta_z, alpha_min=alpha_min, gumbel="none",
        directions="per_example" if plan.per_example else "shared",
    )  # fmt: skip
    return Settings(**{**chosen, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class RunOf:
    """How a run of Algorithm 1 is made: the method, and what its two half steps share.

    fresh: another mini-batch for the zeroth-order half, as [T1] needs; otherwise one for both, as Algorithm 1 does.
    floor: where alpha is clipped; far below, the smallest alpha shows whether [A4] held by itself. backend: the
    estimators under test. noise: what L averages over when the mode is not "none" (N = 2).
    """

    problem: Problem
    start: ZOPoGState
    plan: Plan
    fresh: bool = True
    floor: float = 1e-11
    mode: Mode = "none"
    noise: Noise | None = None
    backend: Backend = NUMPY

    def halves(self, seed: int) -> tuple[ZOPoG, ZOPoG]:
        """The two half steps as methods of their own."""
        shape = self.problem.n, self.problem.n_candidates, self.problem.d
        first = settings_of(self.plan, self.floor, zeroth_order=False, gumbel=self.mode)
        second = settings_of(self.plan, self.floor, policy=False, gumbel=self.mode)
        return ZOPoG(*shape, first, seed, self.backend), ZOPoG(*shape, second, seed, self.backend)


def trace(run: RunOf, steps: int, seeds: Sequence[int]) -> Trace:
    """Runs of Algorithm 1 with exact L and gradients at every step. Mini-batches are drawn with replacement.

    The counter of the second half is set two further, so that under per_step noise each half step has a g of its own.
    """
    columns = [np.empty((len(seeds), steps + extra)) for extra in (1, 0, 0, 0, 0, 0, 1)]
    values, between, a2, moved, error, z2, smallest = columns
    problem, plan = run.problem, run.plan
    smallest[:, 0] = run.start.alpha.min()
    for r, seed in enumerate(seeds):
        halves, objective = run.halves(seed), FunctionObjective(problem.losses, Ledger(budget=10**12))
        rng, alpha, z = np.random.default_rng(seed), run.start.alpha, run.start.z
        for t in range(steps):
            examples = rng.integers(problem.rows, size=(2, plan.batch))
            if not run.fresh:
                examples[1] = examples[0]
            values[r, t], in_alpha, _ = exact_slopes(problem, alpha, z, run.noise)
            a2[r, t] = (in_alpha**2).sum()
            moved[r, t] = projected_step2(alpha, in_alpha, plan.eta_alpha, run.floor)
            error[r, t] = _policy_error(run, alpha, z)
            alpha = halves[0].step(ZOPoGState(4 * t, alpha, z), objective, examples[0]).alpha
            smallest[r, t + 1] = alpha.min()
            between[r, t], _, in_z = exact_slopes(problem, alpha, z, run.noise)
            z2[r, t] = in_z @ in_z
            z = halves[1].step(ZOPoGState(4 * t + 1, alpha, z), objective, examples[1]).z
        values[r, steps] = exact_slopes(problem, alpha, z, run.noise)[0]
    return Trace(*columns)


def _policy_error(run: RunOf, alpha: FLOAT64, z: FLOAT64) -> float:
    if run.mode != "none":
        return float("nan")
    atoms = prompt_atoms(alpha)
    return mean_squared_error(atoms, run.problem.table(z), run.plan.policy_samples, run.plan.batch)


def mapping2(problem: Problem, alpha: FLOAT64, z: FLOAT64, eta: float, floor: float = 1e-11) -> float:
    """||(alpha - max(alpha - eta grad_alpha L, floor)) / eta||^2 + ||grad_z L||^2, the gradient where nothing clips."""
    _, in_alpha, in_z = exact_slopes(problem, alpha, z)
    return projected_step2(alpha, in_alpha, eta, floor) + float(in_z @ in_z)


def exact_slopes(problem: Problem, alpha: FLOAT64, z: FLOAT64,
                 noise: Noise | None = None) -> tuple[float, FLOAT64, FLOAT64]:  # fmt: skip
    """L, grad_alpha L and grad_z L at a point, by enumeration, tau = 1; averaged over the noise where there is one."""
    losses, slopes = problem.table(z).mean(axis=1), problem.slope_table(z).mean(axis=1)
    in_alpha, weight = np.zeros(alpha.shape), np.zeros(len(losses))
    for w, g in zip(*(noise or no_noise(*alpha.shape))):
        given = np.exp(log_prompt_probability(problem.prompts, alpha, 1.0, g))
        p = token_probabilities(alpha, 1.0, g)
        in_alpha += w * np.tensordot(given * losses, score(problem.prompts, alpha, p), axes=1)
        weight += w * given
    return float(weight @ losses), in_alpha, np.asarray(weight @ slopes)


def exact_state(problem: Problem, alpha: FLOAT64, z: FLOAT64) -> tuple[float, float, float]:
    """L, ||grad_alpha L||^2 and ||grad_z L||^2 at a point."""
    value, in_alpha, in_z = exact_slopes(problem, alpha, z)
    return value, float((in_alpha**2).sum()), float(in_z @ in_z)


def theorem_1(c: Constants, plan: Plan, run: Trace, lowest: float | None, further: float = 0.0) -> Inequality:
    """Theorem 1 [T1], proved: the mean over t of E[(eta_alpha/2)||grad_alpha L||^2 + (eta_z/4)||grad_z L||^2], bounded.

    lowest is L*, or None for the sharper telescoped form with E L_T in its place. further is what a draw that serves
    two half steps costs (coupling.py).
    """
    steps = run.alpha_slope2.shape[1]
    left = float(progress(c, plan, run.alpha_slope2, run.z_slope2).mean())
    end = float(run.value[:, -1].mean()) if lowest is None else lowest
    right = average_bound(c, plan, steps, float(run.value[:, 0].mean()) - end) + further
    what = "L*" if lowest is not None else "E L_T"
    return Inequality(left, right, f"{what}, T = {steps}, {len(run.value)} runs")


def policy_halves(c: Constants, plan: Plan, run: Trace, exact: bool, further: float = 0.0) -> Inequality:
    """The policy halves of [T1] alone, proved: mean (eta/2)||grad_alpha L||^2 <= mean drop of L in them + their noise.

    With exact=True the noise is (L_alpha eta^2/2) times the exact [V7] along the run, 20 or more times less than its
    bound: Theorem 1 with the true variance. This is what sees a policy half that climbs, or does nothing.
    """
    noise = c.L_alpha * plan.eta_alpha**2 / 2 * float(run.alpha_error.mean()) if exact else alpha_noise(c, plan)
    left = plan.eta_alpha / 2 * float(run.alpha_slope2.mean())
    drop = float((run.value[:, :-1] - run.between).mean())
    return Inequality(left, drop + noise + further, f"policy halves, {'exact' if exact else 'bounded'} variance")


def zeroth_halves(c: Constants, plan: Plan, run: Trace, further: float = 0.0) -> Inequality:
    """The zeroth-order halves of [T1] alone, proved: mean (eta/4)||grad_z L||^2 <= mean drop of L in them + z_noise."""
    left = plan.eta_z / 4 * float(run.z_slope2.mean())
    drop = float((run.between - run.value[:, 1:]).mean())
    return Inequality(left, drop + z_noise(c, plan) + further, "zeroth-order halves")


def projected_theorem(c: Constants, plan: Plan, run: Trace, exact: bool) -> Inequality:
    """Theorem 1 for the clipped step [T1b], proved without [A4]: mean E[(eta_alpha/4)||P||^2 + (eta_z/4)||grad_z L||^2]
    <= (L_0 - E L_T)/T + projected_noise + z_noise; exact=True has (3/2) eta_alpha times the exact [V7] in its place."""
    steps = run.moved2.shape[1]
    left = plan.eta_alpha / 4 * float(run.moved2.mean()) + plan.eta_z / 4 * float(run.z_slope2.mean())
    drop = float(run.value[:, 0].mean() - run.value[:, -1].mean())
    right = projected_average_bound(c, plan, steps, drop)
    if exact:
        right += 1.5 * plan.eta_alpha * float(run.alpha_error.mean()) - projected_noise(c, plan)
    name = "exact" if exact else "bounded"
    return Inequality(left, right, f"{name} variance, T = {steps}, alpha reaches {run.smallest_alpha.min():.2g}")


@dataclass(frozen=True)
class Reached:
    """Steps and prompt evaluations until the running mean of the squared stationarity measure is at most eps^2."""

    epsilon: float
    policy_samples: int
    steps: float
    evaluations: float
    error: float  # standard error of evaluations over the runs
    unfinished: int  # runs that were stopped at the limit of steps before they reached eps


def evaluations_to_reach(problem: Problem, start: ZOPoGState, plan: Plan, epsilon: float, limit: int,
                         seeds: Sequence[int]) -> Reached:  # fmt: skip
    """Complexity [C1], measured: run until eps-stationary on average; limit steps at most (then steps = limit).

    The running mean falls as 1/t once a run has settled (t eps^2 is 20 to 23 at the end of every cell that we ran), so
    the steps go as 1/eps^2 by this rule and the exponent of the evaluations is that of the samples less 2: these runs
    say that the sizes suffice, not what is needed. Stationary in the sense of `mapping2`: L is multilinear in the rows
    of p, so it has its minima at vertices, where alpha reaches the floor, [A4] fails and grad_alpha L does not vanish.
    """
    counts, unfinished = [], 0
    for seed in seeds:
        method = ZOPoG(problem.n, problem.n_candidates, problem.d, settings_of(plan, 1e-11), seed)
        objective = FunctionObjective(problem.losses, Ledger(budget=10**12))
        state, total = start, 0.0
        for t in range(1, limit + 1):
            total += mapping2(problem, state.alpha, state.z, plan.eta_alpha)
            if total / t <= epsilon**2:
                break
            state = method.step(state, objective, np.arange(problem.rows))
        else:
            unfinished += 1
        counts.append(t)
    per_step = plan.policy_samples + 2 * plan.direction_pairs
    evaluations = np.array(counts, float) * per_step
    error = float(evaluations.std(ddof=1) / np.sqrt(len(counts)))
    return Reached(epsilon, plan.policy_samples, float(np.mean(counts)), float(evaluations.mean()), error, unfinished)


@dataclass(frozen=True)
class ModeResult:
    """Where runs with one kind of Gumbel noise end: mean loss at the deployed prompt, and its standard error."""

    mode: str
    directions: str
    loss: float
    error: float


def final_loss(problem: Problem, mode: str, directions: str, eta_alpha: float, eta_z: float, steps: int, batch: int,
               seeds: Sequence[int]) -> ModeResult:  # fmt: skip
    """Mean loss over all examples at the mode of alpha and at z, after `steps` steps of 40 calls."""
    ends = []
    for seed in seeds:
        chosen = Settings(eta_alpha=eta_alpha, eta_z=eta_z, mu=0.1, gumbel=mode, directions=directions)  # type: ignore[arg-type]
        method = ZOPoG(problem.n, problem.n_candidates, problem.d, chosen, seed)
        objective = FunctionObjective(problem.losses, Ledger(budget=10**9))
        state, rng = method.init(), np.random.default_rng(seed)
        for _ in range(steps):
            state = method.step(state, objective, rng.integers(problem.rows, size=batch))
        [prompt] = method.prompts(state)
        ends.append(float(problem.losses(prompt.tokens[None], prompt.z[None], np.arange(problem.rows)).mean()))
    return ModeResult(mode, directions, float(np.mean(ends)), float(np.std(ends, ddof=1) / np.sqrt(len(ends))))
