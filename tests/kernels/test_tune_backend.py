"""zopog tune --backend: the same run on the kernels, fixed when a run starts, named errors where it cannot be."""

import json
import sys
from pathlib import Path

import pytest

import zopog_kernels
from tests.app.conftest import SMALL, Run, small_task, zopog  # noqa: F401  fixtures
from zopog_kernels import KernelBackend

from .device_array import StrictDevice
from .host_device import needs_compiler


def test_a_run_on_the_kernels(zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    needs_compiler()
    monkeypatch.setattr(zopog_kernels, "cupy_backend", lambda: KernelBackend(StrictDevice()))
    common = ("tune", "--task", small_task, *SMALL)
    assert zopog(*common, "--out", tmp_path / "numpy")[0] == 0
    code, _, errors = zopog(*common, "--backend", "cupy", "--out", tmp_path / "cupy")
    assert code == 0, errors
    curves = [[json.loads(line) for line in (tmp_path / name / "curve.jsonl").read_text().splitlines()] for name in ("numpy", "cupy")]
    assert len(curves[0]) == len(curves[1]) > 10
    for one, other in zip(*curves):
        assert one["calls"] == other["calls"]
        assert one["diagnostics"]["loss"] == pytest.approx(other["diagnostics"]["loss"], rel=1e-3)
    assert json.loads((tmp_path / "cupy" / "config.json").read_text())["backend"] == "cupy"
    code, _, errors = zopog("tune", "--resume", tmp_path / "cupy", "--backend", "numpy")
    assert code == 2
    assert "--backend: fixed when the run was started" in errors


def test_without_cupy_the_command_says_what_to_install(zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, _, errors = zopog("tune", "--task", small_task, *SMALL, "--backend", "cupy", "--out", tmp_path / "run")
    assert code == 2
    assert 'pip install "zopog-ref[cupy]"' in errors
    assert not (tmp_path / "run").exists()


def test_a_method_without_kernels_says_so(zopog: Run, small_task: Path, tmp_path: Path) -> None:  # noqa: F811
    code, _, errors = zopog("tune", "--task", small_task, "--method", "bdpl", "--backend", "cupy", "--out", tmp_path / "run")
    assert code == 2
    assert "BDPL runs in NumPy only" in errors
