"""A frozen model on several processes or machines: Ray actors that each hold one session, rows spread over them.

    with open_cluster("path/to/model", workers=2) as model:
        oracle = FrozenModelOracle(model, encoded, label_ids, candidates, projection, n_positions)

Here stand the tokenizer, the rule that cuts rows into chunks, and A z; the chunks go to whichever actor is free and
their answers to their rows, so on the CPU the numbers are those of one process, bit for bit. The weights stay where
they are: every actor opens the folder itself and must find the same hash there.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.checkpoints.description import TEMPERATURE, Description, describe
from zopog_models.cluster.ray_connection import RayConnection
from zopog_models.cluster.replicas import Opening, Replicas, Route
from zopog_models.errors import ClusterError
from zopog_models.families import Architecture
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.frozen.model import FrozenModel, locate_model
from zopog_models.graph import check_injection
from zopog_models.runners.chunks import ChunkRunner
from zopog_models.runners.local import CHUNK_ROWS, CHUNK_TOKENS, turn_tokens
from zopog_models.runners.prefix import PrefixReuse
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.session import DEVICES
from zopog_models.runners.threads import Threads

__all__ = ["ClusterError", "ClusterRunner", "open_cluster"]

# At most: a message costs a few milliseconds, and what a dying worker held is computed again.
CHUNKS_PER_MESSAGE = 8
# At least so many messages for each place that one can be at: of fewer, some worker has the last one to itself.
MESSAGES_A_PLACE = 2


def open_cluster(
    source: str | Path = "embedded",
    *,
    workers: int,
    threads: int = 1,
    device: str = "cpu",
    injection: str | None = None,
    pooling: str | None = None,
    temperature: float = TEMPERATURE,
    notify: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FrozenModel:
    """Open a frozen model on Ray actors. `close` ends them.

    The environment variable RAY_ADDRESS says which cluster is joined; without it one is started on this machine.
    Raises ValueError, ProviderError (no Ray, a cluster that is too small) and CheckpointError before anything is
    started, ClusterError, Stopped.

    Parameters
        source: as in `load_model`; a folder must lie at the same path on every node
        workers: how many actors
        threads: cores of each actor; default 1
        device: "cpu", or "cuda": each actor has one GPU
        injection, pooling, temperature: as in `load_model`
        notify: is told when a worker dies, and what is waited for when it takes long
        should_stop: looked at while the cluster or a worker starts; when it is true, the wait ends with Stopped
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if device not in DEVICES:
        raise ValueError(f"device must be one of {tuple(DEVICES)}, got {device!r}")
    folder, name, pinned = locate_model(source)
    checkpoint = load_checkpoint(folder, pooling)  # a damaged folder is named before a cluster is started
    about = describe(checkpoint, name=name, source=pinned, injection=injection, temperature=temperature)
    check_injection(checkpoint, about.injection)
    shared = pinned == "embedded" or not Path(pinned).exists()  # else a folder: the workers start elsewhere
    there = pinned if shared else str(folder.resolve())
    cuda = device == "cuda"
    cpus, gpus = (0, workers) if cuda else (workers * threads, 0)
    connection = RayConnection(cpus, gpus, notify=notify, should_stop=should_stop)
    try:
        opening = Opening(
            there, about.facts.model_sha256, about.facts.tokenizer_sha256, device, threads, about.injection, pooling,
            temperature,
        )  # fmt: skip
        replicas = Replicas(connection, opening, workers, notify)
        return FrozenModel(about, ClusterRunner(connection, replicas, about, checkpoint.architecture, device))
    except BaseException:
        connection.close()
        raise


class ClusterRunner(ChunkRunner):
    """Replicas that read chunks. They thin and reduce as `LocalRunner` does.

    Attributes: connection, replicas. `pool` has a thread for each chunk that can be under way, and `device` is this
    process's.
    """

    def __init__(
        self,
        connection: RayConnection,
        replicas: Replicas,
        about: Description,
        architecture: Architecture,
        replica_device: str,
    ) -> None:
        self.connection, self.replicas = connection, replicas
        self._about = about
        rows, reuse, tokens = Route(replicas, "rows"), None, None
        if isinstance(architecture, DecoderArchitecture):
            prefixes = Route(replicas, "prefix")
            once = replica_device == "cpu"
            tokens = CHUNK_TOKENS if once else None
            reuse = PrefixReuse(architecture, about.first, rows_engine=rows, prefix_engine=prefixes, each_once=once)
        super().__init__(
            rows, chunk_rows=CHUNK_ROWS[replica_device], chunk_tokens=tokens, pool=Threads(replicas.capacity),
            reuse=reuse, turn=turn_tokens(about.hidden_size) if replica_device == "cuda" else None,
        )  # fmt: skip
        self.providers = replicas.providers
        self.can_thin = not about.decoder

    def thinned(self, unit_mask: np.ndarray) -> "ClusterRunner":
        """As `LocalRunner.thinned`."""
        about = self._about
        if not self.can_thin:
            raise ValueError(f"thinned networks need an encoder; {about.name!r} is a decoder ({about.family})")
        runner = copy.copy(self)
        runner.engine, runner.fixed_feeds = Route(self.replicas, "thinned"), {"unit_mask": unit_mask}
        return runner

    def reduced(self, precision: str) -> "ClusterRunner":
        """As `LocalRunner.reduced`, opened by every replica when its first chunk comes."""
        if self.fixed_feeds:
            raise ValueError(f"a thinned network is read in fp32 only, {precision!r} was asked for")
        runner = copy.copy(self)
        runner.precision, runner.engine = precision, Route(self.replicas, precision)
        runner.reuse = None if self.reuse is None else self.reuse.with_rows_read_by(runner.engine)
        return runner

    @property
    def why_not_bound(self) -> str:
        """Why `run_bound` does not work."""
        return "its rows are read by other processes"

    def read(self, rows: ModelRows, output: str, width: int) -> np.ndarray:
        """The same chunks, several in a message: an encoder's are small beside what a message costs."""
        route = self.engine
        if self.reuse is not None or not isinstance(route, Route):
            return super().read(rows, output, width)
        chunks = self.cut(rows)
        size = min(CHUNKS_PER_MESSAGE, max(1, len(chunks) // (MESSAGES_A_PLACE * self.pool.count)))
        result = np.empty((len(rows.texts), width), np.float32)

        def run(message: list[np.ndarray]) -> None:
            answers = route.run_several(output, [rows.feeds(chunk) | self.fixed_feeds for chunk in message])
            for chunk, answer in zip(message, answers):
                result[chunk] = answer

        messages = [chunks[i : i + size] for i in range(0, len(chunks), size)]
        self.pool.run_all(run, messages[::-1])  # the longest rows first: what is left at the end is short
        return result

    def close(self) -> None:
        """End the replicas, and the cluster if it was started for them."""
        self.replicas.close()  # first: whoever waits for one of them is told
        super().close()
        self.connection.close()
