"""When a difference of two losses is no more than their rounding: a gradient that is taken of it means little.

A loss l known to the relative rounding error r is off by up to r |l|. Two of them near z differ by about 2 mu times the
slope, so a mu under r |l| / slope sees the rounding instead of the slope.
"""

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.arrays import FLOAT64
from zopog_ref.norms import norm

__all__ = ["DOUBLE", "SINGLE", "RoundingWarning", "differences_are_lost", "roundoff_of"]

DOUBLE, SINGLE = 2.0**-53, 2.0**-24  # relative rounding errors of float64 and float32
_CLEAR = 8.0  # times its rounding error, a difference is one: some 10% of the gradient is rounding then


class RoundingWarning(UserWarning):
    """Differences of losses are no larger than the losses' rounding: the gradient taken of them means little."""


def roundoff_of(losses: ArrayLike) -> float:
    """The relative rounding error of losses: that of their type, or of float32 when each is a float32 number."""
    losses = np.asarray(losses)
    if losses.dtype.kind == "f" and losses.dtype.itemsize < 8:
        return float(np.finfo(losses.dtype).eps) / 2
    with np.errstate(over="ignore"):
        return SINGLE if (losses == losses.astype(np.float32)).all() else DOUBLE


def differences_are_lost(plus: FLOAT64, minus: FLOAT64, mu: float, roundoff: float) -> bool:
    """Whether losses that are mu apart from the middle differ by no more than their rounding.

    plus, minus: finite, of one shape; roundoff: their relative rounding error.
    A mu above the cube root of roundoff, the best one for a symmetric difference of a function of scale 1, is never at
    fault: the losses are flat. Equal losses are lost only with a mu under the square root, which can hide a slope as
    large as the losses.
    """
    size, signal = np.hypot(norm(plus), norm(minus)) / np.sqrt(3), norm(plus - minus)  # a uniform error's deviation
    if signal == 0:
        return bool(mu < np.sqrt(roundoff) and size > 0)
    return bool(mu < np.cbrt(roundoff) and signal < _CLEAR * roundoff * size)
