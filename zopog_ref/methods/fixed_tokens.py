"""The prompt tokens of methods that learn only the continuous part: drawn once from the candidates, then kept."""

import numpy as np

from zopog_ref.arrays import INT64
from zopog_ref.randomness import Purpose, uniform

__all__ = ["fixed_tokens"]


def fixed_tokens(seed: int, n_positions: int, n_candidates: int) -> INT64:
    """(n,) candidate indices, uniform and independent; the same for the same (seed, n, N)."""
    u = uniform(seed, 0, Purpose.TOKENS_SEARCH, (n_positions,))
    return np.floor(u * n_candidates).astype(np.int64)
