"""Estimators broken on purpose, and the table which rows of zopog verify kill each (|z| > 10, or a bound broken).

A row that is not listed for a mutant is blind to it, and the test says so if that changes: dropping the baseline, for
one, leaves the estimate unbiased [V4] and is caught by its variance [V5].
"""

from dataclasses import replace

import numpy as np

from zopog_ref.convergence.theorem import alpha_noise
from zopog_ref.distribution import probabilities, score
from zopog_ref.policy_gradient import collapsed, literal


def one_over_I(losses, tokens, alpha, p, tau):
    """1/I in place of 1/(I-1)."""
    return literal(losses, tokens, alpha, p, tau) * (len(losses) - 1) / len(losses)


def no_baseline(losses, tokens, alpha, p, tau):
    """Plain REINFORCE."""
    return np.tensordot(losses, score(tokens, alpha, p, tau), axes=1) / len(losses)


def no_baseline_minus_one(losses, tokens, alpha, p, tau):
    """The baseline dropped, the 1/(I-1) kept."""
    return np.tensordot(losses, score(tokens, alpha, p, tau), axes=1) / (len(losses) - 1)


def advantages_over_deviation(losses, tokens, alpha, p, tau):
    """Advantages divided by their standard deviation, as some reinforcement learning does."""
    return literal(losses / losses.std() if losses.std() > 0 else losses, tokens, alpha, p, tau)


def tau_forgotten(losses, tokens, alpha, p, tau):
    """No 1/tau in the score."""
    return literal(losses, tokens, alpha, p, 1.0)


def alpha_forgotten(losses, tokens, alpha, p, tau):
    """The score with respect to log alpha."""
    return literal(losses, tokens, alpha, p, tau) * alpha


def scatter_with_fresh_noise(losses, tokens, alpha, p, tau):
    """The collapsed form also where each sample has its own p."""
    return collapsed(losses, tokens, alpha, np.broadcast_to(p, (len(losses), *alpha.shape))[0], tau)


def noise_reused(losses, tokens, alpha, p, tau):
    """The first sample's p for all samples."""
    return literal(losses, tokens, alpha, p[0] if p.ndim == 3 else p, tau)


def ascent(losses, tokens, alpha, p, tau):
    """The wrong sign."""
    return -literal(losses, tokens, alpha, p, tau)


def losses_shifted(losses, tokens, alpha, p, tau):
    """Each loss with the next sample's score."""
    return literal(np.roll(losses, 1), tokens, alpha, p, tau)


def bdpl(losses, tokens, alpha, p, tau):
    """BDPL's score as coded: +1/p for the drawn token, -1/p for every other."""
    drawn = tokens[..., None] == np.arange(alpha.shape[1])
    return np.tensordot(losses - losses.mean(), (2.0 * drawn - 1.0) / p, axes=1) / (len(losses) - 1)


def summed(losses, tokens, alpha, p, tau):
    """A sum where the mean belongs."""
    return literal(losses, tokens, alpha, p, tau) * (len(losses) - 1)


