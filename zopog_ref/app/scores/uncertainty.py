"""How sure a prediction is, and whether it should be: entropy, calibration, scoring rules, rejection, detection.

p (R, C) are predicted probabilities of R rows, labels (R,) the true classes, per_prompt (M, R, C) the probabilities of
each of M prompts with weights (M,). Logarithms are natural: entropies and losses are in nats. docs/uncertainty.md has
the formulas; the tests compare with closed forms, enumeration and scikit-learn.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_models.prompts import predicting

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]

BINS = 10
SMALLEST = float(np.finfo(np.float64).eps)  # a probability of 0 costs -log of this, 36.04 nats: as in scikit-learn
_DECIMALS = 12  # equal counts of votes are equal shares, in whatever order they were added
_COVERAGES = 20  # points of the rejection curve that a result keeps


def predictive(
    per_prompt: ArrayLike, weights: ArrayLike | None = None, kind: Literal["mean", "votes"] = "mean"
) -> FLOAT64:
    """(R, C): "mean", sum_m w_m p_m(c | row); or "votes", sum_m w_m 1{argmax p_m(. | row) = c}. Weights are normalised.

    A prompt whose largest probability is shared votes for the first of the classes that share it, as argmax does; one
    that was not answered, whose probabilities are all the same, gives each class 1/C of its vote.
    """
    each, w = _checked_prompts(per_prompt, weights)
    if kind == "votes":
        return np.einsum("m,mrc->rc", w, predicting.votes(each)).round(_DECIMALS)
    if kind != "mean":
        raise ValueError(f"unknown predictive {kind!r}; choose mean or votes")
    return np.einsum("m,mrc->rc", w, each)


def entropy(p: ArrayLike) -> FLOAT64:
    """H(p) = -sum_c p_c log p_c, with 0 log 0 = 0. (..., C) -> (...)."""
    p = np.asarray(p, np.float64)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1) + 0.0  # + 0.0: a certain row has 0, not -0


def expected_entropy(per_prompt: ArrayLike, weights: ArrayLike | None = None) -> FLOAT64:
    """sum_m w_m H(p_m): what each prompt by itself is unsure of, on average. (R,)."""
    each, w = _checked_prompts(per_prompt, weights)
    return w @ entropy(each)


def mutual_information(per_prompt: ArrayLike, weights: ArrayLike | None = None) -> FLOAT64:
    """I = H(sum_m w_m p_m) - sum_m w_m H(p_m) >= 0: what the prompts disagree about. (R,)."""
    gap = entropy(predictive(per_prompt, weights)) - expected_entropy(per_prompt, weights)
    return np.maximum(gap, 0.0)  # concavity gives >= 0; rounding may give -1e-17


def negative_log_likelihood(p: ArrayLike, labels: ArrayLike) -> FLOAT64:
    """-log max(p_y, SMALLEST) of every row: a vote histogram without a vote for y costs 36.04, not infinity. (R,)."""
    p, labels = _checked(p, labels)
    return -np.log(np.maximum(p[np.arange(len(labels)), labels], SMALLEST)) + 0.0


def brier(p: ArrayLike, labels: ArrayLike) -> FLOAT64:
    """sum_c (p_c - 1{c = y})^2 of every row, in [0, 2]. (R,)."""
    p, labels = _checked(p, labels)
    return np.square(p - (labels[:, None] == np.arange(p.shape[1]))).sum(axis=1)


class Reliability(NamedTuple):
    """Rows by confidence. rows (bins,): how many; confidence, accuracy (bins,): their means, NaN in an empty bin."""

    rows: INT64
    confidence: FLOAT64
    accuracy: FLOAT64

    @property
    def ece(self) -> float:
        """Expected calibration error, sum_b (n_b / R) |accuracy_b - confidence_b|; empty bins have no share in it."""
        filled = self.rows > 0
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((self.rows[filled] * gap).sum() / self.rows.sum())

    def to_json(self) -> dict[str, list[Any]]:
        """Lists, with None for the NaN of an empty bin."""
        means = {name: [_number(v) for v in getattr(self, name)] for name in ("confidence", "accuracy")}
        return {"rows": self.rows.tolist()} | means


def reliability(p: ArrayLike, labels: ArrayLike, bins: int = BINS, predicted: ArrayLike | None = None) -> Reliability:
    """Confidence max_c p_c against accuracy, in bins of equal width, closed on the right: (0, 0.1], ..., (0.9, 1].

    A confidence is rounded to 12 decimals before it is put into its bin, so that seven votes of ten are 0.7 exactly.
    predicted (R,): as of `uncertainty_metrics`.
    """
    p, labels = _checked(p, labels)
    if bins < 1:
        raise ValueError(f"bins is {bins}; it must be at least 1")
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) if predicted is None else predicted) == labels
    which = np.searchsorted(np.arange(1, bins) / bins, confidence.round(_DECIMALS), side="left")  # (R,)
    count = np.bincount(which, minlength=bins)
    sums = (np.bincount(which, values, bins) for values in (confidence, correct))
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an empty bin
        return Reliability(count, *(s / count for s in sums))


def auroc(low: ArrayLike, high: ArrayLike) -> float:
    """P(h > l) + P(h = l) / 2 for a random h of `high` and l of `low`: how well the values tell `high` from `low`.

    The area under the ROC curve, by the sum of mid-ranks; 0.5 says nothing, NaN when one of the two is empty. With the
    uncertainties of right rows and of wrong rows: the AUROC of errors. With those of the prompt's own task's rows and
    of another task's: the AUROC of out-of-distribution detection.
    """
    low, high = np.asarray(low, np.float64).ravel(), np.asarray(high, np.float64).ravel()
    if not low.size or not high.size:
        return float("nan")
    _, place, count = np.unique(np.concatenate([low, high]), return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(count) - (count - 1) / 2  # of each distinct value, from 1
    above = mid_ranks[place[low.size :]].sum() - high.size * (high.size + 1) / 2
    return float(above / (low.size * high.size))


class RejectionCurve(NamedTuple):
    """Accuracy of the k surest rows. coverage k/R and accuracy (R,), for k = 1..R."""

    coverage: FLOAT64
    accuracy: FLOAT64

    @property
    def area(self) -> float:
        """Mean accuracy over all coverages, (1/R) sum_k accuracy_k: 1 is the best, the plain accuracy says nothing."""
        return float(self.accuracy.mean())


def rejection_curve(uncertainty: ArrayLike, correct: ArrayLike) -> RejectionCurve:
    """Accuracy-rejection curve: answer only the rows of least uncertainty. uncertainty, correct (R,).

    Rows of equal uncertainty have no order: the curve is the mean over all orders of them, which runs straight (in
    counts of right answers) through a group of ties.
    """
    uncertainty, correct = np.asarray(uncertainty, np.float64), np.asarray(correct, np.float64)
    if uncertainty.shape != correct.shape or uncertainty.ndim != 1 or not uncertainty.size:
        raise ValueError(f"expected one uncertainty for every row, got {uncertainty.shape} and {correct.shape}")
    _, group, count = np.unique(uncertainty, return_inverse=True, return_counts=True)
    share = np.bincount(group, correct) / count  # of right answers in each group of ties
    right = np.cumsum(np.repeat(share, count))
    kept = np.arange(1, len(right) + 1)
    return RejectionCurve(kept / len(right), right / kept)


def uncertainty_metrics(p: ArrayLike, labels: ArrayLike, predicted: ArrayLike | None = None) -> dict[str, Any]:
    """Everything above for one predictive, as JSON: None where a value is not defined (no row wrong, none right).

    ece, nll, brier, auroc_errors, rejection_area, mean entropy and confidence, nll_clipped (rows whose label had
    probability 0), the reliability bins and 20 points of the rejection curve. Uncertainty is the entropy of p.
    predicted (R,): the classes answered, -1 for no answer, which is wrong; None: the most probable ones.
    """
    p, labels = _checked(p, labels)
    given = p.argmax(axis=1) if predicted is None else np.asarray(predicted)
    unsure, correct = entropy(p).round(_DECIMALS), given == labels
    table, curve = reliability(p, labels, predicted=given), rejection_curve(unsure, correct)
    points = np.unique(np.ceil(np.arange(1, _COVERAGES + 1) / _COVERAGES * len(labels)).astype(int)) - 1
    return {
        "ece": table.ece,
        "nll": float(negative_log_likelihood(p, labels).mean()),
        "nll_clipped": int((p[np.arange(len(labels)), labels] < SMALLEST).sum()),
        "brier": float(brier(p, labels).mean()),
        "auroc_errors": _number(auroc(unsure[correct], unsure[~correct])),
        "rejection_area": curve.area,
        "entropy": float(unsure.mean()),
        "confidence": float(p.max(axis=1).mean()),
        "reliability": table.to_json(),
        "rejection": {"coverage": curve.coverage[points].tolist(), "accuracy": curve.accuracy[points].tolist()},
    }


def ensemble_metrics(per_prompt: ArrayLike, weights: ArrayLike | None, labels: ArrayLike) -> dict[str, Any]:
    """uncertainty_metrics of the mean; for several prompts also of their votes, and their mean mutual information."""
    each = np.asarray(per_prompt, np.float64)
    mean = predictive(each, weights)
    found = {"mean": uncertainty_metrics(mean, labels, predicting.chosen(mean, each))}
    if len(each) > 1:
        voted = predictive(each, weights, "votes")
        found["votes"] = uncertainty_metrics(voted, labels, predicting.chosen(voted, each))
        found["mean"]["mutual_information"] = float(mutual_information(each, weights).mean())
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _checked(p: ArrayLike, labels: ArrayLike) -> tuple[FLOAT64, INT64]:
    p, labels = np.asarray(p, np.float64), np.asarray(labels)
    if p.ndim != 2 or labels.shape != p.shape[:1] or not p.size:
        raise ValueError(f"expected probabilities (rows, C) and a label for every row, got {p.shape}, {labels.shape}")
    _check_distribution(p)
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= p.shape[1]:
        raise ValueError(f"labels must be class numbers from 0 to {p.shape[1] - 1}, got {np.unique(labels)[:20]}")
    return p, labels


def _checked_prompts(per_prompt: ArrayLike, weights: ArrayLike | None) -> tuple[FLOAT64, FLOAT64]:
    each = np.asarray(per_prompt, np.float64)
    if each.ndim != 3 or not len(each):
        raise ValueError(f"expected the prompts' probabilities as (prompts, rows, C), got {each.shape}")
    _check_distribution(each)
    w = np.ones(len(each)) if weights is None else np.asarray(weights, np.float64)
    if w.shape != (len(each),) or not (w >= 0).all() or not 0 < w.sum() < np.inf:
        raise ValueError(f"expected {len(each)} weights >= 0 with a positive sum, got {w}")
    return each, w / w.sum()


def _check_distribution(p: FLOAT64) -> None:
    if not (p >= 0).all() or not (np.abs(p.sum(axis=-1) - 1) < 1e-6).all():
        raise ValueError("probabilities must be >= 0 and sum to 1 in every row")
