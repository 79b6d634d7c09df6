"""A disk that is full where a command writes what it ends with: the file is named, and what to do; nothing is lost."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import Run, same_run
from tests.faults.killing import Tiny
from tests.faults.test_disk import METHOD, fill, small_disk
from zopog_models.files import atomic
from zopog_models.frozen.model import EMBEDDED_MODEL
from zopog_models.frozen.oracle import FrozenModelOracle

__all__ = ["small_disk"]


def full_for(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """The disk has no room for the file of this name: its data cannot be flushed."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if name in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(atomic.os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("name", ["prompt.safetensors", "prompt.json", "predictions.safetensors", "result.json"])
def test_the_end_of_a_run_is_written_later_and_nothing_is_asked_again(
    zopog: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    options = tiny.options(METHOD)
    assert zopog("tune", *options, "--out", tmp_path / "whole")[0] == 0
    with monkeypatch.context() as patch:
        full_for(patch, name, number)
        code, out, error = zopog("tune", *options, "--out", tmp_path / "run")
    assert (code, out, "Traceback" in error) == (1, "", False)
    for words in (name, "on the disk of", f"make room, then zopog tune --resume {tmp_path / 'run'}"):
        assert words in error, error
    asked: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(FrozenModelOracle, "logits", lambda self, tokens, z, examples: asked.append(tokens))
        assert zopog("tune", "--resume", tmp_path / "run")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "run")
    assert not asked
    assert not list((tmp_path / "run").glob("**/.*.part"))


@pytest.mark.parametrize("name", ["compare.json", "report.html"])
def test_a_comparison_is_written_later(
    zopog: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options = ["compare", "--task", "supersense", "--methods", "none", "--seeds", 1, "--budget", 40, "--shots", 3,
               "--settings", "embedded", "--executor", "serial", "--out", tmp_path / "out"]  # fmt: skip
    with monkeypatch.context() as patch:
        full_for(patch, name, errno.ENOSPC)
        code, _, error = zopog(*options)
    assert (code, "Traceback" in error) == (1, False), error
    assert f"no space is left on the disk of {tmp_path / 'out' / name}: make room, then give the same command" in error
    assert zopog(*options)[0] == 0
    assert json.loads((tmp_path / "out" / "compare.json").read_text())


def test_files_of_a_model_on_a_real_full_disk(zopog: Run, tiny: Tiny, tmp_path: Path, small_disk: Path) -> None:
    assert zopog("tune", *tiny.options(METHOD), "--out", tmp_path / "run")[0] == 0
    fill(small_disk)
    for command in (
        ["bake", tmp_path / "run", "--out", small_disk / "baked.onnx"],
        ["export", "--checkpoint", EMBEDDED_MODEL, "--out", small_disk / "model.onnx"],
    ):
        code, out, error = zopog(*command)
        assert (code, out, "Traceback" in error) == (1, "", False), error
        assert "no space is left on the disk of" in error
        assert ".onnx" in error
        assert "make room, then give the same command again" in error
        assert [entry.name for entry in small_disk.iterdir()] == ["filler"]
    (small_disk / "filler").unlink()
    assert zopog("bake", tmp_path / "run", "--out", tmp_path / "baked.onnx")[0] == 0