POLICY = {
    one_over_I: {
        "V1",
        "V4",
        "V5",
        "V4-paper",
        "V5-paper",
        "V7-exact",
        "G2",
        "V7-exception",
        "V7-noise",
        "J1-alpha",
        "J2",
    },
    no_baseline: {"V1", "V5", "V5-paper", "V7-exact", "G2", "V7-exception", "V7-noise", "J2"},
    no_baseline_minus_one: {
        "V1",
        "V4",
        "V5",
        "V5-paper",
        "V7-exact",
        "G2",
        "V7-exception",
        "V7-noise",
        "J1-alpha",
        "J2",
        "J4",
    },
    advantages_over_deviation: {
        "V1",
        "V4",
        "V5",
        "V4-paper",
        "V5-paper",
        "V7-exact",
        "G2",
        "D1",
        "V7-exception",
        "V7-noise",
        "J1-alpha",
        "J2",
        "J4",
    },
    tau_forgotten: {"V1", "V4", "V5", "G2", "V7-noise"},
    alpha_forgotten: {
        "V1",
        "V4",
        "V5",
        "V4-paper",
        "V5-paper",
        "V7-exact",
        "G2",
        "D1",
        "V7-exception",
        "V7-noise",
        "J1-alpha",
        "J2",
    },
    scatter_with_fresh_noise: {"V1", "V4", "V5", "V7-noise"},
    noise_reused: {"V1", "V4", "V5", "V7-noise"},
    ascent: {"V1", "V4", "V4-paper", "V7-exact", "D1", "V7-noise", "J1-alpha"},
    losses_shifted: {
        "V1",
        "V4",
        "V5",
        "V4-paper",
        "V7-exact",
        "G2",
        "D1",
        "V7-exception",
        "V7-noise",
        "J1-alpha",
        "J2",
    },
    bdpl: {
        "V1",
        "V4",
        "V5",
        "V4-paper",
        "V5-paper",
        "V7-exact",
        "G2",
        "V7-exception",
        "V7-noise",
        "J1-alpha",
        "J2",
        "J4",
    },
    summed: {"V1", "V4", "V5", "V4-paper", "V5-paper", "G2", "V7-exception", "J1-alpha", "J2"},
}


def score_without_tau(tokens, alpha, p, tau):
    return score(tokens, alpha, p, 1.0)


def score_not_centred(tokens, alpha, p, tau):
    return (tokens[..., None] == np.arange(alpha.shape[-1])) / (tau * alpha)


def score_doubled(tokens, alpha, p, tau):
    return 2 * score(tokens, alpha, p, tau)


def score_of_bdpl(tokens, alpha, p, tau):
    return (2.0 * (tokens[..., None] == np.arange(alpha.shape[-1])) - 1.0) / p


def score_of_log_alpha(tokens, alpha, p, tau):
    return score(tokens, alpha, p, tau) * alpha


def score_of_uniform(tokens, alpha, p, tau):
    return ((tokens[..., None] == np.arange(alpha.shape[-1])) - 1 / alpha.shape[-1]) / (tau * alpha)


SCORE = {
    score_of_uniform: {"S1", "S2", "S3", "S4"},
    score_without_tau: {"S1", "S3"},
    score_not_centred: {"S1", "S2", "S3", "S3-bound", "S4", "S5"},
    score_doubled: {"S1", "S3", "S3-bound", "S4"},
    score_of_bdpl: {"S1", "S2", "S3", "S3-bound", "S4", "S5"},
    score_of_log_alpha: {"S1", "S3", "S5"},
}


def own_sample_in_baseline(losses, tokens, alpha, p, tau):
    """The mean over all samples as baseline, with the leave-one-out form's 1/I."""
    return one_over_I(losses, tokens, alpha, p, tau)


def others_summed(losses, tokens, alpha, p, tau):
    """The sum of the others in place of their mean."""
    return np.tensordot(2 * losses - losses.sum(), score(tokens, alpha, p, tau), axes=1) / len(losses)


def next_as_baseline(losses, tokens, alpha, p, tau):
    """The next sample alone as baseline: unbiased too, but another number."""
    return np.tensordot(losses - np.roll(losses, 1), score(tokens, alpha, p, tau), axes=1) / len(losses)


ONE_OUT = (own_sample_in_baseline, others_summed, next_as_baseline)


def scatter_overwrites(losses, tokens, alpha, p, tau):
    """Assignment in place of accumulation: a token drawn twice counts once."""
    total = np.zeros(alpha.shape)
    for i in range(alpha.shape[0]):
        total[i, tokens[:, i]] = losses - losses.mean()
    return total / ((len(losses) - 1) * tau * alpha)


