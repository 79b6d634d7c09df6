"""What a readout is, once fitted: a linear map of a black box's scores to class probabilities, small enough for a file.

`readout` fits one. Whoever applies it needs nothing but `predict`, or `linear`: a MatMul and an Add at the end of a
graph, and the mean over the prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref.linear_fits import softmax
from zopog_ref.objective import unanswered

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
Kind = Literal["none", "centred", "labels", "vocabulary"]
Scores = ArrayLike | Sequence[ArrayLike]  # (n, T) of one prompt, or M arrays (n, T_m)

KINDS: tuple[Kind, ...] = ("none", "centred", "labels", "vocabulary")  # from the least learned to the most


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear map of scores to class probabilities [R10]: softmax((1/M) sum_m s_m A_m + b).

    matrices: A_m (T_m, C), one a prompt; bias: b (C,); columns: what the columns of s_m are, token ids (T_m,), empty
    where the caller did not say; temperature and penalty: what was fitted (already inside A and b); rows: how many it
    was fitted on; left_out_accuracy, left_out_loss (nats): of those rows, each left out.
    """

    kind: Kind
    matrices: tuple[FLOAT64, ...]
    bias: FLOAT64
    columns: tuple[INT64, ...] = ()
    temperature: float = 1.0
    penalty: float | None = None
    rows: int = 0
    left_out_accuracy: float | None = None
    left_out_loss: float | None = None

    def __post_init__(self) -> None:
        classes = len(self.bias)
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of readout {self.kind!r}; known: {', '.join(KINDS)}")
        if self.bias.shape != (classes,) or classes < 2 or not self.matrices:
            raise ValueError(f"a readout needs a bias (C,) with C >= 2 and a matrix a prompt; bias {self.bias.shape}")
        for m, matrix in enumerate(self.matrices):
            if matrix.ndim != 2 or matrix.shape[1] != classes:
                raise ValueError(f"matrix {m} of the readout must be (T, {classes}), not {matrix.shape}")
        if self.columns and [c.shape for c in self.columns] != [(len(a),) for a in self.matrices]:
            raise ValueError(
                f"expected columns of {[len(a) for a in self.matrices]} ids, got {[c.shape for c in self.columns]}"
            )
        if not all(np.isfinite(a).all() for a in (*self.matrices, self.bias)):
            raise ValueError("a readout's matrices and bias must be finite")

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.bias)

    def linear(self, prompt: int) -> tuple[FLOAT64, FLOAT64]:
        """(A_m (T_m, C), b (C,)): the mean over the prompts of s_m A_m + b is the logits. A MatMul and an Add."""
        return self.matrices[prompt], self.bias

    def logits(self, scores: Scores) -> FLOAT64:
        """(rows, C) of scores with the columns that it was fitted on. Errors: ValueError for any others."""
        given = checked_scores(scores)
        if [s.shape[1] for s in given] != [len(a) for a in self.matrices]:
            raise ValueError(
                f"this readout reads {len(self.matrices)} prompts with {[len(a) for a in self.matrices]} columns; "
                f"got {len(given)} with {[s.shape[1] for s in given]}"
            )
        return np.asarray(sum(s @ a for s, a in zip(given, self.matrices)) / len(given) + self.bias)

    def predict(self, scores: Scores) -> FLOAT64:
        """Class probabilities (rows, C); equal ones of a row that no prompt was answered on. scores as in `logits`."""
        silent = np.all([unanswered(s) for s in checked_scores(scores)], axis=0)
        return softmax(np.where(silent[:, None], 0.0, self.logits(scores)))

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Plain arrays and JSON scalars, from which `from_arrays` makes the same readout again."""
        arrays: dict[str, NDArray[Any]] = {"readout.bias": self.bias}
        for m, matrix in enumerate(self.matrices):
            arrays[f"readout.matrix.{m}"] = matrix
        for m, ids in enumerate(self.columns):
            arrays[f"readout.columns.{m}"] = ids
        names = ("kind", "temperature", "penalty", "rows", "left_out_accuracy", "left_out_loss")
        return arrays, {"prompts": len(self.matrices)} | {name: getattr(self, name) for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike], values: Mapping[str, Any]) -> "Readout":
        """What `to_arrays` gave. Errors: ValueError for arrays that are missing or do not fit."""
        prompts = values.get("prompts")
        if type(prompts) is not int or prompts < 1:
            raise ValueError(f"a readout needs 'prompts', a positive integer, got {prompts!r}")
        with_columns = "readout.columns.0" in arrays
        wanted = ["readout.bias", *(f"readout.matrix.{m}" for m in range(prompts))]
        wanted += [f"readout.columns.{m}" for m in range(prompts)] if with_columns else []
        if missing := [name for name in wanted if name not in arrays]:
            raise ValueError(f"a readout's arrays are missing: {', '.join(missing)}")
        rest = {name: values[name] for name in values if name != "prompts"}
        return cls(
            matrices=tuple(np.asarray(arrays[f"readout.matrix.{m}"], np.float64) for m in range(prompts)),
            bias=np.asarray(arrays["readout.bias"], np.float64),
            columns=tuple(np.asarray(arrays[f"readout.columns.{m}"], np.int64) for m in range(prompts * with_columns)),
            **rest,
        )


def checked_scores(scores: Scores) -> list[FLOAT64]:
    """M arrays (n, T_m), float64, of as many rows each: one array is one prompt. Errors: ValueError.

    Among them: no rows, no columns, a score that is nan or infinite (a service that gives the k most probable tokens
    alone leaves others out: give those a floor, such as the least log-probability seen, before they come here).
    """
    if isinstance(scores, np.ndarray) and scores.ndim == 2:
        scores = [scores]
    given = [np.asarray(s, np.float64) for s in cast(Sequence[ArrayLike], scores)]
    shapes = [s.shape for s in given]
    if not given or any(s.ndim != 2 or not s.size for s in given) or len({len(s) for s in given}) > 1:
        raise ValueError(
            "scores must be an array (n, T), or one for each of M prompts with the same n > 0 rows; got shapes "
            f"{shapes[:6]}"
        )
    for m, s in enumerate(given):
        if not (finite := np.isfinite(s)).all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise ValueError(f"scores must be finite; prompt {m}, row {row}, column {column} is {s[row, column]}")
    return given


def word_scores(scores: Scores) -> list[FLOAT64]:
    """`checked_scores`, (n, C) from every prompt. Errors: ValueError for other widths, or C < 2."""
    given = checked_scores(scores)
    if len({s.shape[1] for s in given}) > 1 or given[0].shape[1] < 2:
        raise ValueError(
            f"expected the scores of C >= 2 label words from every prompt, got {[s.shape[1] for s in given]} columns"
        )
    return given


def checked_labels(labels: ArrayLike, n: int, n_classes: int) -> INT64:
    """labels as (n,) integers in 0..n_classes-1. Errors: ValueError for any others, or fewer than 2 classes."""
    y = np.asarray(labels)
    if n_classes < 2:
        raise ValueError(f"a readout tells classes apart: it needs at least 2, got {n_classes}")
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"labels must be {n} integers, one a row of scores; got shape {y.shape}, {y.dtype}")
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(f"labels must lie in 0..{n_classes - 1}; got {y.min()}..{y.max()}")
    return y.astype(np.int64)


def id_arrays(columns: Sequence[ArrayLike]) -> tuple[INT64, ...]:
    """Column ids, one array a prompt."""
    return tuple(np.asarray(c, np.int64) for c in columns)
