"""A full disk, a damaged checkpoint, edited files, links, a clock that jumps: nothing paid for is lost or paid twice."""

import itertools
import os
import random
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import Run, same_run
from tests.faults.killing import Tiny
from zopog_models.files import durable
from zopog_models.frozen.oracle import FrozenModelOracle
from zopog_ref.app.report import progress
from zopog_ref.app.run import folder as run_folder
from zopog_ref.app.run.folder import RunFolder

METHOD = "random-search"  # of whose steps each is one question


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1.5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each question that a training step asks of the model."""
    asked, real = [], FrozenModelOracle.logits

    def counted(self: FrozenModelOracle, tokens, z, examples):  # type: ignore[no-untyped-def]
        if len(tokens) == 4:  # dev scores ask with one prompt
            asked.append(len(examples))
        return real(self, tokens, z, examples)

    monkeypatch.setattr(FrozenModelOracle, "logits", counted)
    return asked


def fill(disk: Path) -> None:
    with open(disk / "filler", "ab", buffering=0) as file:
        for size in (65536, 512, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break


def fill_at(monkeypatch: pytest.MonkeyPatch, place: str, disk: Path) -> None:
    """Fill the disk before the third time that something is written to `place`."""
    name = {"journal": "record", "curve": "save"}.get(place)
    target, name = (RunFolder, name) if name else (run_folder, "write_tensors")
    real, calls = getattr(target, name), itertools.count(1)

    def filled(*arguments):  # type: ignore[no-untyped-def]
        if next(calls) == 3:
            fill(disk)
        return real(*arguments)

    monkeypatch.setattr(target, name, filled)


def full_and_resumed(
    zopog: Run,
    tiny: Tiny,
    disk: Path,
    tmp_path: Path,
    questions: list[int],
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[int, int, str]:
    """Questions of an undisturbed run, of one whose disk fills up and that is resumed, and what the user was told."""
    options = tiny.options(METHOD)
    assert zopog("tune", *options, "--out", tmp_path / "whole")[0] == 0
    needed = len(questions)
    questions.clear()
    with monkeypatch.context() as patch:
        fill_at(patch, place, disk)
        code, out, error = zopog("tune", *options, "--out", disk / "run")
    assert (code, out) == (1, ""), error
    still_full = zopog("tune", "--resume", disk / "run")
    assert still_full[0] == 1, still_full
    (disk / "filler").unlink()
    code, _, said = zopog("tune", "--resume", disk / "run")
    assert code == 0, said
    assert same_run(tmp_path / "whole", disk / "run")
    return needed, len(questions), error


@pytest.mark.parametrize("place", ["journal", "curve", "checkpoint"])
def test_a_full_disk_costs_nothing(
    zopog: Run,
    tiny: Tiny,
    small_disk: Path,
    tmp_path: Path,
    questions: list[int],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    needed, asked, error = full_and_resumed(zopog, tiny, small_disk, tmp_path, questions, place, monkeypatch)
    assert asked == needed
    for words in ("no space is left", "all that was paid for is kept", "--resume"):
        assert words in error, error


def test_without_the_reserve_an_answer_would_be_lost(
    zopog: Run, tiny: Tiny, small_disk: Path, tmp_path: Path, questions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a reserve that holds nothing back."""
    monkeypatch.setattr(durable, "RESERVE_BYTES", 0)
    needed, asked, error = full_and_resumed(zopog, tiny, small_disk, tmp_path, questions, "journal", monkeypatch)
    assert asked == needed + 1
    assert "the last answer could not be kept" in error


@pytest.fixture
def stopped(zopog: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted in the middle."""
    saves, real = itertools.count(1), RunFolder.save

    def save(self: RunFolder, *arguments) -> None:  # type: ignore[no-untyped-def]
        real(self, *arguments)
        if next(saves) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", save)
        assert zopog("tune", *tiny.options(METHOD), "--out", tmp_path / "run")[0] == 130
    return tmp_path / "run"


@pytest.mark.parametrize("how", ["cut", "a bit", "empty", "other"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_taken(
    zopog: Run, tiny: Tiny, stopped: Path, tmp_path: Path, questions: list[int], how: str
) -> None:
    assert zopog("tune", *tiny.options(METHOD), "--out", tmp_path / "whole")[0] == 0
    needed = len(questions)
    questions.clear()
    path = stopped / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    if how == "a bit":
        content[-3] ^= 4
    path.write_bytes({"cut": content[:-7], "a bit": content, "empty": b"", "other": b"PK\3\4 not this"}[how])
    code, _, error = zopog("tune", "--resume", stopped)
    assert code == 0, error
    assert "going back to the checkpoint before it" in error
    assert same_run(tmp_path / "whole", stopped)
    assert len(questions) == needed - 5  # the step between the two checkpoints comes from the journal


def test_without_any_readable_checkpoint_nothing_is_paid_again(zopog: Run, stopped: Path, questions: list[int]) -> None:
    """Before, this started over and took the journal of the last steps for that of the first."""
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (stopped / name).write_bytes(b"damaged")
    code, _, error = zopog("tune", "--resume", stopped)
    assert (code, questions) == (2, [])
    assert "no checkpoint" in error
    assert "restore one" in error
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (stopped / name).unlink()
    code, _, error = zopog("tune", "--resume", stopped)
    assert (code, questions) == (2, []), error


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("curve.jsonl", b"{}\n" * 9),
        ("curve.jsonl", b"[\n" * 9),
        ("curve.jsonl", b"\xff\n" * 9),
        ("journal/000005.jsonl", b"{}\n"),
        ("journal/000005.jsonl", b"[[NaN]]\n"),
        ("journal/000005.jsonl", b"[1.0]\n"),
        ("config.json", b"[" * 100_000),
    ],
)
def test_a_file_that_was_edited_is_named(zopog: Run, stopped: Path, file: str, content: bytes) -> None:
    (stopped / file).write_bytes(content)
    code, _, error = zopog("tune", "--resume", stopped)
    assert (code, file in error, "Traceback" in error) == (2, True, False), error


@pytest.mark.parametrize("name", [".lock", "journal/000009.jsonl", "checkpoint.safetensors", "prompt"])
def test_a_link_in_a_run_folder_leads_nowhere(zopog: Run, stopped: Path, tmp_path: Path, name: str) -> None:
    """A stranger's run folder must not make a resumed run write or delete elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (stopped / name).unlink(missing_ok=True)
    (stopped / name).symlink_to(elsewhere)
    code, _, error = zopog("tune", "--resume", stopped)
    assert (code, "is a link" in error) == (2, True), error
    assert elsewhere.read_text() == "mine"


def test_a_clock_that_jumps_changes_no_result(
    zopog: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours forth and back at every look; seconds are never negative."""
    options = tiny.options(METHOD)
    assert zopog("tune", *options, "--out", tmp_path / "whole")[0] == 0
    rng, now, seen = random.Random(0), [1e6], []

    def jumping() -> float:
        now[0] += rng.uniform(-1e5, 1e5)
        return now[0]

    clock = types.SimpleNamespace(monotonic=jumping)
    for module in (run_folder, progress):
        monkeypatch.setattr(module, "time", clock)
    real = RunFolder.seconds.fget
    assert real is not None

    def seconds(self: RunFolder) -> float:
        seen.append(real(self))
        return seen[-1]

    monkeypatch.setattr(RunFolder, "seconds", property(seconds))
    assert zopog("tune", *options, "--out", tmp_path / "jumped")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "jumped")
    assert np.all(np.diff(seen) >= 0)
    assert seen[0] >= 0