def scatter_not_centred(losses, tokens, alpha, p, tau):
    """The raw losses scattered."""
    total = np.zeros(alpha.shape)
    for i in range(alpha.shape[0]):
        np.add.at(total[i], tokens[:, i], losses)
    return total / ((len(losses) - 1) * tau * alpha)


def scatter_without_tau(losses, tokens, alpha, p, tau):
    return tau * collapsed(losses, tokens, alpha, p, tau)


SCATTER = (scatter_overwrites, scatter_not_centred, scatter_without_tau)


def two_point(plus, minus, u, mu):
    return np.tensordot((plus - minus) / (2 * mu), u, axes=plus.ndim) / plus.size


def one_sided(plus, minus, u, mu):
    """Only the plus side: still unbiased for the smoothed loss, with a variance of order 1/mu^2."""
    return np.tensordot(plus / mu, u, axes=plus.ndim) / plus.size


def one_mu(plus, minus, u, mu):
    """mu in place of 2 mu."""
    return 2 * two_point(plus, minus, u, mu)


def unit_directions(plus, minus, u, mu):
    """u / ||u|| where u belongs."""
    return two_point(plus, minus, u / np.maximum(np.linalg.norm(u, axis=-1, keepdims=True), 1e-300), mu)


def unsigned_directions(plus, minus, u, mu):
    """|u|."""
    return two_point(plus, minus, np.abs(u), mu)


def sign_of_slope(plus, minus, u, mu):
    """Only the sign of the difference."""
    return two_point(np.sign(plus - minus) * mu, -np.sign(plus - minus) * mu, u, mu)


def direction_reused(plus, minus, u, mu):
    """The first direction for every pair."""
    return two_point(plus, minus, np.broadcast_to(u[(0,) * plus.ndim], u.shape), mu)


def pairs_summed(plus, minus, u, mu):
    """A sum over pairs where the mean belongs."""
    return two_point(plus, minus, u, mu) * plus.shape[0]


def examples_summed(plus, minus, u, mu):
    """A sum over examples where the mean belongs."""
    return two_point(plus, minus, u, mu) * (plus.shape[1] if plus.ndim == 2 else 1)


def examples_averaged_first(plus, minus, u, mu):
    """Mean difference times mean direction, over the examples."""
    if plus.ndim == 1:
        return two_point(plus, minus, u, mu)
    return two_point(plus.mean(axis=1), minus.mean(axis=1), u.mean(axis=1), mu)


def climbing(plus, minus, u, mu):
    """The wrong sign."""
    return two_point(minus, plus, u, mu)


ZEROTH = {
    one_sided: {
        "Z1",
        "Z1b",
        "Z4-quadratic",
        "Z4",
        "Z5-exact",
        "Z5",
        "Z5b-exact",
        "Z5b",
        "D2",
        "D2-limit",
        "D2-noise",
        "G4",
        "J3",
    },
    one_mu: {
        "Z1",
        "Z1b",
        "Z2",
        "Z3-quadratic",
        "Z4-quadratic",
        "Z4",
        "Z5-exact",
        "Z5b-exact",
        "D2",
        "D2-limit",
        "D2-noise",
        "G3",
        "G4",
        "Z3",
        "Z3-hessian",
        "Z3-kink",
        "Z5",
        "Z5b",
        "J1-z",
        "J3",
    },
    unit_directions: {
        "Z1",
        "Z1b",
        "Z2",
        "Z3-quadratic",
        "Z4-quadratic",
        "Z5-exact",
        "Z5b-exact",
        "G3",
        "G4",
        "Z3-hessian",
        "Z3-kink",
        "J1-z",
        "J3",
    },
    unsigned_directions: {
        "Z1",
        "Z1b",
        "Z2",
        "Z3-quadratic",
        "Z5-exact",
        "Z5b-exact",
        "D2",
        "D2-limit",
        "D2-noise",
        "G3",
        "G4",
        "Z3",
        "Z3-hessian",
        "Z3-kink",
        "Z5",
        "J1-z",
        "J3",
    },
    sign_of_slope: {
        "Z1",
        "Z1b",
        "Z2",
        "Z3-quadratic",
        "Z4-quadratic",
        "Z4",
        "Z5-exact",
        "Z5b-exact",
        "D2",
        "D2-noise",
        "G3",
        "G4",
        "Z3",
        "Z3-hessian",
        "Z3-kink",
        "Z5",
        "J1-z",
        "J3",
    },
    direction_reused: {"Z1", "Z1b", "Z5-exact", "Z5b-exact", "G4", "J1-z", "J3"},
    pairs_summed: {"Z1", "Z1b", "Z5-exact", "G4", "J1-z", "J3"},
    examples_summed: {"Z1b", "Z5b-exact", "D2-noise", "Z5b"},
    examples_averaged_first: {"Z1b", "Z5b-exact"},
    climbing: {
        "Z1",
        "Z1b",
        "Z2",
        "Z3-quadratic",
        "D2",
        "D2-limit",
        "D2-noise",
        "G3",
        "Z3",
        "Z3-hessian",
        "Z3-kink",
        "Z5",
        "Z5b",
        "J1-z",
    },
}


