"""Estimators as other people would write them, for zopog verify --estimator."""

import numpy as np


def official(losses, tokens, alpha, p, tau):
    """The official repository's formula, loop by loop: derivative -p/(tau alpha), (1-p)/(tau alpha) where drawn."""
    samples, n = len(losses), alpha.shape[0]
    average = sum(losses) / samples
    gradient = np.zeros_like(alpha)
    for k in range(samples):
        derivative = -p / (tau * alpha)
        for i in range(n):
            j = tokens[k][i]
            derivative[i, j] = (1 - p[i, j]) / (tau * alpha[i, j])
        gradient += 1 / (samples - 1) * (losses[k] - average) * derivative
    return gradient


def bdpl(losses, tokens, alpha, p, tau):
    """BDPL's score: +1/p for the drawn token, -1/p for every other."""
    drawn = tokens[..., None] == np.arange(alpha.shape[1])
    return np.tensordot(losses - losses.mean(), (2.0 * drawn - 1.0) / p, axes=1) / (len(losses) - 1)


def tripled(losses_plus, losses_minus, directions, mu):
    """A two-point estimate that is three times too large."""
    slope = 3 * (losses_plus - losses_minus) / (2 * mu)
    return np.tensordot(slope, directions, axes=slope.ndim) / slope.size


def sound(losses_plus, losses_minus, directions, mu):
    """A correct two-point estimate."""
    return tripled(losses_plus, losses_minus, directions, mu) / 3


def unnamed(a, b, c, d, e):
    """official, with parameters that say nothing."""
    return official(a, b, c, d, e)


def broken(losses, tokens, alpha, p, tau):
    """Raises."""
    raise RuntimeError("no")
