"""Two linear fits from features to classes, each with its exact leave-one-out: kernel ridge and multinomial logistic.

Both answer, for every row, what a fit without that row would have said of it. Rows of one text are left out together
(`groups`): a copy that stays behind would give the answer away. [R3] to [R6] and [R8] stand in docs/readout.md; the
leave-one-out identity [R4] is proved there, and the tests compare it with n refits.

    from zopog_ref.linear_fits import kernel_ridge, logistic, temperature
    fit = kernel_ridge(features @ features.T, one_hot, penalty=1.0)
    fit.left_out                                                  # (n, C): row i by the fit without row i
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref.randomness import Purpose, permutation

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]

FEW_ROWS = 100  # below, leave-one-out is too noisy to choose the penalty by
PENALTIES = tuple(float(x) for x in 10.0 ** np.linspace(-1, 1, 13))
LEFT_OUT_ERROR = 1e-6  # of the refits of `left_out_logistic`, in every entry of Theta
_SHARPEST = 1e3  # of 1/T; the flattest is its inverse


@dataclass(frozen=True)
class RidgeFit:
    """Kernel ridge [R3]: f(x) = mean + k(x)^T dual. dual (n, C), mean (C,), left_out (n, C), penalty, press."""

    dual: FLOAT64
    mean: FLOAT64
    left_out: FLOAT64
    penalty: float
    press: float


def members(groups: ArrayLike | None, n: int) -> list[INT64]:
    """Rows of each group, as index arrays; every row is its own group where groups is None. groups (n,) of any kind."""
    if groups is None:
        return [np.array([i]) for i in range(n)]
    names = np.asarray(groups)
    if names.shape != (n,):
        raise ValueError(f"groups must have one entry a row, ({n},), not {names.shape}")
    inverse = np.unique(names, return_inverse=True)[1].ravel()
    return [np.flatnonzero(inverse == g) for g in range(int(inverse.max(initial=-1)) + 1)]


def kernel_ridge(
    kernel: ArrayLike, targets: ArrayLike, penalty: float | None = None, groups: ArrayLike | None = None
) -> RidgeFit:
    """Kernel ridge [R3] with exact leave-one-out [R4]: a = (K + lambda I)^-1 (Y - mean Y), f = mean Y + K a.

    kernel (n, n), of features whose mean over the rows is 0, tr K = n by convention; targets (n, C). penalty: lambda,
    in the unit of the kernel; None: the rule [R5], 1 below 100 rows, from there the one of 13 in [0.1, 10] with the
    smallest PRESS. groups (n,): rows with equal entries are left out together.
    Errors: ValueError for shapes that do not agree, numbers that are not finite, a penalty that is not positive, and
    where all rows are one group.
    """
    K, Y = np.asarray(kernel, np.float64), np.asarray(targets, np.float64)
    n = len(Y)
    if Y.ndim != 2 or K.shape != (n, n) or not n:
        raise ValueError(f"expected a kernel (n, n) and targets (n, C); got {K.shape} and {Y.shape}")
    if not (np.isfinite(K).all() and np.isfinite(Y).all()):
        raise ValueError("the kernel and the targets must be finite")
    if penalty is not None and not 0 < penalty < np.inf:
        raise ValueError(f"the penalty lambda must be positive, not {penalty}")
    rows = members(groups, n)
    if len(rows) < 2:
        raise ValueError("leave-one-out needs at least two different texts; give more rows")
    w, U = np.linalg.eigh(K)
    w = np.maximum(w, 0.0)  # rounding may give -1e-16
    if penalty is None and n < FEW_ROWS:
        penalty = 1.0
    fits = [_ridge_at(w, U, Y, value, rows) for value in (PENALTIES if penalty is None else (penalty,))]
    return min(fits, key=lambda fit: fit.press)


def _ridge_at(w: FLOAT64, U: FLOAT64, Y: FLOAT64, penalty: float, rows: Sequence[INT64]) -> RidgeFit:
    mean = Y.mean(axis=0)
    dual = (U / (w + penalty)) @ (U.T @ (Y - mean))  # (n, C)
    hat = 1 / len(Y) + (U * (w / (w + penalty))) @ U.T  # (n, n): f = H Y
    left_out = left_out_of_smoother(hat, Y, rows)
    return RidgeFit(dual, mean, left_out, penalty, float(((left_out - Y) ** 2).sum(axis=1).mean()))


def left_out_of_smoother(hat: FLOAT64, targets: FLOAT64, rows: Sequence[INT64]) -> FLOAT64:
    """Leave-group-out of a linear smoother f = H Y [R4]: y_G - f_-G = (I - H_GG)^-1 (y_G - f_G). Returns f_-G, (n, C).

    For a group of one row: f_-i = (f_i - H_ii y_i) / (1 - H_ii). Exact for penalised least squares with the intercept
    left free: the fit without G is the fit in which G's targets are f_-G, and so H times those targets.
    """
    residual = targets - hat @ targets
    answer = np.empty_like(targets)
    for G in rows:
        answer[G] = targets[G] - np.linalg.solve(np.eye(len(G)) - hat[np.ix_(G, G)], residual[G])
    return answer


def softmax(logits: ArrayLike) -> FLOAT64:
    """softmax over the last axis. (..., C) -> (..., C)."""
    x = np.asarray(logits, np.float64)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def log_softmax(logits: ArrayLike) -> FLOAT64:
    """log softmax over the last axis. (..., C) -> (..., C)."""
    x = np.asarray(logits, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def penalised_loss(
    theta: ArrayLike, features: ArrayLike, targets: ArrayLike, penalty: float, prior: ArrayLike
) -> float:
    """J(Theta) [R8] = -sum_ic t_ic log softmax(x_i Theta)_c + lambda/2 |Theta - Theta_0|^2, in nats over all rows."""
    theta, prior = np.asarray(theta, np.float64), np.asarray(prior, np.float64)
    fit = -(np.asarray(targets) * log_softmax(np.asarray(features) @ theta)).sum()
    return float(fit + penalty / 2 * ((theta - prior) ** 2).sum())


def logistic(
    features: ArrayLike, targets: ArrayLike, penalty: float, prior: ArrayLike, start: ArrayLike | None = None
) -> FLOAT64:
    """The minimiser of J [R8] by damped Newton steps, none of which raises J. features (n, F), targets (n, C).

    Each row of the targets sums to 1. penalty: lambda > 0; prior (F, C): Theta_0, to which Theta is pulled; start
    (F, C): where to begin (default: the prior). Returns Theta (F, C), within |grad J| / lambda of the minimiser (J is
    lambda-strongly convex), which is 1e-9 or what rounding allows.
    """
    x, t, prior = np.asarray(features, np.float64), np.asarray(targets, np.float64), np.asarray(prior, np.float64)
    theta = np.array(prior if start is None else start, np.float64)
    for _ in range(100):
        gradient = _gradient(theta, x, t, penalty, prior)
        if np.abs(gradient).max() <= 1e-9 * penalty:
            break
        step = np.linalg.solve(_hessian(softmax(x @ theta), x, penalty), gradient.ravel())
        moved = _descended(theta, np.asarray(step.reshape(theta.shape), np.float64), gradient, x, t, penalty, prior)
        if moved is None:
            break
        theta = moved
    return theta


def left_out_logistic(
    theta: FLOAT64, features: FLOAT64, targets: FLOAT64, penalty: float, prior: FLOAT64, rows: Sequence[INT64]
) -> FLOAT64:
    """Left-out logits (n, C) of `logistic`: one refit for each group, warm from the fit on all rows.

    A refit descends along P^-1 grad, P the Hessian at the full fit less the group's own terms (Woodbury: one inverse
    serves all groups), and ends where |grad J| / lambda <= 1e-6 in every entry; by Newton steps where that is far.
    """
    n, classes = targets.shape
    p = softmax(features @ theta)
    inverse = np.linalg.inv(_hessian(p, features, penalty))  # (F C, F C)
    answer = np.empty_like(targets)
    for G in rows:
        rest = np.delete(np.arange(n), G)
        x, t = features[rest], targets[rest]
        jacobian = np.einsum("gf,cd->fcgd", features[G], np.eye(classes)).reshape(theta.size, -1)  # (F C, |G| C)
        weight = np.zeros((len(G) * classes, len(G) * classes))
        for k, i in enumerate(G):
            block = slice(k * classes, (k + 1) * classes)
            weight[block, block] = np.diag(p[i]) - np.outer(p[i], p[i])
        reach = inverse @ jacobian
        gain = np.linalg.solve(np.eye(len(weight)) - weight @ (jacobian.T @ reach), weight @ reach.T)
        refit = theta
        for _ in range(40):
            gradient = _gradient(refit, x, t, penalty, prior)
            if np.abs(gradient).max() <= LEFT_OUT_ERROR * penalty:
                break
            step = inverse @ gradient.ravel()
            step = (step + reach @ (gain @ gradient.ravel())).reshape(theta.shape)
            moved = _descended(refit, step, gradient, x, t, penalty, prior)
            if moved is None:
                break
            refit = moved
        else:
            refit = logistic(x, t, penalty, prior, refit)
        answer[G] = features[G] @ refit
    return answer


def _gradient(theta: FLOAT64, x: FLOAT64, t: FLOAT64, penalty: float, prior: FLOAT64) -> FLOAT64:
    return np.asarray(x.T @ (softmax(x @ theta) - t) + penalty * (theta - prior))


def _hessian(p: FLOAT64, x: FLOAT64, penalty: float) -> FLOAT64:
    """sum_i x_i x_i^T (x) (diag p_i - p_i p_i^T) + lambda I, (F C, F C), class index fastest."""
    size = x.shape[1] * p.shape[1]
    curvature = p[:, :, None] * (np.eye(p.shape[1]) - p[:, None, :])  # (n, C, C)
    blocks = x.T @ (curvature.transpose(1, 2, 0)[..., None] * x)  # (C, C, F, F)
    return np.asarray(blocks.transpose(2, 0, 3, 1).reshape(size, size) + penalty * np.eye(size))


def _descended(
    theta: FLOAT64, step: FLOAT64, gradient: FLOAT64, x: FLOAT64, t: FLOAT64, penalty: float, prior: FLOAT64
) -> FLOAT64 | None:
    """theta - s step with the first s of 1, 1/2, 1/4, ... that lowers J enough (Armijo); None where none does."""
    before, slope = penalised_loss(theta, x, t, penalty, prior), float((gradient * step).sum())
    for halvings in range(40):
        s = 0.5**halvings
        moved = theta - s * step
        if penalised_loss(moved, x, t, penalty, prior) <= before - 1e-4 * s * slope:
            return np.asarray(moved)
    return None


def temperature(left_out: ArrayLike, targets: ArrayLike) -> float:
    """T of softmax(f / T) [R6]: the minimiser of -sum_ic t_ic log softmax(f_-i / T)_c over [1e-3, 1e3].

    left_out (n, C): left-out scores, never those of the fit itself (which look surer than they are); targets (n, C),
    smoothed. The loss is convex in 1/T, so its derivative is bisected. Constant scores say nothing: T = 1.
    """
    f, t = np.asarray(left_out, np.float64), np.asarray(targets, np.float64)
    if np.ptp(f, axis=1).max(initial=0.0) == 0:
        return 1.0
    low, high = -np.log(_SHARPEST), np.log(_SHARPEST)  # of log(1/T)
    for _ in range(60):
        middle = (low + high) / 2
        slope = ((softmax(np.exp(middle) * f) - t) * f).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def smoothed(labels: ArrayLike, n_classes: int) -> FLOAT64:
    """Targets (1 - s) onehot + s/C, s = (C/2)/(n + C/2) [R6]: Jeffreys' half a row a class. (n, C)."""
    y = np.asarray(labels)
    s = n_classes / 2 / (len(y) + n_classes / 2)
    return np.asarray((1 - s) * np.eye(n_classes)[y] + s / n_classes)


