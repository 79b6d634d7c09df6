"""What a method may see: the frozen model as an Oracle, its losses as an Objective, and the ledger of calls.

What they cost is `zopog_ref.ledger`.
"""

from __future__ import annotations  # signatures show names, not what these stand for

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref.arrays import ARRAY, FLOAT32, FLOAT64, INT64
from zopog_ref.ledger import BudgetExhausted, Journal, Ledger
from zopog_ref.rounding import DOUBLE, SINGLE, roundoff_of

__all__ = [
    "LOSSES",
    "BudgetExhausted",
    "FunctionObjective",
    "Journal",
    "Ledger",
    "Loss",
    "ModelObjective",
    "Objective",
    "Oracle",
    "Thinnable",
    "answered",
    "cross_entropy",
    "error",
    "hinge",
    "log_sum_exp",
    "unanswered",
]


class Oracle(Protocol):
    """A frozen model with its task: prompts in, label-word logits out. Nothing else of the model is ever seen."""

    n_positions: int  # n
    n_candidates: int  # N
    dim: int  # d, of the subspace
    n_classes: int  # C
    lengths: INT64  # (rows,) tokens of each row of the training split, the prompt's included

    def logits(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT32:
        """(K, B, C) for tokens (K, n) candidate indices; z (K, d) or (K, B, d); examples (B,) rows."""
        ...


class Objective(Protocol):
    """A loss of prompts on examples that charges what it costs.

    It may have `roundoff`, the relative rounding error of its losses, so that a mu which drowns in it is noticed.
    """

    ledger: Ledger

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B) losses f(t_k, z_k; x_b) >= 0, for ledger.price(K, B) calls. Arguments as Oracle.logits."""
        ...


@runtime_checkable
class Thinnable(Protocol):
    """An objective whose frozen model can be read with some of its hidden units switched off (Clip-Tuning)."""

    @property
    def hidden_units(self) -> tuple[int, int]:
        """(layers, F) feed-forward hidden units."""
        ...

    def thinned(self, unit_mask: FLOAT64) -> Objective:
        """The objective of the network whose hidden units are multiplied by unit_mask (layers, F), same ledger."""
        ...


Loss = Callable[[NDArray[np.floating], INT64], FLOAT64]


def log_sum_exp(x: ArrayLike) -> FLOAT64:
    """log sum_c exp(x_c) over the last axis, which cannot overflow. x (..., C). Returns (...)."""
    x = np.asarray(x, np.float64)
    largest = x.max(axis=-1)
    return np.asarray(largest + np.log(np.exp(x - largest[..., None]).sum(axis=-1)))


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> FLOAT64:
    """f = log sum_c exp(logit_c) - logit_y, in nats. logits (..., B, C), labels (B,). Returns (..., B)."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    return log_sum_exp(logits) - logits[..., np.arange(len(labels)), labels]


def hinge(logits: ArrayLike, labels: ArrayLike, margin: float = 2.0) -> FLOAT64:
    """f = max(0, margin + max_{c != y} logit_c - logit_y); margin 2 as BBT's code. Shapes as cross_entropy."""
    logits, labels = np.array(logits, np.float64), np.asarray(labels)
    rows = np.arange(len(labels))
    right = logits[..., rows, labels].copy()
    logits[..., rows, labels] = -np.inf
    return np.maximum(0.0, margin + logits.max(axis=-1) - right)


def error(logits: ArrayLike, labels: ArrayLike) -> FLOAT64:
    """f = 1 when argmax_c logit_c is not y, else 0: all that a model which only answers labels shows.

    A tie goes to the first class, as when predicting; no answer is wrong. Shapes as cross_entropy.
    """
    wrong = np.asarray(logits).argmax(axis=-1) != np.asarray(labels)
    return (wrong | unanswered(logits)).astype(np.float64)


def unanswered(scores: ArrayLike) -> NDArray[np.bool_]:
    """Rows (...) whose scores (..., C), C > 1, are one number: no class is named, as where a service refuses a text."""
    s = np.asarray(scores)
    return np.asarray((s.max(axis=-1) == s.min(axis=-1)) & (s.shape[-1] > 1))


def answered(logits: ARRAY) -> ARRAY:
    """The logits (..., C) themselves, if every row has a class that they speak for.

    argmax would read a NaN as the first class. Errors: FloatingPointError, for NaN, for inf, for nothing but -inf.
    """
    best = np.asarray(logits).max(axis=-1)  # NaN where one is
    wrong = ~np.isfinite(best)
    if wrong.any():
        raise FloatingPointError(
            f"the model answered {int(wrong.sum())} of {best.size} rows with logits that are not finite: the "
            "continuous prompt may have diverged (a smaller eta_z or scale), or the model is damaged"
        )
    return logits


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "hinge": hinge, "error": error}


