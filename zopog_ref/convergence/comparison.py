"""What a check returns: two sides and how they compare, and the threshold for many z-scores at once."""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

ROUNDING = 1e-10  # the uncertainty, relative, given to both sides of an exact equality
FAMILY_ERROR = 1e-4  # probability that any row of a whole run fails by chance


@dataclass(frozen=True)
class Equality:
    """left = right up to the uncertainty: a Monte-Carlo standard error, or the rounding of two exact sums.

    gap is left - right, or for arrays the largest difference; z = gap / uncertainty.
    """

    left: float
    right: float
    gap: float
    uncertainty: float
    exact: bool
    case: str = ""

    @property
    def z(self) -> float:
        """The gap in units of its uncertainty; infinite when two sides without any uncertainty differ."""
        if self.uncertainty == 0:
            return 0.0 if self.gap == 0 else float(np.copysign(np.inf, self.gap))
        return self.gap / self.uncertainty

    @property
    def ratio(self) -> float:
        """left / right; nan when right is 0."""
        return self.left / self.right if self.right else float("nan")

    def holds(self, threshold: float) -> bool:
        """|z| <= threshold; not a number does not hold."""
        return bool(abs(self.z) <= threshold)


@dataclass(frozen=True)
class Inequality:
    """left <= right, up to rounding."""

    left: float
    right: float
    case: str = ""
    rounding: float = 1e-9  # relative to the right side

    @property
    def ratio(self) -> float:
        """left / right: how much of the bound is used. Both negative, a decrease: right / left, the share promised."""
        if self.left < 0 and self.right < 0:
            return self.right / self.left
        return self.left / self.right if self.right else float("inf" if self.left > 0 else "nan")

    def holds(self, threshold: float = 0.0) -> bool:
        """left <= right (1 + rounding): no threshold needed."""
        return bool(self.left <= self.right + self.rounding * abs(self.right) + 1e-300)


Comparison = Equality | Inequality


def equal(left: ArrayLike, right: ArrayLike, case: str = "", scale: float | None = None) -> Equality:
    """Two exact values or arrays: the largest difference against ROUNDING times the scale (default: max |right|)."""
    a, b = np.asarray(left, np.float64), np.asarray(right, np.float64)
    largest = float(np.abs(b).max()) if scale is None else scale
    if a.shape != b.shape or not np.isfinite(a).all():
        return Equality(float("nan"), float(np.linalg.norm(b)), float("inf"), ROUNDING * largest, True, case)
    norms = (float(a), float(b)) if a.ndim == 0 else (float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    gap = float(a - b) if a.ndim == 0 else float(np.abs(a - b).max())
    return Equality(*norms, gap, ROUNDING * largest, True, case)


def estimated(samples: ArrayLike, right: float, case: str = "") -> Equality:
    """The mean of independent samples against its predicted value, with the standard error of the mean."""
    x = np.asarray(samples, np.float64)
    mean = float(x.mean())
    return Equality(mean, right, mean - right, float(x.std(ddof=1) / np.sqrt(len(x))), False, case)


def loosened(comparison: Comparison, rounding: float) -> Comparison:
    """The same comparison for numbers that are exact to `rounding` only, relative to their scale: float32, say."""
    if isinstance(comparison, Inequality):
        return replace(comparison, rounding=max(comparison.rounding, rounding))
    if not comparison.exact:
        return comparison
    return replace(comparison, uncertainty=comparison.uncertainty * max(1.0, rounding / ROUNDING))


def z_threshold(rows: int, family_error: float = FAMILY_ERROR) -> float:
    """The |z| that none of `rows` true equalities passes, but with probability family_error (Bonferroni)."""
    return NormalDist().inv_cdf(1 - family_error / (2 * rows))


def worst(comparisons: list[Equality]) -> Equality:
    """The equality furthest from holding."""
    return max(comparisons, key=lambda c: float("inf") if np.isnan(c.z) else abs(c.z))


def tightest(comparisons: list[Inequality]) -> Inequality:
    """The inequality with the largest ratio."""
    return max(comparisons, key=lambda c: c.ratio)
