"""Euclidean projection onto the probability simplex with a floor, exact, by sorting.

    argmin_q ||q - v||^2   subject to   sum_j q_j = 1,  q_j >= floor

is q_j = floor + max(v_j - theta, 0), with the one theta that makes the row sum to 1 (Held, Wolfe, Crowder 1974;
Duchi et al., ICML 2008, for the sorting). With floor > 0 no entry is ever 0, so 1/q stays finite.
"""

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.arrays import FLOAT64

__all__ = ["project"]


def project(values: ArrayLike, floor: float = 0.0) -> FLOAT64:
    """The nearest point to each row of values (..., N) whose entries are >= floor and sum to 1. O(N log N) a row.

    Errors: ValueError when floor is not in [0, 1/N], or a value is not finite.
    """
    v = np.asarray(values, np.float64)
    count = v.shape[-1]
    mass = 1.0 - count * floor  # what is left to share out above the floor
    if not (floor >= 0 and mass >= 0):
        raise ValueError(f"floor is {floor}; {count} entries that sum to 1 need 0 <= floor <= {1 / count:.3g}")
    if not np.isfinite(v).all():
        raise ValueError(f"{int((~np.isfinite(v)).sum())} of {v.size} values to project are not finite")
    # A constant added to a row changes nothing, and an entry more than `mass` under the largest gets the floor in any
    # case: so every row is moved and cut to [-mass, 0] without loss, and no sum below can overflow.
    v = np.maximum(v / 2 - v.max(axis=-1, keepdims=True) / 2, -mass / 2) * 2  # halves: the difference may overflow
    descending = -np.sort(-v, axis=-1)
    ranks = np.arange(1, count + 1)
    thresholds = (np.cumsum(descending, axis=-1) - mass) / ranks  # theta if the k largest were above the floor
    above = (descending > thresholds).sum(axis=-1, keepdims=True)  # they are for k <= this
    theta = np.take_along_axis(thresholds, np.maximum(above, 1) - 1, axis=-1)
    return floor + np.maximum(v - theta, 0.0)
