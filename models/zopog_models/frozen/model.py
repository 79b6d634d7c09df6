"""Running a frozen model: ONNX Runtime sessions, chunks of rows, one pool of threads.

On the CPU a session computes with one thread, and the pool runs several chunks of rows at once. Chunks are cut by a
rule that looks at the rows alone, never at the number of threads, so neither the number of threads nor their timing
can change a bit of the result.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint, load_checkpoint
from zopog_models.checkpoints.hub import fetch, is_hub_id
from zopog_models.checkpoints.tokenizer import open_tokenizer, special_ids, word_space
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.families.encoder import EncoderArchitecture
from zopog_models.frozen.prefix import PrefixReuse
from zopog_models.frozen.projector import Projector
from zopog_models.frozen.rows import ModelRows
from zopog_models.graph import GraphBuilder, build
from zopog_models.graph.encoder import build as build_encoder
from zopog_models.runners.bound import Tensor
from zopog_models.runners.cores import usable_cores
from zopog_models.runners.reduced import Runner, open_reduced
from zopog_models.runners.session import ProviderError, Session, require_device

__all__ = ["FrozenModel", "ProviderError", "load_model"]

EMBEDDED_MODEL = Path(__file__).parents[1] / "embedded" / "model"

# Of a sentence-embedding model: what its training multiplies cosines by before a softmax.
TEMPERATURE = 20.0

# Rows of one run. On a CPU, chunks of 4 to 8 rows stay in the caches (32 at once take up to 1.2 times as long); a GPU
# wants to be filled.
CHUNK_ROWS = {"cpu": 8, "cuda": 256}


def load_model(
    source: str | Path = "embedded",
    *,
    device: str = "cpu",
    threads: int | None = None,
    injection: str | None = None,
    pooling: str | None = None,
    temperature: float = TEMPERATURE,
    stream: int | None = None,
) -> "FrozenModel":
    """Open a frozen model: "embedded", a folder with config.json, *.safetensors and tokenizer.json, or org/name.

    org/name, or org/name@revision, is fetched from the Hugging Face Hub where there is no such folder, see `hub.fetch`.

    device is "cpu" or "cuda"; threads is the size of the pool (default: `cores.usable_cores`);
    injection says where the soft prompt is added, see `graph.build` (default: where its family's official code does).
    pooling, "mean" or "cls", makes an encoder a sentence-embedding model (default: what its folder says, see
    `families.sentence`); temperature, by which its cosines are multiplied. stream: the address of the CUDA stream to
    compute on (default: one of its own), such as that of the arrays a `DeviceOracle` reads.
    Raises CheckpointError, TensorFileError, ProviderError, ValueError; never falls back to another device.
    """
    require_device(device)  # before anything is downloaded
    folder, name, pinned = locate_model(source)
    return FrozenModel(
        load_checkpoint(folder, pooling),
        name=name,
        source=pinned,
        device=device,
        threads=threads,
        injection=injection,
        temperature=temperature,
        stream=stream,
    )


def locate_model(source: str | Path) -> tuple[Path, str, str]:
    """A model's folder, its name, and what would find the same again: of a model on the hub, org/name@commit."""
    if source == "embedded":
        return EMBEDDED_MODEL, "embedded", "embedded"
    if isinstance(source, str) and is_hub_id(source) and not Path(source).exists():
        fetched = fetch(source)
        return fetched.folder, fetched.name, fetched.pinned
    return Path(source), Path(source).resolve().name, str(source)


class FrozenModel:
    """A masked or causal language model as a black box: token ids and prompt offsets in, scores of label words out.

    Attributes: name, family, hidden_size (D), embedding_size (E, the soft prompt's width: D in most families),
    vocab_size, max_positions (prompt included), embedding_std, mask_id, pad_id, cls_id, sep_id, special_ids (of all
    special tokens), tokenizer, sha256, tokenizer_sha256, injection, device, providers, threads, hidden_units
    (layers, F): the units of a feed-forward block, precision, stream (of a GPU, None: one of its own).
    """

    stream: int | None = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str,
        source: str = "",
        device: str = "cpu",
        threads: int | None = None,
        injection: str | None = None,
        temperature: float = TEMPERATURE,
        stream: int | None = None,
    ) -> None:
        require_device(device)  # before any work on the weights
        if not 0 < temperature < np.inf:
            raise ValueError(f"temperature must be a positive number, got {temperature}")
        self.name = name
        self.source = source or name
        self.pooling = checkpoint.pooling
        self.temperature = temperature
        self.family = checkpoint.family.name
        architecture = checkpoint.architecture
        self.hidden_size = architecture.hidden_size
        self.embedding_size = architecture.embedding_size
        self.vocab_size = architecture.vocab_size
        self.max_positions = architecture.max_positions
        self.hidden_units = (architecture.layers, architecture.intermediate_size)
        self.injection = checkpoint.family.injections[0] if injection is None else injection
        self.device = device
        self.stream = stream
        self.threads = _thread_count(threads)
        self.chunk_rows = CHUNK_ROWS[device]
        self.tokenizer = open_tokenizer(checkpoint)
        self.mask_id, self.pad_id, self.cls_id, self.sep_id, self.special_ids = special_ids(checkpoint, self.tokenizer)
        self.space = word_space(self.tokenizer)
        decoder = isinstance(architecture, DecoderArchitecture)
        first = 0 if self.cls_id is None else 1
        model_bytes, weights = build(checkpoint, self.injection, first=first, reuse=decoder)
        self.precision = "fp32"
        self._first = first
        session = Session(model_bytes, weights, device, stream=stream)
        self._session: Runner = session
        self._weights = weights
        self._fixed_feeds: dict[str, np.ndarray] = {}
        self._reuse: PrefixReuse | None = None
        if decoder:
            self._reuse = PrefixReuse(checkpoint, session, weights, first=first, device=device, stream=stream)
        self.providers = session.providers
        self._checkpoint = checkpoint

    @cached_property
    def embedding_std(self) -> float:
        """The standard deviation of all entries of the word embedding matrix: the scale of A is set by it."""
        words = self._checkpoint.word_embeddings
        blocks = range(0, len(words), 4096)  # in float64, but never the whole matrix at once
        mean = sum(words[i : i + 4096].sum(dtype=np.float64) for i in blocks) / words.size
        squares = sum(np.square(words[i : i + 4096].astype(np.float64) - mean).sum() for i in blocks)
        return float(np.sqrt(squares / words.size))

    @property
    def sha256(self) -> str:
        """Of model.safetensors."""
        return self._checkpoint.model_sha256

    @property
    def tokenizer_sha256(self) -> str:
        """Of tokenizer.json."""
        return self._checkpoint.tokenizer_sha256

    def logits(
        self,
        text_ids: Sequence[np.ndarray],
        answer_position: np.ndarray,
        prompt_ids: np.ndarray,
        prompt_offset: np.ndarray | None,
        prompt_index: np.ndarray,
        label_ids: np.ndarray,
    ) -> np.ndarray:
        """Scores (R, C), float32, of the label words at the answer position of each row.

        text_ids: R rows of token ids, first token and separator included, without padding and without the prompt;
        answer_position (R,): the mask token's place in such a row; prompt_ids (P, n); prompt_offset (P, n, E) is
        added to the prompt's embeddings (None: nothing is); prompt_index (R,): row r is read with prompt
        prompt_index[r]; label_ids (C,): token ids, or, of a sentence-embedding model, (C, D) embeddings, which
        `encoding.label_targets` makes. n = 0 reads the rows without a prompt.
        Raises ValueError for shapes that do not fit, token ids outside the vocabulary, rows that are too long.
        """
        rows = ModelRows(self, text_ids, answer_position, prompt_ids, prompt_offset, prompt_index, label_ids)
        return self._run_rows(rows, "logits", len(rows.label_ids))

    def embeddings(self, text_ids: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors (R, D), float32, of rows read without a prompt: a sentence-embedding model's alone.

        text_ids: as in `logits`. Raises ValueError for a model with a head, and as `logits`.
        """
        if not self.pooling:
            raise ValueError(f"{self.name!r} is no sentence-embedding model: it has a head, and no pooling")
        count, no_prompt = len(text_ids), np.zeros((1, 0), np.int64)
        index, labels = np.zeros(count, np.int64), np.zeros((1, self.hidden_size), np.float32)
        rows = ModelRows(self, text_ids, np.ones(count, np.int64), no_prompt, None, index, labels)
        return self._run_rows(rows, "embedding", self.hidden_size)

    def _run_rows(self, rows: ModelRows, output: str, width: int) -> np.ndarray:
        if self._reuse is not None and self._reuse.pays(rows):
            return self._reuse.logits(self, rows)
        # Rows of like length share a chunk, so little is computed on padding; `stable` makes the order unique.
        order = np.argsort(rows.lengths, kind="stable")
        result = np.empty((len(order), width), np.float32)

        def run(chunk: np.ndarray) -> None:
            feeds = rows.feeds(chunk) | self._fixed_feeds
            if self._reuse is not None:
                feeds["prefix"] = self._reuse.nothing(len(feeds["prompt_ids"]))
            result[chunk] = self._session.run(output, feeds)

        self.run_all(run, [order[i : i + self.chunk_rows] for i in range(0, len(order), self.chunk_rows)])
        return result

    @property
    def can_thin(self) -> bool:
        """Whether `thinned` works: for encoders; a decoder's graph takes no mask."""
        return isinstance(self._checkpoint.architecture, EncoderArchitecture)

    def thinned(self, unit_mask: np.ndarray) -> "FrozenModel":
        """This model with the hidden units of its feed-forward blocks multiplied by unit_mask (layers, F).

        It shares weights and threads with this one. Raises ValueError: a mask that does not fit or is not finite; a
        decoder, whose graph takes no mask.
        """
        if not self.can_thin:
            raise ValueError(f"thinned networks need an encoder; {self.name!r} is a decoder ({self.family})")
        mask = np.array(unit_mask, np.float32)
        if mask.shape != self.hidden_units or not np.isfinite(mask).all():
            raise ValueError(f"unit_mask must be {self.hidden_units} finite numbers, (layers, F), got {mask.shape}")
        session, _ = self._thinnable_session, self._workers  # made here, so that all copies share them
        network = copy.copy(self)
        network._session = session
        network._fixed_feeds = {"unit_mask": mask}
        return network

    @cached_property
    def _thinnable_session(self) -> Session:
        graph = build_encoder(self._checkpoint, self.injection, thinned=True, graph=GraphBuilder(self._weights))
        return Session(*graph, self.device, stream=self.stream)

    def reduced(self, precision: str) -> "FrozenModel":
        """This model computed in "int8" or "bf16" (device "cpu"), or "fp16" (device "cuda"); see `precision`.

        It shares weights that stay as they are, the tokenizer and the threads with this one; keys and values of a
        decoder's prompt stay float32. Raises ValueError (unknown, not for this device, a thinned network) and
        ProviderError (bf16: OpenVINO is missing, or the processor has no bfloat16).
        """
        if self._fixed_feeds:
            raise ValueError(f"a thinned network is read in fp32 only, {precision!r} was asked for")
        _ = self._workers  # made here, so that all copies share them
        network = copy.copy(self)
        network.precision = precision
        network._session = open_reduced(
            self._checkpoint,
            self._weights,
            precision,
            injection=self.injection,
            first=self._first,
            reuse=self._reuse is not None,
            device=self.device,
            threads=self.threads,
            stream=self.stream,
        )
        network._reuse = None if self._reuse is None else self._reuse.with_rows_read_by(network._session)
        return network

    def close(self) -> None:
        """Give back what is held for the model elsewhere: of one that computes here, nothing."""

    def projector(self, projection: np.ndarray) -> Projector:
        """z -> A z on this model's device and in its threads; projection is A (rows, d)."""
        return Projector(self, projection)

    @property
    def bindable(self) -> str:
        """Why `run_bound` does not work, or ""."""
        if not hasattr(self, "_session"):
            return "it is served elsewhere"
        if self._reuse is not None:
            return (
                f"{self.name!r} is a decoder, whose prompts' keys and values are computed once, which needs to see on "
                "the host which prompts are equal"
            )
        if self._fixed_feeds:
            return "it is a thinned network, whose mask is on the host"
        if not isinstance(self._session, Session):
            return f"{self.precision} is computed by OpenVINO, which takes arrays of the host"
        if self.device == "cuda" and self.stream is None:
            return "it was opened on a CUDA stream of its own: open it with load_model(..., stream=memory.stream)"
        return ""

    def run_bound(self, inputs: Mapping[str, Tensor], logits: Tensor) -> None:
        """One chunk of rows, read where they lie: the inputs of `graph.build`, unchecked, and logits (R, C), written.

        Returns before a GPU has computed them. Raises ValueError: see `bindable`.
        """
        if not isinstance(self._session, Session) or self.bindable:
            raise ValueError(self.bindable)
        self._session.run_bound(inputs, {"logits": logits})

    def run_all(self, job: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Call job(item) for all items, `threads` at a time; the first exception is raised here."""
        if self.threads == 1 or len(items) <= 1 or self.device != "cpu":
            for item in items:
                job(item)
            return
        for _ in self._workers.map(job, items):
            pass

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="frozen-model")


def _thread_count(threads: int | None) -> int:
    if threads is None:
        return usable_cores()
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads
