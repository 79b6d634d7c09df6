"""Ray, joined or started: quiet, without telemetry and dashboard, and gone again when it was ours.

With the environment variable RAY_ADDRESS, Ray's own, a running cluster is joined and left as it was. Without it a
cluster of this machine alone is started on the loopback address, and every process of it ends with `close`.
"""

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from zopog_models.errors import ClusterError, ProviderError

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


def require_ray() -> Any:
    """The module ray. Raises ProviderError, which names the extra."""
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ProviderError(f'several workers need Ray ({error}): pip install "ray>=2.40"') from error


class RayConnection:
    """Ray with room for `cpus` cores and `gpus` GPUs. Attributes: ray (the module), started (whether it is ours).

    Raises ProviderError (Ray is missing, or the joined cluster is too small) and ClusterError (it does not start).
    """

    def __init__(self, cpus: float, gpus: float = 0, *, object_store_bytes: int = OBJECT_STORE_BYTES) -> None:
        address = os.environ.get("RAY_ADDRESS", "local")
        ray = self.ray = require_ray()
        self.started = False
        if not ray.is_initialized():
            self.started = address == "local"
            here: dict[str, Any] = {
                "num_cpus": int(-(-cpus // 1)),
                "include_dashboard": False,
                "object_store_memory": object_store_bytes,
                "_node_ip_address": "127.0.0.1",
            }
            if self.started:
                _listen_to_this_machine_alone()
            settings = here if self.started else {}
            for attempt in range(_STARTS if self.started else 1, 0, -1):
                try:
                    with _own_streams_and_signals():
                        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **settings)
                    break
                except Exception as error:  # Ray raises plain Exception here
                    ray.shutdown()
                    if attempt == 1:
                        raise ClusterError(f"Ray ({address}) did not start: {error}") from error
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

    def close(self) -> None:
        """End the cluster that was started here; one that was joined or there before goes on."""
        if self.started and self.ray.is_initialized():
            self.ray.shutdown()
        self.started = False

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
