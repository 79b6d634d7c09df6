"""The Euclidean norm of numbers whose squares need not be representable."""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["norm"]


def norm(x: ArrayLike) -> float:
    """||x||, the root of the sum of squares of all entries; numpy's value where that is finite and not 0.

    Squares overflow above 1e154 and vanish under 1e-162: then the entries are divided by the largest one first.
    """
    x = np.asarray(x, np.float64).ravel()
    with np.errstate(over="ignore"):
        plain = float(np.linalg.norm(x))
    if 0 < plain < np.inf or not x.size:
        return plain
    largest = float(np.abs(x).max())
    return largest * float(np.linalg.norm(x / largest)) if 0 < largest < np.inf else largest
