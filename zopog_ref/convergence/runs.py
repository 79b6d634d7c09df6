"""Algorithm 1 run on problems with exact gradients: Theorem 1 [T1], the complexity [C1], the three noise modes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zopog_ref.algorithm import Settings, ZOPoG, ZOPoGState
from zopog_ref.convergence.assumptions import Constants
from zopog_ref.convergence.comparison import Inequality
from zopog_ref.convergence.exact import log_prompt_probability
from zopog_ref.convergence.problems import Problem
from zopog_ref.convergence.theorem import Plan, average_bound, progress, shared_batch_term
from zopog_ref.distribution import score
from zopog_ref.objective import FunctionObjective, Ledger

FLOAT64 = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """What R runs of T steps did, exactly: values (R, T+1), squared slopes (R, T), the smallest alpha (R, T+1)."""

    value: FLOAT64  # L(alpha_t, z_t)
    alpha_slope2: FLOAT64  # ||grad_alpha L(alpha_t, z_t)||^2
    z_slope2: FLOAT64  # ||grad_z L(alpha_{t+1}, z_t)||^2
    smallest_alpha: FLOAT64  # before any clipping at alpha_min

    def within(self, alpha_min: float) -> "Trace":
        """The steps until the first run leaves {alpha >= alpha_min}: what [A4] asks for."""
        inside = self.smallest_alpha.min(axis=0) >= alpha_min  # (T+1,)
        steps = len(inside) - 1 if inside.all() else max(int(np.argmin(inside)) - 1, 0)
        if steps == 0:
            raise ValueError(f"a run leaves alpha >= {alpha_min} at its first step: smaller steps or more samples")
        return Trace(*(a[:, : steps + extra] for a, extra in zip(vars(self).values(), (1, 0, 0, 1))))


def settings_of(plan: Plan, alpha_min: float, **changes: object) -> Settings:
    """The algorithm's settings of a plan: shared directions [Z1], no Gumbel noise, so that L is a finite sum."""
    chosen = dict(
        policy_samples=plan.policy_samples, direction_pairs=plan.direction_pairs, mu=plan.mu, eta_alpha=plan.eta_alpha,
        eta_z=plan.eta_z, alpha_min=alpha_min, gumbel="none", directions="shared",
    )  # fmt: skip
    return Settings(**{**chosen, **changes})  # type: ignore[arg-type]


def trace(problem: Problem, start: ZOPoGState, plan: Plan, steps: int, seeds: Sequence[int], fresh: bool) -> Trace:
    """Runs of Algorithm 1 with exact L and gradients at every step.

    fresh=True draws another mini-batch for the zeroth-order half, as [T1] needs; False uses one for both, as
    Algorithm 1 does. Mini-batches are drawn with replacement. The clipping floor is far below, so that the smallest
    alpha shows whether [A4] held by itself.
    """
    values, a2, z2, smallest = (np.empty((len(seeds), steps + extra)) for extra in (1, 0, 0, 1))
    smallest[:, 0] = start.alpha.min()
    shape = (problem.n, problem.n_candidates, problem.d)
    for r, seed in enumerate(seeds):
        first, second = settings_of(plan, 1e-11, zeroth_order=False), settings_of(plan, 1e-11, policy=False)
        halves = ZOPoG(*shape, first, seed), ZOPoG(*shape, second, seed)
        objective = FunctionObjective(problem.losses, Ledger(budget=10**12))
        rng, state = np.random.default_rng(seed), start
        for t in range(steps):
            examples = rng.integers(problem.rows, size=(2, plan.batch))
            if not fresh:
                examples[1] = examples[0]
            values[r, t], a2[r, t], _ = exact_state(problem, state.alpha, state.z)
            state = halves[0].step(state, objective, examples[0])
            smallest[r, t + 1] = state.alpha.min()
            _, _, z2[r, t] = exact_state(problem, state.alpha, state.z)
            state = halves[1].step(state, objective, examples[1])
        values[r, steps] = exact_state(problem, state.alpha, state.z)[0]
    return Trace(values, a2, z2, smallest)


def mapping2(problem: Problem, alpha: FLOAT64, z: FLOAT64, eta: float, floor: float = 1e-11) -> float:
    """||(alpha - max(alpha - eta grad_alpha L, floor)) / eta||^2 + ||grad_z L||^2, the gradient where nothing clips."""
    _, in_alpha, in_z = exact_slopes(problem, alpha, z)
    moved = (alpha - np.maximum(alpha - eta * in_alpha, floor)) / eta
    return float((moved**2).sum() + in_z @ in_z)


def exact_slopes(problem: Problem, alpha: FLOAT64, z: FLOAT64) -> tuple[float, FLOAT64, FLOAT64]:
    """L, grad_alpha L and grad_z L at a point, by enumeration, without noise and tau = 1."""
    weight = np.exp(log_prompt_probability(problem.prompts, alpha, 1.0))
    p = alpha / alpha.sum(axis=1, keepdims=True)
    losses = problem.table(z).mean(axis=1)
    in_alpha = np.tensordot(weight * losses, score(problem.prompts, alpha, p), axes=1)
    return float(weight @ losses), in_alpha, np.asarray(weight @ problem.slope_table(z).mean(axis=1))


def exact_state(problem: Problem, alpha: FLOAT64, z: FLOAT64) -> tuple[float, float, float]:
    """L, ||grad_alpha L||^2 and ||grad_z L||^2 at a point."""
    value, in_alpha, in_z = exact_slopes(problem, alpha, z)
    return value, float((in_alpha**2).sum()), float(in_z @ in_z)


def theorem_1(c: Constants, plan: Plan, run: Trace, lowest: float | None, shared: bool = False) -> Inequality:
    """Theorem 1 [T1], proved: the mean over t of E[(eta_alpha/2)||grad_alpha L||^2 + (eta_z/4)||grad_z L||^2], bounded.

    lowest is L*, or None for the sharper telescoped form with E L_T in its place. shared adds what one mini-batch for
    both halves can cost.
    """
    steps = run.alpha_slope2.shape[1]
    left = float(progress(c, plan, run.alpha_slope2, run.z_slope2).mean())
    end = float(run.value[:, -1].mean()) if lowest is None else lowest
    right = average_bound(c, plan, steps, float(run.value[:, 0].mean()) - end)
    if shared:
        right += shared_batch_term(c, plan)
    return Inequality(left, right, f"T = {steps}, {len(run.value)} runs")


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

    Stationary in the sense of `mapping2`: L is multilinear in the rows of p, so it has its minima at vertices, where
    alpha reaches the floor, [A4] fails and grad_alpha L itself does not vanish.
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
