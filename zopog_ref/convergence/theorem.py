"""Convergence, section 4: descent of each half step [D1], [D2], Theorem 1 [T1], and the complexity [C1].

All proved here from [A1] to [A4], for batches that are drawn afresh for each half step, independently of (alpha, z).
Algorithm 1 uses one mini-batch for both halves: alpha+ then depends on the batch of the zeroth-order half, whose
estimate is no longer centred at grad_z L_mu(alpha+, z). What that costs is shared_batch_term.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from zopog_ref import policy_gradient
from zopog_ref.convergence.assumptions import Constants, slope_bound
from zopog_ref.convergence.comparison import Inequality
from zopog_ref.convergence.exact import Atoms, PolicyEstimator, ZerothEstimator, log_prompt_probability
from zopog_ref.convergence.problems import Problem, exact_gradients
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


def largest_eta_alpha(c: Constants) -> float:
    """Step size of [D1]: eta_alpha <= 1 / L_alpha."""
    return 1 / c.L_alpha


def largest_eta_z(c: Constants, direction_pairs: int) -> float:
    """Step size of [D2]: eta_z <= min(1, I_2 / (4 (d + 2))) / L_z."""
    return min(1.0, direction_pairs / (4 * (c.d + 2))) / c.L_z


def alpha_noise(c: Constants, plan: Plan) -> float:
    """Noise of [D1]: (L_alpha eta_alpha^2 / 2)(sigma_g^2 / I_1 + sigma_alpha^2 / B)."""
    return c.L_alpha * plan.eta_alpha**2 / 2 * (c.sigma2_g / plan.policy_samples + c.sigma2_alpha / plan.batch)


def z_noise(c: Constants, plan: Plan) -> float:
    """Noise of [D2]: (eta_z/2) mu^2 L_z^2 d + (L_z eta_z^2/2) V, with

    V = 2(d+2) sigma_z^2/I_2 + sigma_z^2/B + (mu^2 L_z^2/(2 I_2)) d(d+2)(d+4)."""
    bias = plan.eta_z / 2 * plan.mu**2 * c.L_z**2 * c.d
    variance = 2 * (c.d + 2) * c.sigma2_z / plan.direction_pairs + c.sigma2_z / plan.batch
    variance += curvature_term(plan.mu, c.L_z, c.d) / plan.direction_pairs
    return bias + c.L_z * plan.eta_z**2 / 2 * variance


def descent_in_alpha(problem: Problem, atoms: Atoms, z: FLOAT64, c: Constants, plan: Plan,
                     estimator: PolicyEstimator = policy_gradient) -> Inequality:  # fmt: skip
    """Descent [D1], proved for eta_alpha <= 1/L_alpha: E L(alpha+, z) - L <= -(eta/2)||grad_alpha L||^2 + alpha_noise.

    L_alpha-smoothness on the convex set {alpha >= alpha_min}: L(alpha+) <= L - eta grad L.g + (L_alpha eta^2/2)||g||^2.
    E g = grad L by [V4], E||g||^2 <= ||grad L||^2 + [V7], and -eta + L_alpha eta^2/2 <= -eta/2. The left side is exact:
    every batch, every tuple of prompts, L by enumeration.
    """
    table, before = problem.table(z), exact_gradients(problem, atoms.alpha, z, atoms.tau)
    mean_loss, left = table.mean(axis=1), 0.0
    every = batches(problem.rows, plan.batch)
    for examples in every:
        losses = table[:, examples].mean(axis=1)
        for k in map(np.array, product(range(len(atoms.weight)), repeat=plan.policy_samples)):
            g = np.asarray(estimator(losses[k], atoms.tokens[k], atoms.alpha, atoms.p, atoms.tau))
            after = np.maximum(atoms.alpha - plan.eta_alpha * g, c.alpha_min)
            value = np.exp(log_prompt_probability(problem.prompts, after, atoms.tau)) @ mean_loss
            left += atoms.weight[k].prod() * float(value - before.value) / len(every)
    gain = plan.eta_alpha / 2 * float((before.alpha**2).sum())
    return Inequality(left, alpha_noise(c, plan) - gain, f"I1 = {plan.policy_samples}, B = {plan.batch}")


def descent_in_z(case: ZerothCase, c: Constants, plan: Plan,
                 estimator: ZerothEstimator = two_point_gradient) -> Inequality:  # fmt: skip
    """Descent [D2], proved for eta_z <= largest_eta_z: E L(alpha, z+) - L <= -(eta/4)||grad_z L||^2 + z_noise; I_2 = 1.

    -grad L.grad L_mu = ||grad L - grad L_mu||^2/2 - ||grad L||^2/2 - ||grad L_mu||^2/2; [Z3] bounds the first, and
    E||g||^2 <= ||grad L_mu||^2 + [Z5]. eta_z L_z <= 1 absorbs (L_z eta^2/2)||grad L_mu||^2 in -(eta/2)||grad L_mu||^2,
    and eta_z L_z <= I_2/(4(d+2)) absorbs (L_z eta^2/2)(2(d+2)/I_2)||grad L||^2 in half of -(eta/2)||grad L||^2.
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
    return Inequality(float(left), right, f"I2 = 1, B = {plan.batch}")


