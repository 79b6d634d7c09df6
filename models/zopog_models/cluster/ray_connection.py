"""Ray, joined or started: quiet, without telemetry and dashboard, and gone again when it was ours.

With the environment variable RAY_ADDRESS, Ray's own, a running cluster is joined and left as it was. Without it a
cluster of this machine alone is started on the loopback address, and every process of it ends with `close`.
"""

import contextlib
import importlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from zopog_models.errors import ClusterError, ProviderError, Stopped
from zopog_models.runners.waiting import Late, Unwanted, exchange

__all__ = ["ClusterError", "RayConnection", "require_ray"]

# Of a cluster started here, bytes of shared memory: questions and answers of a few hundred kilobytes pass through it.
OBJECT_STORE_BYTES = 128 * 2**20
# Ray listens to all addresses on Linux unless it is told that it is on a machine that has no cluster to join. It reads
# this once, when it is imported, into a constant of its own; its processes read it when they start.
_LOOPBACK, _LOOPBACK_CONSTANT = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "ENABLE_RAY_CLUSTER"
# Ray reports to its makers unless it is told not to; and its workers, which are nicer than everybody else unless they
# are told not to be, get no core on a machine whose cores are all busy.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
# Its processes have a fixed time, about 15 s, to find each other, which may be too little on such a machine.
_STARTS = 3
_CONNECT_SECONDS = 10.0  # in which whoever listens at RAY_ADDRESS has to accept a connection
_START_SECONDS = 120.0  # in which Ray has to start, or to join
_CLOSE_SECONDS = 30.0
_ANSWER_SECONDS = 15.0  # of the cluster's head, which says who lives; after 60 s without it Ray ends the process
_SAY_AFTER = 5.0  # seconds of silence, then a line every minute


def require_ray() -> Any:
    """The module ray. Raises ProviderError, which names the extra."""
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ProviderError(f'several workers need Ray ({error}): pip install "ray>=2.40"') from error


