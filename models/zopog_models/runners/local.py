"""A model that is computed in this process: ONNX Runtime, or OpenVINO for bfloat16.

On the CPU a session computes with one thread, and the pool runs several chunks of rows at once.

Fewer bits save what the processor makes of them, and cost what the model and the data make of them. So nothing is
reduced unasked, and `zopog tune` measures on its own rows what a step would read before it lets a reduced model answer.
"""

import copy
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.checkpoints.description import Description
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.graph import GraphBuilder, build
from zopog_models.graph.encoder import build as build_encoder
from zopog_models.runners.bound import Tensor
from zopog_models.runners.chunks import ChunkRunner
from zopog_models.runners.each_once import EachOnce
from zopog_models.runners.engine import Engine
from zopog_models.runners.openvino import WEIGHTS_FILE, OpenVINOSession
from zopog_models.runners.prefix import PrefixReuse
from zopog_models.runners.session import Session, require_device
from zopog_models.runners.threads import Threads

__all__ = ["CHUNK_ROWS", "CHUNK_TOKENS", "REDUCED", "LocalRunner", "turn_tokens"]

# Rows of one run, at most. On a CPU, chunks of 4 to 8 rows stay in the caches (32 at once take up to 1.2 times as
# long); a GPU wants to be filled, by a chunk's last turn as well.
CHUNK_ROWS = {"cpu": 8, "cuda": 256}
# Tokens of one run, of a decoder on a CPU, which takes each token once.
CHUNK_TOKENS = 256
# Tokens that a padded row's length is a multiple of: on a GPU, ONNX Runtime's fused attention takes a mask in steps of
# 4, and every new length costs a choice of algorithms.
MULTIPLE = {"cpu": 1, "cuda": 4}
# What a GPU takes at once of a product: tiles of 256 tokens x 128 columns on an H100's or H200's 132 multiprocessors.
TILES, TILE_TOKENS, TILE_COLUMNS = 132, 256, 128
# precision -> the device it is for
REDUCED = {"int8": "cpu", "bf16": "cpu", "fp16": "cuda"}


