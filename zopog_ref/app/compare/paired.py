"""Paired comparisons over seeds and test rows: intervals and tests for differences of two methods on the same rows.

x_sr is a method's score on test row r of the run with seed s (1 for a right answer, or a loss), d_sr = x_sr - y_sr the
difference of two methods. Both which seeds were drawn and which test rows were drawn is chance:

    d_sr = mu + a_s + b_r + e_sr,    Var(mean) = Var(a)/S + Var(b)/R + Var(e)/(S R)

so neither the S R answers nor the S means may be taken for independent samples. The mean squares of the two-way layout
estimate that variance without bias; docs/compare.md has the formulas. Shapes: (S, R) seeds x rows.
"""

from dataclasses import replace
from math import exp, inf, lgamma, log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref.app.packages import from_extra
from zopog_ref.app.run.typed_json import Json

FLOAT64 = NDArray[np.float64]


class Estimate(Json):
    """A mean, or a difference of means, with the ends of its interval.

    p: two-sided, of mean = 0. 1 when there is no difference anywhere, 0 when all differences are the same one.
    """

    mean: float
    low: float
    high: float
    error: float  # standard error of the mean
    freedom: float  # degrees of freedom
    p: float

    @property
    def p_below(self) -> float:
        """One-sided, of mean >= 0: small when the mean is surely negative."""
        if self.error == 0:
            return 0.0 if self.mean < 0 else 1.0
        return student_tail(-self.mean / self.error, self.freedom)

    @property
    def p_above(self) -> float:
        """One-sided, of mean <= 0: small when the mean is surely positive."""
        return replace(self, mean=-self.mean).p_below


def crossed(values: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean over seeds and rows when every seed has the same test rows. values (S, R).

    Var = (MS_s + MS_r - MS_e) / (S R) with MS_s never counted below MS_e, Satterthwaite's degrees of freedom. With one
    seed only the rows are chance: the usual paired t interval. Errors: ValueError for fewer than two rows.
    """
    d = np.asarray(values, np.float64)
    if d.ndim != 2 or not d.shape[0] or d.shape[1] < 2:
        raise ValueError(f"expected values of seeds x rows, at least 1 x 2; got shape {d.shape}")
    seeds, rows = d.shape
    mean = d.mean()
    if seeds == 1:
        return _student(float(mean), float(np.var(d, ddof=1)) / rows, rows - 1, level)
    ms_s, ms_r, ms_e = mean_squares(d)
    shared = max(ms_s - ms_e, 0.0)  # R Var(a): what all rows of a seed have in common
    total = shared + ms_r
    if total <= 1e-20:  # all differences are the same number, up to rounding
        return _student(float(mean), 0.0, rows - 1, level)
    spread = ms_s**2 / (seeds - 1) + ms_r**2 / (rows - 1) + ms_e**2 / ((seeds - 1) * (rows - 1))
    return _student(float(mean), total / (seeds * rows), total**2 / spread, level)


def mean_squares(values: ArrayLike) -> tuple[float, float, float]:
    """MS_s, MS_r, MS_e of the two-way layout; (MS_s + MS_r - MS_e) / (S R) has Var(mean) for its mean. values (S, R).

    MS_s = R/(S-1) sum_s (d_s. - d..)^2, MS_r = S/(R-1) sum_r (d_.r - d..)^2, and MS_e is what both leave over:
    sum_sr (d_sr - d_s. - d_.r + d..)^2 / ((S-1)(R-1)). A dot stands for a mean.
    """
    d = np.asarray(values, np.float64)
    seeds, rows = d.shape
    by_seed, by_row = d.mean(axis=1), d.mean(axis=0)
    rest = d - by_seed[:, None] - by_row + d.mean()
    ms_e = float(np.square(rest).sum()) / ((seeds - 1) * (rows - 1))
    return rows * float(np.var(by_seed, ddof=1)), seeds * float(np.var(by_row, ddof=1)), ms_e


def nested(values: list[ArrayLike], level: float = 0.95) -> Estimate:
    """The mean over seeds when every seed has test rows of its own: the t interval of the seeds' means.

    values: S arrays of row scores. With one seed, the t interval over its rows.
    """
    if len(values) == 1:
        return crossed(np.asarray(values[0], np.float64)[None], level)
    means = np.array([np.asarray(v, np.float64).mean() for v in values])
    return _student(float(means.mean()), float(np.var(means, ddof=1)) / len(means), len(means) - 1, level)


def fixed_seeds(values: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean over rows with the seeds taken as given: what new test rows alone could change. values (S, R)."""
    return crossed(np.asarray(values, np.float64).mean(axis=0, keepdims=True), level)


def sign_test(wins: int, losses: int) -> float:
    """McNemar's exact test: two-sided p that, of wins + losses rows that differ, half go each way. Ties say nothing."""
    n, k = wins + losses, min(wins, losses)
    if n == 0:
        return 1.0
    terms = (exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2)) for i in range(k + 1))
    return min(1.0, 2 * sum(terms))


def holm(p_values: ArrayLike) -> FLOAT64:
    """Holm's adjusted p-values: rejecting those <= level keeps the chance of any false rejection at level or below.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_(j)).
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order]))
    out = np.empty(len(p))
    out[order] = adjusted
    return out


def best_p_values(below: ArrayLike) -> FLOAT64:
    """For each of m methods, the p-value of "no other method is better than this one"; (m,).

    below (m, m): below[i, j] is the one-sided p of "i is at least as good as j", small when i is surely worse. The
    smallest of a method's m - 1 is multiplied by m - 1. The methods whose value is above 1 - level contain the best one
    with probability >= level: for the truly best method each of its m - 1 hypotheses is true, and Bonferroni's bound
    needs no more. No correction over methods is due, since only one of them is the best.
    """
    p = np.array(below, np.float64)
    if p.ndim != 2 or p.shape[0] != p.shape[1]:
        raise ValueError(f"expected one-sided p-values of all pairs, (m, m); got shape {p.shape}")
    np.fill_diagonal(p, inf)
    others = len(p) - 1
    return np.ones(1) if not others else np.minimum(1.0, others * p.min(axis=1))


def _student(mean: float, variance: float, freedom: float, level: float) -> Estimate:
    error = sqrt(max(variance, 0.0))
    reach = error * student_quantile((1 + level) / 2, freedom) if error else 0.0
    p = 2 * student_tail(abs(mean) / error, freedom) if error else float(mean == 0)
    return Estimate(mean=mean, low=mean - reach, high=mean + reach, error=error, freedom=freedom, p=p)


def student_tail(t: float, freedom: float) -> float:
    """P(T > t) for Student's t. Errors: MissingPackage without SciPy."""
    with from_extra():
        from scipy.stats import t as student
    return float(student.sf(t, freedom))


def student_quantile(probability: float, freedom: float) -> float:
    """The t with P(T <= t) = probability. Errors: ValueError outside (0, 1); MissingPackage without SciPy."""
    if not 0 < probability < 1:
        raise ValueError(f"probability is {probability}; it must lie between 0 and 1")
    with from_extra():
        from scipy.stats import t as student
    return float(student.ppf(probability, freedom))
