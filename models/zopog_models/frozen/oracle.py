"""The black box that a prompt-learning method sees: (tokens, z, examples) -> label-word logits."""

from __future__ import annotations  # signatures show names, not what these stand for

import copy

import numpy as np

from zopog_models.frozen.model import FrozenModel
from zopog_models.tasks.encoding import Encoded

__all__ = ["FrozenModelOracle", "distinct_prompts", "rows_at_once"]

# Offsets that may be in memory at once. Per-example directions need one (n, E) offset for every row.
_OFFSET_BYTES = 64 * 2**20


def rows_at_once(width: int, chunk_rows: int) -> int:
    """Rows whose offsets, `width` float32 numbers each, are in memory at once: whole chunks, one at least."""
    return max(1, _OFFSET_BYTES // max(1, 4 * width * chunk_rows)) * chunk_rows


def distinct_prompts(tokens: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of K prompts (K, n) at z (K, d): the U distinct points (U, d), which the prompts of a policy step share; the P
    distinct prompts (P, n); the point of each (P,); and which of them each of the K is (K,)."""
    points, point = np.unique(z, axis=0, return_inverse=True)
    pairs = np.concatenate([tokens, point.reshape(-1, 1)], axis=1)  # (K, n + 1)
    pairs, prompt = np.unique(pairs, axis=0, return_inverse=True)
    return points, pairs[:, :-1], pairs[:, -1], prompt.reshape(len(tokens))


class FrozenModelOracle:
    """A frozen model on the rows of one split, addressed by candidate indices and points of the subspace.

    Attributes: n_positions (n), n_candidates (N), dim (d), n_classes (C), hidden_units (layers, F), and lengths
    (rows,): tokens of each row, the prompt included. Nothing here counts calls: that is the caller's ledger.

    Parameters
        model: who reads the rows
        encoded: the rows of the split (`encode`)
        label_ids: as in `FrozenModel.logits` (`label_targets`)
        candidates: (N,), the token id of every candidate index
        projection: A (n·E, d), float32
        n_positions: n, the prompt's length in tokens
        reduced: the model in fewer bits (`FrozenModel.reduced`), which reads prompts that share one z; default: none
        differences: the reduced model reads prompts that differ in z, too, as those of a two-point difference do.
            Default False: at a small radius its rounding can be larger than the difference
        position: where prompts stand, "before" the text or "after" it; default "before"
    """

    def __init__(
        self,
        model: FrozenModel,
        encoded: Encoded,
        label_ids: np.ndarray,
        candidates: np.ndarray,
        projection: np.ndarray,
        n_positions: int,
        *,
        reduced: FrozenModel | None = None,
        differences: bool = False,
        position: str = "before",
    ) -> None:
        width = n_positions * model.embedding_size
        if projection.ndim != 2 or projection.shape[0] != width:
            raise ValueError(
                f"projection must have shape ({width}, d), n·E rows for n = {n_positions} and "
                f"E = {model.embedding_size}, got {projection.shape}"
            )
        self.n_positions = n_positions
        self.n_candidates = len(candidates)
        self.dim = projection.shape[1]
        self.n_classes = len(label_ids)
        self.lengths = encoded.lengths + n_positions
        self.hidden_units = model.hidden_units
        self._model = model
        self._reduced = reduced
        self._differences = differences
        self._encoded = encoded
        self._places = encoded.places(position)
        self._label_ids = label_ids
        self._candidates = np.asarray(candidates, np.int64)
        self._project = model.projector(projection)

    def logits(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Scores (K, B, C), float32, of K prompts on B rows.

        tokens (K, n): candidate indices; z (K, d), or (K, B, d) for another point on every row; examples (B,): rows of
        the split. Equal prompts are evaluated once. Raises ValueError for shapes and indices that do not fit.
        """
        tokens, z, examples = np.asarray(tokens), np.asarray(z), np.asarray(examples)
        self._check(tokens, z, examples)
        if z.ndim == 3:
            return self._per_example(tokens, z, examples)
        size = len(examples)
        points, distinct, point, prompt = distinct_prompts(tokens, z)
        model = self._reader(len(points) == 1)
        offsets = self._offsets(points)[point]  # (P, n, E)
        rows = np.tile(examples, len(distinct))
        index = np.repeat(np.arange(len(distinct)), size)
        logits = self._run(model, rows, distinct, offsets, index)  # (P·B, C)
        return logits.reshape(len(distinct), size, self.n_classes)[prompt]

    def thinned(self, unit_mask: np.ndarray) -> FrozenModelOracle:
        """The same rows, read by `FrozenModel.thinned(unit_mask)`; unit_mask (layers, F)."""
        oracle = copy.copy(self)
        oracle._model, oracle._reduced = self._model.thinned(unit_mask), None
        return oracle

    def _per_example(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        count, size = len(tokens), len(examples)
        rows = np.tile(examples, count)  # (K·B,)
        owner = np.repeat(np.arange(count), size)
        z = z.reshape(count * size, self.dim)
        result = np.empty((count * size, self.n_classes), np.float32)
        # Slices are cut along the lengths, so that rows of like length still meet in a chunk.
        order = np.argsort(self.lengths[rows], kind="stable")
        model = self._reader(one_point=False)
        at_once = rows_at_once(self._project.rows, model.chunk_rows)
        for start in range(0, len(order), at_once):
            part = order[start : start + at_once]
            offsets = self._offsets(z[part])
            result[part] = self._run(model, rows[part], tokens[owner[part]], offsets, np.arange(len(part)))
        return result.reshape(count, size, self.n_classes)

    def _offsets(self, z: np.ndarray) -> np.ndarray:
        """A z as (U, n, E)."""
        return self._project(z).reshape(len(z), self.n_positions, self._model.embedding_size)

    def _reader(self, one_point: bool) -> FrozenModel:
        """The model that reads these prompts: `reduced`, if there is one and it is allowed to."""
        if self._reduced is None or not (one_point or self._differences):
            return self._model
        return self._reduced

    def _run(
        self, model: FrozenModel, rows: np.ndarray, tokens: np.ndarray, offsets: np.ndarray, index: np.ndarray
    ) -> np.ndarray:
        return model.logits(
            [self._encoded.ids[row] for row in rows],
            self._encoded.answer_position[rows],
            self._candidates[tokens],
            offsets,
            index,
            self._label_ids,
            None if self._places is None else self._places[rows],
        )

    def _check(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> None:
        self._check_shapes(tokens, z, examples)
        self._check_range("tokens", tokens, self.n_candidates)
        self._check_range("examples", examples, len(self._encoded.ids))

    def _check_shapes(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> None:
        if tokens.ndim != 2 or tokens.shape[1] != self.n_positions:
            raise ValueError(f"tokens must have shape (K, {self.n_positions}), got {tokens.shape}")
        if examples.ndim != 1:
            raise ValueError(f"examples must have shape (B,), got {examples.shape}")
        allowed = ((len(tokens), self.dim), (len(tokens), len(examples), self.dim))
        if z.shape not in allowed:
            raise ValueError(f"z must have shape {allowed[0]} or {allowed[1]}, got {z.shape}")

    def _check_range(self, name: str, array: np.ndarray, limit: int) -> None:
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be whole numbers, got dtype {array.dtype}")
        if array.size and not 0 <= array.min() <= array.max() < limit:
            raise ValueError(f"{name} must lie between 0 and {limit - 1}, got {array.min()} to {array.max()}")
