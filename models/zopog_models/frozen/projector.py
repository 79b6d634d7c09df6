"""A z for many z, on a runner's device and in its threads."""

from typing import Any

import numpy as np

from zopog_models.graph import build_projection
from zopog_models.runners.bound import DeviceMemory, part
from zopog_models.runners.runner import Runner
from zopog_models.runners.session import Session

__all__ = ["Projector"]

# z in one product: a fixed number, so that the threads of a CPU do not show in the bits.
_SLICE = {"cpu": 64, "cuda": 256}


class Projector:
    """A z for many z: (U, d) -> (U, rows), float32. projection is A (rows, d)."""

    def __init__(self, runner: Runner, projection: np.ndarray) -> None:
        self._pool = runner.pool
        self._slice = _SLICE[runner.device]
        self.rows, self.dim = projection.shape
        self._session = Session(*build_projection(projection), runner.device, stream=runner.stream)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        z = np.ascontiguousarray(z, np.float32)
        result = np.empty((len(z), self.rows), np.float32)

        def run(start: int) -> None:
            chosen = slice(start, start + self._slice)
            result[chosen] = self._session.run("offset", {"z": z[chosen]})

        self._pool.run_all(run, range(0, len(z), self._slice))
        return result

    def bound(self, memory: DeviceMemory, z: Any, out: Any) -> None:
        """The same product where the arrays lie: z (U, d) -> the first U · rows elements of out, both float32."""
        if not self.rows:
            return

        def run(start: int) -> None:
            count = min(self._slice, len(z) - start)
            source = part(memory, z, start * self.dim, (count, self.dim))
            target = part(memory, out, start * self.rows, (count, self.rows))
            self._session.run_bound({"z": source}, {"offset": target})

        self._pool.run_all(run, range(0, len(z), self._slice))
