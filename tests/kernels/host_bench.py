"""benchmarks/kernels.py without a GPU: NumPy stands in for CuPy, at sizes of a few elements; the times mean nothing."""

import ctypes
import time
from types import ModuleType, SimpleNamespace

import numpy as np

from tests.kernels.host_device import FLAGS, HostDevice, compiled
from zopog_kernels import KernelBackend
from zopog_ref.app.bench.random_model import Shape

SMALL = {
    "SIZES": {"small": (4, 12), "medium": (6, 12), "large": (8, 20)},
    "COPIED": 100,
    "FLOOR_THREADS": 128,
    "WORDS": 1 << 14,
    "GEMM": 8,
    "MODEL": Shape(1, 16, 2, 160),
    "BATCH": 4,
    "TEXT": 8,
    "POSITIONS": 3,
}


class HostModule:
    """RawModule of the floor kernels, on the host."""

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        self.library = compiled(code, FLAGS)

    def get_function(self, name: str):
        def launch(grid, block, given):
            seed, threads, out = given
            getattr(self.library, f"host_{name}")(
                ctypes.c_uint32(grid[0]),
                ctypes.c_uint32(1),
                0,
                ctypes.c_uint64(seed),
                ctypes.c_int64(threads),
                ctypes.c_void_p(out.ctypes.data),
            )

        return launch


def host_cupy() -> SimpleNamespace:
    rng = np.random.default_rng(0)
    names = ("zeros", "empty", "full", "copyto", "stack", "float16", "float32", "uint32", "int64")
    random = SimpleNamespace(random=rng.random, standard_normal=lambda shape, dtype: rng.standard_normal(shape, dtype))
    properties = {"name": b"no GPU", "multiProcessorCount": 0}
    runtime = SimpleNamespace(getDeviceProperties=lambda device: properties, driverGetVersion=lambda: 0)
    shown = {name: getattr(np, name) for name in names}
    return SimpleNamespace(
        **shown, random=random, RawModule=HostModule, __version__="0", cuda=SimpleNamespace(runtime=runtime)
    )


def host_bench(script: ModuleType) -> type:
    """The script's Bench on the host."""

    class HostBench(script.Bench):  # type: ignore[name-defined, misc]
        def __init__(self, rounds: int) -> None:
            self.device, self.rounds, self.cupy, self.rows = HostDevice(), rounds, host_cupy(), []
            self.backend = KernelBackend(self.device)

        def microseconds(self, work, repeat=10):
            start = time.perf_counter()
            work()
            return 1e6 * (time.perf_counter() - start)

        def peak_bytes(self, work):
            return work().nbytes

    return HostBench
