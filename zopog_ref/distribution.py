"""The distribution over discrete prompts, section 3.2: Gumbel-Softmax with parameters alpha.

    p_ij = softmax_j((log alpha_ij + g_ij) / tau),    P(t | alpha, g) = prod_i p_{i, t_i}

alpha (n, N) > 0, g (n, N) Gumbel(0, 1) noise or None (the plain softmax), tau > 0 the temperature.
Labels [S1] to [S5] are this project's; docs/theory.md has the derivations. [S1] is reported (the official code
computes it) and confirmed by differentiating; [S2] to [S5] are proved here.

    >>> from zopog_ref import probabilities, sample, score
    >>> alpha = [[1.0, 3.0]]  # n = 1 position, N = 2 candidates
    >>> probabilities(alpha)
    array([[0.25, 0.75]])
    >>> sample([[0.25, 0.75]], [[0.2], [0.9]])  # two prompts, each from a uniform number
    array([[0],
           [1]])
    >>> score([[1]], alpha, [[0.25, 0.75]])  # of the prompt [1]: (1{t = j} - p_j) / (tau alpha_j)
    array([[[-0.25      ,  0.08333333]]])
"""

from __future__ import annotations  # signatures show names, not what these stand for

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.arrays import FLOAT64, INT64

__all__ = [
    "expected_score",
    "log_probability",
    "mode",
    "probabilities",
    "sample",
    "scale_derivative",
    "score",
    "score_norm_bound",
    "score_second_moment",
    "score_second_moment_bound",
]


def probabilities(alpha: ArrayLike, tau: float = 1.0, gumbel: ArrayLike | None = None) -> FLOAT64:
    """Token probabilities p, section 3.2: p_ij = softmax_j((log alpha_ij + g_ij) / tau).

    Parameters:

    - alpha: (n, N) > 0, the parameters of the distribution.
    - tau: > 0, the temperature. Default: 1.0.
    - gumbel: (n, N), one noise g for all samples, or (I, n, N), fresh noise for each of I samples. Default: None, which
      is g = 0.

    Returns p with the shape of alpha + gumbel; its rows sum to 1.
    Errors: ValueError when an alpha or tau is not positive, or (log alpha + g) / tau is not finite.
    """
    alpha = np.asarray(alpha, np.float64)
    if not (alpha > 0).all():
        raise ValueError(f"alpha must be positive; its smallest entry is {alpha.min()} (clip it: Assumption 4)")
    if not tau > 0:
        raise ValueError(f"tau must be positive, not {tau}")
    log_alpha = np.log(alpha)
    with np.errstate(over="ignore"):
        exponent = (log_alpha if gumbel is None else log_alpha + np.asarray(gumbel, np.float64)) / tau
    largest = exponent.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():
        raise ValueError(
            f"(log alpha + g) / tau must be finite; the largest alpha is {alpha.max()}, tau is {tau}"
            + ("" if gumbel is None else f", the largest g is {np.max(gumbel)}")
        )
    p = np.exp(exponent - largest)  # ([I,] n, N)
    p /= p.sum(axis=-1, keepdims=True)
    return p


def sample(p: ArrayLike, uniforms: ArrayLike) -> INT64:
    """Prompts t ~ P by inverse cumulative distribution: t_i is the first j with sum_{m<=j} p_im > u_i.

    An entry of probability 0 is never drawn.

    Parameters:

    - p: (n, N), the probabilities of all samples, or (I, n, N), those of each.
    - uniforms: (I, n) in (0, 1), one random number for each token.

    Returns (I, n) candidate indices.
    """
    p, uniforms = np.asarray(p, np.float64), np.asarray(uniforms, np.float64)
    cumulative = np.cumsum(p, axis=-1)
    threshold = uniforms * cumulative[..., -1]  # (I, n); the last entry of a row differs from 1 by rounding
    if p.ndim == 3:
        return (cumulative <= threshold[..., None]).sum(axis=-1, dtype=np.int64)
    tokens = np.empty(uniforms.shape, np.int64)
    for i, row in enumerate(cumulative):  # one binary search a position: no (I, n, N) array
        tokens[:, i] = np.searchsorted(row, threshold[:, i], side="right")
    return tokens


