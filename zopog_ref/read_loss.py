"""The readout inside the objective: a step's losses are read through Theta, refitted from the scores it paid for.

    l(t, z; x_i) = -log softmax([s P; 1] Theta_f(i))_y_i      s: the label words' scores at (t, z);  P = I - 11^T / C
    Theta_f <- Theta_f + (B/n)(argmin J_f - Theta_f)          after the step, at no calls
    J_f(Theta) = n/(K B) sum_{k, i not in fold f} -log softmax(x_ki Theta)_y_i + lambda/2 |Theta - Theta_0|^2

x_ki: the features [s P; 1] of the step's own K prompts on its B of n rows; Theta_0 reads the label words as they are.
Theta stays as it is during a step, so both evaluations of an antithetic pair, and all prompts of a policy step, are
read alike: their differences are those of one function. J_f falls in every step [W1], for it is convex.

folds = 1: one Theta for all rows. alpha, z and Theta descend the one R(alpha, z, Theta) of [W2], which is the loss of
rows that Theta was fitted to: it overfits. folds >= 2: a row is read by the Theta that never saw its label. alpha and z
descend that held-out loss; J_f is another function, and no descent of a common one is proved.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.linear_fits import log_softmax, logistic
from zopog_ref.objective import Ledger, Objective, unanswered
from zopog_ref.randomness import Purpose, permutation
from zopog_ref.rounding import SINGLE

__all__ = ["PULL", "ReadLoss", "ScoredObjective", "features", "plain", "reading", "refit", "refitted"]

PULL = 3.0  # lambda: that of [R8] below 100 rows


@runtime_checkable
class ScoredObjective(Protocol):
    """An objective of known labels (n,) that gives the label words' scores, from which a loss can be read anew."""

    ledger: Ledger
    labels: INT64

    def scores(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B, C), charged as losses are. Errors: ValueError where the loss is not the cross-entropy."""
        ...


def features(scores: FLOAT64) -> FLOAT64:
    """[s P; 1], (..., C + 1), of scores (..., C); 0 of a row without an answer: it costs log C and moves no Theta."""
    s = np.asarray(scores, np.float64)
    x = np.concatenate([s - s.mean(axis=-1, keepdims=True), np.ones((*s.shape[:-1], 1))], axis=-1)
    return np.where(unanswered(s)[..., None], 0.0, x)


def plain(classes: int) -> FLOAT64:
    """Theta_0 (C + 1, C): the label words' scores as they are."""
    return np.eye(classes + 1, classes)


def refit(theta: FLOAT64, x: FLOAT64, labels: INT64, rows: float, share: float, pull: float = PULL) -> FLOAT64:
    """Theta + share (argmin J - Theta), (C + 1, C): never a larger J [W1].

    x (R, C + 1) and labels (R,): features and classes of R scores, which stand for so many `rows`:
    J = rows/R sum_r -log softmax(x_r Theta)_y_r + pull/2 |Theta - Theta_0|^2. share in (0, 1].
    """
    prior = np.eye(*theta.shape)  # Theta_0
    # The minimiser of J is that of (R / rows) J, which is J of [R8] with another lambda.
    least = logistic(x, np.eye(theta.shape[1])[labels], pull * len(x) / rows, prior, theta)
    return np.asarray(theta + share * (least - theta))


class ReadLoss:
    """An objective whose losses are read through Theta (folds, C + 1, C), and what `refit` needs of its queries.

    Errors: ValueError for an objective without scores or labels, or more folds than rows.
    """

    roundoff = SINGLE  # the scores are float32

    def __init__(self, objective: Objective, folds: int, theta: FLOAT64, seed: int) -> None:
        if not isinstance(objective, ScoredObjective):
            raise ValueError(
                f"readout_folds is {folds}: losses are to be read from the label words' scores, and "
                f"{type(objective).__name__} gives none; use a ModelObjective in NumPy, or readout_folds 0"
            )
        n = len(objective.labels)
        if folds > n:
            raise ValueError(f"readout_folds is {folds}; the training split has {n} rows")
        self.objective, self.ledger = objective, objective.ledger
        self.theta = theta  # (0, 0, 0) until the first scores say what C is
        self.fold = np.empty(n, np.int64)
        self.fold[permutation(seed, 0, Purpose.READOUT_FOLDS, n)] = np.arange(n) % folds
        self._queries: list[tuple[FLOAT64, INT64]] = []  # features (K, B, C + 1), rows (B,)
        self._folds = folds

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B) losses, charged; see Objective."""
        x = features(self.objective.scores(tokens, z, examples))
        if not self.theta.size:
            self.theta = np.tile(plain(x.shape[-1] - 1), (self._folds, 1, 1))
        self._queries.append((x, examples))
        logits = np.einsum("kbf,bfc->kbc", x, self.theta[self.fold[examples]])
        return -log_softmax(logits)[:, np.arange(len(examples)), self.objective.labels[examples]]

    def refitted(self) -> FLOAT64:
        """Theta after the step, from the scores of its queries. (folds, C + 1, C)."""
        if not self._queries:
            return self.theta
        examples, n = self._queries[0][1], len(self.fold)
        x = np.concatenate([each for each, _ in self._queries])  # (K, B, C + 1): all queries of a step are on its rows
        theta = self.theta.copy()
        for f in range(self._folds):
            kept = np.flatnonzero(self.fold[examples] != f) if self._folds > 1 else np.arange(len(examples))
            if len(kept):
                seen = x[:, kept].reshape(-1, x.shape[-1])
                y = np.tile(self.objective.labels[examples[kept]], len(x))
                theta[f] = refit(theta[f], seen, y, n * len(kept) / len(examples), len(examples) / n)
        return theta


def start(folds: int) -> FLOAT64 | None:
    """Theta before any scores were seen, for a state: None without a readout."""
    return np.zeros((0, 0, 0)) if folds else None


def reading(objective: Objective, folds: int, theta: FLOAT64 | None, seed: int) -> Objective:
    """The objective, its losses read through Theta where there is one. Errors: ValueError, of ReadLoss."""
    return objective if theta is None else ReadLoss(objective, folds, theta, seed)


def refitted(objective: Objective) -> FLOAT64 | None:
    """Theta after the step that queried this objective."""
    return objective.refitted() if isinstance(objective, ReadLoss) else None


def deployed(theta: FLOAT64 | None) -> FLOAT64 | None:
    """(C + 1, C): the mean of the folds' Theta, for rows that none has seen. None before the first step, too."""
    return theta.mean(axis=0) if theta is not None and theta.size else None
