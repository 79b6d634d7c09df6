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
from zopog_models.cluster.ray_connection import ClusterError, RayConnection
from zopog_models.cluster.replicas import Opening, Replicas, Route
from zopog_models.frozen.model import CHUNK_ROWS, TEMPERATURE, FrozenModel, locate_model
from zopog_models.frozen.rows import ModelRows
from zopog_models.runners.session import DEVICES

__all__ = ["ClusterError", "ClusterModel", "open_cluster"]

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
) -> "ClusterModel":
    """Open a frozen model on `workers` Ray actors of `threads` cores each, or, device "cuda", of one GPU each.

    source, injection, pooling, temperature: as `load_model`; a folder must lie at the same path on every node. notify
    is told when a worker dies. RAY_ADDRESS says which cluster is joined; without it one is started on this machine.
    Raises ValueError, ProviderError (no Ray, a cluster that is too small) and CheckpointError before anything is
    started, ClusterError.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if device not in DEVICES:
        raise ValueError(f"device must be one of {tuple(DEVICES)}, got {device!r}")
    folder, name, pinned = locate_model(source)
    load_checkpoint(folder, pooling)  # a damaged folder is named before a cluster is started
    cuda = device == "cuda"
    connection = RayConnection(cpus=0 if cuda else workers * threads, gpus=workers if cuda else 0)
    try:
        return ClusterModel(
            folder, name, pinned, connection, workers=workers, threads=threads, device=device, injection=injection,
            pooling=pooling, temperature=temperature, notify=notify,
        )  # fmt: skip
    except BaseException:
        connection.close()
        raise


class ClusterModel(FrozenModel):
    """A `FrozenModel` whose sessions are elsewhere. All of `FrozenModel`, thinned and reduced networks too.

    Further attribute: replicas. `threads` is the number of chunks under way at once, `device` is this process's.
    """

    def __init__(
        self, folder: Path, name: str, source: str, connection: RayConnection, *, workers: int, threads: int,
        device: str, injection: str | None, pooling: str | None, temperature: float, notify: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(
            load_checkpoint(folder, pooling), name=name, source=source, threads=1, injection=injection,
            temperature=temperature,
        )  # fmt: skip
        self._connection = connection
        shared = source == "embedded" or not Path(source).exists()  # else a folder: the workers start elsewhere
        there = source if shared else str(folder.resolve())
        opening = Opening(
            there, self.sha256, self.tokenizer_sha256, device, threads, self.injection, pooling, temperature
        )
        self.replicas = Replicas(connection, opening, workers, notify)
        self.chunk_rows, self.threads = CHUNK_ROWS[device], self.replicas.capacity
        self.providers = self.replicas.providers
        # The session that was built here goes: its graphs have been checked, its memory is not needed.
        self._session = Route(self.replicas, "rows")
        self._thinnable_session = Route(self.replicas, "thinned")  # type: ignore[assignment]
        if self._reuse is not None:
            self._reuse = self._reuse.with_rows_read_by(self._session)
            self._reuse._prefix_session = Route(self.replicas, "prefix")  # type: ignore[assignment]

    def reduced(self, precision: str) -> "ClusterModel":
        """As `FrozenModel.reduced`, opened by every replica when its first chunk comes."""
        if self._fixed_feeds:
            raise ValueError(f"a thinned network is read in fp32 only, {precision!r} was asked for")
        _ = self._workers  # made here, so that all copies share them
        network = copy.copy(self)
        network.precision = precision
        network._session = Route(self.replicas, precision)
        network._reuse = None if self._reuse is None else self._reuse.with_rows_read_by(network._session)
        return network

    def _run_rows(self, rows: ModelRows, output: str, width: int) -> np.ndarray:
        """`FrozenModel`'s chunks, several in a message: an encoder's are small beside what a message costs."""
        route = self._session
        if self._reuse is not None or not isinstance(route, Route):
            return super()._run_rows(rows, output, width)
        order = np.argsort(rows.lengths, kind="stable")  # as one process cuts them
        chunks = [order[i : i + self.chunk_rows] for i in range(0, len(order), self.chunk_rows)]
        size = min(CHUNKS_PER_MESSAGE, max(1, len(chunks) // (MESSAGES_A_PLACE * self.threads)))
        result = np.empty((len(order), width), np.float32)

        def run(message: list[np.ndarray]) -> None:
            answers = route.run_several(output, [rows.feeds(chunk) | self._fixed_feeds for chunk in message])
            for chunk, answer in zip(message, answers):
                result[chunk] = answer

        messages = [chunks[i : i + size] for i in range(0, len(chunks), size)]
        self.run_all(run, messages[::-1])  # the longest rows first: what is left at the end is short
        return result

    def close(self) -> None:
        """End the replicas, and the cluster if it was started for them."""
        self.replicas.close()
        self._connection.close()

    def __enter__(self) -> "ClusterModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
