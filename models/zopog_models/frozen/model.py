"""A frozen model: a description of what it is, and a runner that computes it.

    >>> from zopog_models import load_model
    >>> load_model("embedded")
    FrozenModel(name='embedded', family='bert', vocabulary=8192, positions=192, scores='any', \
providers='CPUExecutionProvider', precision='fp32', sha256='b7307a843ae5')
"""

from __future__ import annotations  # signatures show names, not what these stand for

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint, load_checkpoint
from zopog_models.checkpoints.description import TEMPERATURE, Described, Description, describe
from zopog_models.checkpoints.gguf import gguf_place
from zopog_models.checkpoints.hub import fetch, is_hub_id
from zopog_models.errors import ProviderError
from zopog_models.files.shown import Shown
from zopog_models.frozen.projector import Projector
from zopog_models.runners.bound import Tensor
from zopog_models.runners.cutting import Cut
from zopog_models.runners.local import LocalRunner
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.runner import Runner, Scores
from zopog_models.runners.session import require_device

__all__ = ["TEMPERATURE", "FrozenModel", "ProviderError", "load_model", "local_model", "locate_model"]

_LOG = logging.getLogger(__name__)
EMBEDDED_MODEL = Path(__file__).parents[1] / "embedded" / "model"


def load_model(
    source: str | Path = "embedded",
    *,
    device: str = "cpu",
    threads: int | None = None,
    injection: str | None = None,
    pooling: str | None = None,
    temperature: float = TEMPERATURE,
    stream: int | None = None,
) -> FrozenModel:
    """Open a frozen model that is computed in this process. It never falls back to another device.

    Raises CheckpointError, TensorFileError, ProviderError, ValueError.

    Parameters
        source: "embedded"; a folder with config.json, *.safetensors and tokenizer.json; FILE.gguf, or FILE.gguf#FOLDER
            with the folder of its tokenizer (extra `gguf`); or org/name, or
            org/name@revision, which is fetched from the Hugging Face Hub where there is no such folder (`hub.fetch`)
        device: "cpu" or "cuda"
        threads: chunks of rows at once on a CPU; default: the cores that this process may use
        injection: where the soft prompt is added (`graph.build`); default: where the family's official code adds it
        pooling: "mean" or "cls" makes an encoder a sentence-embedding model; default: what its folder says
            (`families.sentence`)
        temperature: the factor of a sentence-embedding model's cosines; default 20
        stream: the address of the CUDA stream to compute on, such as that of the arrays a `DeviceOracle` reads;
            default: a stream of its own
    """
    require_device(device)  # before anything is downloaded
    folder, name, pinned = locate_model(source)
    return local_model(
        load_checkpoint(folder, pooling),
        name=name,
        source=pinned,
        device=device,
        threads=threads,
        injection=injection,
        temperature=temperature,
        stream=stream,
    )


def local_model(
    checkpoint: Checkpoint,
    *,
    name: str,
    source: str = "",
    device: str = "cpu",
    threads: int | None = None,
    injection: str | None = None,
    temperature: float = TEMPERATURE,
    stream: int | None = None,
) -> FrozenModel:
    """A checkpoint that is open already, computed in this process. Parameters and errors are those of `load_model`."""
    require_device(device)  # before any work on the weights
    about = describe(checkpoint, name=name, source=source, injection=injection, temperature=temperature)
    model = FrozenModel(about, LocalRunner(checkpoint, about, device=device, threads=threads, stream=stream))
    checkpoint.settle()
    _LOG.info("opened %r, %d threads", model, model.threads)
    return model


def locate_model(source: str | Path) -> tuple[Path, str, str]:
    """A model's folder, its name, and what finds the same model again: org/name@commit for a model on the hub."""
    if source == "embedded":
        return EMBEDDED_MODEL, "embedded", "embedded"
    if isinstance(source, str) and is_hub_id(source) and not Path(source).exists():
        fetched = fetch(source)
        return fetched.folder, fetched.name, fetched.pinned
    place = gguf_place(source)
    return Path(source), (Path(source) if place is None else place[0]).resolve().name, str(source)


