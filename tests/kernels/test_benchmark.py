"""benchmarks/kernels.py runs from end to end where there is no GPU: NumPy stands in for CuPy, the times mean nothing."""

import ctypes
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.kernels.host_device import FLAGS, HostDevice, compiled, needs_compiler
from tests.kernels.test_compilers import nvcc
from zopog_kernels import KernelBackend
from zopog_ref.app.bench.random_model import Shape

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernels.py"


@pytest.fixture
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("kernels_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


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


def test_every_measurement_runs(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()

    class HostBench(script.Bench):
        def __init__(self, rounds: int) -> None:
            self.device, self.rounds, self.cupy, self.rows = HostDevice(), rounds, host_cupy(), []
            self.backend = KernelBackend(self.device)

        def microseconds(self, work, repeat=10):
            start = time.perf_counter()
            work()
            return 1e6 * (time.perf_counter() - start)

        def peak_bytes(self, work):
            return work().nbytes

    monkeypatch.setattr(script, "Bench", HostBench)
    monkeypatch.setattr(script, "SIZES", {"small": (4, 12), "medium": (6, 12), "large": (8, 20)})
    monkeypatch.setattr(script, "COPIED", 100)
    monkeypatch.setattr(script, "FLOOR_THREADS", 128)
    monkeypatch.setattr(script, "GEMM", 8)
    monkeypatch.setattr(script, "MODEL", Shape(1, 16, 2, 160))
    monkeypatch.setattr(script, "BATCH", 4)
    monkeypatch.setattr(script, "TEXT", 8)
    monkeypatch.setattr(script, "POSITIONS", 3)
    monkeypatch.setattr(script, "check_parity", lambda bench: script.parity.check_words(bench.backend))
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--json", str(tmp_path / "numbers.json")])
    assert script.main() == 0
    record = json.loads((tmp_path / "numbers.json").read_text())
    assert len(record["targets"]) == 6
    measured = {row["name"] for row in record["numbers"]}
    assert set(script.EXPECTED) <= measured  # nothing is expected that is not measured


def test_without_a_gpu_it_says_so(script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(sys, "argv", ["kernels.py"])
    assert script.main() == 2
    assert "no measurement" in capsys.readouterr().err


def test_the_floor_kernels_compile(script: ModuleType, tmp_path: Path) -> None:
    nvcc(
        tmp_path / "floors.ptx",
        [*script.OPTIONS, "-ptx", "-arch=compute_90"],
        script.module_source() + script.FLOOR_KERNELS,
    )
    assert "bench_normals" in (tmp_path / "floors.ptx").read_text()
