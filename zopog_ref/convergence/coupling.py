"""What [T1] gains when a draw serves two half steps: one mini-batch for both [T1-shared], one noise for two [T1-reuse].

Algorithm 1 queries both halves on one mini-batch, so that alpha+ has seen the batch of the zeroth-order half. The
official order draws g after a policy half and uses it for the zeroth-order half and for the next policy half, so that
z+ has seen the g of that half. Each costs a term, and each term is needed: two exact examples say so. A fresh
mini-batch and a fresh noise for each half step remove both and cost no call.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from zopog_ref import policy_gradient
from zopog_ref.convergence.assumptions import Constants, batch_variance_in_alpha, slope_bound
from zopog_ref.convergence.comparison import Inequality
from zopog_ref.convergence.exact import (
    Noise,
    PolicyEstimator,
    ZerothEstimator,
    normal_nodes,
    policy_moments,
    prompt_atoms,
)
from zopog_ref.convergence.problems import alpha_gradient
from zopog_ref.convergence.sharp_problems import CoupledSines
from zopog_ref.convergence.smoothing_lemmas import curvature_term
from zopog_ref.convergence.theorem import Plan, alpha_noise, z_noise
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]


def gradient2_in_alpha(c: Constants) -> float:
    """A^2 = F^2/4 n (1 - 1/N) / (tau alpha_min)^2 bounds ||grad_alpha E_t[f | g]||^2, for every f in [0, F] and g."""
    return batch_variance_in_alpha(c.F, c.n, c.n_candidates, c.alpha_min, c.tau)


def mixed_smoothness(c: Constants) -> float:
    """L_za = S / (sqrt 2 tau alpha_min), S^2 = L_z F: how fast grad_z E_t f moves with alpha, grad_alpha E_t f with z.

    For unit a and v with ||grad_z f|| <= S: |E_t[(v.grad_z f)(a.s)]| <= S (E(a.s)^2)^(1/2), and E(a.s)^2 <=
    1 / (2 tau^2 alpha_min^2) as in L_alpha.
    """
    return float(np.sqrt(slope_bound(c.F, c.L_z)) / (np.sqrt(2) * c.tau * c.alpha_min))


def step2_in_alpha(c: Constants, plan: Plan) -> float:
    """G^2 = A^2 + sigma_g^2/I_1 + sigma_alpha^2/B bounds E||g_alpha||^2 in every noise mode."""
    return gradient2_in_alpha(c) + c.sigma2_g / plan.policy_samples + c.sigma2_alpha / plan.batch


def batch_deviation(c: Constants, batch: int) -> float:
    """m with E max_t ||grad_z l_B(t) - grad_z f(t)||^2 <= m^2: m = S min(2, (1 + sqrt(2 + 2 n ln N)) / sqrt B).

    Given t the deviation is a mean of B independent centred vectors; its length has a mean of at most S/sqrt B. Another
    draw of one example moves it by at most 2 S/B, so it exceeds S/sqrt B by x with probability at most
    exp(-B x^2 / (2 S^2)) (McDiarmid). A union over N^n prompts bounds the second moment of the largest excess by
    (S^2/B)(2 + 2 n ln N).
    """
    spread = (1 + np.sqrt(2 + 2 * c.n * np.log(c.n_candidates))) / np.sqrt(batch)
    return float(np.sqrt(slope_bound(c.F, c.L_z)) * min(2.0, spread))


def shared_batch_term(c: Constants, plan: Plan) -> float:
    """What [T1] gains when both halves use one mini-batch, as Algorithm 1 does, proved, and vanishing as B grows:

    2 eta_alpha eta_z L_za G m (1 + L_z eta_z) + (L_z eta_z^2/2) [(2(d+2)/K)(2 S m + m^2) + 2 gamma_z m + m^2], m of
    batch_deviation. For e_B = grad_z L_{B,mu} - grad_z L_mu: at every alpha it is an average over t, so ||e_B|| <= M,
    E M^2 <= m^2, and it moves with alpha at most at the rate M / (sqrt 2 tau alpha_min). As E e_B(alpha_t) = 0,
    E grad L(a+).e_B(a+) = E (grad L(a+) - grad L(a)).e_B(a+) + E grad L(a).(e_B(a+) - e_B(a)) is at most
    2 L_za E[||a+ - a|| M] <= 2 L_za eta_alpha G m. The rest is what M adds to the second moment of g_z. Per-example
    directions have (2 sigma_z m + m^2)/I_2 more in the bracket: the variance over t that [Z5b] has is that of l_B.
    """
    S, m = np.sqrt(slope_bound(c.F, c.L_z)), batch_deviation(c, plan.batch)
    first_order = 2 * plan.eta_alpha * plan.eta_z * mixed_smoothness(c) * np.sqrt(step2_in_alpha(c, plan)) * m
    more = 2 * (c.d + 2) / plan.directions * (2 * S * m + m**2) + 2 * np.sqrt(c.gamma2_z) * m + m**2
    if plan.per_example:
        more += (2 * np.sqrt(c.sigma2_z) * m + m**2) / plan.direction_pairs
    return float(first_order * (1 + c.L_z * plan.eta_z) + c.L_z * plan.eta_z**2 / 2 * more)


def reused_noise_term(c: Constants, plan: Plan) -> float:
    """What [T1] gains when the g of a zeroth-order half serves the next policy half too, the official order, proved:

    4 eta_alpha eta_z A L_za G_z + (L_alpha eta_alpha^2 / 2) A^2, G_z^2 = 2(d+2) S^2 + the curvature of [Z4]. With
    delta(z, g) = grad_alpha E_t[f | g] - grad_alpha L at z, ||delta|| <= 2A, and E delta(z, g) = 0 at the z from before
    the half: E grad L(z+).delta(z+) = E (grad L(z+) - grad L(z)).delta(z+) + E grad L(z).(delta(z+) - delta(z)) is at
    most 4 A L_za eta_z E||g_z||. Whatever z+ has seen, E||g_alpha||^2 <= sigma_g^2/I_1 + A^2, as l_B lies in [0, F].
    """
    A2 = gradient2_in_alpha(c)
    G_z = np.sqrt(2 * (c.d + 2) * slope_bound(c.F, c.L_z) + curvature_term(plan.mu, c.L_z, c.d))
    first_order = 4 * plan.eta_alpha * plan.eta_z * np.sqrt(A2) * mixed_smoothness(c) * G_z
    return float(first_order + c.L_alpha * plan.eta_alpha**2 / 2 * A2)


def _sines_constants(problem: CoupledSines, alpha_min: float, L_alpha: float) -> Constants:
    F, slope2 = problem.F, (problem.A + problem.s) ** 2
    A2 = batch_variance_in_alpha(F, problem.n, 2, alpha_min, 1.0)
    return Constants(problem.n, 2, 1, 1.0, alpha_min, F, L_alpha, problem.L_z, 5 * A2, A2, slope2, A2, slope2)


def one_batch_example(shared: bool, with_term: bool, policy: PolicyEstimator = policy_gradient,
                      zeroth: ZerothEstimator = two_point_gradient) -> Inequality:  # fmt: skip
    """[T1] for one step with one mini-batch, where it is false without the further term, exactly: B = 1, I_1 = 2.

    Each of two examples prefers a token, and has the slope A - s on it and -A - s on the other. L does not depend on
    alpha (L_alpha = 0) and its slope is -s. The policy half of a batch moves alpha to that example's token, where the
    same batch reports a slope near A - s: z climbs. With a fresh batch for the second half the line holds as it is.
    """
    problem = CoupledSines(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, -1.0], [-1.0, 1.0]]), 1.0, 0.1)
    alpha, z = np.full((1, 2), 0.5), np.zeros(1)
    c = _sines_constants(problem, 0.1, 0.0)
    plan = Plan(0.4, 0.004 / c.L_z, 1e-3, 2, 1, 1)
    atoms, table, nodes, change = prompt_atoms(alpha), problem.table(z), normal_nodes(1, 8), 0.0
    before = atoms.weight @ table.mean(axis=1)
    for first, k in product(range(2), product(range(2), repeat=2)):
        chosen = np.array(k)
        g = np.asarray(policy(table[chosen, first], atoms.tokens[chosen], alpha, atoms.p, 1.0))
        after = np.maximum(alpha - plan.eta_alpha * g, c.alpha_min)
        new = prompt_atoms(after).weight
        for second in (first,) if shared else range(2):
            for t, (w, u) in product(range(2), zip(*nodes)):
                of = (np.array(t), np.array(second))
                values = [problem.of(of[0], z + sign * plan.mu * u, of[1])[None] for sign in (1, -1)]
                moved = z - plan.eta_z * np.asarray(zeroth(values[0], values[1], u[None], plan.mu))
                weight = 0.5 * atoms.weight[chosen].prod() * new[t] * w * (1.0 if shared else 0.5)
                change += weight * float(new @ problem.table(moved).mean(axis=1) - before)
    left = float(plan.eta_z / 4 * problem.s**2)  # grad_alpha L = 0, and the slope of L is -s at every alpha
    right = -change + alpha_noise(c, plan) + z_noise(c, plan) + (shared_batch_term(c, plan) if with_term else 0.0)
    return Inequality(left, right, f"one step, {'one batch' if shared else 'a fresh batch'} for the second half")


def reused_noise_example(noise: Noise, reused: bool, with_term: bool,
                         policy: PolicyEstimator = policy_gradient) -> Inequality:  # fmt: skip
    """[D1] over eta_alpha, as eta_alpha -> 0, where z has seen the g of the policy half: false without its term.

    -E grad L(z+).g_alpha <= -(1/2) E||grad_alpha L(z+)||^2 + term. Two positions, N = 2, slopes 1 and -1 by the second
    token where the first is 0, and none elsewhere; the first token 0 costs 0.03 more. grad_alpha L nearly vanishes,
    while its value given g and the step of z that has seen g are correlated: the policy half climbs in the mean. Exact:
    every g (N = 2), every pair of prompts, and for z+ the mean of the zeroth-order half given g.
    """
    alpha, z, eta_z = np.array([[0.2, 0.2], [1.0, 1.0]]), np.zeros(1), 0.5
    sign = np.array([[1.0], [-1.0], [0.0], [0.0]])
    problem = CoupledSines(np.array([[0.03], [0.03], [0.0], [0.0]]), sign, 1.0, 0.0, n=2)
    c = _sines_constants(problem, 0.1, 2 * problem.F / 0.1**2)
    plan = Plan(1e-12 / c.L_alpha, eta_z, 0.01, 2, 1, 1)
    given, left, slope2 = [prompt_atoms(alpha, 1.0, g) for g in noise.gumbel], 0.0, 0.0
    for weight, atoms in zip(noise.weight, given):
        end = z - eta_z * (atoms.weight @ problem.slope_table(z).mean(axis=1))
        losses = problem.table(end).mean(axis=1)
        slope = sum(w * alpha_gradient(a, losses) for w, a in zip(noise.weight, given))
        mean = policy_moments(policy, atoms, losses, 2).mean if reused else slope
        left -= weight * float((slope * mean).sum())
        slope2 += weight * float((slope**2).sum())
    right = alpha_noise(c, plan) + (reused_noise_term(c, plan) if with_term else 0.0)
    return Inequality(left, right / plan.eta_alpha - slope2 / 2, "the g of the half before" if reused else "a fresh g")
