"""The two-point zeroth-order gradient of the continuous prompt, section 3.3.

The continuous prompt lives in a random subspace: the embeddings at the n prompt positions are e(v_{t_i}) + (A z)_i,
with A (n D, d) fixed, and only z (d,) is learned, from values of the loss.

    >>> import numpy as np
    >>> from zopog_ref import perturb, two_point_gradient
    >>> u = np.random.default_rng(0).standard_normal((50_000, 2))  # (K, d)
    >>> plus, minus = perturb([1.0, 2.0], u, mu=0.01)  # (K, d) each
    >>> f = lambda z: (z**2).sum(axis=1)  # any function of z
    >>> two_point_gradient(f(plus), f(minus), u, mu=0.01).round(1)  # of |z|^2: exactly 2 z
    array([2., 4.])
"""

from __future__ import annotations  # signatures show names, not what these stand for

import warnings

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.arrays import FLOAT32, FLOAT64
from zopog_ref.randomness import Purpose, normal
from zopog_ref.rounding import RoundingWarning, differences_are_lost, roundoff_of

__all__ = ["perturb", "projection", "two_point_gradient"]


def perturb(z: ArrayLike, directions: ArrayLike, mu: float) -> tuple[FLOAT64, FLOAT64]:
    """The two points of each pair, section 3.3: z + mu u and z - mu u.

    Parameters:

    - z: (d,), the continuous prompt.
    - directions: u, (K, d) shared by the examples or (K, B, d), one for each example.
    - mu: > 0, the smoothing radius, in the unit of z.

    Returns the points z + mu u and z - mu u, each with the shape of directions.
    """
    step = mu * np.asarray(directions, np.float64)
    z = np.asarray(z, np.float64)
    return z + step, z - step


def two_point_gradient(
    losses_plus: ArrayLike,
    losses_minus: ArrayLike,
    directions: ArrayLike,
    mu: float,
    roundoff: float | None = None,
) -> FLOAT64:
    """Two-point estimate [Z1] (shared directions) or [Z1b] (per-example directions), section 3.3.

    [Z1]   g = (1/K)  sum_k  u_k  (l(z + mu u_k) - l(z - mu u_k)) / (2 mu)
    [Z1b]  g = (1/KB) sum_kb u_kb (f(z + mu u_kb; x_b) - f(z - mu u_kb; x_b)) / (2 mu)

    Both lines are reported; [Z1b] is what the official code computes: B times as many directions for the same number
    of calls.

    Parameters:

    - losses_plus: losses at z + mu u, (K,) for [Z1] or (K, B) for [Z1b], in the unit of the loss.
    - losses_minus: losses at z - mu u, of the same shape.
    - directions: u, drawn from N(0, I), (K, d) for [Z1] or (K, B, d) for [Z1b].
    - mu: > 0, the smoothing radius, in the unit of z.
    - roundoff: relative rounding error of the losses, as 2^-24 when they come from float32 numbers. Default: None, that
      of the losses' own type, or of float32 when every loss is a float32 number.

    Returns (d,): an unbiased estimate of the gradient of the smoothed loss E_u l(z + mu u) [Z2].
    Warns: RoundingWarning when the differences are lost in the rounding of the losses, as with a tiny mu.
    Errors: ValueError when the shapes do not agree, mu is not positive, or a loss or a difference is not finite.
    """
    plus, minus = np.asarray(losses_plus, np.float64), np.asarray(losses_minus, np.float64)
    u = np.asarray(directions, np.float64)
    if not mu > 0:
        raise ValueError(f"mu must be positive, not {mu}")
    if plus.shape != minus.shape or u.shape[:-1] != plus.shape or plus.ndim not in (1, 2) or not plus.size:
        raise ValueError(
            "expected losses (K,) with directions (K, d), or (K, B) with (K, B, d); "
            f"got {plus.shape}, {minus.shape} and {u.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        difference = plus - minus
    if not np.isfinite(difference).all():
        raise ValueError("losses_plus and losses_minus must be finite, and their differences, too")
    if roundoff is None:
        roundoff = roundoff_of(np.stack((losses_plus, losses_minus)))
    if differences_are_lost(plus, minus, mu, roundoff):
        warnings.warn(
            f"with mu = {mu} the losses differ by no more than their rounding: the gradient means little; take a "
            "larger mu, or losses of more digits",
            RoundingWarning,
            stacklevel=2,
        )
    slope = difference / (2 * mu)  # (K,) or (K, B): directional derivatives
    return np.asarray(np.tensordot(slope, u, axes=slope.ndim) / slope.size)


def projection(
    seed: int, n_positions: int, hidden: int, dim: int, *, scale: float, embedding_std: float, sigma: float = 1.0
) -> FLOAT32:
    """The fixed Gaussian projection A, section 3.3: entries N(0, s^2), s = a std(E) / (sqrt(d) sigma).

    Parameters:

    - seed: decides every entry; 0 to 2^64 - 1.
    - n_positions: n, positions of the prompt.
    - hidden: D, size of a word embedding.
    - dim: d, dimensions of z.
    - scale: a. Reported: 100 in the ZO-PoG code, 1 in BBT's.
    - embedding_std: std(E), standard deviation of the frozen model's word embeddings.
    - sigma: standard deviation expected of z; 1 in both codes. Default: 1.0.

    Returns (n D, d) float32, the same for the same seed on every machine.
    """
    s = scale * embedding_std / (np.sqrt(dim) * sigma)
    return np.float32(s) * normal(seed, 0, Purpose.PROJECTION, (n_positions * hidden, dim))