class ModelObjective:
    """The loss of an oracle's training split: oracle + labels + loss + ledger.

    Parameters:

    - oracle: the frozen model with its task.
    - labels: (rows,), the class of every row of the training split, 0 to C - 1.
    - ledger: pays for every query before the model is asked.
    - loss: a name of LOSSES. Default: "cross_entropy".
    - journal: keeps losses that are paid for but in no checkpoint yet. Default: None.

    Errors: ValueError for an unknown loss or labels that do not fit the oracle; FloatingPointError when the model
    answers with something that is not finite.
    """

    def __init__(
        self,
        oracle: Oracle,
        labels: ArrayLike,
        ledger: Ledger,
        loss: str = "cross_entropy",
        journal: Journal | None = None,
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; there are {', '.join(LOSSES)}")
        self.labels = np.asarray(labels, np.int64)
        if self.labels.shape != oracle.lengths.shape:
            raise ValueError(f"the oracle has {len(oracle.lengths)} rows, labels are {self.labels.shape}")
        if self.labels.size and not (0 <= self.labels.min() and self.labels.max() < oracle.n_classes):
            raise ValueError(
                f"labels must lie in 0..{oracle.n_classes - 1}, not {self.labels.min()}..{self.labels.max()}"
            )
        self.oracle, self.ledger, self.loss, self.journal = oracle, ledger, LOSSES[loss], journal
        self.roundoff = DOUBLE if loss == "error" else SINGLE  # the logits are float32; 0 and 1 are exact
        # A step's queries of one point a prompt on all rows, for `paid_scores`; None where no loop empties it.
        self.whole: list[tuple[INT64, FLOAT64, ARRAY]] | None = None

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B) losses, charged; see Objective."""
        rows = np.arange(len(self.labels))
        whole = self.whole is not None and z.ndim == 2 and np.array_equal(np.sort(examples), rows)
        paid = self._paid(tokens, examples)
        if paid is not None and paid.ndim == 2:
            return paid
        scores: ARRAY = self.oracle.logits(tokens, z, examples) if paid is None else paid  # (K, B, C)
        with np.errstate(invalid="ignore"):  # what is not finite is named below
            losses = self.loss(scores, self.labels[examples])  # (K, B)
        self._check(losses, scores)
        whole = whole and bool(np.isfinite(scores).all())
        if whole and self.whole is not None:
            self.whole.append((tokens, z, scores[:, np.argsort(examples)]))
        if paid is None and self.journal is not None:
            self.journal.record(scores if whole else losses)
        return losses

    def scores(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B, C) scores of the label words, charged as losses are; see `read_loss`.

        Errors: ValueError for another loss than the cross-entropy; FloatingPointError.
        """
        if self.loss is not cross_entropy:
            raise ValueError(
                "a readout inside the objective is fitted by cross-entropy: set the loss to cross_entropy, "
                "or readout_folds to 0"
            )
        paid = self._paid(tokens, examples)
        if paid is not None and paid.ndim != 3:
            raise ValueError("the journal holds losses where scores are needed: it is of a run without readout_folds")
        scores = np.asarray(self.oracle.logits(tokens, z, examples) if paid is None else paid, np.float64)
        self._check(scores, scores)
        if paid is None and self.journal is not None:
            self.journal.record(scores)
        return scores

    def paid_scores(self, tokens: INT64, z: FLOAT64) -> FLOAT64 | None:
        """(rows, C) scores of one prompt on all training rows, if the queries in `whole` have paid for them."""
        for asked, points, scores in self.whole or []:
            same = (asked == tokens).all(axis=1) & (points == z).all(axis=1)  # (K,)
            if same.any():
                return np.asarray(scores[int(same.argmax())], np.float64)
        return None

    def _paid(self, tokens: INT64, examples: INT64) -> FLOAT64 | None:
        """Charges a query, and returns its losses (K, B) or scores (K, B, C) if the journal has them."""
        count, rows = len(tokens), len(examples)
        read = count * int(self.oracle.lengths[examples].sum())
        self.ledger.charge(self.ledger.price(count, rows), count * rows, read)
        return None if self.journal is None else self.journal.replay()

    def _check(self, losses: FLOAT64, scores: ARRAY) -> None:
        """Errors: FloatingPointError for what is not finite."""
        if not np.isfinite(losses).all():
            raise FloatingPointError(
                f"the model answered with {int((~np.isfinite(losses)).sum())} non-finite losses of {losses.size}: "
                "the continuous prompt may have diverged (a smaller eta_z or scale), or the model is damaged"
            )
        answered(scores)

    @property
    def hidden_units(self) -> tuple[int, int]:
        """(layers, F); see Thinnable."""
        units: tuple[int, int] = self._thinnable().hidden_units
        return units

    def thinned(self, unit_mask: FLOAT64) -> ModelObjective:
        """The loss of a thinned network, charged to the same ledger; see Thinnable. Errors: ValueError."""
        network = copy.copy(self)
        network.oracle = self._thinnable().thinned(unit_mask)
        network.whole = None  # what it answers is not the frozen model's
        return network

    def _thinnable(self) -> Any:
        if not hasattr(self.oracle, "thinned"):
            raise ValueError(f"thinned networks need an oracle with unit masks; {type(self.oracle).__name__} has none")
        return self.oracle


class FunctionObjective:
    """Your own function as an objective.

    Parameters:

    - function: (tokens (K, n), z (K, d) or (K, B, d), examples (B,)) -> losses (K, B), in any unit; lower is better.
      It gets copies, so it may write into them.
    - ledger: pays ledger.price(K, B) calls for every query, before the function is called.
    """

    def __init__(self, function: Callable[[INT64, FLOAT64, INT64], ArrayLike], ledger: Ledger) -> None:
        self.function, self.ledger = function, ledger
        self.roundoff = DOUBLE  # of the last losses

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B) losses, charged; see Objective. Errors: ValueError when the function returns another shape."""
        count, rows = len(tokens), len(examples)
        self.ledger.charge(self.ledger.price(count, rows), count * rows)
        answer = np.asarray(self.function(tokens.copy(), z.copy(), examples.copy()))  # it may write into its arguments
        if answer.shape != (count, rows):
            raise ValueError(
                f"the function returned losses of shape {answer.shape}; {count} prompts on {rows} examples need "
                f"({count}, {rows}), one loss for each prompt and example"
            )
        self.roundoff = roundoff_of(answer)
        return answer.astype(np.float64)