def log_probability(tokens: ArrayLike, p: ArrayLike) -> FLOAT64:
    """log P(t | alpha, g) = sum_i log p_{i, t_i}. tokens (I, n); p (n, N) or (I, n, N). Returns (I,)."""
    tokens, p = np.asarray(tokens), np.asarray(p, np.float64)
    chosen = np.take_along_axis(np.broadcast_to(p, (*tokens.shape, p.shape[-1])), tokens[..., None], axis=-1)
    return np.log(chosen[..., 0]).sum(axis=-1)


def score(tokens: ArrayLike, alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Score [S1], section 3.2: s_ij = d log P(t | alpha, g) / d alpha_ij = (1{t_i = j} - p_ij) / (tau alpha_ij).

    tokens (I, n); alpha (n, N); p (n, N) or (I, n, N). Returns (I, n, N).
    """
    tokens, alpha, p = np.asarray(tokens), np.asarray(alpha, np.float64), np.asarray(p, np.float64)
    indicator = tokens[..., None] == np.arange(alpha.shape[-1])  # (I, n, N)
    return (indicator - p) / (tau * alpha)


def expected_score(alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Expected score [S2]: E_t[s_ij | g] = (p_ij (1 - p_ij) - (1 - p_ij) p_ij) / (tau alpha_ij) = 0.

    Written as the expectation over t_i, not as a constant, so that a wrong score or wrong p shows. Returns (n, N).
    """
    alpha, p = np.asarray(alpha, np.float64), np.asarray(p, np.float64)
    drawn = np.arange(alpha.shape[-1])[:, None] + np.zeros(alpha.shape[0], np.int64)  # (N, n): t_i = j everywhere
    return np.asarray(np.einsum("ti,tij->ij", p.T, score(drawn, alpha, p, tau)))


def score_second_moment(alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Second moment of the score [S3]: E_t ||s_i||^2 = sum_j p_ij (1 - p_ij) / (tau alpha_ij)^2. Returns (n,)."""
    alpha, p = np.asarray(alpha, np.float64), np.asarray(p, np.float64)
    return np.asarray((p * (1 - p) / (tau * alpha) ** 2).sum(axis=-1))


def score_second_moment_bound(n_candidates: int, alpha_min: float, tau: float = 1.0) -> float:
    """Right-hand side of [S3]: (1 - 1/N) / (tau alpha_min)^2."""
    return (1 - 1 / n_candidates) / (tau * alpha_min) ** 2


def score_norm_bound(tokens: ArrayLike, p: ArrayLike, alpha_min: float, tau: float = 1.0) -> FLOAT64:
    """Right-hand side of [S4]: ||s_i||^2 <= 2 (1 - p_{i, t_i})^2 / (tau alpha_min)^2, for every t. Returns (I, n)."""
    tokens, p = np.asarray(tokens), np.asarray(p, np.float64)
    chosen = np.take_along_axis(np.broadcast_to(p, (*tokens.shape, p.shape[-1])), tokens[..., None], axis=-1)
    return np.asarray(2 * (1 - chosen[..., 0]) ** 2 / (tau * alpha_min) ** 2)


def scale_derivative(tokens: ArrayLike, alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Scale invariance [S5]: sum_j alpha_ij s_ij = 0, since p depends on a row of alpha only up to a factor.

    Hence an unclipped step never shrinks a row: ||alpha+_i||^2 = ||alpha_i||^2 + eta^2 ||g_i||^2. Returns (I, n).
    """
    return np.asarray((np.asarray(alpha) * score(tokens, alpha, p, tau)).sum(axis=-1))


def mode(weights: ArrayLike) -> INT64:
    """The most probable prompt, argmax_j of alpha (or of p) at every position. weights (n, N). Returns (n,)."""
    return np.asarray(np.argmax(np.asarray(weights), axis=-1), np.int64)
