"""The readout: how to read a black box's scores, learned from the few-shot rows' own scores.

A prompt on a text is answered with scores (n, T): of the C label words, and of more tokens where the service gives
them. A readout is a linear map of scores to C logits, fitted to rows whose scores were paid for already:

    none        the label words' scores as they are
    centred     less their mean over the training rows (no labels looked at)                                  [R7]
    labels      a C x C logistic map, pulled to the identity                                                  [R8]
    vocabulary  kernel ridge on label words and other tokens, several prompts averaged                   [R1] to [R3]

    from zopog_ref.readout import choose
    choice = choose(scores, labels, n_classes=2)      # scores (n, T), or one array a prompt; label words come first
    choice.fit.readout.predict(scores_of_new_texts)       # (rows, 2)

Every fit says what it would have answered on its own rows, each left out: `Fit.left_out`. All formulas:
docs/readout.md; [R4] and the descent of [R8] are proved there, and its published relatives named.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref.linear_fits import (
    FEW_ROWS,
    kernel_ridge,
    left_out_logistic,
    log_softmax,
    logistic,
    members,
    permutation_p_value,
    smoothed,
    softmax,
    temperature,
)
from zopog_ref.readout_kernel import blocks_of, kernel_of, kernel_of_blocks, row_centred
from zopog_ref.readout_map import KINDS, Kind, Readout, Scores, checked_labels, checked_scores, id_arrays, word_scores

__all__ = ["KINDS", "Choice", "Fit", "Readout", "centred", "choose", "labels", "likely_tokens", "none", "vocabulary"]

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
PULLS = (3.0, 10.0, 30.0)  # candidates for lambda of [R8] where there are rows enough to choose
FEW_ROWS_PULL = 3.0
LEVEL = 0.01  # of the verdict that something was learned [R9]
DOUBT = 0.05  # above it, what learns from labels is not chosen


class Fit(NamedTuple):
    """A readout and what it says of its own rows, each (or its group) left out: probabilities (n, C)."""

    readout: Readout
    left_out: FLOAT64


@dataclass(frozen=True)
class Choice:
    """What `choose` found. losses: left-out NLL and penalty [R11] of each kind, in nats; skipped: kind -> why.

    p_value of "the scores do not tell the labels" [R9]; learned: p_value <= LEVEL. False: nothing was learned.
    """

    kind: Kind
    fits: dict[Kind, Fit]
    losses: dict[Kind, float]
    p_value: float
    learned: bool
    skipped: dict[Kind, str] = field(default_factory=dict)

    @property
    def fit(self) -> Fit:
        """The chosen one: its readout, and its left-out probabilities (n, C), which `conformal_sets` takes."""
        return self.fits[self.kind]


def likely_tokens(scores: ArrayLike, count: int, words: ArrayLike) -> INT64:
    """Columns to read: the label words, then the `count` columns of largest mean softmax over the rows. No labels.

    scores (n, V), of the training rows alone; words (C,): columns of the label words, which come first and once.
    Choosing by label instead makes leave-one-out lie: it never sees that choice.
    """
    [s], first = checked_scores([scores]), np.asarray(words, np.int64)
    if first.ndim != 1 or len(set(first.tolist())) < len(first) or not ((first >= 0) & (first < s.shape[1])).all():
        raise ValueError(f"words must be different columns in 0..{s.shape[1] - 1}, got {first.tolist()}")
    order = np.argsort(-softmax(s).mean(axis=0), kind="stable")[:count]
    return np.concatenate([first, order[~np.isin(order, first)]])


def none(scores: Scores, labels: ArrayLike | None = None, *, columns: Sequence[ArrayLike] = ()) -> Fit:
    """Scores of the label words as they are, averaged over the prompts: the manual prompt's own answer.

    scores (n, C), or M of them; labels only for the record of how well that does.
    """
    given = word_scores(scores)
    mean = np.asarray(sum(given) / len(given))
    identity = tuple(np.eye(mean.shape[1]) for _ in given)
    readout = Readout("none", identity, np.zeros(mean.shape[1]), id_arrays(columns), rows=len(mean))
    return _recorded(readout, softmax(mean), labels)


def centred(
    scores: Scores,
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    columns: Sequence[ArrayLike] = (),
) -> Fit:
    """Scores of the label words less their mean over the training rows [R7]: softmax((s - mean s) / T).

    scores (n, C) in nats (log-probabilities or logits), or M of them, which are averaged. Without labels T = 1, and no
    label is looked at; with labels (n,) T is that of [R6]. It takes for granted that classes are about
    equally frequent among these rows and where it will be used.
    """
    given = word_scores(scores)
    n, classes = given[0].shape
    mean = np.asarray(sum(row_centred(s) for s in given) / len(given))
    left_out = np.empty_like(mean)
    for G in _several(groups, n):
        left_out[G] = mean[G] - (mean.sum(axis=0) - mean[G].sum(axis=0)) / (n - len(G))
    T = 1.0 if labels is None else temperature(left_out, smoothed(checked_labels(labels, n, classes), classes))
    matrix = (np.eye(classes) - 1 / classes) / T
    readout = Readout("centred", (matrix,) * len(given), -mean.mean(axis=0) / T, id_arrays(columns), T, rows=n)
    return _recorded(readout, softmax(left_out / T), labels)


def labels(
    scores: Scores, labels: ArrayLike, *, penalty: float | None = None, groups: ArrayLike | None = None,
    columns: Sequence[ArrayLike] = (),
) -> Fit:  # fmt: skip
    """A logistic map of the label words' scores [R8], pulled to `centred`: softmax((Theta^T [x; 1]) / T).

    scores (n, C) in nats, or M of them, all read at once; labels (n,) in 0..C-1, where a class may be missing.
    penalty: lambda, by how much Theta is pulled to the identity; None: 3 below 100 rows, from there the one of 3, 10
    and 30 with the best left-out likelihood. Leave-one-out is one refit a group, warm, exact to 1e-6.
    """
    given = word_scores(scores)
    n, classes = given[0].shape
    y = checked_labels(labels, n, classes)
    if penalty is not None and not 0 < penalty < np.inf:
        raise ValueError(f"the penalty lambda must be positive, not {penalty}")
    rows, targets = _several(groups, n), np.eye(classes)[y]
    x = np.concatenate([row_centred(s) for s in given], axis=1)
    mean = x.mean(axis=0)
    features = np.column_stack([x - mean, np.ones(n)])  # (n, M C + 1)
    prior = np.vstack([np.eye(classes) / len(given)] * len(given) + [np.zeros((1, classes))])
    best: tuple[float, float, FLOAT64, FLOAT64] | None = None
    for pull in (penalty,) if penalty is not None else PULLS if n >= FEW_ROWS else (FEW_ROWS_PULL,):
        theta = logistic(features, targets, pull, prior)
        left_out = left_out_logistic(theta, features, targets, pull, prior, rows)
        loss = float(-log_softmax(left_out)[np.arange(n), y].mean())
        if best is None or loss < best[0]:
            best = loss, pull, theta, left_out
    assert best is not None
    _, pull, theta, left_out = best
    T = temperature(left_out, smoothed(y, classes))
    blocks = [theta[m * classes : (m + 1) * classes] for m in range(len(given))]
    matrices = tuple((b - b.mean(axis=0)) * len(given) / T for b in blocks)
    bias = (theta[-1] - mean @ theta[:-1]) / T
    readout = Readout("labels", matrices, bias, id_arrays(columns), T, pull, n)
    return _recorded(readout, softmax(left_out / T), y)


def vocabulary(
    scores: Scores, labels: ArrayLike, n_classes: int, *, penalty: float | None = None, groups: ArrayLike | None = None,
    columns: Sequence[ArrayLike] = (),
) -> Fit:  # fmt: skip
    """Kernel ridge on the label words and on the other tokens [R1] to [R5], all prompts averaged: softmax(f / T).

    scores (n, T), T >= C, or M of them, whose first C columns are the label words (of a sentence-embedding model: the
    cosines to the phrases, then the embedding itself); labels (n,) in 0..C-1, each class at least once. penalty:
    lambda, None: the rule [R5]. Leave-one-out is exact [R4]. M prompts add no parameters.
    """
    given = checked_scores(scores)
    n = len(given[0])
    y = checked_labels(labels, n, n_classes)
    if missing := sorted(set(range(n_classes)) - set(y.tolist())):
        raise ValueError(
            f"no row of class {missing}: a ridge cannot learn it; give rows of it, or use labels or centred"
        )
    blocks = blocks_of(given, n_classes)
    fit = kernel_ridge(kernel_of_blocks(blocks), np.eye(n_classes)[y], penalty, groups)
    T = temperature(fit.left_out, smoothed(y, n_classes))
    matrices = [np.zeros((s.shape[1], n_classes)) for s in given]
    bias = fit.mean
    for block in blocks:  # the kernel form folded into primal weights: W = X^T a
        weights = block.features.T @ fit.dual * block.scale / len(blocks)
        bias = bias - block.mean @ weights
        matrices[block.prompt][block.where] += weights - weights.mean(axis=0)
    scaled = tuple(a * len(given) / T for a in matrices)
    readout = Readout("vocabulary", scaled, bias / T, id_arrays(columns), T, fit.penalty, n)
    return _recorded(readout, softmax(fit.left_out / T), y)


def choose(
    scores: Scores, labels: ArrayLike, n_classes: int, *, groups: ArrayLike | None = None,
    kinds: Sequence[Kind] = KINDS, columns: Sequence[ArrayLike] = (), seed: int = 0,
) -> Choice:  # fmt: skip
    """The readout to use [R11]: the most learned whose left-out loss is within one standard error of the least.

    scores as for `vocabulary` (label words alone where T = C: there is no vocabulary then); labels (n,) in 0..C-1;
    groups (n,): rows of equal text have equal entries; columns: token ids of each prompt's columns; seed: of the
    shuffles of the test [R9]. Loss: left-out NLL, and 1/n where T was fitted (Akaike's price of a number). Ties within
    the noise go to what learned more, since that reads what the others read as well, and few rows are noisy judges.
    Where p > 0.05, none or centred is chosen, unless neither is among the kinds.
    """
    given = checked_scores(scores)
    n, widths = len(given[0]), [s.shape[1] for s in given]
    y = checked_labels(labels, n, n_classes)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown kinds of readout {unknown}; known: {', '.join(KINDS)}")
    if min(widths) < n_classes:
        raise ValueError(f"scores need at least a column for each of {n_classes} label words; got {widths} columns")
    words, ids = [s[:, :n_classes] for s in given], [np.asarray(c)[:n_classes] for c in columns]
    fits: dict[Kind, Fit] = {}
    skipped: dict[Kind, str] = {}
    for kind in kinds:
        if kind == "none":
            fits[kind] = none(words, y, columns=ids)
        elif len(members(groups, n)) < 2:
            skipped[kind] = "all rows are one text"
        elif kind == "centred":
            fits[kind] = centred(words, y, groups=groups, columns=ids)
        elif kind == "labels":
            fits[kind] = _LABELS(words, y, groups=groups, columns=ids)
        elif max(widths) == n_classes:
            skipped[kind] = "there are no scores but the label words'"
        elif len(set(y.tolist())) < n_classes:
            skipped[kind] = "a class has no row"
        else:
            fits[kind] = vocabulary(given, y, n_classes, groups=groups, columns=columns)
    p_value = permutation_p_value(kernel_of(given, n_classes), y, n_classes, groups, seed)
    paid = {kind: _losses(fit.left_out, y) + (kind != "none") / n for kind, fit in fits.items()}  # (n,) each
    if not fits:
        raise ValueError(f"no readout can be fitted: {skipped}")
    allowed = [kind for kind in fits if p_value <= DOUBT or kind in ("none", "centred")] or list(fits)
    least = min(allowed, key=lambda kind: paid[kind].mean())
    excess = {kind: paid[kind] - paid[least] for kind in allowed}  # (n,): paired, row by row
    within = [kind for kind in allowed if excess[kind].mean() <= excess[kind].std() / np.sqrt(max(n - 1, 1))]
    losses = {kind: float(each.mean()) for kind, each in paid.items()}
    return Choice(max(within, key=KINDS.index), fits, losses, p_value, p_value <= LEVEL, skipped)


_LABELS = labels  # inside `choose` that name is its argument's


def _losses(left_out: FLOAT64, y: INT64) -> FLOAT64:
    """-log p_y, (n,), in nats."""
    return np.asarray(-np.log(np.maximum(left_out[np.arange(len(y)), y], np.finfo(np.float64).tiny)))


def _recorded(readout: Readout, left_out: FLOAT64, labels: ArrayLike | None) -> Fit:
    if labels is None:
        return Fit(readout, left_out)
    y = checked_labels(labels, *left_out.shape)
    right = float((left_out.argmax(axis=1) == y).mean())
    return Fit(replace(readout, left_out_accuracy=right, left_out_loss=float(_losses(left_out, y).mean())), left_out)


def _several(groups: ArrayLike | None, n: int) -> list[INT64]:
    rows = members(groups, n)
    if len(rows) < 2:
        raise ValueError("leave-one-out needs at least two rows of different text; give more rows")
    return rows
