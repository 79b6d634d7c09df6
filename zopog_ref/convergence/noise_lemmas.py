"""The lines on Gumbel noise, section 3.2: its marginal [G1], one noise for a step [G2], noise reused [G3].

With fresh noise for each sample (gumbel="per_sample") the pairs (g^k, t^k) are independent and [S1] to [V7] hold with
expectations over (g, t): noisy_atoms. With one noise for a step they hold given g, and these lines say what is added.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zopog_ref import distribution, policy_gradient
from zopog_ref.convergence.comparison import Equality, equal
from zopog_ref.convergence.exact import (
    Nodes,
    Noise,
    PolicyEstimator,
    ZerothEstimator,
    noisy_atoms,
    normal_nodes,
    policy_moments,
    prompt_atoms,
)
from zopog_ref.convergence.problems import GaussianWells
from zopog_ref.convergence.prompt_lemmas import variance_formula
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]


def noisy_marginal(alpha: FLOAT64, noise: Noise,
                   probabilities: Callable[..., FLOAT64] = distribution.probabilities) -> Equality:  # fmt: skip
    """Gumbel noise [G1], proved for N = 2, tau = 1: E_g p_i1 = r (c - log r) / c^2, r = alpha_1/alpha_2, c = r - 1.

    g_1 - g_2 = log(u/(1-u)) with u uniform, so p = r u / (1 + c u), and the integral over u is elementary. It lies
    nearer to 1/2 than alpha_1/(alpha_1 + alpha_2): sampling t from the noisy p is not the Gumbel-max trick.
    """
    p = np.tensordot(noise.weight, probabilities(alpha, 1.0, noise.gumbel), axes=1)[:, 0]
    r = alpha[:, 0] / alpha[:, 1]
    return equal(p, r * (r - 1 - np.log(r)) / (r - 1) ** 2)


def per_step_excess(alpha: FLOAT64, tau: float, noise: Noise, losses: FLOAT64) -> float:
    """Var_g(grad_alpha E_t[l | g]) of [G2]: what gumbel="per_step" adds, whatever I and B. losses (N^n,)."""
    conditional = np.stack([
        np.tensordot(a.weight * losses, a.score, axes=1) for a in (prompt_atoms(alpha, tau, g) for g in noise.gumbel)
    ])  # fmt: skip
    mean = np.tensordot(noise.weight, conditional, axes=1)
    return float(noise.weight @ ((conditional - mean) ** 2).sum(axis=(1, 2)))


def per_step_variance(alpha: FLOAT64, tau: float, noise: Noise, losses: FLOAT64, samples: int,
                      estimator: PolicyEstimator = policy_gradient) -> Equality:  # fmt: skip
    """One noise for all samples of a step [G2], proved: tr Cov(g) = E_g[V5 given g] + Var_g(grad_alpha E_t[l | g])."""
    given = [prompt_atoms(alpha, tau, g) for g in noise.gumbel]
    moments = [policy_moments(estimator, a, losses, samples) for a in given]
    mean = np.tensordot(noise.weight, np.stack([m.mean for m in moments]), axes=1)
    second = noise.weight @ np.array([m.trace_covariance + (m.mean**2).sum() for m in moments])
    within = noise.weight @ np.array([variance_formula(a.weight, losses, a.score, samples) for a in given])
    return equal(second - (mean**2).sum(), within + per_step_excess(alpha, tau, noise, losses), f"I = {samples}")


def reuse_bias(problem: GaussianWells, alpha: FLOAT64, z: FLOAT64, noise: Noise, eta_z: float, mu: float, nodes: Nodes,
               estimator: ZerothEstimator = two_point_gradient) -> FLOAT64:  # fmt: skip
    """Noise reused across half steps [G3], proved for the official order: the policy gradient is off by O(eta_z).

    There the g of a zeroth-order half serves the next policy half too: z+ = z - eta_z g_z(g) has seen g, and
    E grad_alpha E_t[l(t, z+) | g] differs from E grad_alpha L(alpha, z+). Exact, I_2 = 1, over g, t and u.
    Returns the difference (n, N).
    """
    given, off = [prompt_atoms(alpha, 1.0, g) for g in noise.gumbel], np.zeros(alpha.shape)
    ends = np.empty((len(given[0].weight), len(nodes.weight), len(z)))  # z+ of each prompt and direction
    for t, m in product(*map(range, ends.shape[:2])):
        u = nodes.direction[m]
        plus, minus = (problem.table(z + sign * mu * u)[t].mean()[None] for sign in (1, -1))
        ends[t, m] = z - eta_z * np.asarray(estimator(plus, minus, u[None], mu))
    tables = np.array([[problem.table(end).mean(axis=1) for end in row] for row in ends])  # (N^n, M, N^n)
    marginal = sum(w * a.weight for w, a in zip(noise.weight, given))
    of_each = [np.einsum("tmk,kij->tmij", tables * a.weight, a.score) for a in given]
    mean = sum(w * x for w, x in zip(noise.weight, of_each))
    for weight, atoms, own in zip(noise.weight, given, of_each):
        off += weight * np.einsum("t,m,tmij->ij", atoms.weight, nodes.weight, own)
    return np.asarray(off - np.einsum("t,m,tmij->ij", marginal, nodes.weight, mean))


def reuse_bias_in_the_limit(problem: GaussianWells, alpha: FLOAT64, z: FLOAT64, noise: Noise, eta_z: float,
                            estimator: ZerothEstimator = two_point_gradient) -> Equality:  # fmt: skip
    """Noise reused across half steps [G3], proved, its first order: the bias over eta_z is, as eta_z -> 0,

    -Cov over g of grad_alpha E_t[v.grad_z l | g] with v = grad_z E_t[l_mu | g], the mean of g_z given g: sum over both
    gs of -(E_t[(v(g).grad_z f) s | g] - E_g' E_t[(v(g).grad_z f) s | g']). Exact up to the next order in eta_z.
    """
    mu = 0.1
    bias = reuse_bias(problem, alpha, z, noise, eta_z, mu, normal_nodes(len(z), 8), estimator)
    given = [prompt_atoms(alpha, 1.0, g) for g in noise.gumbel]
    slopes, smoothed = problem.slope_table(z).mean(axis=1), problem.smoothed_slope_table(z, mu).mean(axis=1)
    limit = np.zeros(alpha.shape)
    for weight, atoms in zip(noise.weight, given):
        along = slopes @ (atoms.weight @ smoothed)  # v.grad_z f of every prompt
        seen = [np.tensordot(a.weight * along, a.score, axes=1) for a in given]
        own = np.tensordot(atoms.weight * along, atoms.score, axes=1)
        limit -= weight * (own - sum(w * x for w, x in zip(noise.weight, seen)))
    size, gap = float(np.linalg.norm(limit)), float(np.abs(bias / eta_z - limit).max())
    left = float(np.linalg.norm(bias)) / eta_z
    return Equality(left, size, gap, 1e-4 * size, True, f"eta_z = {eta_z:g}")


class ModeStatistics(NamedTuple):
    """What a mode of noise gives at a point: ||grad_alpha L||^2 of its own objective, and tr Cov of the estimate."""

    gradient2: float
    variance: float


def mode_statistics(alpha: FLOAT64, noise: Noise, problems: FLOAT64, samples: int) -> dict[str, list[ModeStatistics]]:
    """Signal and variance [G2] of the three modes at one alpha (tau = 1, N = 2), exactly. problems (m, 2^n): losses."""
    plain, fresh = prompt_atoms(alpha), noisy_atoms(alpha, 1.0, noise)
    given = [prompt_atoms(alpha, 1.0, g) for g in noise.gumbel]
    found: dict[str, list[ModeStatistics]] = {"none": [], "per_sample": [], "per_step": []}
    for losses in problems:
        every = losses[fresh.prompt]
        gradient = np.tensordot(plain.weight * losses, plain.score, axes=1)
        of_each = np.stack([np.tensordot(a.weight * losses, a.score, axes=1) for a in given])  # (Q, n, N)
        mean = np.tensordot(noise.weight, of_each, axes=1)
        excess = noise.weight @ ((of_each - mean) ** 2).sum(axis=(1, 2))
        within = noise.weight @ np.array([variance_formula(a.weight, losses, a.score, samples) for a in given])
        noisy = float((mean**2).sum())
        alone = variance_formula(plain.weight, losses, plain.score, samples)
        found["none"].append(ModeStatistics(float((gradient**2).sum()), alone))
        found["per_sample"].append(ModeStatistics(noisy, variance_formula(fresh.weight, every, fresh.score, samples)))
        found["per_step"].append(ModeStatistics(noisy, float(within + excess)))
    return found