def progress(c: Constants, plan: Plan, alpha_slope2: FLOAT64, z_slope2: FLOAT64) -> FLOAT64:
    """Left side of [T1], a step: (eta_alpha/2)||grad_alpha L(a_t, z_t)||^2 + (eta_z/4)||grad_z L(a_{t+1}, z_t)||^2."""
    return plan.eta_alpha / 2 * alpha_slope2 + plan.eta_z / 4 * z_slope2


def average_bound(c: Constants, plan: Plan, steps: int, drop: float) -> float:
    """Right side of Theorem 1 [T1], proved: drop / T + alpha_noise + z_noise, drop = L_0 - L* (or L_0 - E L_T)."""
    return drop / steps + alpha_noise(c, plan) + z_noise(c, plan)


def shared_batch_term(c: Constants, plan: Plan) -> float:
    """What [T1] gains when both halves use one mini-batch, as Algorithm 1 does, proved:

    4 eta_alpha eta_z S L_za G + (L_z eta_z^2/2) (2(d+2)/I_2 + 1) S^2. Here S^2 = L_z F bounds ||grad_z f||^2;
    L_za = S / (sqrt 2 tau alpha_min) is how fast E_t of a vector of norm S moves with alpha; and
    G^2 = sigma_alpha^2 + sigma_g^2/I_1 + sigma_alpha^2/B bounds E||g_alpha||^2 (sigma_alpha^2 bounds ||grad_alpha L||^2
    too). With e_B = grad_z L_{B,mu} - grad_z L_mu, of norm at most 2S, and E e_B(alpha_t) = 0, the inner product
    E grad L(a+).e_B(a+) = E (grad L(a+) - grad L(a)).e_B(a+) + E grad L(a).(e_B(a+) - e_B(a))
    is at most (L_za 2S + S 2 L_za) E||a+ - a||. The second moment is bounded by S^2 outright.
    """
    S = np.sqrt(slope_bound(c.F, c.L_z))
    L_za = S / (np.sqrt(2) * c.tau * c.alpha_min)
    G = np.sqrt(c.sigma2_alpha + c.sigma2_g / plan.policy_samples + c.sigma2_alpha / plan.batch)
    first_order = 4 * plan.eta_alpha * plan.eta_z * S * L_za * G
    return float(first_order + c.L_z * plan.eta_z**2 / 2 * (2 * (c.d + 2) / plan.direction_pairs + 1) * S**2)


@dataclass(frozen=True)
class Complexity:
    """Sizes for an eps-stationary point and their product, total prompt evaluations T (I_1 + 2 I_2)."""

    epsilon: float
    steps: float
    policy_samples: float
    direction_pairs: float
    batch: float
    mu: float

    @property
    def evaluations(self) -> float:
        """T (I_1 + 2 I_2): prompts evaluated, each on a mini-batch."""
        return self.steps * (self.policy_samples + 2 * self.direction_pairs)


def complexity(c: Constants, drop: float, epsilon: float) -> Complexity:
    """Complexity [C1], proved: sizes for which [T1] gives mean(||grad_alpha L||^2 + ||grad_z L||^2) <= eps^2.

    eta_alpha = 1/L_alpha and eta_z = 1/L_z with I_2 >= 4(d+2). Divide [T1] by eta = min(eta_alpha/2, eta_z/4) and give
    each of its terms at most eps^2/8: eight terms at most, T = O(1/eps^2), I_1 = O(sigma_g^2/eps^2),
    I_2 = O(d + d sigma_z^2/eps^2), B = O((sigma_alpha^2 + sigma_z^2)/eps^2), mu = O(eps / (L_z d)).
    """
    eta_alpha, eta_z = 1 / c.L_alpha, 1 / c.L_z
    share = min(eta_alpha / 2, eta_z / 4) * epsilon**2 / 8  # what each term of T1 may be
    I_1 = max(2.0, eta_alpha / 2 * c.sigma2_g / share)
    I_2 = max(4.0 * (c.d + 2), eta_z * (c.d + 2) * c.sigma2_z / share)
    B = max(1.0, eta_alpha / 2 * c.sigma2_alpha / share, eta_z / 2 * c.sigma2_z / share)
    by_bias = np.sqrt(2 * share / (eta_z * c.L_z**2 * c.d))
    by_variance = np.sqrt(4 * I_2 * share / (eta_z * c.L_z**2 * c.d * (c.d + 2) * (c.d + 4)))
    return Complexity(epsilon, drop / share, I_1, I_2, B, float(min(by_bias, by_variance)))


def reported_evaluations(n: int, n_candidates: int, epsilon: float) -> float:
    """Complexity [C1], reported, up to a constant: O(sqrt(n kappa) / eps^3), which needs the 1/I^2 of the reported
    Proposition 1 (I = O(sqrt(n kappa) sigma_g / eps))."""
    return float(np.sqrt(n * n_candidates) / epsilon**3)
