"""benchmarks/kernels.py runs from end to end where there is no GPU: NumPy stands in for CuPy, the times mean nothing."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.kernels.host_bench import SMALL, host_bench
from tests.kernels.host_device import needs_compiler
from tests.kernels.test_compilers import nvcc

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernels.py"


@pytest.fixture
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("kernels_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_measurement_runs(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_compiler()

    monkeypatch.setattr(script, "Bench", host_bench(script))
    for name, small in SMALL.items():
        monkeypatch.setattr(script, name, small)
    monkeypatch.setattr(script, "check_parity", lambda bench: script.parity.check_words(bench.backend))
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--json", str(tmp_path / "numbers.json")])
    assert script.main() == 0
    record = json.loads((tmp_path / "numbers.json").read_text())
    assert len(record["targets"]) == 7
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
        script.module_source() + script.FLOOR_KERNELS + script.GUARDED_KERNEL,
    )
    assert "bench_guarded" in (tmp_path / "floors.ptx").read_text()
