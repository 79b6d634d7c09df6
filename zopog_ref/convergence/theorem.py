"""Convergence, section 4: descent of each half step [D1], [D2] and Theorem 1 [T1], in every noise mode.

All proved here from [A1] to [A4], for a mini-batch and, with Gumbel noise, a noise that are drawn afresh for each half
step, independently of (alpha, z). gumbel="none" and "per_sample" have gamma_alpha = gamma_z = 0; gumbel="per_step" has
the variances over g beside the noise, which neither I_1, I_2 nor B lowers. What Algorithm 1 adds by using one
mini-batch for both halves, and the official order by using one noise for two, is in coupling.py. [D1b] and [T1b] are
about the projected step that the algorithm takes, and need no [A4].
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from zopog_ref import policy_gradient
from zopog_ref.convergence.assumptions import Constants
from zopog_ref.convergence.comparison import Inequality
from zopog_ref.convergence.exact import (
    Atoms,
    Mode,
    Noise,
    PolicyEstimator,
    ZerothEstimator,
    draws_of_a_step,
    no_noise,
    prompt_weights,
)
from zopog_ref.convergence.noise_in_z import Given, squared_error
from zopog_ref.convergence.problems import Problem, alpha_gradient
from zopog_ref.convergence.proposition import proved_bound
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, batches, curvature_term
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Step sizes and sample sizes of a run: what the right-hand sides depend on."""

    eta_alpha: float
    eta_z: float
    mu: float
    policy_samples: int  # I_1
    direction_pairs: int  # I_2
    batch: int  # B
    per_example: bool = False  # a direction for each example [Z1b], not one for the batch [Z1]

    @property
    def directions(self) -> int:
        """Independent directions in an estimate: I_2, or I_2 B with one for each example."""
        return self.direction_pairs * (self.batch if self.per_example else 1)


def largest_eta_alpha(c: Constants) -> float:
    """Step size of [D1]: eta_alpha <= 1 / L_alpha."""
    return 1 / c.L_alpha


def largest_eta_z(c: Constants, directions: int) -> float:
    """Step size of [D2]: eta_z <= min(1, K / (4 (d + 2))) / L_z, K = I_2 directions (I_2 B with per-example ones)."""
    return min(1.0, directions / (4 * (c.d + 2))) / c.L_z


def alpha_noise(c: Constants, plan: Plan) -> float:
    """Noise of [D1]: (L_alpha eta_alpha^2 / 2)(sigma_g^2 / I_1 + sigma_alpha^2 / B + gamma_alpha^2), by [V7]."""
    return c.L_alpha * plan.eta_alpha**2 / 2 * proved_bound(c, plan.policy_samples, plan.batch)


def projected_noise(c: Constants, plan: Plan) -> float:
    """Noise of [D1b]: (3/2) eta_alpha (sigma_g^2 / I_1 + sigma_alpha^2 / B + gamma_alpha^2): of first order in eta."""
    return 1.5 * plan.eta_alpha * proved_bound(c, plan.policy_samples, plan.batch)


def z_noise(c: Constants, plan: Plan) -> float:
    """Noise of [D2]: (eta_z/2) mu^2 L_z^2 d + (L_z eta_z^2/2) V, with K = I_2 and

    V = 2(d+2) sigma_z^2/K + sigma_z^2/B + gamma_z^2 + (mu^2 L_z^2/(2 K)) d(d+2)(d+4). Per-example directions have
    K = I_2 B and sigma_z^2/I_2 more in V, by [Z5b]."""
    bias = plan.eta_z / 2 * plan.mu**2 * c.L_z**2 * c.d
    variance = 2 * (c.d + 2) * c.sigma2_z / plan.directions + c.sigma2_z / plan.batch + c.gamma2_z
    variance += curvature_term(plan.mu, c.L_z, c.d) / plan.directions
    if plan.per_example:
        variance += c.sigma2_z / plan.direction_pairs
    return bias + c.L_z * plan.eta_z**2 / 2 * variance


