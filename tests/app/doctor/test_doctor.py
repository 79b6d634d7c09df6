"""`zopog doctor`: from facts to advice, each case by facts made up for it; and the facts of this machine."""

import ctypes
import json
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.app.conftest import Run
from zopog_ref.app.doctor import command as doctor
from zopog_ref.app.doctor.diagnosis import (
    CPU,
    CUDA,
    STARTS,
    Facts,
    cuda_major,
    diagnose,
    extra,
    missing_libraries,
    ready,
)

CPU_ONLY = Facts(packages={"onnxruntime": "1.31.1", "tokenizers": "0.23"}, outcomes={CPU: STARTS})
GPU = Facts(
    packages={"onnxruntime-gpu": "1.31.1", "tokenizers": "0.23", "cupy-cuda13x": "14.2"},
    outcomes={CPU: STARTS, CUDA: STARTS},
    driver=(13, 0),
    cupy=STARTS,
)
NO_CUBLAS = "libcublasLt.so.13: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize("facts", [CPU_ONLY, GPU, replace(GPU, driver=(13, 2))])
def test_nothing_is_wrong(facts: Facts) -> None:
    assert diagnose(facts) == []
    assert ready(facts)


def changed(
    facts: Facts, *, without: tuple[str, ...] = (), packages: dict[str, str] | None = None, **other: Any
) -> Facts:
    kept = {name: version for name, version in facts.packages.items() if name not in without}
    return replace(facts, packages=kept | (packages or {}), **other)