class RayConnection:
    """Ray with room for `cpus` cores and `gpus` GPUs. Attributes: ray (the module), started (whether it is ours).

    Every wait for the cluster is bounded, is told to `notify` when it takes long, and ends with Stopped when
    `should_stop` says so. Raises ProviderError (Ray is missing, or the joined cluster is too small), ClusterError (it
    does not start, or nobody answers) and Stopped.
    """

    def __init__(
        self, cpus: float, gpus: float = 0, *, object_store_bytes: int = OBJECT_STORE_BYTES,
        notify: Callable[[str], None] = lambda message: None, should_stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        address = os.environ.get("RAY_ADDRESS", "local")
        ray = self.ray = require_ray()
        self.started, self._folder = False, ""
        self.notify, self.should_stop = notify, should_stop
        if not ray.is_initialized():
            self.started = address == "local"
            settings: dict[str, Any] = {}
            if self.started:
                _listen_to_this_machine_alone()
                self._folder = tempfile.mkdtemp(prefix="ray-", dir=os.environ.get("RAY_TMPDIR"))
                settings = {
                    "num_cpus": int(-(-cpus // 1)),
                    "include_dashboard": False,
                    "object_store_memory": object_store_bytes,
                    "_node_ip_address": "127.0.0.1",
                    "_temp_dir": self._folder,
                }
            try:
                self._begin(address, settings)
            except BaseException:
                self.close()
                raise
        if self.started and (where := ray.util.get_node_ip_address()) != "127.0.0.1":
            self.close()
            raise ClusterError(f"Ray {ray.__version__} listens at {where} and would execute what anybody sends there")
        offered = ray.cluster_resources()
        for kind, wanted in (("CPU", cpus), ("GPU", gpus)):
            if wanted > offered.get(kind, 0):
                self.close()
                raise ProviderError(
                    f"the workers need {wanted:g} {kind}s and the cluster has {offered.get(kind, 0):g}: "
                    "ask for fewer workers, or for fewer threads of each"
                )

    def wait_for(self, what: str, work: Callable[[], Any], seconds: float) -> Any:
        """What work() gives, or raises. Raises ClusterError when it takes longer, Stopped after a request to stop."""
        try:
            return exchange(work, seconds, self.patience(what, seconds))
        except Late:
            raise ClusterError(f"waited {seconds:.0f} s for {what}, in vain") from None
        except Unwanted:
            raise Stopped(f"stopped while it waited for {what}") from None

    def patience(self, what: str, seconds: float) -> Callable[[], bool]:
        """Whether somebody asked to stop; to be called again and again, it says what is waited for."""
        begun, told = time.monotonic(), [_SAY_AFTER]

        def over() -> bool:
            if (waited := time.monotonic() - begun) > told[0]:
                told[0] = waited + 60
                self.notify(f"waiting for {what}, for {seconds:.0f} s at most")
            return self.should_stop()

        return over

    def check_alive(self) -> None:
        """Raises ClusterError when the head of the cluster does not answer, or says that no node of it is alive."""
        try:
            nodes = exchange(self.ray.nodes, _ANSWER_SECONDS, lambda: False)
        except Late:
            raise ClusterError(f"Ray's head node has not answered for {_ANSWER_SECONDS:.0f} s") from None
        except Exception as error:  # whatever Ray raises
            raise ClusterError(f"Ray's head node does not answer: {error!s:.300}") from None
        if not any(node["Alive"] for node in nodes):
            raise ClusterError("no node of the Ray cluster is alive")

    def close(self) -> None:
        """End the cluster that was started here, and its folder; one that was joined or there before goes on."""
        if self.started and self.ray.is_initialized():
            with contextlib.suppress(Late):
                exchange(self.ray.shutdown, _CLOSE_SECONDS, lambda: False)
        self.started = False
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, address: str, settings: dict[str, Any]) -> None:
        ray, what = self.ray, f"Ray ({address}) to start"
        if not self.started:
            what = f"the Ray cluster at {address} (RAY_ADDRESS)"
            self._knock(address, what)

        def start() -> None:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **settings)

        for attempt in range(_STARTS if self.started else 1, 0, -1):
            if self.should_stop():
                raise Stopped(f"stopped while it waited for {what}")
            try:
                with _own_streams_and_signals():
                    if self.started:  # in this thread, with which Ray's processes end; Ray bounds it
                        start()
                    else:
                        self.wait_for(what, start, _START_SECONDS)
                return
            except (ClusterError, Stopped):
                raise
            except Exception as error:  # Ray raises plain Exception here
                ray.shutdown()
                if attempt == 1:
                    raise ClusterError(f"Ray ({address}) did not start: {error}") from error

    def _knock(self, address: str, what: str) -> None:
        """Raises ClusterError where nobody listens: Ray itself would try for minutes."""
        try:
            parts = urlsplit(address if "//" in address else f"//{address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host is None or port is None:  # "auto" and the like: Ray knows where
            return

        def connect() -> None:
            socket.create_connection((host, port), _CONNECT_SECONDS).close()

        try:
            self.wait_for(what, connect, _CONNECT_SECONDS + 1)
        except (ClusterError, Stopped):
            raise
        except OSError as error:
            raise ClusterError(
                f"Ray ({address}) did not start: nobody listens there ({error}); start it, or unset RAY_ADDRESS"
            ) from None

    def __enter__(self) -> "RayConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen_to_this_machine_alone() -> None:
    """Whether or not somebody has imported Ray before."""
    os.environ[_LOOPBACK] = "0"
    constants = importlib.import_module("ray._private.ray_constants")
    if hasattr(constants, _LOOPBACK_CONSTANT):
        setattr(constants, _LOOPBACK_CONSTANT, False)


@contextlib.contextmanager
def _own_streams_and_signals() -> Iterator[None]:
    """What Ray prints goes to stderr, and the program's handlers of signals are put back: Ray would take SIGTERM."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
