"""The lines on the continuous prompt, section 3.3: [Z1] to [Z5].

Expectations over u ~ N(0, I_d) are Gauss-Hermite sums (exact on quadratics), over prompts and batches plain sums: the
estimator is called once for everything its inputs can be.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from zopog_ref.convergence.comparison import Equality, Inequality, equal, worst
from zopog_ref.convergence.exact import (
    Moments,
    Nodes,
    ZerothEstimator,
    log_prompt_probability,
    normal_nodes,
)
from zopog_ref.convergence.problems import GaussianWells, Kink, Problem
from zopog_ref.convergence.sharp_problems import half_range_nodes
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]


@dataclass(frozen=True)
class ZerothCase:
    """A problem at (alpha, z) with smoothing radius mu, and nodes for u."""

    name: str
    problem: Problem
    weight: FLOAT64  # (N^n,) probability of each prompt
    z: FLOAT64  # (d,)
    mu: float
    nodes: Nodes

    def values(self, sign: int) -> FLOAT64:
        """f(t, z + sign mu u; x) of every prompt, node and example: (N^n, M, rows)."""
        points = self.z + sign * self.mu * self.nodes.direction  # (M, d)
        prompts, examples = np.arange(len(self.weight)), np.arange(self.problem.rows)
        return self.problem.of(prompts[:, None, None], points[None, :, None], examples[None, None, :])


def zeroth_case(name: str, problem: Problem, alpha: FLOAT64, z: FLOAT64, mu: float, nodes: int) -> ZerothCase:
    """A case with nodes^d Gauss-Hermite nodes, prompts drawn from alpha without noise (tau = 1)."""
    weight = np.exp(log_prompt_probability(problem.prompts, alpha, 1.0)).real
    return ZerothCase(name, problem, weight, z, mu, normal_nodes(problem.d, nodes))


def batches(rows: int, batch_size: int) -> INT64:
    """Every mini-batch drawn with replacement, all equally likely: (rows^B, B)."""
    if rows == 1:
        return np.zeros((1, batch_size), np.int64)
    return np.indices((rows,) * batch_size).reshape(batch_size, -1).T


def shared_moments(case: ZerothCase, batch: INT64, pairs: int, estimator: ZerothEstimator) -> Moments:
    """Exact mean and variance, given the batch, of the estimate [Z1] with I_2 = pairs fresh (t, u) each."""
    plus, minus = case.values(+1)[..., batch].mean(axis=-1), case.values(-1)[..., batch].mean(axis=-1)  # (N^n, M)
    weight = (case.weight[:, None] * case.nodes.weight).ravel()
    u = np.tile(case.nodes.direction, (len(case.weight), 1))
    plus, minus = plus.ravel(), minus.ravel()
    mean, second = np.zeros(case.problem.d), 0.0
    for k in map(np.array, product(range(len(weight)), repeat=pairs)):
        w = weight[k].prod()
        g = np.asarray(estimator(plus[k], minus[k], u[k], case.mu))
        mean += w * g
        second += w * float(g @ g)
    return Moments(mean, second - float(mean @ mean))


def per_example_moments(case: ZerothCase, batch: INT64, estimator: ZerothEstimator) -> Moments:
    """Exact mean and variance, given the batch, of [Z1b] with I_2 = 1: one t, and a direction for each example."""
    plus, minus = case.values(+1), case.values(-1)  # (N^n, M, rows)
    mean, second = np.zeros(case.problem.d), 0.0
    for t, k in product(range(len(case.weight)), product(range(len(case.nodes.weight)), repeat=len(batch))):
        m = np.array(k)
        w = case.weight[t] * case.nodes.weight[m].prod()
        pair = plus[t, m, batch][None], minus[t, m, batch][None]  # (1, B) each
        g = np.asarray(estimator(*pair, case.nodes.direction[m][None], case.mu))
        mean += w * g
        second += w * float(g @ g)
    return Moments(mean, second - float(mean @ mean))


def two_point_formula(rng: np.random.Generator, per_example: bool,
                      estimator: ZerothEstimator = two_point_gradient) -> Equality:  # fmt: skip
    """Two-point estimate [Z1], [Z1b], reported: (1/K) sum_k u_k (l_k+ - l_k-) / (2 mu), one term at a time."""
    found = []
    for _ in range(10):
        shape = (3, 4) if per_example else (5,)
        plus, minus, mu = rng.random(shape), rng.random(shape), rng.uniform(0.01, 1)
        u = rng.standard_normal((*shape, 3))
        right = sum(u[k] * (plus[k] - minus[k]) / (2 * mu) for k in np.ndindex(shape)) / plus.size
        found.append(equal(estimator(plus, minus, u, mu), right))
    return worst(found)


def smoothed_gradient(case: ZerothCase) -> FLOAT64:
    """grad_z L_mu in closed form: of a quadratic the gradient itself, of wells that of wider wells."""
    if isinstance(case.problem, GaussianWells):
        return np.asarray(case.weight @ case.problem.smoothed_slope_table(case.z, case.mu).mean(axis=1))
    return np.asarray(case.weight @ case.problem.slope_table(case.z).mean(axis=1))


def stein_identity(case: ZerothCase, estimator: ZerothEstimator = two_point_gradient) -> Equality:
    """Unbiased for the smoothed loss [Z2], proved: E g_z = grad_z L_mu, L_mu(z) = E_u L(z + mu u).

    grad E_u h(z + mu u) = E[u h(z + mu u)] / mu by parts, and u -> -u gives the other half of the pair.
    """
    left = shared_moments(case, np.arange(case.problem.rows), 1, estimator).mean
    return equal(left, smoothed_gradient(case), case.name)


def no_bias_on_quadratics(case: ZerothCase, estimator: ZerothEstimator = two_point_gradient) -> Equality:
    """Bias [Z3], proved: 0 on a quadratic, whatever mu: E g_z = grad_z L."""
    left = shared_moments(case, np.arange(case.problem.rows), 1, estimator).mean
    return equal(left, case.weight @ case.problem.slope_table(case.z).mean(axis=1), case.name)


def bias_bound(case: ZerothCase, estimator: ZerothEstimator = two_point_gradient) -> Inequality:
    """Bias [Z3], proved: ||grad L_mu - grad L|| <= mu L_z sqrt(d).

    grad L_mu - grad L = E_u[grad L(z + mu u) - grad L(z)], of norm at most L_z mu E||u|| <= L_z mu sqrt(d).
    """
    problem = case.problem
    mean = shared_moments(case, np.arange(problem.rows), 1, estimator).mean
    bias = mean - case.weight @ problem.slope_table(case.z).mean(axis=1)
    return Inequality(float(np.linalg.norm(bias)), case.mu * problem.L_z * np.sqrt(problem.d), case.name)


def bias_bound_smooth_hessian(case: ZerothCase, estimator: ZerothEstimator = two_point_gradient) -> Inequality:
    """Bias [Z3], proved: ||grad L_mu - grad L|| <= rho mu^2 d / 2 when the Hessian is rho-Lipschitz.

    The first-order term mu H u of grad L(z + mu u) - grad L(z) has mean 0; the rest is at most rho mu^2 ||u||^2 / 2.
    """
    problem = case.problem
    left = bias_bound(case, estimator).left
    return Inequality(left, problem.rho * case.mu**2 * problem.d / 2, case.name)


def kink_bias(mu: float, d: int, estimator: ZerothEstimator = two_point_gradient) -> Equality:
    """Bias [Z3]: at the kink of ||max(z, 0)||^2 / 2 it is mu / sqrt(2 pi) a coordinate, sqrt(1/(2 pi)) of the bound.

    The coordinates separate, and in one dimension E u (f(mu u) - f(-mu u)) / (2 mu) = mu E|u|^3 / 4 = mu / sqrt(2 pi).
    The estimator is called on Gauss-Legendre nodes at both sides of the kink.
    """
    case = ZerothCase("kink", Kink(1), np.ones(1), np.zeros(1), mu, half_range_nodes())
    one = shared_moments(case, np.zeros(1, np.int64), 1, estimator).mean[0]
    return equal(np.sqrt(d) * one, mu * np.sqrt(d / (2 * np.pi)), f"d = {d}, mu = {mu:.2g}")


def measured_bias(case: ZerothCase, estimator: ZerothEstimator = two_point_gradient) -> float:
    """||E g_z - grad L|| of an estimator, over all prompts and nodes, the batch being all examples."""
    mean = shared_moments(case, np.arange(case.problem.rows), 1, estimator).mean
    return float(np.linalg.norm(mean - case.weight @ case.problem.slope_table(case.z).mean(axis=1)))


def second_moment_on_quadratics(case: ZerothCase, estimator: ZerothEstimator = two_point_gradient) -> Equality:
    """Second moment of one sample [Z4], proved, exact on quadratics: E||g||^2 = (d + 2) ||grad h||^2, h = l_B(t, .).

    The symmetric difference of a quadratic is 2 mu a.u, a = grad h, and E (a.u)^2 ||u||^2 = (d + 2) ||a||^2.
    """
    problem = case.problem
    every = np.arange(problem.rows)
    left = _second_moment(case, every, estimator)
    slope = problem.slope_table(case.z).mean(axis=1)  # (N^n, d)
    return equal(left, (problem.d + 2) * case.weight @ (slope**2).sum(axis=-1), case.name)


def _second_moment(case: ZerothCase, batch: INT64, estimator: ZerothEstimator) -> float:
    moments = shared_moments(case, batch, 1, estimator)
    return moments.trace_covariance + float(moments.mean @ moments.mean)


def curvature_term(mu: float, L_z: float, d: int) -> float:
    """(mu^2 L_z^2 / 2) d (d+2) (d+4): the part of [Z4] that vanishes with mu; E||u||^6 = d (d+2) (d+4)."""
    return mu**2 * L_z**2 / 2 * d * (d + 2) * (d + 4)


def second_moment_bound(case: ZerothCase, estimator: ZerothEstimator = two_point_gradient) -> Inequality:
    """Second moment [Z4], proved: E||g||^2 <= 2(d+2) ||grad h||^2 + (mu^2 L_z^2 / 2) d (d+2) (d+4).

    |h(z+mu u) - h(z-mu u) - 2 mu a.u| <= mu^2 L_z ||u||^2, so the slope is at most |a.u| + mu L_z ||u||^2 / 2, its
    square at most 2 (a.u)^2 + mu^2 L_z^2 ||u||^4 / 2; multiply by ||u||^2. Needs h itself to be L_z-smooth, not only L.
    """
    problem = case.problem
    left = _second_moment(case, np.arange(problem.rows), estimator)
    slope = case.weight @ (problem.slope_table(case.z).mean(axis=1) ** 2).sum(axis=-1)
    return Inequality(left, 2 * (problem.d + 2) * slope + curvature_term(case.mu, problem.L_z, problem.d), case.name)


def _slope_statistics(case: ZerothCase, batch: INT64) -> tuple[float, float, float, float]:
    """E_t||grad l_B||^2, E_t mean_b||grad f_b||^2, ||E_t grad l_B||^2, tr Cov_t(grad l_B) for a batch."""
    slopes = case.problem.slope_table(case.z)[:, batch]  # (N^n, B, d)
    of_batch = slopes.mean(axis=1)
    each = float(case.weight @ (slopes**2).sum(axis=-1).mean(axis=1))
    together = float(case.weight @ (of_batch**2).sum(axis=-1))
    mean2 = float(((case.weight @ of_batch) ** 2).sum())
    return together, each, mean2, together - mean2


def exact_variance_shared(case: ZerothCase, batch: INT64, pairs: int,
                          estimator: ZerothEstimator = two_point_gradient) -> Equality:  # fmt: skip
    """Variance given the batch [Z5], proved, on quadratics exactly ((d+2) E_t||grad l_B||^2 - ||grad L_B||^2) / I_2."""
    together, _, mean2, _ = _slope_statistics(case, batch)
    left = shared_moments(case, batch, pairs, estimator).trace_covariance
    return equal(left, ((case.problem.d + 2) * together - mean2) / pairs, f"{case.name}, I2 = {pairs}")


def exact_variance_per_example(case: ZerothCase, batch: INT64,
                               estimator: ZerothEstimator = two_point_gradient) -> Equality:  # fmt: skip
    """Variance given the batch with a direction for each example [Z5b], proved, exact on quadratics, I_2 = 1:

    (d+1)/B mean_b E_t||grad f_b||^2 + tr Cov_t(grad l_B). Given t the B terms are independent, each of variance
    E||u u.a||^2 - ||a||^2 = (d+1) ||a||^2. [Z5] has (d+1) E_t||grad l_B||^2 there. Over random batches, with v the
    variance of grad f_x given t and m its mean, that is (d+1)(||m||^2 + v/B) against (d+1)(||m||^2 + v)/B: the gain
    lies between 1 (v large) and B (v = 0). Given one batch whose slopes cancel, shared directions can be better.
    """
    _, each, _, across = _slope_statistics(case, batch)
    left = per_example_moments(case, batch, estimator).trace_covariance
    return equal(left, (case.problem.d + 1) * each / len(batch) + across, f"{case.name}, B = {len(batch)}")


def variance_bound_shared(d: int, slope2: float, sigma2_z: float, mu: float, L_z: float, pairs: int,
                          batch: int) -> float:  # fmt: skip
    """Right-hand side of [Z5]: (1/I_2)[2(d+2)(||grad L||^2 + sigma_z^2) + (mu^2 L_z^2/2) d(d+2)(d+4)] + sigma_z^2 / B.

    Given the batch, [Z4] with E||grad l_B(t)||^2 = ||grad L||^2 + E||grad l_B(t) - grad L||^2, the last <= sigma_z^2;
    over batches, grad L_{B,mu} = E_u grad L_B(z + mu u), whose variance is at most E_u of the one at z + mu u: [A2]
    is needed at every z, not only along the run. This is the line for gumbel="none" and "per_sample"; under "per_step"
    the I_2 terms are independent only given g, and gamma_z^2 has to be added (noise_in_z.variance_bound_in_mode).
    """
    return (2 * (d + 2) * (slope2 + sigma2_z) + curvature_term(mu, L_z, d)) / pairs + sigma2_z / batch


def variance_bound_per_example(d: int, slope2: float, sigma2_z: float, mu: float, L_z: float, pairs: int,
                               batch: int) -> float:  # fmt: skip
    """Right-hand side of [Z5b], proved: (1/(I_2 B))[the bracket of Z5] + sigma_z^2 / I_2 + sigma_z^2 / B."""
    bracket = 2 * (d + 2) * (slope2 + sigma2_z) + curvature_term(mu, L_z, d)
    return bracket / (pairs * batch) + sigma2_z / pairs + sigma2_z / batch


def variance_bound(case: ZerothCase, batch_size: int, per_example: bool, sigma2_z: float,
                   estimator: ZerothEstimator = two_point_gradient) -> Inequality:  # fmt: skip
    """Variance [Z5], [Z5b], proved: E||g_z - grad L_mu||^2 <= the bound; every batch, prompt and direction, I_2 = 1."""
    smoothed, left = smoothed_gradient(case), 0.0
    every = batches(case.problem.rows, batch_size)
    for batch in every:
        one = per_example_moments(case, batch, estimator) if per_example else shared_moments(case, batch, 1, estimator)
        left += (one.trace_covariance + float(((one.mean - smoothed) ** 2).sum())) / len(every)
    slope2 = float(((case.weight @ case.problem.slope_table(case.z).mean(axis=1)) ** 2).sum())
    bound = variance_bound_per_example if per_example else variance_bound_shared
    right = bound(case.problem.d, slope2, sigma2_z, case.mu, case.problem.L_z, 1, batch_size)
    return Inequality(left, right, f"{case.name}, B = {batch_size}")