def permutation_p_value(
    kernel: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    groups: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 999,
) -> float:
    """p of "the scores do not tell the labels" [R9]: (1 + #{PRESS of shuffled labels <= PRESS}) / (draws + 1).

    kernel (n, n) as for `kernel_ridge`; labels (n,) in 0..n_classes-1. One row stands for each group: those are
    exchangeable when nothing is there, so P(p <= level) <= level, whatever the kernel and however few the rows.
    PRESS is that of lambda = 1. seed: of the shuffles, whose bits are the same on every machine.
    """
    first = np.array([rows[0] for rows in members(groups, len(np.asarray(labels)))])
    K, Y = np.asarray(kernel, np.float64)[np.ix_(first, first)], np.eye(n_classes)[np.asarray(labels)[first]]
    n = len(first)
    if n < 2:
        return 1.0
    centre = np.eye(n) - 1 / n
    K = centre @ K @ centre  # one row a group: the mean has moved
    residual = np.eye(n) - 1 / n - K @ np.linalg.inv(K + np.eye(n))
    residual /= np.diag(residual)[:, None]  # row i now gives y_i - f_-i [R4]
    actual = float(((residual @ Y) ** 2).sum())
    at_most = 0
    for draw in range(draws):
        shuffled = Y[permutation(seed, draw, Purpose.LABEL_SHUFFLE, n)]
        at_most += float(((residual @ shuffled) ** 2).sum()) <= actual * (1 + 1e-12)
    return (1 + at_most) / (draws + 1)
