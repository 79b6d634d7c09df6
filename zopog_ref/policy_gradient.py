"""The variance-reduced policy gradient of the prompt distribution, section 3.2 (VR-PGE).

Three ways to the same number: the formula as published [V1], the leave-one-out baseline that shows why it is
unbiased [V2], and the collapsed scatter-add that makes it cheap [V3]. [V1] is reported (the official code computes
it); [V2] and [V3] are proved here, in docs/theory.md.

    >>> import numpy as np
    >>> from zopog_ref import policy_gradient, probabilities, sample
    >>> alpha = np.full((2, 3), 1 / 3)  # n = 2 positions, N = 3 candidates
    >>> p = probabilities(alpha)
    >>> tokens = sample(p, np.random.default_rng(0).random((50_000, 2)))  # (I, n)
    >>> losses = tokens.sum(axis=1)  # any function of a prompt; this one likes small tokens
    >>> policy_gradient(losses, tokens, alpha, p).round(1) + 0.0  # of E loss: exactly -1, 0, 1 in a row
    array([[-1.,  0.,  1.],
           [-1.,  0.,  1.]])
"""

from __future__ import annotations  # signatures show names, not what these stand for

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.distribution import score

__all__ = ["collapsed", "leave_one_out", "literal", "policy_gradient"]


def policy_gradient(losses: ArrayLike, tokens: ArrayLike, alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Variance-reduced policy gradient [V1], section 3.2: g = 1/(I-1) sum_k (l_k - mean l) s^k.

    Parameters:

    - losses: (I,), I >= 2, the loss of each prompt, in the unit of the loss.
    - tokens: (I, n) candidate indices, drawn from p.
    - alpha: (n, N) > 0, the parameters of the distribution.
    - p: (n, N) when all prompts share one Gumbel noise (or none), (I, n, N) when each has its own.
    - tau: > 0, the temperature. Default: 1.0.

    Returns (n, N): an unbiased estimate [V4] of the gradient of E_t l with respect to alpha, given the noise.
    With a shared p it is computed in the collapsed form [V3]; with a p for each prompt [V3] does not hold, and the
    literal sum is used.
    Errors: ValueError for fewer than 2 prompts, shapes that do not agree, a token outside 0..N-1, a loss that is not
    finite, an alpha or tau that is not positive.
    """
    losses, tokens, alpha, p = _checked(losses, tokens, alpha, p, tau)
    return (collapsed if p.ndim == 2 else literal)(losses, tokens, alpha, p, tau)


def literal(losses: ArrayLike, tokens: ArrayLike, alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Variance-reduced policy gradient as published [V1], section 3.2: g = 1/(I-1) sum_k (l_k - mean l) s^k.

    O(I n N). Arguments as policy_gradient. Returns (n, N).
    """
    losses = np.asarray(losses, np.float64)
    advantage = losses - losses.mean()  # (I,)
    return np.tensordot(advantage, score(tokens, alpha, p, tau), axes=1) / (len(losses) - 1)


def leave_one_out(losses: ArrayLike, tokens: ArrayLike, alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Leave-one-out form [V2] = [V1]: g = (1/I) sum_k (l_k - mean_{m != k} l_m) s^k.

    The baseline of sample k never sees sample k, so it is independent of s^k and E[baseline * s^k] = 0 by [S2]: the
    estimate is unbiased although the samples serve as each other's baseline. Arguments as policy_gradient.
    """
    losses = np.asarray(losses, np.float64)
    others = (losses.sum() - losses) / (len(losses) - 1)  # (I,): the mean of all but the k-th
    return np.tensordot(losses - others, score(tokens, alpha, p, tau), axes=1) / len(losses)


def collapsed(losses: ArrayLike, tokens: ArrayLike, alpha: ArrayLike, p: ArrayLike, tau: float = 1.0) -> FLOAT64:
    """Collapsed form [V3] = [V1]: g_ij = 1/((I-1) tau alpha_ij) sum_{k: t^k_i = j} (l_k - mean l).

    The -p_ij of the scores cancel since sum_k (l_k - mean l) = 0: a scatter-add, O(I n) instead of O(I n N). Holds
    only when all samples share one p (n, N), which it does not read. Arguments as policy_gradient.
    """
    losses, tokens, alpha = np.asarray(losses, np.float64), np.asarray(tokens), np.asarray(alpha, np.float64)
    if np.ndim(p) != 2:
        raise ValueError(f"the collapsed form [V3] needs one p (n, N) for all samples, not shape {np.shape(p)}")
    advantage = losses - losses.mean()  # (I,)
    n, n_candidates = alpha.shape
    cell = tokens + n_candidates * np.arange(n)  # (I, n): where (i, t_i) stands in the flattened (n, N)
    total = np.bincount(cell.ravel(), np.repeat(advantage, n), minlength=n * n_candidates).reshape(alpha.shape)
    return np.asarray(total / ((len(losses) - 1) * tau * alpha))


def _checked(
    losses: ArrayLike, tokens: ArrayLike, alpha: ArrayLike, p: ArrayLike, tau: float
) -> tuple[FLOAT64, INT64, FLOAT64, FLOAT64]:
    losses, tokens = np.asarray(losses, np.float64), np.asarray(tokens)
    alpha, p = np.asarray(alpha, np.float64), np.asarray(p, np.float64)
    if losses.ndim != 1 or len(losses) < 2:
        raise ValueError(f"losses must be (I,) with I >= 2 (the baseline needs another sample), not {losses.shape}")
    if alpha.ndim != 2 or tokens.shape != (len(losses), alpha.shape[0]):
        raise ValueError(
            f"expected tokens (I, n) = ({len(losses)}, n) and alpha (n, N); got {tokens.shape} and {alpha.shape}"
        )
    if p.shape not in (alpha.shape, (len(losses), *alpha.shape)):
        raise ValueError(f"p must be (n, N) or (I, n, N) for alpha {alpha.shape}, not {p.shape}")
    if not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"tokens must be integers (candidate indices), not {tokens.dtype}")
    if tokens.size and not (0 <= tokens.min() and tokens.max() < alpha.shape[1]):
        raise ValueError(f"tokens must lie in 0..{alpha.shape[1] - 1}; got {tokens.min()}..{tokens.max()}")
    if not np.isfinite(losses).all():
        raise ValueError(f"losses must be finite; entry {int(np.argmin(np.isfinite(losses)))} is not")
    if not (alpha > 0).all() or not tau > 0:
        raise ValueError(f"alpha and tau must be positive; smallest alpha {alpha.min()}, tau {tau}")
    return losses, tokens.astype(np.int64), alpha, p
