"""Proposition 1, section 4: the error of the policy gradient, as reported and as proved [V7]."""

import numpy as np
from numpy.typing import NDArray

from zopog_ref import policy_gradient
from zopog_ref.convergence.assumptions import Constants
from zopog_ref.convergence.comparison import Equality, Inequality, equal
from zopog_ref.convergence.exact import Atoms, PolicyEstimator, policy_moments
from zopog_ref.convergence.problems import Problem, alpha_gradient
from zopog_ref.convergence.prompt_lemmas import variance_formula
from zopog_ref.convergence.smoothing_lemmas import batches

FLOAT64 = NDArray[np.float64]


def proved_bound(c: Constants, samples: int, batch: int) -> float:
    """Proposition 1, proved [V7]: E||g_alpha - grad_alpha L||^2 <= sigma_g^2 / I + sigma_alpha^2 / B."""
    return c.sigma2_g / samples + c.sigma2_alpha / batch


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


def reported_at(atoms: Atoms, losses: FLOAT64, c: Constants, samples: int) -> Inequality:
    """Proposition 1, reported [V7], on the whole population: tr Cov <= 2 sigma_g^2 / I^2 ?

    By [V5] the left side is v/I + O(1/I^2) with v > 0, so for every fixed sigma_g it fails once I > 2 sigma_g^2 / v.
    """
    left = variance_formula(atoms.weight, losses, atoms.score, samples)
    return Inequality(left, 2 * c.sigma2_g / samples**2, f"I = {samples}, the whole population as batch")


def reported_fails_from(atoms: Atoms, losses: FLOAT64, c: Constants) -> int:
    """The first I (a power of two) at which the reported bound fails, given the sigma_g of [V6]."""
    samples = 2
    while reported_at(atoms, losses, c, samples).holds():
        samples *= 2
    return samples
