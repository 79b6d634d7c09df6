"""The black box for a method on a device: arrays in, arrays out, and nothing on the way goes back to the host.

Prompts and points are read where they lie, A z is computed there, and label-word logits are written there. What the
host knows, the rows of a mini-batch, is laid out on the host and uploaded once for each mini-batch.
"""

from __future__ import annotations  # signatures show names, not what these stand for

from dataclasses import dataclass
from typing import Any

import numpy as np

from zopog_models.frozen.model import FrozenModel
from zopog_models.frozen.oracle import FrozenModelOracle, rows_at_once
from zopog_models.runners.bound import DeviceMemory, Tensor, part
from zopog_models.runners.rows import ModelRows
from zopog_models.tasks.encoding import Encoded

__all__ = ["DeviceOracle"]


@dataclass(frozen=True)
class _Chunk:
    """Rows start .. stop of a batch, and where their integer inputs begin among its integers."""

    start: int
    stop: int
    inputs: dict[str, tuple[int, tuple[int, ...]]]  # name -> first element, shape


@dataclass(frozen=True)
class _Batch:
    """K prompts on B examples as rows in the order in which they are read: like lengths together."""

    integers: Any  # on the device: the inputs of all chunks, then what follows, each K·B long
    chunks: list[_Chunk]
    prompt: int  # where the rows' prompts begin, 0 .. K-1
    place: int  # and the rows' places in the order of the caller
    back: int  # and the caller's places in the order of reading


