"""Replicas of a frozen model as Ray actors: each opens the model's folder itself and computes the chunks it is sent.

A chunk is what ONNX Runtime runs at once, cut by a rule that looks at the rows alone. Which replica computes it, how
many there are, and whether it was computed twice because one died, cannot change a bit of it.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from zopog_models.cluster.ray_connection import RayConnection
from zopog_models.errors import ClusterError, Stopped
from zopog_models.frozen.model import load_model
from zopog_models.runners.engine import Engine
from zopog_models.runners.local import LocalRunner
from zopog_models.runners.waiting import Late, exchange

__all__ = ["Opening", "Replicas", "Route"]

IN_FLIGHT = 2  # chunks for each thread of a replica: one is computed while the next is on its way
_TRIES = 3  # a chunk whose replicas died so often is what they died of
START_SECONDS = 600.0  # in which a replica has to open its model
_LOOK_EVERY, _CHECK_EVERY = 0.2, 10.0  # seconds between looks at a request to stop, and at whether the cluster lives
_KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Opening:
    """How a replica opens the model: never its arrays, but where they lie and what they must hash to."""

    source: str  # embedded, a folder that every node sees, or org/name@commit
    sha256: str
    tokenizer_sha256: str
    device: str
    threads: int
    injection: str
    pooling: str | None
    temperature: float


class Replica:
    """The actor: one model, one session, `threads` chunks at once."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._model = load_model(
            opening.source, device=opening.device, threads=opening.threads, injection=opening.injection,
            pooling=opening.pooling, temperature=opening.temperature,
        )  # fmt: skip
        assert isinstance(self._model.runner, LocalRunner)
        self._runner = self._model.runner
        self._lock = threading.Lock()
        self._reduced: dict[str, Engine] = {}

    def about(self) -> dict[str, Any]:
        """Hashes, providers and process id; answered once the model is open."""
        model = self._model
        return {
            "sha256": model.sha256, "tokenizer_sha256": model.tokenizer_sha256, "providers": model.providers,
            "pid": os.getpid(),
        }  # fmt: skip

    def run(self, route: str, output: str, chunks: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """Chunks through the graph of that name, one by one: "rows", "prefix", "thinned", or a precision."""
        engine = self._engine(route)
        return [engine.run(output, feeds) for feeds in chunks]

    def _engine(self, route: str) -> Engine:
        runner = self._runner
        if route == "rows":
            return runner.engine
        with self._lock:  # what is opened when it is first asked for is opened once
            if route == "thinned":
                return runner.thinnable
            if route == "prefix":
                assert runner.reuse is not None
                return runner.reuse.prefix_engine
            if route not in self._reduced:
                self._reduced[route] = runner.reduced(route).engine
            return self._reduced[route]


@dataclass
class _Place:
    """Where a replica stands; another takes its place when it dies."""

    number: int
    handle: Any = None
    generation: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    lost: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Replicas:
    """Sends chunks to whichever replica is free, and puts another in the place of one that dies.

    Attributes: replaced, how many died. Raises ClusterError: none opens the model, or none is left; ValueError: a node
    has other weights or another tokenizer under that name; Stopped, while a replica opens its model.
    """

    def __init__(
        self, connection: RayConnection, opening: Opening, workers: int, notify: Callable[[str], None]
    ) -> None:
        self._connection, self._opening, self._notify = connection, opening, notify
        self._ray = connection.ray
        self.replaced, self._closed = 0, False
        self._free: queue.Queue[_Place | None] = queue.Queue()
        self._counting = threading.Lock()
        self._places = [_Place(number) for number in range(workers)]
        self.capacity = workers * opening.threads * IN_FLIGHT
        try:
            for place in self._places:  # all at once
                place.handle = self._start()
            for place in self._places:
                place.about = self._opened(place)
        except BaseException:
            self.close()
            raise
        for _ in range(opening.threads * IN_FLIGHT):
            for place in self._places:
                self._free.put(place)

    @cached_property
    def _actor(self) -> Any:
        threads, cuda = self._opening.threads, self._opening.device == "cuda"
        resources = {"num_cpus": 0, "num_gpus": 1} if cuda else {"num_cpus": threads}
        # A dead actor is replaced here, where the chunks it had are known.
        return self._ray.remote(Replica).options(
            **resources, max_concurrency=threads, max_restarts=0, max_task_retries=0
        )

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas, each on its own node."""
        return [place.about["pid"] for place in self._places if not place.lost]

    @property
    def handles(self) -> list[Any]:
        """Ray's handles of the replicas."""
        return [place.handle for place in self._places if not place.lost]

    @property
    def providers(self) -> tuple[str, ...]:
        """What the replicas compute with."""
        return tuple(self._places[0].about["providers"])

    def run(self, route: str, output: str, chunks: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """The chunks' answers, in order. Waits for a free replica; asks another when it dies."""
        for _ in range(_TRIES):
            place = self._take()
            generation, handle = place.generation, place.handle
            try:
                answers: list[np.ndarray] = self._get(handle.run.remote(route, output, chunks))
            except self._ray.exceptions.RayActorError as death:
                self._replace(place, generation, death)
            except self._ray.exceptions.RayTaskError as error:
                raise (error.cause or error) from None  # what the model raised, as it would have raised it here
            else:
                return answers
            finally:
                if not place.lost:
                    self._free.put(place)
        raise ClusterError(f"{_TRIES} replicas died of the same rows: out of memory? Fewer threads a worker need less")

    def close(self) -> None:
        """End the replicas. A second time does nothing."""
        self._closed = True
        for place in self._places:
            if place.handle is not None and self._ray.is_initialized():
                with contextlib.suppress(Late):
                    exchange(partial(self._ray.kill, place.handle), _KILL_SECONDS, lambda: False)
            place.handle, place.lost = None, True

    def _take(self) -> _Place:
        while (place := self._free.get()) is not None:
            if not place.lost:
                return place
        self._free.put(None)  # for whoever else waits
        raise ClusterError("no replica is left: every one died and could not be replaced")

    def _replace(self, place: _Place, generation: int, death: Exception) -> None:
        """Another in its place, once, however many of its chunks tell of its death; the place is lost if it fails."""
        with place.lock:
            if place.generation != generation or place.lost:
                return
            with self._counting:
                self.replaced += 1
            self._notify(f"worker {place.number} died and is replaced ({str(death).splitlines()[0]})")
            try:
                place.handle = self._start()
                place.about = self._opened(place)
                place.generation += 1
            except ClusterError as error:
                place.lost = True
                self._notify(f"worker {place.number} could not be replaced, the others go on: {error}")
                if all(other.lost for other in self._places):
                    self._free.put(None)

    def _start(self) -> Any:
        return self._actor.remote(self._opening)

    def _get(self, answer: Any, stopped: Callable[[], bool] = lambda: False, seconds: float = float("inf")) -> Any:
        """Ray's answer. Raises ClusterError when nothing of the cluster is left to give it; GetTimeoutError."""
        until, check = time.monotonic() + seconds, time.monotonic() + _CHECK_EVERY
        while True:
            try:
                return self._ray.get(answer, timeout=_LOOK_EVERY)
            except self._ray.exceptions.GetTimeoutError:
                now = time.monotonic()
                if now > until:
                    raise
            if self._closed:
                raise ClusterError("the replicas were closed")
            if stopped():
                raise Stopped("stopped while a worker opened its model")
            if now > check:
                self._connection.check_alive()
                check = time.monotonic() + _CHECK_EVERY

    def _opened(self, place: _Place) -> dict[str, Any]:
        """What the replica says of its model, which has to be ours."""
        errors, handle = self._ray.exceptions, place.handle
        try:
            stopped = self._connection.patience(f"worker {place.number} to open the model", START_SECONDS)
            about: dict[str, Any] = self._get(handle.about.remote(), stopped, START_SECONDS)
        except errors.GetTimeoutError:
            raise ClusterError(
                f"a worker did not open the model within {START_SECONDS:.0f} s: are there free cores or GPUs?"
            ) from None
        except errors.RayActorError as death:  # its own error, such as a missing folder, is in the text
            raise ClusterError(f"a worker could not open the model: {death}") from death
        for name in ("sha256", "tokenizer_sha256"):
            if about[name] != getattr(self._opening, name):
                raise ValueError(
                    f"a worker's {self._opening.source!r} has {name} {about[name][:12]}…, this process has "
                    f"{getattr(self._opening, name)[:12]}…: every node needs the same model folder"
                )
        return about


class Route:
    """One of the replicas' graphs, run as a session is."""

    def __init__(self, replicas: Replicas, name: str) -> None:
        self._replicas, self._name = replicas, name

    def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """One chunk."""
        return self.run_several(output, [feeds])[0]

    def run_several(self, output: str, chunks: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """Chunks in one message."""
        return self._replicas.run(self._name, output, chunks)