@dataclass(frozen=True)
class PolicyHalf:
    """A place, a noise mode and a plan: all that the policy half of a step depends on."""

    problem: Problem
    alpha: FLOAT64
    z: FLOAT64
    tau: float
    mode: Mode
    noise: Noise
    plan: Plan
    alpha_min: float

    @property
    def noise_of_L(self) -> Noise:
        """The noise that L averages over: none without noise."""
        return no_noise(*self.alpha.shape) if self.mode == "none" else self.noise

    @property
    def draws(self) -> list[tuple[float, Atoms]]:
        """What the samples of the half step can be."""
        return draws_of_a_step(self.mode, self.alpha, self.tau, self.noise)

    def gradient(self) -> FLOAT64:
        """grad_alpha L(alpha, z)."""
        losses = self.problem.table(self.z).mean(axis=1)
        return np.asarray(sum(w * alpha_gradient(a, losses[a.prompt]) for w, a in self.draws))

    def mean_change(self, estimator: PolicyEstimator) -> float:
        """E L(alpha+, z) - L(alpha, z), exactly: every batch, every noise, every tuple of prompts, L by enumeration."""
        table, every = self.problem.table(self.z), batches(self.problem.rows, self.plan.batch)
        mean_loss, change = table.mean(axis=1), 0.0
        before = prompt_weights(self.alpha, self.tau, self.noise_of_L) @ mean_loss
        for weight, atoms in self.draws:
            for examples in every:
                losses = table[:, examples].mean(axis=1)[atoms.prompt]
                for k in map(np.array, product(range(len(atoms.weight)), repeat=self.plan.policy_samples)):
                    g = np.asarray(
                        estimator(losses[k], atoms.tokens[k], self.alpha, atoms.probabilities_of(k), self.tau)
                    )
                    after = np.maximum(self.alpha - self.plan.eta_alpha * g, self.alpha_min)
                    value = prompt_weights(after, self.tau, self.noise_of_L) @ mean_loss
                    change += weight * atoms.weight[k].prod() * float(value - before) / len(every)
        return change


def descent_in_alpha(half: PolicyHalf, c: Constants, estimator: PolicyEstimator = policy_gradient) -> Inequality:
    """Descent [D1], proved for eta_alpha <= 1/L_alpha: E L(alpha+, z) - L <= -(eta/2)||grad_alpha L||^2 + alpha_noise.

    L_alpha-smoothness on the convex set {alpha >= alpha_min}: L(alpha+) <= L - eta grad L.g + (L_alpha eta^2/2)||g||^2.
    E g = grad L by [V4], under per_step also over g; E||g||^2 <= ||grad L||^2 + [V7]; -eta + L_alpha eta^2/2 <= -eta/2.
    """
    gain = half.plan.eta_alpha / 2 * float((half.gradient() ** 2).sum())
    case = f"{half.mode}, I1 = {half.plan.policy_samples}, B = {half.plan.batch}"
    return Inequality(half.mean_change(estimator), alpha_noise(c, half.plan) - gain, case)


def projected_step2(alpha: FLOAT64, gradient: FLOAT64, eta: float, alpha_min: float) -> float:
    """||(alpha - max(alpha - eta grad_alpha L, alpha_min)) / eta||^2: ||grad_alpha L||^2 where nothing is clipped."""
    return float((((alpha - np.maximum(alpha - eta * gradient, alpha_min)) / eta) ** 2).sum())


def projected_descent(half: PolicyHalf, c: Constants, estimator: PolicyEstimator = policy_gradient) -> Inequality:
    """Descent of the clipped step [D1b], proved for eta_alpha <= 1/L_alpha without [A4]:

    E L(alpha+, z) - L <= -(eta/4)||P||^2 + projected_noise, P = (alpha - max(alpha - eta grad L, alpha_min)) / eta.
    With Q = (alpha - alpha+)/eta and delta = g - grad L: Q.g >= ||Q||^2 (projection), so L(alpha+) <= L -
    (eta - L_alpha eta^2/2)||Q||^2 + eta delta.Q; delta.Q <= delta.P + ||delta||^2 (clipping is non-expansive);
    E delta.P = 0, and ||P||^2 <= 2||Q||^2 + 2||delta||^2. The noise is [V7] times (3/2) eta: larger samples lower it,
    smaller steps do not.
    """
    moved = projected_step2(half.alpha, half.gradient(), half.plan.eta_alpha, half.alpha_min)
    right = projected_noise(c, half.plan) - half.plan.eta_alpha / 4 * moved
    return Inequality(half.mean_change(estimator), right, f"{half.mode}, on the floor")