class DeviceOracle(FrozenModelOracle):
    """A `FrozenModelOracle` whose tokens, z and logits lie on the model's device.

    On a CPU, memory is NumPy's, and the logits are the bits of FrozenModelOracle's where both read the same chunks.

    Differences: equal prompts are read again, since seeing that they are equal would mean waiting for the device;
    indices are not looked at, for the same reason; a z that is one point broadcast to all prompts is projected once,
    and is what `reduced` reads. Raises ValueError for a model that cannot be bound (`FrozenModel.why_not_bound`),
    memory elsewhere, and shapes and rows as FrozenModelOracle.

    Parameters, besides those of FrozenModelOracle
        memory: where the arrays lie; its kind must be the model's device, and a model on CUDA must have been opened on
            its stream
        multiple: of tokens, of a padded row's length with its prompt; default: the model's, 1 on a CPU, 4 on CUDA
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
        memory: DeviceMemory,
        reduced: FrozenModel | None = None,
        differences: bool = False,
        multiple: int | None = None,
    ) -> None:
        if memory.kind != model.device or memory.index:
            raise ValueError(
                f"the model is on {model.device} device 0 and the arrays on {memory.kind} device {memory.index}: put "
                "both on one device (CUDA_VISIBLE_DEVICES chooses which is device 0)"
            )
        for reader in (model, reduced):
            if reader is not None and reader.why_not_bound:
                raise ValueError(f"model {model.name!r} cannot read arrays where they lie: {reader.why_not_bound}")
            if reader is not None and reader.stream != memory.stream:
                raise ValueError(f"the model computes on stream {reader.stream}, the arrays' is {memory.stream}")
        super().__init__(
            model, encoded, label_ids, candidates, projection, n_positions, reduced=reduced, differences=differences
        )
        # All that ModelRows checks is checked here, once: of every row, label and candidate.
        prompts = max(1, -(-len(candidates) // max(1, n_positions)))
        shown = np.resize(self._candidates, (prompts, n_positions))
        nothing = np.zeros(len(encoded.ids), np.int64)
        self._rows = ModelRows(model.description, encoded.ids, encoded.answer_position, shown, None, nothing, label_ids)
        self._memory = memory
        self._multiple = model.multiple if multiple is None else multiple
        self._labels = memory.asarray(self._rows.label_ids, "float32" if model.pooling else "int64")
        self._candidate_ids = memory.asarray(self._candidates, "int64")
        self._numbers = memory.asarray(np.arange(model.chunk_rows), "int64")
        self._spaces: dict[str, Any] = {}
        self._mini_batch = b""
        self._batches: dict[int, _Batch] = {}

    def logits(self, tokens: Any, z: Any, examples: np.ndarray) -> Any:
        """Scores (K, B, C), float32, on the device, of K prompts on B rows; returns before a GPU has computed them.

        tokens (K, n), z (K, d) or (K, B, d): on the device; examples (B,): on the host. See FrozenModelOracle.logits.
        """
        examples = np.asarray(examples)
        self._check_shapes(tokens, z, examples)
        self._check_range("examples", examples, len(self._encoded.ids))
        count, size, classes = len(tokens), len(examples), self.n_classes
        if not count * size:
            return self._memory.empty((count, size, classes), "float32")
        batch = self._laid_out(examples, count)
        tokens, out = self._memory.asarray(tokens, "int64"), self._space("logits", count * size * classes)
        if z.ndim == 3:
            self._read_points_of_rows(batch, tokens, np.reshape(z, (count * size, self.dim)), out)
        else:
            self._read_points_of_prompts(batch, tokens, z, out)
        read = np.reshape(out[: count * size * classes], (count * size, classes))
        back = batch.integers[batch.back : batch.back + count * size]
        return np.reshape(np.take(read, back, axis=0), (count, size, classes))

    def thinned(self, unit_mask: np.ndarray) -> FrozenModelOracle:
        """Thinned networks are read through the host: raises ValueError."""
        raise ValueError("thinned networks are read through the host: use a FrozenModelOracle")

    def _read_points_of_prompts(self, batch: _Batch, tokens: Any, z: Any, out: Any) -> None:
        """All rows of a prompt share its point: every chunk is given all prompts, and which of them its rows have."""
        count, width = len(tokens), self._project.rows
        one_point = count == 1 or z.strides[0] == 0
        model = self._reader(one_point)
        points = self._memory.asarray(z[:1] if one_point else z, "float32")  # (U, d)
        offsets = self._space("offsets", len(points) * width)
        self._project.bound(self._memory, points, offsets)
        if one_point:
            offsets = np.tile(offsets[:width], count)  # (K·n·E,)
        prompt_ids = np.take(self._candidate_ids, tokens)  # (K, n)
        prompts = self._prompts(prompt_ids, offsets, 0, count)

        def run(chunk: _Chunk) -> None:
            index = part(self._memory, batch.integers, batch.prompt + chunk.start, (chunk.stop - chunk.start,))
            self._read(model, batch, chunk, prompts | {"prompt_index": index}, out)

        model.run_all(run, batch.chunks)

    def _read_points_of_rows(self, batch: _Batch, tokens: Any, z: Any, out: Any) -> None:
        """Every row has a point of its own: row by row, the prompt and A z, as many at once as memory allows."""
        memory, width = self._memory, self._project.rows
        model = self._reader(one_point=False)
        at_once = rows_at_once(width, model.chunk_rows) // model.chunk_rows  # chunks
        for i in range(0, len(batch.chunks), at_once):
            chunks = batch.chunks[i : i + at_once]
            first, stop = chunks[0].start, chunks[-1].stop
            place, prompt = (batch.integers[at + first : at + stop] for at in (batch.place, batch.prompt))
            points = memory.asarray(np.take(z, place, axis=0), "float32")  # (rows, d)
            offsets = self._space("offsets", (stop - first) * width)
            self._project.bound(memory, points, offsets)
            prompt_ids = np.take(self._candidate_ids, np.take(tokens, prompt, axis=0))  # (rows, n)

            def run(chunk: _Chunk, first: int = first, prompt_ids: Any = prompt_ids, offsets: Any = offsets) -> None:
                count = chunk.stop - chunk.start
                prompts = self._prompts(prompt_ids, offsets, chunk.start - first, count)
                index = part(memory, self._numbers, 0, (count,))
                self._read(model, batch, chunk, prompts | {"prompt_index": index}, out)

            model.run_all(run, chunks)

    def _prompts(self, prompt_ids: Any, offsets: Any, first: int, count: int) -> dict[str, Tensor]:
        """Prompts first .. first + count of those that lie there."""
        n, memory = self.n_positions, self._memory
        return {
            "prompt_ids": part(memory, prompt_ids, first * n, (count, n)),
            "prompt_offset": part(memory, offsets, first * self._project.rows, (count, n, self._model.embedding_size)),
        }

    def _read(self, model: FrozenModel, batch: _Batch, chunk: _Chunk, prompts: dict[str, Tensor], out: Any) -> None:
        memory, classes = self._memory, self.n_classes
        inputs = {name: part(memory, batch.integers, first, shape) for name, (first, shape) in chunk.inputs.items()}
        labels = part(memory, self._labels, 0, self._labels.shape)
        inputs["label_embeddings" if model.pooling else "label_ids"] = labels
        logits = part(memory, out, chunk.start * classes, (chunk.stop - chunk.start, classes))
        model.run_bound(inputs | prompts, logits)

    def _laid_out(self, examples: np.ndarray, count: int) -> _Batch:
        """The rows of K prompts on a mini-batch. Both halves of a step use what was uploaded for the first."""
        if examples.tobytes() != self._mini_batch:
            self._mini_batch, self._batches = examples.tobytes(), {}
        if count not in self._batches:
            self._batches[count] = self._lay_out(examples, count)
        return self._batches[count]

    def _lay_out(self, examples: np.ndarray, count: int) -> _Batch:
        rows = np.tile(examples, count)  # (K·B,)
        order = np.argsort(self.lengths[rows], kind="stable")
        chunks, parts, filled = [], [], 0
        for start, stop in self._model.rule.spans(self.lengths[rows[order]]):
            inputs = {}
            for name, array in self._integer_inputs(rows[order[start:stop]]).items():
                inputs[name] = (filled, array.shape)
                parts.append(array.ravel())
                filled += array.size
            chunks.append(_Chunk(start, stop, inputs))
        parts += [order // len(examples), order, np.argsort(order)]
        integers = self._memory.asarray(np.concatenate(parts), "int64")
        return _Batch(integers, chunks, *(filled + i * len(order) for i in range(3)))

    def _integer_inputs(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the model reads of these rows and does not depend on prompts, padded on the right."""
        feeds = self._rows.feeds(rows, multiple=self._multiple)
        names = ("text_ids", "attention_mask") + (() if self._rows.pooling else ("answer_position",))
        return {name: feeds[name] for name in names}

    def _space(self, name: str, size: int) -> Any:
        """At least `size` float32 numbers that are written anew in every call, the same ones wherever they suffice."""
        if name not in self._spaces or self._spaces[name].size < size:
            self._spaces[name] = self._memory.empty((max(1, size),), "float32")
        return self._spaces[name]
