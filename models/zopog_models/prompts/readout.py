"""How a prompt's scores are read: a linear map of the scores of any tokens to class probabilities.

    p(· | row) = softmax((1/M) Σ_m s_m(row) A_m + b)

s_m are the scores of the tokens `columns[m]` with prompt m. `zopog_ref.readout` learns such maps; here they are kept
and applied, which needs nothing of it. Of a sentence-embedding model column c < C is label phrase c, and column C + j
coordinate j of the row's embedding. Where label words are scored by all their tokens, column WORDS + c is the word of
several tokens c, and all scores are log-probabilities.
"""

from __future__ import annotations  # signatures show names, not what these stand for

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zopog_models.errors import PromptError
from zopog_models.tasks.label_words import NOTHING

__all__ = ["WORDS", "PromptReadout", "targets", "unanswered", "word_columns"]

WORDS = 2**40  # no vocabulary is as large
TENSOR = "readout."  # what the names of its tensors begin with
_LARGEST = 1e30  # of a score times a weight: beyond, a file is no readout


@dataclass(frozen=True, eq=False)
class PromptReadout:
    """A linear map of M prompts' scores, and where its probabilities are too low to leave a class out.

    Parameters
        kind: how it was learned: "none", "centred", "labels" or "vocabulary"
        matrices: A_m (T_m, C), one a prompt
        bias: b (C,)
        columns: of each prompt, the token ids (T_m,) whose scores are read; the label words come first
        threshold: q (C,); class c is in a row's prediction set where 1 − p(c | row) ≤ q_c; default: no sets
        alpha: the share of rows whose class the sets may miss
        about: what else is worth keeping (temperature, rows, left-out accuracy), as JSON
    """

    kind: str
    matrices: tuple[np.ndarray, ...]
    bias: np.ndarray
    columns: tuple[np.ndarray, ...]
    threshold: np.ndarray | None = None
    alpha: float = 0.1
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bias = np.asarray(self.bias)
        if not self.matrices or len(self.matrices) != len(self.columns):
            raise PromptError(f"a readout has a matrix and columns a prompt, got {len(self.matrices)} and "
                              f"{len(self.columns)}")  # fmt: skip
        for m, (matrix, ids) in enumerate(zip(self.matrices, self.columns)):
            if matrix.ndim != 2 or bias.shape != matrix.shape[1:] or ids.shape != matrix.shape[:1] or not len(ids):
                raise PromptError(
                    f"the readout's matrix {m} must be (columns, classes), got {matrix.shape} with {ids.shape} "
                    f"columns and a bias {bias.shape}"
                )
            if ids.dtype.kind not in "iu" or len(set(ids.tolist())) < len(ids) or ids.min() < 0:
                raise PromptError(f"the readout's columns {m} must be different whole numbers of at least 0")
        for array in (*self.matrices, bias, *([] if self.threshold is None else [self.threshold])):
            if array.dtype.kind != "f" or not (np.abs(array) <= _LARGEST).all():
                raise PromptError("the readout holds numbers that are not finite, or too large")
        if self.threshold is not None and (self.threshold.shape != bias.shape or not 0 < self.alpha < 1):
            raise PromptError(f"the readout's threshold is {self.threshold.shape} at alpha {self.alpha}")

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.bias)

    def asked(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns that any prompt reads, (U,), and (M, U, C): the matrices with zeros where a column is not read."""
        every = np.unique(np.concatenate(self.columns))
        wide = np.zeros((len(self.matrices), len(every), self.n_classes))
        for m, ids in enumerate(self.columns):
            wide[m, np.searchsorted(every, ids)] = self.matrices[m]
        return every, wide

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(R, C) of scores (M, R, U) of the columns `asked` for; equal ones of a row that no prompt was answered on."""
        _, wide = self.asked()
        logits = (np.asarray(scores, np.float64) @ wide).mean(axis=0) + self.bias
        logits[unanswered(scores).all(axis=0)] = 0.0
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))

    def sets(self, probabilities: np.ndarray) -> np.ndarray | None:
        """Prediction sets (R, C), bool; None where there is no threshold."""
        return None if self.threshold is None else np.asarray(1 - probabilities <= self.threshold)

    def to_file(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Tensors and settings, from which `from_file` makes the same readout again."""
        tensors = {f"{TENSOR}bias": np.asarray(self.bias, np.float64)}
        for m, (matrix, ids) in enumerate(zip(self.matrices, self.columns)):
            tensors[f"{TENSOR}matrix.{m}"] = np.asarray(matrix, np.float64)
            tensors[f"{TENSOR}columns.{m}"] = np.asarray(ids, np.int64)
        if self.threshold is not None:
            tensors[f"{TENSOR}threshold"] = np.asarray(self.threshold, np.float64)
        return tensors, {"kind": self.kind, "prompts": len(self.matrices), "alpha": self.alpha, "about": self.about}

    @classmethod
    def from_file(cls, tensors: Mapping[str, np.ndarray], settings: Any) -> PromptReadout:
        """What `to_file` gave. Raises PromptError for what is missing or does not fit."""
        if not isinstance(settings, Mapping):
            raise PromptError(f"readout must be an object, got {settings!r:.100}")
        count, kind, alpha = settings.get("prompts"), settings.get("kind"), settings.get("alpha", 0.1)
        if type(count) is not int or not 0 < count <= len(tensors):
            raise PromptError(f"the readout's prompts must be a positive whole number, got {count!r:.50}")
        about = settings.get("about", {})
        if not isinstance(kind, str) or not isinstance(about, Mapping) or not isinstance(alpha, int | float):
            raise PromptError("the readout's kind, alpha and about must be a string, a number and an object")
        wanted = [f"{TENSOR}{name}.{m}" for name in ("matrix", "columns") for m in range(count)]
        if missing := [name for name in (f"{TENSOR}bias", *wanted) if name not in tensors]:
            raise PromptError(f"the readout's tensors are missing: {', '.join(missing)[:200]}")
        return cls(
            kind,
            tuple(tensors[name] for name in wanted[:count]),
            tensors[f"{TENSOR}bias"],
            tuple(tensors[name] for name in wanted[count:]),
            tensors.get(f"{TENSOR}threshold"),
            float(alpha),
            about,
        )


def unanswered(scores: np.ndarray) -> np.ndarray:
    """Rows (...) whose scores (..., C), C > 1, are one number: no class is named, as where a service refuses a text."""
    return np.asarray((scores.max(axis=-1) == scores.min(axis=-1)) & (scores.shape[-1] > 1))


def targets(columns: Sequence[int] | np.ndarray, label_ids: np.ndarray) -> np.ndarray:
    """What a model is asked for: token ids (U,); of label embeddings (C, D) these rows of [labels; identity]; of label
    words of several tokens (C, T), as many tokens (U, T)."""
    if label_ids.ndim == 1:
        return np.asarray(columns, np.int64)
    if label_ids.dtype.kind != "f":
        asked = np.asarray(columns, np.int64)
        found = np.full((len(asked), label_ids.shape[1]), NOTHING, np.int64)
        found[:, 0] = asked
        found[asked >= WORDS] = label_ids[asked[asked >= WORDS] - WORDS]
        return found
    every = np.vstack([label_ids, np.eye(label_ids.shape[1], dtype=np.float32)])
    return np.asarray(every[np.asarray(columns)], np.float32)


def word_columns(label_ids: np.ndarray) -> np.ndarray:
    """What the label words' columns are called (C,)."""
    if label_ids.dtype.kind == "f":
        return np.arange(len(label_ids))
    if label_ids.ndim == 1:
        return np.asarray(label_ids, np.int64)
    several = label_ids[:, 1] != NOTHING
    return np.where(several, WORDS + np.arange(len(label_ids)), label_ids[:, 0])