class FrozenModel(Shown, Described):
    """A language model as a black box: token ids and prompt offsets in, scores of label words out.

    It answers for its description (name, source, family, vocab_size, hidden_size, embedding_size, max_positions,
    hidden_units, injection, pooling, temperature, tokenizer, mask_id, pad_id, cls_id, sep_id, special_ids,
    embedding_std, sha256, tokenizer_sha256: see `Description`) and for its runner (device, stream, threads, chunk_rows,
    precision, providers, scores: see `Runner`).

    Parameters
        description: what the graph and the tokenizer are
        runner: who computes
    """

    def __init__(self, description: Description, runner: Runner) -> None:
        self.description = description
        self.runner = runner

    def facts(self) -> dict[str, Any]:
        """What it is, who computes it, and the hash that a prompt asks for."""
        return {
            "name": self.name, "family": self.family, "vocabulary": self.vocab_size, "positions": self.max_positions,
            "scores": self.scores.value, "providers": ", ".join(self.providers), "precision": self.precision,
            "sha256": self.sha256[:12],
        }  # fmt: skip

    @property
    def scores(self) -> Scores:
        """Which label words can be scored: "any", or those among the "top k" tokens."""
        return self.runner.scores

    @property
    def device(self) -> str:
        """Where arrays would have to lie that are read in place: "cpu" or "cuda"."""
        return self.runner.device

    @property
    def stream(self) -> int | None:
        """The address of a GPU's stream; None: a stream of its own."""
        return self.runner.stream

    @property
    def threads(self) -> int:
        """How many chunks of rows are asked for at once."""
        return self.runner.pool.count

    @property
    def multiple(self) -> int:
        """Tokens that a padded row's length, its prompt included, is a multiple of."""
        return self.runner.multiple

    @property
    def chunk_rows(self) -> int:
        """How many rows are read at once, at most."""
        return self.runner.chunk_rows

    @property
    def rule(self) -> Cut:
        """How rows are cut into the chunks that are read at once."""
        return self.runner.rule

    @property
    def precision(self) -> str:
        """The precision of the products: "fp32", or what `reduced` was asked for."""
        return self.runner.precision

    @property
    def providers(self) -> tuple[str, ...]:
        """What computes, for people."""
        return self.runner.providers

    def logits(
        self,
        text_ids: Sequence[np.ndarray],
        answer_position: np.ndarray,
        prompt_ids: np.ndarray,
        prompt_offset: np.ndarray | None,
        prompt_index: np.ndarray,
        label_ids: np.ndarray,
        prompt_place: np.ndarray | None = None,
    ) -> np.ndarray:
        """Scores (R, C), float32, of the label words at the answer position of each row. n = 0 reads no prompt.

        Raises ValueError for shapes that do not fit, token ids outside the vocabulary, rows that are too long.

        Parameters
            text_ids: R rows of token ids, first token and separator included, without padding and without the prompt
            answer_position: (R,), the mask token's place in such a row
            prompt_ids: (P, n)
            prompt_offset: (P, n, E), added to the prompt's embeddings; None: nothing is added
            prompt_index: (R,), row r is read with prompt prompt_index[r]
            label_ids: (C,) token ids; (C, T) words of several tokens, filled up with -1, whose log-probabilities are
                summed, where `why_not_summed` is ""; of a sentence-embedding model, (C, D) embeddings
                (`encoding.label_targets`)
            prompt_place: (R,), how many of a row's tokens stand before its prompt; only where `why_not_after` is "".
                None: the first token, where rows have one
        """
        if prompt_place is not None and self.why_not_after:
            raise ValueError(f"{self.name!r} cannot read a prompt after the text: {self.why_not_after}")
        rows = ModelRows(
            self.description,
            text_ids,
            answer_position,
            prompt_ids,
            prompt_offset,
            prompt_index,
            label_ids,
            prompt_place,
        )
        if rows.words and self.why_not_summed:
            raise ValueError(f"{self.name!r} cannot sum over a label word's tokens: {self.why_not_summed}")
        return self.runner.logits(rows)

    @property
    def why_not_summed(self) -> str:
        """Why label words of several tokens cannot be scored by all of them, or ""."""
        return self.runner.why_not_summed

    @property
    def why_not_after(self) -> str:
        """Why a prompt cannot stand after the text, or ""."""
        return self.runner.why_not_after

    def embeddings(self, text_ids: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors (R, D), float32, of rows read without a prompt, by a sentence-embedding model.

        text_ids: as in `logits`. Raises ValueError for a model with a head, and as `logits`.
        """
        if not self.pooling:
            raise ValueError(f"{self.name!r} is no sentence-embedding model: it has a head, and no pooling")
        count, no_prompt = len(text_ids), np.zeros((1, 0), np.int64)
        index, labels = np.zeros(count, np.int64), np.zeros((1, self.hidden_size), np.float32)
        rows = ModelRows(self.description, text_ids, np.ones(count, np.int64), no_prompt, None, index, labels)
        return self.runner.embeddings(rows)

    @property
    def can_thin(self) -> bool:
        """Whether `thinned` works: for encoders that are not served by somebody else."""
        return self.runner.can_thin

    def thinned(self, unit_mask: np.ndarray) -> FrozenModel:
        """This model with the hidden units of its feed-forward blocks multiplied by unit_mask (layers, F).

        It shares weights and threads with this one. Raises ValueError: a mask that does not fit or is not finite; a
        decoder, whose graph takes no mask; a model that is served by somebody else.
        """
        mask = np.array(unit_mask, np.float32)
        if self.can_thin and (mask.shape != self.hidden_units or not np.isfinite(mask).all()):
            raise ValueError(f"unit_mask must be {self.hidden_units} finite numbers, (layers, F), got {mask.shape}")
        return FrozenModel(self.description, self.runner.thinned(mask))

    def reduced(self, precision: str) -> FrozenModel:
        """This model computed in "int8" or "bf16" (device "cpu"), or "fp16" (device "cuda"); see `precision`.

        It shares weights that stay as they are, the tokenizer and the threads with this one. Raises ValueError
        (unknown, not for this device, a thinned network, served by somebody else) and ProviderError (bf16: OpenVINO is
        missing, or the processor has no bfloat16).
        """
        return FrozenModel(self.description, self.runner.reduced(precision))

    def projector(self, projection: np.ndarray) -> Projector:
        """z -> A z on this model's device and in its threads; projection is A (rows, d)."""
        return Projector(self.runner, projection)

    @property
    def why_not_bound(self) -> str:
        """Why `run_bound` does not work, or ""."""
        return self.runner.why_not_bound

    def run_bound(self, inputs: Mapping[str, Tensor], logits: Tensor) -> None:
        """One chunk of rows, read where they lie: the inputs of `graph.build`, unchecked, and logits (R, C), written.

        Returns before a GPU has computed them. Raises ValueError: `why_not_bound`.
        """
        self.runner.run_bound(inputs, logits)

    def run_all(self, job: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Call job(item) for all items, `threads` at a time. The first exception is raised here."""
        self.runner.pool.run_all(job, items)

    def close(self) -> None:
        """End what the runner started: threads, connections, other processes. A second time does nothing."""
        self.runner.close()

    def __enter__(self) -> FrozenModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
