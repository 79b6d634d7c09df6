"""Prediction sets whose coverage holds, from left-out probabilities; where a set is not one class, abstain.

    [Q1] split      {c : 1 - p_c(x) <= q}, q the k-th smallest 1 - p_y over held-out rows, k = ceil((1 - alpha)(n + 1))
    [Q2] jackknife  the same with left-out probabilities of the training rows themselves
    [Q3] jackknife+ {c : #{i : 1 - p_-i,y_i(x_i) < 1 - p_-i,c(x)} < (1 - alpha)(n + 1)}
    [Q4] by class   [Q1] or [Q2] with a threshold q_c of each class, from its own rows

If rows are exchangeable, [Q1] covers with probability at least 1 - alpha, and at most 1 - alpha + 1/(n + 1) without
ties (Vovk et al. 2005), [Q3] at least 1 - 2 alpha, whatever the fit (Barber et al. 2021; for classes Romano et al.
2020). [Q2] has no such floor: it covers about 1 - alpha where one row moves a fit little, as the benchmark measures.
Few-shot rows are drawn by class, so they are exchangeable with new rows only where the classes are equally frequent
there; [Q4] with held-out rows covers every class with probability at least 1 - alpha, however frequent it is, and
needs 1/alpha - 1 rows of it. All are marginal over draws of the few rows too: with n rows the coverage of one run has
standard deviation sqrt(alpha (1 - alpha) / (n + 2)) about its mean, 0.03 with 96.

    from zopog_ref.conformal import abstains, conformal_sets
    sets = conformal_sets(fit.readout.predict(scores), fit.left_out, labels, alpha=0.1)    # (rows, C) bool
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref.linear_fits import members

FLOAT64 = NDArray[np.float64]
BOOL = NDArray[np.bool_]


def conformal_threshold(
    left_out: ArrayLike,
    labels: ArrayLike,
    alpha: float = 0.1,
    groups: ArrayLike | None = None,
    by_class: bool = False,
) -> FLOAT64:
    """q_c (C,), in [0, 1]: class c is in the set where 1 - p_c <= q_c. 1: too few rows, the class is in every set.

    left_out (n, C): probabilities of rows that the fit which gave them had not seen (left out, or held out); labels
    (n,); alpha in (0, 1): the share of rows whose class may be missed. groups: one row stands for each group, since
    copies are no further evidence. by_class: [Q4]; otherwise all q_c are the same, [Q1] or [Q2].
    Errors: ValueError for shapes or values that do not fit.
    """
    p, y = _checked(left_out, labels)
    _check_alpha(alpha)
    first = np.array([rows[0] for rows in members(groups, len(p))])
    misfit, classes = 1 - p[first, y[first]], p.shape[1]
    if not by_class:
        return np.full(classes, _smallest(misfit, alpha))
    return np.array([_smallest(misfit[y[first] == c], alpha) for c in range(classes)])


def _smallest(misfit: FLOAT64, alpha: float) -> float:
    """The k-th smallest, k = ceil((1 - alpha)(n + 1)), or 1 where k > n."""
    k = math.ceil((1 - alpha) * (len(misfit) + 1) - 1e-9)
    return 1.0 if k > len(misfit) else float(np.sort(misfit)[k - 1])


def sets_at(probabilities: ArrayLike, threshold: ArrayLike) -> BOOL:
    """{c : 1 - p_c <= q_c}, (rows, C) bool: may be empty, or hold several classes. The sum over c is the set's size."""
    return np.asarray(1 - np.asarray(probabilities, np.float64) <= np.asarray(threshold))


def conformal_sets(
    probabilities: ArrayLike,
    left_out: ArrayLike,
    labels: ArrayLike,
    alpha: float = 0.1,
    groups: ArrayLike | None = None,
    by_class: bool = False,
) -> BOOL:
    """[Q2] for new rows, [Q1] where `left_out` are held-out rows, [Q4] with by_class. probabilities, sets (rows, C)."""
    return sets_at(probabilities, conformal_threshold(left_out, labels, alpha, groups, by_class))


def jackknife_plus_sets(left_out: ArrayLike, labels: ArrayLike, at_new: ArrayLike, alpha: float = 0.1) -> BOOL:
    """[Q3]. left_out (n, C) and labels (n,) as above; at_new (n, rows, C): what each left-out fit says of new rows."""
    p, y = _checked(left_out, labels)
    new = np.asarray(at_new, np.float64)
    _check_alpha(alpha)
    if new.ndim != 3 or new.shape[::2] != p.shape:
        raise ValueError(f"at_new must be (n, rows, C) = ({p.shape[0]}, rows, {p.shape[1]}), not {new.shape}")
    misfit = 1 - p[np.arange(len(p)), y]
    beaten = (misfit[:, None, None] < 1 - new).sum(axis=0)  # (rows, C)
    return np.asarray(beaten < (1 - alpha) * (len(p) + 1) - 1e-9)


def abstains(sets: ArrayLike) -> BOOL:
    """Rows to pass on to somebody else: those whose set is empty or holds more than one class. (rows, C) -> (rows,)."""
    return np.asarray(np.asarray(sets, bool).sum(axis=-1) != 1)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")


def _checked(left_out: ArrayLike, labels: ArrayLike) -> tuple[FLOAT64, NDArray[np.int64]]:
    p, y = np.asarray(left_out, np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or not len(p) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"expected probabilities (n, C) and n integer labels; got {p.shape} and {y.shape}, {y.dtype}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(f"labels must lie in 0..{p.shape[1] - 1}; got {y.min()}..{y.max()}")
    return p, y.astype(np.int64)