def turn_tokens(hidden_size: int) -> int:
    """Tokens that a GPU takes at once in a product as wide as the model; other GPUs differ, and gain less."""
    return max(TILE_TOKENS, TILES * TILE_TOKENS * TILE_COLUMNS // hidden_size)


class LocalRunner(ChunkRunner):
    """A checkpoint's graph with its weights, in this process.

    Attributes: checkpoint; weights, as the graph reads them. Raises ValueError (unknown device, threads, injection)
    and ProviderError; never computes on another device.

    Parameters
        device: "cpu" or "cuda"
        threads: chunks at once on a CPU; None: the cores that this process may use
        stream: the address of the CUDA stream to compute on; None: a stream of its own
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        description: Description,
        *,
        device: str = "cpu",
        threads: int | None = None,
        stream: int | None = None,
    ) -> None:
        require_device(device)
        pool = Threads(threads, one_by_one=device != "cpu")
        self.checkpoint, self.device, self.stream = checkpoint, device, stream
        self._description = description
        first = description.first
        kept = description.decoder
        graph = GraphBuilder(fused=device == "cuda", packed=device == "cpu")
        content, self.weights = build(
            checkpoint, description.injection, first=first, reuse=kept, keeps=kept, graph=graph
        )
        session = Session(content, self.weights, device, stream=stream, each_once=self._each_once())
        reuse, tokens, multiple = None, None, MULTIPLE[device]
        if isinstance(checkpoint.architecture, DecoderArchitecture):
            tokens = CHUNK_TOKENS if device == "cpu" else None
            reuse = PrefixReuse(
                checkpoint.architecture, first, rows_engine=session, prefix_engine=session, each_once=device == "cpu",
                multiple=multiple,
            )  # fmt: skip
        super().__init__(
            session, chunk_rows=CHUNK_ROWS[device], chunk_tokens=tokens, pool=pool, reuse=reuse, multiple=multiple,
            turn=turn_tokens(description.hidden_size) if device == "cuda" else None,
        )  # fmt: skip
        self.providers = session.providers
        self.can_thin = not description.decoder  # a decoder's graph takes no mask

    def thinned(self, unit_mask: np.ndarray) -> "LocalRunner":
        """The same with the hidden units of its feed-forward blocks multiplied by unit_mask (layers, F).

        It shares weights and threads with this one. Raises ValueError for a decoder.
        """
        about = self._description
        if not self.can_thin:
            raise ValueError(f"thinned networks need an encoder; {about.name!r} is a decoder ({about.family})")
        thinnable = self.thinnable  # opened here, so that all copies share it
        runner = copy.copy(self)
        runner.engine = thinnable
        runner.fixed_feeds = {"unit_mask": unit_mask}
        return runner

    @cached_property
    def thinnable(self) -> Session:
        """The graph with one more input, unit_mask (layers, F); an encoder's alone."""
        graph = GraphBuilder(self.weights, fused=self.device == "cuda")
        built = build_encoder(self.checkpoint, self._description.injection, thinned=True, graph=graph)
        return Session(*built, self.device, stream=self.stream)

    def reduced(self, precision: str) -> "LocalRunner":
        """The same in "int8" or "bf16" (device "cpu"), or "fp16" (device "cuda").

        It shares the threads with this one, and weights that stay as they are. Keys and values of a decoder's prompt
        stay float32. Raises ValueError (unknown, not for this device, a thinned network) and ProviderError (bf16:
        OpenVINO is missing, or the processor has no bfloat16).
        """
        if self.fixed_feeds:
            raise ValueError(f"a thinned network is read in fp32 only, {precision!r} was asked for")
        runner = copy.copy(self)
        runner.precision, runner.engine = precision, self._open_reduced(precision)
        runner.reuse = None if self.reuse is None else self.reuse.with_rows_read_by(runner.engine)
        return runner

    def _open_reduced(self, precision: str) -> Engine:
        if precision not in REDUCED:
            raise ValueError(f"precision must be one of {', '.join(REDUCED)}, got {precision!r}")
        if REDUCED[precision] != self.device:
            raise ValueError(
                f"precision {precision!r} is for device {REDUCED[precision]!r}, and this model is on {self.device!r}"
            )
        if precision == "bf16":
            graph = GraphBuilder(self.weights, location=WEIGHTS_FILE, packed=True, apart=True)
        else:
            shared = self.weights if precision == "int8" else None
            on_cpu = self.device == "cpu"
            graph = GraphBuilder(shared, precision=precision, fused=not on_cpu, packed=on_cpu)
        about = self._description
        kept = about.decoder
        content, arrays = build(
            self.checkpoint, about.injection, first=about.first, reuse=kept, keeps=kept, graph=graph
        )
        if precision == "bf16":
            return OpenVINOSession(content, graph, self.pool.count, self._each_once())
        return Session(content, arrays, self.device, stream=self.stream, each_once=self._each_once())

    def _each_once(self) -> EachOnce | None:
        decodes = isinstance(self.checkpoint.architecture, DecoderArchitecture)
        return EachOnce(self._description.first) if decodes and self.device == "cpu" else None

    @property
    def why_not_summed(self) -> str:
        if self.reuse is None:
            return f"{self._description.name!r} is no decoder, and gives the scores of one token"
        return "" if isinstance(self.engine, Session) else f"{self.precision} is computed by OpenVINO: use fp32"

    @property
    def why_not_bound(self) -> str:
        """Why `run_bound` does not work, or ""."""
        if self.reuse is not None:
            return (
                f"{self._description.name!r} is a decoder, whose prompts' keys and values are computed once, which "
                "needs to see on the host which prompts are equal"
            )
        if self.fixed_feeds:
            return "it is a thinned network, whose mask is on the host"
        if not isinstance(self.engine, Session):
            return f"{self.precision} is computed by OpenVINO, which takes arrays of the host"
        if self.device == "cuda" and self.stream is None:
            return "it was opened on a CUDA stream of its own: open it with load_model(..., stream=memory.stream)"
        return ""

    def run_bound(self, inputs: Mapping[str, Tensor], logits: Tensor) -> None:
        """One chunk of rows, read where they lie: the inputs of `graph.build`, unchecked, and logits (R, C), written.

        Returns before a GPU has computed them. Raises ValueError: `why_not_bound`.
        """
        if not isinstance(self.engine, Session) or self.why_not_bound:
            raise ValueError(self.why_not_bound)
        self.engine.run_bound(inputs, {"logits": logits})
