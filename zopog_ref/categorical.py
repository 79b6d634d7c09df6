"""The policy gradient of a categorical distribution whose probabilities are learned themselves, as BDPL learns them.

    t_i ~ Cat(p_i),    g_ij = 1/(I-1) sum_k (l_k - mean l) s_ij^k           s: the score, two of them below

The entries of p are free here: what keeps a row on the simplex is a projection afterwards (methods.bdpl).
"""

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.arrays import FLOAT64

__all__ = ["free_gradient", "free_score"]


def free_score(tokens: ArrayLike, p: ArrayLike, kind: str = "unbiased") -> FLOAT64:
    """The score s of tokens (I, n) under p (n, N). Returns (I, n, N).

    unbiased: 1{t_i = j} / p_ij, the derivative of log p_{i, t_i} with free entries.
    official: +1/p_ij for the drawn entry, -1/p_ij for every other, as in BDPL's official code.
    """
    tokens, p = np.asarray(tokens), np.asarray(p, np.float64)
    drawn = tokens[..., None] == np.arange(p.shape[-1])  # (I, n, N)
    return np.where(drawn, 1.0, -1.0 if kind == "official" else 0.0) / p


def free_gradient(losses: ArrayLike, tokens: ArrayLike, p: ArrayLike, kind: str = "unbiased") -> FLOAT64:
    """BDPL's gradient estimate g_ij = 1/(I-1) sum_k (l_k - mean l) s_ij^k. losses (I,), tokens (I, n), p (n, N).

    With L_ij = E[l | t_i = j] and L = E[l]: E g_ij = L_ij - L for the unbiased score, 2 (L_ij - L) for the official
    one. Both point the same way: a projection onto the simplex does not see a constant added to a row.
    Returns (n, N).
    """
    losses = np.asarray(losses, np.float64)
    return np.tensordot(losses - losses.mean(), free_score(tokens, p, kind), axes=1) / (len(losses) - 1)
