"""Pairs that feed both halves [J1] to [J4]: K prompts with M antithetic pairs each, for the policy half as well.

    h_k = (1/M) sum_m (l(t^k, z + mu u_km) + l(t^k, z - mu u_km)) / 2    is what the policy gradient sees of prompt k
    g_z = the two-point estimate over all K M pairs

No call is spent on the policy half alone. docs/zo-pog.md says what became of it.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from zopog_ref import policy_gradient
from zopog_ref.convergence.comparison import Equality, Inequality, equal
from zopog_ref.convergence.exact import (
    ARRAY,
    Atoms,
    Moments,
    PolicyEstimator,
    ZerothEstimator,
    differentiate,
    log_prompt_probability,
    policy_moments,
    prompt_atoms,
)
from zopog_ref.convergence.problems import GaussianWells, TableQuadratic
from zopog_ref.convergence.prompt_lemmas import PolicyCase, variance_formula
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, smoothed_gradient, zeroth_case
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]


@dataclass(frozen=True)
class JointCase:
    """A zeroth-order case with the distribution of its prompts: K prompts (tau = 1, no noise), M pairs for each."""

    zeroth: ZerothCase
    atoms: Atoms
    prompts: int  # K
    pairs: int  # M

    @property
    def name(self) -> str:
        """The problem, K and M."""
        return f"{self.zeroth.name}, K = {self.prompts}, M = {self.pairs}"


def joint_case(name: str, problem: GaussianWells | TableQuadratic, alpha: FLOAT64, z: FLOAT64, mu: float, nodes: int,
               prompts: int, pairs: int) -> JointCase:  # fmt: skip
    """A case on a problem, whose mini-batch is all of its examples."""
    return JointCase(zeroth_case(name, problem, alpha, z, mu, nodes), prompt_atoms(alpha), prompts, pairs)


def joint_moments(case: JointCase, policy: PolicyEstimator = policy_gradient,
                  zeroth: ZerothEstimator = two_point_gradient) -> tuple[Moments, Moments]:  # fmt: skip
    """Exact mean and variance of both estimates from the same calls: everything that K prompts and K M pairs can be."""
    c, a, K, M = case.zeroth, case.atoms, case.prompts, case.pairs
    plus, minus = (c.values(sign).mean(axis=-1) for sign in (1, -1))  # (N^n, nodes)
    drawn = [(t, *m) for t in range(len(c.weight)) for m in product(range(len(c.nodes.weight)), repeat=M)]
    likely = np.array([c.weight[t] * c.nodes.weight[list(m)].prod() for t, *m in drawn])
    sums = {"alpha": np.zeros(a.alpha.shape), "z": np.zeros(c.problem.d)}
    seconds = {"alpha": 0.0, "z": 0.0}
    for k in map(list, product(range(len(drawn)), repeat=K)):
        chosen = np.array([drawn[i] for i in k])  # (K, 1 + M)
        t, m = chosen[:, :1], chosen[:, 1:]
        weight, both = likely[k].prod(), (plus[t, m], minus[t, m])  # (K, M) each
        losses = (both[0] + both[1]).mean(axis=1) / 2
        tokens = a.tokens[t[:, 0]]
        u = c.nodes.direction[m].reshape(K * M, -1)
        found = {
            "alpha": np.asarray(policy(losses, tokens, a.alpha, a.p, a.tau)),
            "z": np.asarray(zeroth(both[0].ravel(), both[1].ravel(), u, c.mu)),
        }
        for name, g in found.items():
            sums[name] += weight * g
            seconds[name] += weight * float((g * g).sum())
    of_alpha, of_z = (Moments(sums[name], seconds[name] - float((sums[name] ** 2).sum())) for name in ("alpha", "z"))
    return of_alpha, of_z


def smoothed_losses(case: JointCase) -> FLOAT64:
    """E_u l(t, z + mu u) of every prompt in closed form, over all examples. (N^n,)."""
    c, problem = case.zeroth, case.zeroth.problem
    if isinstance(problem, GaussianWells):
        wide = problem.s**2 + c.mu**2
        x = c.z - problem.w
        share = (problem.s**2 / wide) ** (problem.d / 2) * np.exp(-(x**2).sum(axis=-1) / (2 * wide))
        return np.asarray(problem.F * (1 - share).mean(axis=1))
    assert isinstance(problem, TableQuadratic)
    return problem.table(c.z).mean(axis=1) + c.mu**2 / 2 * np.trace(problem.H)


def unbiased_in_alpha(case: JointCase, policy: PolicyEstimator = policy_gradient) -> Equality:
    """Unbiased for the smoothed objective [J1], proved: E g_alpha = grad_alpha L_mu, L_mu = E_t E_u l(t, z + mu u).

    (h_k, s^k) are independent and alike, E[h_k | t^k] = l_mu(t^k), E s = 0: the proof of [V4] asks for no more.
    """
    left, smoothed, a = joint_moments(case, policy)[0].mean, smoothed_losses(case), case.atoms

    def objective(x: ARRAY) -> ARRAY:
        return np.asarray(np.exp(log_prompt_probability(a.tokens, x, a.tau)) @ smoothed)

    return equal(left, differentiate(objective, a.alpha), case.name)


def unbiased_in_z(case: JointCase, zeroth: ZerothEstimator = two_point_gradient) -> Equality:
    """Unbiased for the smoothed objective [J1], proved: E g_z = grad_z L_mu.

    Every (t^k, u_km) has the distribution that [Z2] asks for; that M of them share t^k does not matter to a mean. With
    the line in alpha: (g_alpha, g_z) is an unbiased estimate of the whole gradient of one function, L_mu.
    """
    return equal(joint_moments(case, zeroth=zeroth)[1].mean, smoothed_gradient(case.zeroth), case.name)


def variance_in_alpha(case: JointCase, policy: PolicyEstimator = policy_gradient) -> Equality:
    """Variance in alpha [J2], proved, exact: [V5] of l_mu with I = K, and w/M for what a pair's mean varies by:

    tr Cov(g_alpha) = [V5](l_mu, K) + (1/(K M)) E[w ||s||^2] + (1/(K(K-1) M)) E w E||s||^2,
    w(t) = Var_u((l(t, z + mu u) + l(t, z - mu u))/2). The proof of [V5] with h for l: E[(h - m)^2 | t] =
    (l_mu - m)^2 + w/M. On a quadratic w = mu^4 tr(H^2)/2, of every prompt: the surplus is w E||s||^2 / (M (K-1)).
    """
    a, K = case.atoms, case.prompts
    H = case.zeroth.problem.H  # type: ignore[attr-defined]
    w = case.zeroth.mu**4 * np.trace(H @ H) / 2
    scores = float(a.weight @ (a.score**2).sum(axis=(1, 2)))
    right = variance_formula(a.weight, smoothed_losses(case), a.score, K) + w * scores / (case.pairs * (K - 1))
    return equal(joint_moments(case, policy)[0].trace_covariance, right, case.name)


def variance_in_z(case: JointCase, zeroth: ZerothEstimator = two_point_gradient) -> Equality:
    """Variance in z [J3], proved, exact on quadratics: (d+1) E_t||grad l||^2 / (K M) + tr Cov_t(grad l) / K.

    Given the prompts the K M terms are independent, of variance E||u (u.a)||^2 - ||a||^2 = (d+1) ||a||^2, where
    a = grad l(t); then the K means vary with the prompts. M = 1 is the exact [Z5]. Pairs that share a prompt do not
    lower the second term, and one prompt for good (K = 1, all of its weight) has none.
    """
    c = case.zeroth
    slopes = c.problem.slope_table(c.z).mean(axis=1)  # (N^n, d)
    second = float(c.weight @ (slopes**2).sum(axis=-1))
    between = second - float(((c.weight @ slopes) ** 2).sum())
    right = (c.problem.d + 1) * second / (case.prompts * case.pairs) + between / case.prompts
    return equal(joint_moments(case, zeroth=zeroth)[1].trace_covariance, right, case.name)


def signal_bound(case: PolicyCase, samples: int, policy: PolicyEstimator = policy_gradient) -> Inequality:
    """What tokens can be learned from I samples [J4], proved: ||grad_alpha E l||^2 <= Var(l) / min p.

    For tau = 1 and p = alpha, G_ij = E[l - m | t_i = j]. The main effects of independent positions are orthogonal, so
    sum_ij p_ij G_ij^2 <= Var(l) (Bessel), and ||G||^2 <= Var(l) / min p. At p = 1/N that is N Var(l), while [V5] is
    Var(l) n N (N-1) / (I-1) less a part of ||G||^2: signal over noise is at most about (I-1) / (n (N-1)).
    """
    a = case.atoms
    mean = policy_moments(policy, a, case.losses, samples).mean
    variance = float(a.weight @ (case.losses - a.weight @ case.losses) ** 2)
    return Inequality(float((mean**2).sum()), variance / float(a.p.min()), case.name)
