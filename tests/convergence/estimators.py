"""Estimators as other people would write them, for zopog verify --estimator."""

import numpy as np

from zopog_ref.policy_gradient import literal


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


def zero(losses, tokens, alpha, p, tau):
    """Nothing."""
    return np.zeros_like(alpha)


def scalar(losses, tokens, alpha, p, tau):
    """One number, which broadcasting would hide."""
    return 0.3


def nothing_returned(losses, tokens, alpha, p, tau):
    """Forgot the return."""


def overwrites(losses, tokens, alpha, p, tau):
    """The right formula, that centres the caller's losses."""
    losses -= losses.mean()
    return official(losses, tokens, alpha, p, tau)


def not_a_number(losses, tokens, alpha, p, tau):
    """Advantages over their deviation, which may be 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return official(losses / (losses - losses.mean()).std(), tokens, alpha, p, tau)


def in_float32(losses, tokens, alpha, p, tau):
    """The right formula in single precision."""
    single = np.float32
    drawn = tokens[..., None] == np.arange(alpha.shape[1])
    score = (drawn - p.astype(single)) / (single(tau) * alpha.astype(single))
    losses = losses.astype(single)
    return np.tensordot(losses - losses.mean(), score.astype(single), axes=1) / single(len(losses) - 1)


def float32_inside(losses, tokens, alpha, p, tau):
    """The same, handed back as float64."""
    return in_float32(losses, tokens, alpha, p, tau).astype(np.float64)


RANDOM = np.random.default_rng(0)


def randomised(losses, tokens, alpha, p, tau):
    """Unbiased, with noise of its own."""
    return official(losses, tokens, alpha, p, tau) * (1 + 0.5 * RANDOM.standard_normal())


def randomised_and_biased(losses, tokens, alpha, p, tau):
    """The same, half as long again."""
    return 1.5 * randomised(losses, tokens, alpha, p, tau)


def no_baseline(losses, tokens, alpha, p, tau):
    """Plain REINFORCE: unbiased, with another variance."""
    return official(losses, tokens, alpha, p, tau) * 0 + np.tensordot(
        losses, ((tokens[..., None] == np.arange(alpha.shape[1])) - p) / (tau * alpha), axes=1
    ) / len(losses)


def one_sided(losses_plus, losses_minus, directions, mu):
    """Only the plus side: unbiased for the smoothed loss, and noisy."""
    slope = losses_plus / mu
    return np.tensordot(slope, directions, axes=slope.ndim) / slope.size


def pairs_summed(losses_plus, losses_minus, directions, mu):
    """Right for one pair, twice too long for two."""
    return sound(losses_plus, losses_minus, directions, mu) * losses_plus.shape[0]


def pair_of_the_samples(losses, tokens, alpha, p, tau):
    """Two samples taken at random: unbiased, and of two samples the same up to the order of a sum."""
    k = RANDOM.permutation(len(losses))[:2]
    return literal(losses[k], tokens[k], alpha, p if p.ndim == 2 else p[k], tau)


def one_entry_negated(losses, tokens, alpha, p, tau):
    """One entry has the wrong sign."""
    return literal(losses, tokens, alpha, p, tau) * np.where(np.arange(alpha.size).reshape(alpha.shape) == 1, -1, 1)


def slightly_too_long(losses, tokens, alpha, p, tau):
    """A bias of 1e-7."""
    return literal(losses, tokens, alpha, p, tau) * (1 + 1e-7)


def constant(losses, tokens, alpha, p, tau):
    """No variance at all."""
    return np.full(alpha.shape, 0.1)


def ragged(losses, tokens, alpha, p, tau):
    """A list that is no array."""
    return [[1.0, 2.0], [3.0]]


def on_the_sphere(losses_plus, losses_minus, directions, mu):
    """d times the slope along u/|u|, times u/|u|: unbiased on quadratics, and not linear in u."""
    length = np.linalg.norm(directions, axis=-1)
    slope = (losses_plus - losses_minus) / (2 * mu * length)
    return directions.shape[-1] * np.tensordot(slope, directions / length[..., None], axes=slope.ndim) / slope.size


def signs(losses_plus, losses_minus, directions, mu):
    """sign(u) for u: sqrt(2 / pi) times the gradient."""
    return sound(losses_plus, losses_minus, np.sign(directions), mu)


def signs_scaled(losses_plus, losses_minus, directions, mu):
    """The same, repaired: unbiased on quadratics under a normal u, and under no Gauss nodes."""
    return np.sqrt(np.pi / 2) * signs(losses_plus, losses_minus, directions, mu)


def either_side(losses_plus, losses_minus, directions, mu):
    """One side of each pair, by a coin."""
    if RANDOM.random() < 0.5:
        return one_sided(losses_plus, losses_minus, directions, mu)
    return one_sided(losses_minus, losses_plus, -directions, mu)


def divides_by_length(losses_plus, losses_minus, directions, mu):
    """Not a number at u = 0, which is never drawn."""
    length = np.linalg.norm(directions, axis=-1, keepdims=True)
    return sound(losses_plus, losses_minus, directions / length * length, mu)