CASES = {
    "both runtimes, no driver": (
        changed(CPU_ONLY, packages={"onnxruntime-gpu": "1.31.1"}),
        "both installed",
        'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "onnxruntime>=1.25" tokenizers',
    ),
    "both runtimes, CUDA 13": (
        changed(GPU, packages={"onnxruntime": "1.31.1"}),
        "both installed",
        'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "onnxruntime-gpu[cuda,cudnn]>=1.27" tokenizers',
    ),
    "no runtime": (Facts(packages={"tokenizers": "0.23"}), "is not installed", 'pip install "onnxruntime>=1.25" tokenizers'),
    "no runtime, CUDA 12": (
        Facts(packages={"tokenizers": "0.23"}, driver=(12, 4)),
        "is not installed",
        'pip install "onnxruntime-gpu[cuda,cudnn]>=1.25,<1.27" tokenizers',
    ),
    "a runtime without its files": (
        changed(GPU, emptied=("onnxruntime-gpu",), outcomes={}),
        "its files are gone",
        "pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1",
    ),
    "a CPU that does not start": (
        replace(CPU_ONLY, outcomes={CPU: "illegal instruction"}),
        "CPUExecutionProvider does not start: illegal instruction",
        "pip install --force-reinstall --no-deps onnxruntime==1.31.1",
    ),
    "no tokenizers": (changed(CPU_ONLY, without=("tokenizers",)), "tokenizers is not", "pip install tokenizers"),
    "a GPU and the CPU's runtime": (
        replace(CPU_ONLY, driver=(13, 0)),
        "knows the CPU only",
        'pip uninstall -y onnxruntime && pip install "onnxruntime-gpu[cuda,cudnn]>=1.27" tokenizers',
    ),
    "no driver": (
        changed(GPU, without=("cupy-cuda13x",), driver=None, cupy=None, outcomes={CPU: STARTS, CUDA: NO_CUBLAS}),
        "needs an NVIDIA driver for CUDA 13, and none is found",
        'pip uninstall -y onnxruntime-gpu && pip install "onnxruntime>=1.25" tokenizers',
    ),
    "a driver that is too old": (
        changed(GPU, without=("cupy-cuda13x",), driver=(12, 8), cupy=None, outcomes={CPU: STARTS, CUDA: "no device"}),
        "built for CUDA 13, the NVIDIA driver runs up to CUDA 12.8",
        'pip uninstall -y onnxruntime-gpu && pip install "onnxruntime-gpu[cuda,cudnn]>=1.25,<1.27" tokenizers',
    ),
    "no cuBLAS": (
        replace(GPU, outcomes={CPU: STARTS, CUDA: NO_CUBLAS}),
        "libraries of CUDA 13 or cuDNN are missing: libcublasLt.so.13",
        'pip install "nvidia-cublas>=13,<14"',
    ),
    "no cuDNN": (
        replace(GPU, outcomes={CPU: STARTS, CUDA: "libcudnn.so.9: cannot open shared object file"}),
        "libcudnn.so.9",
        'pip install "nvidia-cudnn-cu13>=9,<10"',
    ),
    "no cuDNN, CUDA 12": (
        changed(
            GPU,
            without=("cupy-cuda13x",),
            packages={"onnxruntime-gpu": "1.26.0"},
            cupy=None,
            outcomes={CPU: STARTS, CUDA: "cudnn64_9.dll not found, cublasLt64_12.dll not found"},
        ),
        "libraries of CUDA 12 or cuDNN",
        'pip install "nvidia-cublas-cu12>=12,<13" "nvidia-cudnn-cu12>=9,<10"',
    ),
    "CUDA that fails otherwise": (
        replace(GPU, outcomes={CPU: STARTS, CUDA: "no kernel image"}),
        "CUDAExecutionProvider does not start: no kernel image",
        'pip install --force-reinstall "onnxruntime-gpu[cuda,cudnn]==1.31.1"',
    ),
    "two CuPys": (
        changed(GPU, packages={"cupy-cuda12x": "14.2"}),
        "cupy-cuda12x and cupy-cuda13x",
        "pip uninstall -y cupy-cuda12x cupy-cuda13x && pip install cupy-cuda13x",
    ),
    "CuPy 12 beside CUDA 13": (
        changed(GPU, without=("cupy-cuda13x",), packages={"cupy-cuda12x": "14.2"}),
        "cupy-cuda12x is for CUDA 12 and onnxruntime-gpu 1.31.1 for CUDA 13",
        "pip uninstall -y cupy-cuda12x && pip install cupy-cuda13x",
    ),
    "CuPy 13 beside CUDA 12": (
        changed(GPU, packages={"onnxruntime-gpu": "1.26.0"}),
        "cupy-cuda13x is for CUDA 13 and onnxruntime-gpu 1.26.0 for CUDA 12",
        "pip uninstall -y cupy-cuda13x && pip install cupy-cuda12x",
    ),
    "CuPy newer than the driver": (
        changed(CPU_ONLY, packages={"cupy-cuda13x": "14.2"}, driver=(12, 8), cupy="CUDARuntimeError"),
        "cupy-cuda13x is for CUDA 13, the NVIDIA driver runs up to CUDA 12.8",
        "pip uninstall -y cupy-cuda13x && pip install cupy-cuda12x",
    ),
    "CuPy without NVRTC": (
        replace(GPU, cupy="RuntimeError: CuPy failed to load libnvrtc.so.13: OSError: ..."),
        "cupy-cuda13x does not start",
        'pip install "nvidia-cuda-nvrtc"',
    ),
    "CuPy that fails otherwise": (
        replace(GPU, cupy="ImportError: numpy.core"),
        "cupy-cuda13x does not start: ImportError",
        "pip install --force-reinstall cupy-cuda13x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_line(case: str) -> None:
    facts, words, mend = CASES[case]
    fitting = [problem for problem in diagnose(facts) if words in problem.what]
    assert [problem.mend for problem in fitting] == [mend]


@pytest.mark.parametrize(("version", "major"), [("1.23.0", 12), ("1.26.0", 12), ("1.27.0", 13), ("2.0", 13)])
def test_cuda_of_a_runtime(version: str, major: int) -> None:
    assert cuda_major(version) == major


def test_every_missing_library_is_named_once() -> None:
    error = "libcublas.so.12, libcublasLt.so.12, libcufft.so.11, libcurand.so.10, libcudart.so.12, libc.so.6"
    assert missing_libraries(error, 12) == [
        "nvidia-cublas-cu12>=12,<13", "nvidia-cuda-runtime-cu12", "nvidia-cufft-cu12", "nvidia-curand-cu12",
    ]  # fmt: skip


def test_the_extra_follows_the_driver() -> None:
    assert [extra(Facts(driver=driver)) for driver in (None, (11, 8), (12, 0), (13, 1))] == [
        "cpu", "cpu", "gpu-cu12", "gpu",
    ]  # fmt: skip


def test_without_tokenizers_or_a_provider_nothing_runs() -> None:
    assert not ready(changed(CPU_ONLY, without=("tokenizers",)))
    assert not ready(replace(CPU_ONLY, outcomes={CPU: "no"}))


# -- the facts of this machine ---------------------------------------------------------------------------------------


def test_the_cpu_provider_is_opened(zopog: Run) -> None:
    code, out, _ = zopog("doctor", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["ready"] is True
    assert report["outcomes"][CPU] == STARTS
    assert "onnxruntime" in report["packages"] or "onnxruntime-gpu" in report["packages"]
    assert "opened on a graph of two nodes" in zopog("doctor")[1]


def test_a_provider_that_computes_nonsense_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: what is said to start has been run, and its answer read."""

    class Wrong:
        def __init__(self, *arguments: object) -> None: ...

        def run(self, output: str, feeds: dict[str, Any]) -> Any:
            return feeds["z"] * 2

    monkeypatch.setattr(doctor, "Session", Wrong)
    assert doctor.try_providers()[CPU].startswith("it starts, but answers")


def test_a_machine_where_nothing_is_installed(zopog: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "try_providers", dict)
    code, out, _ = zopog("doctor")
    assert code == 1
    assert '! ONNX Runtime is not installed\n  pip install "onnxruntime' in out


def test_a_record_whose_files_are_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class File(str):
        def locate(self) -> Path:
            return tmp_path / self

    record = SimpleNamespace(files=[File("onnxruntime/__init__.py"), File("onnxruntime/other.py")])
    monkeypatch.setattr(doctor, "distribution", lambda package: record)
    assert doctor.files_are_missing("onnxruntime")
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("")
    assert not doctor.files_are_missing("onnxruntime")


def test_the_driver_says_which_cuda_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(number: int, status: int = 0) -> SimpleNamespace:
        def version(pointer: Any) -> int:
            pointer._obj.value = number
            return status

        return SimpleNamespace(cuDriverGetVersion=version)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: library(13010))
    assert doctor.cuda_driver() == (13, 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library(12080))
    assert doctor.cuda_driver() == (12, 8)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library(0, status=100))
    assert doctor.cuda_driver() is None


def test_cupy_is_run_and_not_only_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    def no_device(count: int) -> None:
        raise RuntimeError("no CUDA-capable device is detected")

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ones=np.ones, asnumpy=np.asarray))
    assert doctor.try_cupy() == STARTS
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ones=no_device, asnumpy=np.asarray))
    assert doctor.try_cupy() == "RuntimeError: no CUDA-capable device is detected"
