"""Proposition 1, section 4: the error of the policy gradient, as reported and as proved [V7]."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zopog_ref import policy_gradient
from zopog_ref.convergence.assumptions import (
    Constants,
    batch_variance_in_alpha,
    noise_variance_in_alpha,
    policy_variance,
)
from zopog_ref.convergence.comparison import Equality, Inequality, equal
from zopog_ref.convergence.exact import (
    Atoms,
    Mode,
    Noise,
    PolicyEstimator,
    draws_of_a_step,
    policy_moments,
    prompt_atoms,
)
from zopog_ref.convergence.problems import Problem, alpha_gradient
from zopog_ref.convergence.prompt_lemmas import variance_formula
from zopog_ref.convergence.smoothing_lemmas import batches

FLOAT64 = NDArray[np.float64]
Draws = Sequence[tuple[float, Atoms]]


def proved_bound(c: Constants, samples: int, batch: int) -> float:
    """Proposition 1, proved [V7]: E||g_alpha - grad_alpha L||^2 <= sigma_g^2 / I + sigma_alpha^2 / B + gamma_alpha^2.

    gamma_alpha^2 is 0 but for one noise a half step (gumbel="per_step"), where sigma_alpha^2 is that given g.
    """
    return c.sigma2_g / samples + c.sigma2_alpha / batch + c.gamma2_alpha


def reported_bound(c: Constants, samples: int, batch: int) -> float:
    """Proposition 1, reported [V7]: 2 sigma_g^2 / I^2 + 2 sigma_alpha^2 / B, with the sigma_g of [V6]."""
    return 2 * c.sigma2_g / samples**2 + 2 * c.sigma2_alpha / batch


def mean_squared_error(atoms: Atoms, table: FLOAT64, samples: int, batch: int) -> float:
    """Exact error [V7], proved: E||g - grad L||^2 for batches drawn with replacement, in closed form.

    table (N^n, rows). [V5] is a quadratic form in the losses, so over batches its mean is its value at the mean loss
    plus 1/B times the mean of its values at the deviations f_x - E f; and grad L_B - grad L has variance
    (1/B) mean_x ||grad L_x - grad L||^2.
    """
    mean = table.mean(axis=1)
    deviations = table - mean[:, None]
    within = (
        variance_formula(atoms.weight, mean, atoms.score, samples)
        + np.mean([variance_formula(atoms.weight, x, atoms.score, samples) for x in deviations.T]) / batch
    )
    between = (alpha_gradient(atoms, deviations) ** 2).sum(axis=(1, 2)).mean() / batch
    return float(within + between)


def exact_error(problem: Problem, atoms: Atoms, z: FLOAT64, samples: int, batch: int,
                estimator: PolicyEstimator = policy_gradient) -> Equality:  # fmt: skip
    """Exact error [V7], proved: the estimator on every batch and every tuple of prompts against the closed form."""
    table = problem.table(z)
    truth = alpha_gradient(atoms, table.mean(axis=1))
    left, every = 0.0, batches(problem.rows, batch)
    for examples in every:
        m = policy_moments(estimator, atoms, table[:, examples].mean(axis=1), samples)
        left += (m.trace_covariance + float(((m.mean - truth) ** 2).sum())) / len(every)
    return equal(left, mean_squared_error(atoms, table, samples, batch), f"I = {samples}, B = {batch}")


def bounded_error(problem: Problem, atoms: Atoms, z: FLOAT64, c: Constants, samples: int, batch: int,
                  estimator: PolicyEstimator = policy_gradient) -> Inequality:  # fmt: skip
    """Proposition 1, proved [V7]: the law of total variance on [V4], [V6] and [A2]; batches independent of alpha."""
    left = exact_error(problem, atoms, z, samples, batch, estimator).left
    return Inequality(left, proved_bound(c, samples, batch), f"I = {samples}, B = {batch}")


def error_in_mode(draws: Draws, table: FLOAT64, samples: int, batch: int) -> float:
    """Exact error [V7] in a noise mode, proved: the mean over g of mean_squared_error given g, and what g adds to it.

    E_g[v_g(f) + (1/B) E_x v_g(f_x - f) + (1/B) E_x||grad L_x(g) - grad L(g)||^2] + Var_g(grad_alpha E_t[f | g]), f the
    mean over examples: the law of total variance over g. Without noise and with fresh noise for each sample there is
    one case only, and the last term is 0.
    """
    mean = table.mean(axis=1)
    within = sum(w * mean_squared_error(a, table[a.prompt], samples, batch) for w, a in draws)
    centres = np.stack([alpha_gradient(a, mean[a.prompt]) for _, a in draws])
    weight = np.array([w for w, _ in draws])
    spread = ((centres - np.tensordot(weight, centres, axes=1)) ** 2).sum(axis=(1, 2))
    return float(within + weight @ spread)


def exact_error_in_mode(draws: Draws, table: FLOAT64, samples: int, batch: int, name: str,
                        estimator: PolicyEstimator = policy_gradient) -> Equality:  # fmt: skip
    """Exact error [V7] in a noise mode, proved: every g, every batch and every tuple of prompts against the formula."""
    truth = sum(w * alpha_gradient(a, table.mean(axis=1)[a.prompt]) for w, a in draws)
    left, every = 0.0, batches(table.shape[1], batch)
    for weight, atoms in draws:
        for examples in every:
            m = policy_moments(estimator, atoms, table[:, examples].mean(axis=1)[atoms.prompt], samples)
            left += weight * (m.trace_covariance + float(((m.mean - truth) ** 2).sum())) / len(every)
    return equal(left, error_in_mode(draws, table, samples, batch), f"{name}, I = {samples}, B = {batch}")


def sharp_error(mode: Mode, noise: Noise, with_gamma: bool, a: float = 0.2) -> Inequality:
    """Proposition 1, proved [V7], where its last two terms are what is left: n = 1, N = 2, alpha = (a, a), I = 4000.

    Losses (1, 0) and (0, 1) of two examples attain sigma_alpha^2 without noise. With one noise a half step and the
    losses (0, 1) for all, Var_g(grad E_t[f | g]) = 1/(90 a^2) remains, 4000 prompts or not.
    """
    table = np.eye(2) if mode == "none" else np.array([[0.0, 0.0], [1.0, 1.0]])
    left = error_in_mode(draws_of_a_step(mode, np.full((1, 2), a), 1.0, noise), table, 4000, 1)
    sigma2_alpha = batch_variance_in_alpha(1.0, 1, 2, a, 1.0) if mode == "none" else 0.0
    gamma2 = noise_variance_in_alpha(1.0, 1, 2, a, 1.0) if with_gamma and mode == "per_step" else 0.0
    return Inequality(
        left, policy_variance(1.0, 1, 2, a, 1.0) / 4000 + sigma2_alpha + gamma2, f"{mode}, I = 4000, B = 1"
    )


def leading_coefficient(atoms: Atoms, losses: FLOAT64) -> float:
    """tr Cov(x s) of [V5], x = l - m: the coefficient of 1/I in the variance, E[x^2 ||s||^2] - ||G||^2; 0 if x s is
    the same for every prompt."""
    x = losses - atoms.weight @ losses
    xs = x[:, None, None] * atoms.score
    return float(atoms.weight @ ((xs - np.tensordot(atoms.weight, xs, axes=1)) ** 2).sum(axis=(1, 2)))


def no_leading_order(samples: int, a: float = 0.3, estimator: PolicyEstimator = policy_gradient) -> Equality:
    """Where the variance is of order 1/I^2 after all [V7]: n = 1, N = 2, alpha = (a, a), any losses; exact.

    x = +-h and s = +-(1, -1)/(2 tau a) have the same sign pattern, so x s is constant, tr Cov(x s) = 0, and by [V5]
    I (I-1) tr Cov(g) = Var(l) E||s||^2 + ||G||^2 for every I.
    """
    atoms, losses = prompt_atoms(np.full((1, 2), a)), np.array([0.2, 0.9])
    left = samples * (samples - 1) * policy_moments(estimator, atoms, losses, samples).trace_covariance
    half = 0.35
    right = half**2 * 2 / (2 * a) ** 2 + 2 * (half / (2 * a)) ** 2
    return equal(left, right, f"alpha = (a, a), I = {samples}")


def reported_at(atoms: Atoms, losses: FLOAT64, c: Constants, samples: int) -> Inequality:
    """Proposition 1, reported [V7], on the whole population: tr Cov <= 2 sigma_g^2 / I^2 ?

    By [V5] the left side is v/I + O(1/I^2), v = tr Cov(x s): for every fixed sigma_g it fails from I = 2 sigma_g^2 / v
    on, if v > 0.
    """
    left = variance_formula(atoms.weight, losses, atoms.score, samples)
    return Inequality(left, 2 * c.sigma2_g / samples**2, f"I = {samples}, the whole population as batch")


def reported_fails_from(atoms: Atoms, losses: FLOAT64, c: Constants) -> int | None:
    """The first I (a power of two) at which the reported bound fails, given the sigma_g of [V6]; None if none does.

    Only where tr Cov(x s) = 0 it never need fail: [V5] is then of order 1/I^2. Otherwise the search ends by
    I = 4 sigma_g^2 / tr Cov(x s) at the latest.
    """
    leading = leading_coefficient(atoms, losses)
    if leading <= 1e-12 * float(atoms.weight @ (losses**2 * (atoms.score**2).sum(axis=(1, 2)))):
        return None
    samples = 2
    while reported_at(atoms, losses, c, samples).holds():
        samples *= 2
    return samples
