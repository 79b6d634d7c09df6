"""Assumptions 1 to 4 of section 4 as functions with named constants, and what follows from what.

[A1] L(., z) is L_alpha-smooth on {alpha >= alpha_min}, and every f(t, . ; x) is L_z-smooth. (Smoothness of L alone is
     not enough: [Z4] and [Z5] use the smoothness of the losses that are queried.)
[A2] E_x ||grad_alpha E_t f(t, z; x) - grad_alpha L||^2 <= sigma_alpha^2 and
     E_{t,x} ||grad_z f(t, z; x) - grad_z L||^2 <= sigma_z^2, at every alpha >= alpha_min and every z.
     With one Gumbel noise for a half step (gumbel="per_step") sigma_alpha^2 is taken given g, and two more constants
     stand beside them: gamma_alpha^2 >= Var_g(grad_alpha E_t[f | g]) and gamma_z^2 >= Var_g(grad_z E_t[f_mu | g]), f
     averaged over the examples. Both are 0 without noise and with fresh noise for each sample.
[A3] 0 <= f <= F.
[A4] alpha_ij >= alpha_min along the run, so that clipping is inactive.

Proved here: with [A3] and [A4], the alpha halves of [A1] and [A2] hold with explicit constants; with [A1] and [A3] the
z half of [A2] does. What a user has to assume is: bounded losses, smooth in z, and alpha away from 0. [A4] itself holds
for as many steps as [A4]'s bound on a step allows, and the projected lines [D1b], [T1b] do without it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zopog_ref.convergence.comparison import Inequality, tightest
from zopog_ref.convergence.exact import log_prompt_probability, prompt_atoms
from zopog_ref.convergence.problems import GaussianWells, Problem, alpha_gradient, exact_gradients, random_alpha

FLOAT64 = NDArray[np.float64]


@dataclass(frozen=True)
class Constants:
    """The constants of section 4, for n positions, N candidates, dimension d. Variances are squared: sigma2_*."""

    n: int
    n_candidates: int
    d: int
    tau: float
    alpha_min: float
    F: float
    L_alpha: float
    L_z: float
    sigma2_g: float
    sigma2_alpha: float
    sigma2_z: float
    gamma2_alpha: float = 0.0  # variance over g that one noise a half step adds, [G2]
    gamma2_z: float = 0.0  # the same in z, [G4]


def smoothness_in_alpha(F: float, alpha_min: float, tau: float) -> float:
    """Smoothness of L(., z) [A1]: L_alpha = F (1 + tau) / (2 tau^2 alpha_min^2), free of n and N.

    The Hessian is E[(f - F/2)(s s^T + grad s)] as E[s s^T + grad s] = 0, and |f - F/2| <= F/2. For a unit v,
    E (v.s)^2 <= 1 / (2 tau^2 alpha_min^2), since positions are independent and diag(p) - p p^T has no eigenvalue above
    1/2. The blocks of grad s are -diag((1{t=j} - p_j) / (tau alpha_j^2)), of norm <= 1 / (tau alpha_min^2), and
    -diag(1/alpha)(diag(p) - p p^T)diag(1/alpha) / tau^2, of norm <= 1 / (2 tau^2 alpha_min^2). Half F times the sum.
    Averaging over Gumbel noise keeps the bound.
    """
    return F * (1 + tau) / (2 * tau**2 * alpha_min**2)


def score_moment_bound(n: int, n_candidates: int, alpha_min: float, tau: float) -> float:
    """Sum of [S3] over positions: E ||s||^2 <= n (1 - 1/N) / (tau alpha_min)^2."""
    return n * (1 - 1 / n_candidates) / (tau * alpha_min) ** 2


def batch_variance_in_alpha(F: float, n: int, n_candidates: int, alpha_min: float, tau: float) -> float:
    """sigma_alpha^2 of [A2] from [A3] and [A4]: F^2/4 n (1 - 1/N) / (tau alpha_min)^2 = sigma_g^2 / 5.

    grad_alpha E_t (f_x - E_x f) = E_t[(f_x - E_x f) s], so by Cauchy-Schwarz its square is at most
    E_t (f_x - E_x f)^2 E||s||^2; over x, E_x (f_x - E_x f)^2 <= F^2/4 for every t (Popoviciu).
    """
    return F**2 / 4 * score_moment_bound(n, n_candidates, alpha_min, tau)


def slope_bound(F: float, L_z: float) -> float:
    """max ||grad_z f||^2 <= L_z F for an L_z-smooth f in [0, F]; hence sigma_z^2 <= L_z F in [A2].

    0 <= f(z - grad f / L_z) <= f - ||grad f||^2 / (2 L_z), and the same for F - f: ||grad f||^2 <= 2 L_z min(f, F - f).
    """
    return L_z * F


def policy_variance(F: float, n: int, n_candidates: int, alpha_min: float, tau: float) -> float:
    """sigma_g^2 of [V6]: (5/4) F^2 n (1 - 1/N) / (tau alpha_min)^2."""
    return 1.25 * F**2 * score_moment_bound(n, n_candidates, alpha_min, tau)


def noise_variance_in_alpha(F: float, n: int, n_candidates: int, alpha_min: float, tau: float) -> float:
    """gamma_alpha^2 of [A2] from [A3] and [A4], one noise a half step: also F^2/4 n (1 - 1/N)/(tau alpha_min)^2.

    Var_g(X) <= E_g ||X||^2 for X = grad_alpha E_t[f - F/2 | g] = E_t[(f - F/2) s | g], and Cauchy-Schwarz as above.
    """
    return (F / 2) ** 2 * score_moment_bound(n, n_candidates, alpha_min, tau)


def largest_step_in_alpha(F: float, samples: int, alpha_min: float, tau: float, fresh: bool = False) -> float:
    """|g_ij| of a policy gradient, for [A4]: at most F I / (4 (I-1) tau alpha_min), whatever is drawn.

    By [V3] g_ij = sum_{k in A} (l_k - mean l) / ((I-1) tau alpha_ij), A the m samples with token j at i; the sum is
    (1 - m/I) sum_A l - (m/I) sum_rest l, at most F m (I-m)/I <= F I/4 in size, and attained at m = I/2. With fresh
    noise for each sample [V3] does not hold; |s_ij| <= 1/(tau alpha_min) and sum_k |l_k - mean l| <= F I/2 give twice
    that. So alpha >= alpha_min for T steps, surely, when T eta_alpha times this is at most min alpha_0 - alpha_min.
    """
    return (2 if fresh else 1) * F * samples / (4 * (samples - 1) * tau * alpha_min)


def constants(problem: Problem, alpha_min: float, tau: float = 1.0, one_noise: bool = False) -> Constants:
    """All constants of [A1] to [A3] that hold on {alpha >= alpha_min} and every z, for a bounded problem.

    one_noise: the samples of a half step share one Gumbel noise (gumbel="per_step"), so that gamma_alpha and gamma_z
    are not 0; gamma_z^2 <= sigma_z^2 because a mean given g has the smaller variance.
    """
    n, n_candidates, F = problem.n, problem.n_candidates, problem.F
    if not np.isfinite(F):
        raise ValueError(f"{type(problem).__name__} has unbounded losses: [A3] fails and these constants do not exist")
    slope = problem.largest_slope**2 if isinstance(problem, GaussianWells) else slope_bound(F, problem.L_z)
    of_noise = noise_variance_in_alpha(F, n, n_candidates, alpha_min, tau)
    return Constants(
        n, n_candidates, problem.d, tau, alpha_min, F,
        gamma2_alpha=one_noise * of_noise, gamma2_z=one_noise * slope,
        L_alpha=smoothness_in_alpha(F, alpha_min, tau), L_z=problem.L_z,
        sigma2_g=policy_variance(F, n, n_candidates, alpha_min, tau),
        sigma2_alpha=batch_variance_in_alpha(F, n, n_candidates, alpha_min, tau), sigma2_z=slope,
    )  # fmt: skip


def observed_smoothness_in_alpha(problem: Problem, alpha_min: float, tau: float, rng: np.random.Generator,
                                 points: int) -> Inequality:  # fmt: skip
    """Smoothness of L(., z) [A1]: ||grad L(a) - grad L(b)|| / ||a - b|| <= L_alpha, for close pairs near the floor."""
    found = []
    bound = smoothness_in_alpha(problem.F, alpha_min, tau)
    for _ in range(points):
        a = alpha_min * (1 + rng.exponential(0.3, (problem.n, problem.n_candidates)))
        b = np.maximum(a + 0.01 * alpha_min * rng.standard_normal(a.shape), alpha_min)
        z = rng.standard_normal(problem.d)
        change = exact_gradients(problem, a, z, tau).alpha - exact_gradients(problem, b, z, tau).alpha
        found.append(Inequality(float(np.linalg.norm(change) / np.linalg.norm(a - b)), bound, f"tau = {tau}"))
    return tightest(found)


def observed_smoothness_in_z(problem: Problem, rng: np.random.Generator, points: int) -> Inequality:
    """Smoothness of every f(t, . ; x) [A1]: ||grad f(z) - grad f(z')|| / ||z - z'|| <= L_z, for pairs of all sizes."""
    found = []
    prompt, examples = np.indices((len(problem.prompts), problem.rows)).reshape(2, -1)
    for distance in np.geomspace(1e-3, 3, points):
        z = problem.w[prompt, examples] if hasattr(problem, "w") else np.zeros(problem.d)  # the bottom of each well
        step = rng.standard_normal((len(prompt), problem.d))
        step *= distance / np.linalg.norm(step, axis=-1, keepdims=True)
        change = problem.slope_of(prompt, z + step, examples) - problem.slope_of(prompt, z, examples)
        quotient = float((np.linalg.norm(change, axis=-1) / distance).max())
        found.append(Inequality(quotient, problem.L_z, type(problem).__name__))
    return tightest(found)


def observed_batch_variance(problem: Problem, alpha_min: float, tau: float, rng: np.random.Generator,
                            points: int) -> tuple[Inequality, Inequality]:  # fmt: skip
    """Bounded variance [A2], exact at random (alpha, z): sigma_alpha^2 and sigma_z^2 against their bounds."""
    c = constants(problem, alpha_min, tau)
    in_alpha, in_z = [], []
    for _ in range(points):
        alpha = np.maximum(random_alpha(rng, problem.n, problem.n_candidates), alpha_min)
        alpha = alpha_min * (1 + (alpha / alpha.max()) ** 3)
        z = rng.standard_normal(problem.d)
        in_alpha.append(Inequality(variance_over_examples(problem, alpha, z, tau), c.sigma2_alpha))
        in_z.append(Inequality(variance_of_slopes(problem, alpha, z, tau), c.sigma2_z))
    return tightest(in_alpha), tightest(in_z)


def variance_over_examples(problem: Problem, alpha: FLOAT64, z: FLOAT64, tau: float) -> float:
    """sigma_alpha^2 at a point, exactly: E_x ||grad_alpha E_t f(t, z; x) - grad_alpha L||^2."""
    per_example = alpha_gradient(prompt_atoms(alpha, tau), problem.table(z))  # (rows, n, N)
    return float(((per_example - per_example.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean())


def variance_of_slopes(problem: Problem, alpha: FLOAT64, z: FLOAT64, tau: float) -> float:
    """sigma_z^2 at a point, exactly: E_{t,x} ||grad_z f(t, z; x) - grad_z L||^2."""
    weight = np.exp(log_prompt_probability(problem.prompts, alpha, tau)).real
    slopes = problem.slope_table(z)  # (N^n, rows, d)
    mean = weight @ slopes.mean(axis=1)
    return float(weight @ ((slopes - mean) ** 2).sum(axis=-1).mean(axis=1))


def sharp_smoothness_in_alpha(tau: float, alpha_min: float = 0.2) -> Inequality:
    """Smoothness of L(., z) [A1] where it is nearly reached: n = 1, N = 2, losses 0 and F = 1, in closed form.

    L = p_2 has the Hessian p(1-p)/tau [(1-2p)/tau d d^T - diag(-1/a_1^2, 1/a_2^2)], d = (-1/a_1, 1/a_2), p = p_2. At
    a_1 = a_2 its norm is 1/(4 tau a^2); for small tau, p_2 = 0.211 with a_2 on the floor gives 0.19/(tau a)^2.
    """
    first = max(1.0, 3.732**tau) if tau < 0.5 else 1.0
    a = alpha_min * np.array([first, 1.0])
    p = 1 / (1 + (a[0] / a[1]) ** (1 / tau))
    d = np.array([-1 / a[0], 1 / a[1]])
    hessian = p * (1 - p) / tau * ((1 - 2 * p) / tau * np.outer(d, d) - np.diag([-1 / a[0] ** 2, 1 / a[1] ** 2]))
    left = float(np.abs(np.linalg.eigvalsh(hessian)).max())
    return Inequality(left, smoothness_in_alpha(1.0, alpha_min, tau), f"two tokens, tau = {tau:g}")


def sharp_batch_variance(tau: float = 0.7, a: float = 0.2) -> Inequality:
    """sigma_alpha^2 of [A2] where it is attained: n = 1, N = 2, alpha = (a, a), examples with losses (1,0), (0,1)."""
    per_example = alpha_gradient(prompt_atoms(np.full((1, 2), a), tau), np.eye(2))
    spread = float(((per_example - per_example.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean())
    return Inequality(spread, batch_variance_in_alpha(1.0, 1, 2, a, tau), "two tokens, opposite examples: attained")


def observed_losses(problem: Problem, rng: np.random.Generator, points: int) -> tuple[Inequality, Inequality]:
    """Bounded loss [A3]: 0 <= f (as -min f <= 0) and max f <= F, over all prompts and examples at random z."""
    tables = [problem.table(scale * rng.standard_normal(problem.d)) for scale in np.geomspace(0.1, 10, points)]
    smallest, largest = min(float(t.min()) for t in tables), max(float(t.max()) for t in tables)
    return Inequality(max(-smallest, 0.0), 0.0), Inequality(largest, problem.F)


def observed_lower_bound(smallest_alpha: float, alpha_min: float) -> Inequality:
    """Lower-bounded parameters [A4]: alpha_min <= the smallest alpha of a run whose clipping floor is far below."""
    return Inequality(alpha_min, smallest_alpha, "smallest alpha of the run on the right")