# Rows on rates, and rows that take no estimator: three ways to break each.
RATES = {
    "rate-I": (one_over_I, no_baseline, bdpl),
    "slope-I": (one_over_I, no_baseline, summed),
    "rate-noise": (noise_reused, scatter_with_fresh_noise, one_over_I),
    "C1-samples": (one_over_I, ascent, summed),
    "A4": (one_over_I, alpha_forgotten, tau_forgotten),
    "rate-I2": (one_mu, direction_reused, pairs_summed),
    "rate-d": (one_mu, unit_directions, sign_of_slope),
    "rate-mu": (one_sided, one_mu, unit_directions),
    "rate-B": (examples_summed, examples_averaged_first, one_mu),
    "rate-bias": (one_mu, unsigned_directions, climbing),
    "rate-float32": (one_mu, unit_directions, sign_of_slope),
    "G4-run": (one_sided, pairs_summed, climbing),
}
MODEL = (one_over_I, bdpl, alpha_forgotten)  # each kills both exact rows on the embedded model


def noise_forgotten(alpha, tau=1.0, gumbel=None):
    """g = 0, broadcast over the noise."""
    return probabilities(alpha, tau, None if gumbel is None else 0 * np.asarray(gumbel))


def noise_doubled(alpha, tau=1.0, gumbel=None):
    """2 g."""
    return probabilities(alpha, tau, None if gumbel is None else 2 * np.asarray(gumbel))


def noise_on_alpha(alpha, tau=1.0, gumbel=None):
    """g on alpha where it belongs on its logarithm."""
    shifted = np.asarray(alpha) + (0 if gumbel is None else np.exp(np.asarray(gumbel)))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def noise_halved(alpha, tau=1.0, gumbel=None):
    """g / 2."""
    return probabilities(alpha, tau, None if gumbel is None else np.asarray(gumbel) / 2)


PROBABILITIES = (noise_forgotten, noise_doubled, noise_on_alpha, noise_halved)


def _noise_over_I2(c, plan):
    """sigma_g^2 / I^2 in D1: the reported order."""
    return alpha_noise(c, replace(plan, policy_samples=plan.policy_samples**2))


def _noise_over_B2(c, plan):
    """sigma_alpha^2 / B^2 in D1."""
    return alpha_noise(c, replace(plan, batch=plan.batch**2))


def _calls_of_one_step(sizes):
    """I_1 + 2 I_2, without T."""
    return sizes.policy_samples + 2 * sizes.direction_pairs


def _examples_of_one_row(sizes):
    """T (I_1 + 2 I_2), without B."""
    return sizes.calls


COMPLEXITY = {
    "alpha_noise": (_noise_over_I2, _noise_over_B2), "calls": (_calls_of_one_step,), "examples": (_examples_of_one_row,),
}  # fmt: skip