def descent_in_z(case: ZerothCase, c: Constants, plan: Plan,
                 estimator: ZerothEstimator = two_point_gradient) -> Inequality:  # fmt: skip
    """Descent [D2], proved for eta_z <= largest_eta_z: E L(alpha, z+) - L <= -(eta/4)||grad_z L||^2 + z_noise; I_2 = 1.

    -grad L.grad L_mu = ||grad L - grad L_mu||^2/2 - ||grad L||^2/2 - ||grad L_mu||^2/2; [Z3] bounds the first, and
    E||g||^2 <= ||grad L_mu||^2 + [Z5]. eta_z L_z <= 1 absorbs (L_z eta^2/2)||grad L_mu||^2 in -(eta/2)||grad L_mu||^2,
    and eta_z L_z <= K/(4(d+2)) absorbs (L_z eta^2/2)(2(d+2)/K)||grad L||^2 in half of -(eta/2)||grad L||^2.
    """
    problem, prompts = case.problem, np.arange(len(case.weight))
    examples = np.arange(problem.rows)
    before = float(case.weight @ problem.table(case.z).mean(axis=1))
    slope = case.weight @ problem.slope_table(case.z).mean(axis=1)
    plus, minus, left = case.values(+1), case.values(-1), 0.0
    every = batches(problem.rows, plan.batch)
    for batch, t, m in product(every, prompts, range(len(case.nodes.weight))):
        pair = (plus[t, m, batch].mean()[None], minus[t, m, batch].mean()[None], case.nodes.direction[m][None])
        after = case.z - plan.eta_z * np.asarray(estimator(*pair, case.mu))
        value = case.weight @ problem.of(prompts[:, None], after, examples[None]).mean(axis=1)
        left += case.weight[t] * case.nodes.weight[m] * (value - before) / len(every)
    right = z_noise(c, plan) - plan.eta_z / 4 * float(slope @ slope)
    return Inequality(float(left), right, f"{case.name}, I2 = 1, B = {plan.batch}")


def descent_on_bowls(given: Given, c: Constants, plan: Plan, name: str,
                     estimator: ZerothEstimator = two_point_gradient) -> Inequality:  # fmt: skip
    """Descent [D2] for any I_2 and noise mode, where all Hessians are the identity: second order is exact.

    E L(z+) - L = -eta grad L.E g + (eta^2/2) E||g||^2, with the moments of I_2 terms from those of one.
    """
    slopes = given[0][1].problem.slope_table(given[0][1].z).mean(axis=1)
    slope = np.asarray(sum(w * (case.weight @ slopes) for w, case in given))
    error, second = squared_error(given, plan.batch, plan.direction_pairs, plan.per_example, estimator)
    along = (second + slope @ slope - error) / 2  # E g . grad L, as grad L_mu = grad L on a quadratic
    left = float(-plan.eta_z * along + plan.eta_z**2 / 2 * second)
    right = z_noise(c, plan) - plan.eta_z / 4 * float(slope @ slope)
    return Inequality(left, right, f"{name}, I2 = {plan.direction_pairs}, B = {plan.batch}")


def progress(c: Constants, plan: Plan, alpha_slope2: FLOAT64, z_slope2: FLOAT64) -> FLOAT64:
    """Left side of [T1], a step: (eta_alpha/2)||grad_alpha L(a_t, z_t)||^2 + (eta_z/4)||grad_z L(a_{t+1}, z_t)||^2."""
    return plan.eta_alpha / 2 * alpha_slope2 + plan.eta_z / 4 * z_slope2


def average_bound(c: Constants, plan: Plan, steps: int, drop: float) -> float:
    """Right side of Theorem 1 [T1], proved: drop / T + alpha_noise + z_noise, drop = L_0 - L* (or L_0 - E L_T)."""
    return drop / steps + alpha_noise(c, plan) + z_noise(c, plan)


def projected_average_bound(c: Constants, plan: Plan, steps: int, drop: float) -> float:
    """Right side of [T1b], proved without [A4]: drop / T + projected_noise + z_noise; on its left stands (eta_alpha/4)
    ||P_t||^2, the clipped step, in the place of (eta_alpha/2)||grad_alpha L||^2."""
    return drop / steps + projected_noise(c, plan) + z_noise(c, plan)


def bowl_constants(problem: Problem, sigma2_z: float, gamma2_z: float = 0.0) -> Constants:
    """Constants of a problem that only lines in z are checked on: those in alpha are not numbers."""
    nan = float("nan")
    return Constants(problem.n, problem.n_candidates, problem.d, 1.0, nan, problem.F, nan, problem.L_z, nan, nan,
                     sigma2_z, nan, gamma2_z)  # fmt: skip


def steps_inside(largest: float, eta_alpha: float, start: FLOAT64, alpha_min: float) -> int:
    """For how many steps [A4] holds, whatever is drawn: T eta_alpha max|g_ij| <= min alpha_0 - alpha_min."""
    return int((float(np.min(start)) - alpha_min) / (eta_alpha * largest))
