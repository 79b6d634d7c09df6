"""One Gumbel noise in a zeroth-order half step [G4], and what [Z5] and [D2] become in each noise mode.

With gumbel="none" or "per_sample" the I_2 terms of an estimate are independent given the mini-batch. With "per_step"
they share one g and are independent only given g: the mean given g, grad_z E_t[l_mu | g], varies, and neither I_2 nor
B lowers that.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zopog_ref.algorithm import Settings, ZOPoG, ZOPoGState
from zopog_ref.backend import NUMPY, Backend
from zopog_ref.convergence.comparison import Equality, Inequality, equal, estimated
from zopog_ref.convergence.exact import Mode, Noise, ZerothEstimator, prompt_weights
from zopog_ref.convergence.problems import Problem
from zopog_ref.convergence.smoothing_lemmas import (
    ZerothCase,
    batches,
    per_example_moments,
    shared_moments,
    smoothed_gradient,
    variance_bound_per_example,
    variance_bound_shared,
)
from zopog_ref.objective import FunctionObjective, Ledger
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
Given = Sequence[tuple[float, ZerothCase]]  # the cases that a half step can be in, with their probabilities


def cases_of(mode: Mode, case: ZerothCase, alpha: FLOAT64, tau: float, noise: Noise) -> list[tuple[float, ZerothCase]]:
    """The same place and problem under a noise mode: one case for each g under per_step, otherwise a single one."""
    if mode == "none":
        nothing = Noise(np.ones(1), np.zeros((1, *alpha.shape)))
        return [(1.0, reweighted(case, prompt_weights(alpha, tau, nothing)))]
    if mode == "per_sample":
        return [(1.0, reweighted(case, prompt_weights(alpha, tau, noise)))]
    return [
        (float(w), reweighted(case, prompt_weights(alpha, tau, Noise(np.ones(1), g[None])))) for w, g in zip(*noise)
    ]


def reweighted(case: ZerothCase, weight: FLOAT64) -> ZerothCase:
    """The case with other probabilities of the prompts."""
    return replace(case, weight=weight)


def noise_excess(given: Given) -> float:
    """Var_g(grad_z E_t[f_mu | g]) of [G4], gamma_z^2 at this place: what one noise a half step adds. 0 for one case."""
    means = np.stack([smoothed_gradient(case) for _, case in given])
    weight = np.array([w for w, _ in given])
    return float(weight @ ((means - weight @ means) ** 2).sum(axis=1))


def one_noise_variance(given: Given, batch: INT64, pairs: int,
                       estimator: ZerothEstimator = two_point_gradient) -> Equality:  # fmt: skip
    """One noise for the pairs of a half step [G4], proved, on quadratics exactly: tr Cov(g_z | batch) =

    E_g[((d+2) E_t[||grad l_B||^2 | g] - ||grad L_B(g)||^2) / I_2] + Var_g(grad_z E_t[l_B | g]): the law of total
    variance over g on the exact [Z5]. The left side calls the estimator on all that can be drawn.
    """
    weight = np.array([w for w, _ in given])
    moments = [shared_moments(case, batch, pairs, estimator) for _, case in given]
    mean = weight @ np.stack([m.mean for m in moments])
    left = weight @ np.array([m.trace_covariance + m.mean @ m.mean for m in moments]) - mean @ mean
    d, within, centres = given[0][1].problem.d, [], []
    for _, case in given:
        slopes = case.problem.slope_table(case.z)[:, batch].mean(axis=1)  # (N^n, d)
        centres.append(case.weight @ slopes)
        within.append(((d + 2) * case.weight @ (slopes**2).sum(axis=-1) - centres[-1] @ centres[-1]) / pairs)
    spread = ((np.stack(centres) - weight @ np.stack(centres)) ** 2).sum(axis=1)
    return equal(left, weight @ np.array(within) + weight @ spread, f"I2 = {pairs}")


def squared_error(given: Given, batch_size: int, pairs: int, per_example: bool,
                  estimator: ZerothEstimator) -> tuple[float, float]:  # fmt: skip
    """E||g_z - grad L_mu||^2 and E||g_z||^2 over batches, g, prompts and directions, exactly, for any I_2.

    Given (g, batch) the I_2 terms are independent and alike, so I_2 of them have the mean of one and 1/I_2 of its
    variance; [Z5-exact] and [G4] enumerate I_2 = 2. The batches are all of them, drawn with replacement.
    """
    target = sum(w * smoothed_gradient(case) for w, case in given)
    error = second = 0.0
    every = batches(given[0][1].problem.rows, batch_size)
    for weight, case in given:
        for batch in every:
            one = (
                per_example_moments(case, batch, estimator)
                if per_example
                else shared_moments(case, batch, 1, estimator)
            )
            share = weight / len(every)
            error += share * (one.trace_covariance / pairs + float(((one.mean - target) ** 2).sum()))
            second += share * (one.trace_covariance / pairs + float((one.mean**2).sum()))
    return error, second


def variance_bound_in_mode(given: Given, batch_size: int, pairs: int, per_example: bool, sigma2_z: float,
                           gamma2_z: float, estimator: ZerothEstimator = two_point_gradient,
                           name: str = "") -> Inequality:  # fmt: skip
    """Variance [Z5], [Z5b], proved in each noise mode: E||g_z - grad L_mu||^2 <= the bound, with gamma_z^2 in it.

    Over g and the batch, Var(E[g_z | g, batch]) = Var_g(grad L_mu(g)) + E_g Var_batch(grad L_{B,mu}(g)), the last at
    most sigma_z^2 / B; given both, the bracket of [Z5] as before.
    """
    left, _ = squared_error(given, batch_size, pairs, per_example, estimator)
    one = given[0][1]
    slopes = one.problem.slope_table(one.z).mean(axis=1)
    slope2 = float((sum(w * (case.weight @ slopes) for w, case in given) ** 2).sum())
    bound = variance_bound_per_example if per_example else variance_bound_shared
    right = bound(one.problem.d, slope2, sigma2_z, one.mu, one.problem.L_z, pairs, batch_size) + gamma2_z
    return Inequality(left, right, f"{name}, I2 = {pairs}, B = {batch_size}")


def half_step_of_the_algorithm(problem: Problem, given: Given, alpha: FLOAT64, mode: Mode, pairs: int, times: int,
                               seed: int, backend: Backend = NUMPY) -> Equality:  # fmt: skip
    """[G4] end to end: the zeroth-order half of Algorithm 1 as it runs, all examples as batch, on a quadratic.

    E||g_z - grad L||^2 over seeds against the exact value of its noise mode: this sees whether the code draws one noise
    for a half step, or one for each sample, where it says so.
    """
    case = given[0][1]
    plan = Settings(direction_pairs=pairs, mu=case.mu, eta_z=1.0, gumbel=mode, directions="shared", policy=False)
    truth = sum(w * smoothed_gradient(c) for w, c in given)
    found, every = np.empty(times), np.arange(problem.rows)
    for r in range(times):
        method = ZOPoG(problem.n, problem.n_candidates, problem.d, plan, seed + r, backend)
        objective = FunctionObjective(problem.losses, Ledger(budget=10**9))
        after = method.step(ZOPoGState(0, alpha, case.z), objective, every)
        found[r] = ((case.z - after.z - truth) ** 2).sum()
    exact = 0.0
    for weight, c in given:  # the batch is the whole population: the exact [Z5] given g, and the distance of its mean
        slopes = c.problem.slope_table(c.z).mean(axis=1)
        centre = c.weight @ slopes
        own = ((problem.d + 2) * c.weight @ (slopes**2).sum(axis=-1) - centre @ centre) / pairs
        exact += weight * float(own + ((centre - truth) ** 2).sum())
    return estimated(found, exact, f"gumbel = {mode}, I2 = {pairs}")
