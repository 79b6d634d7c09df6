"""A run on disk: config, curve, journal, checkpoint, result. Nothing paid for is lost, nothing is half-written.

config.json                      everything needed to repeat the run
curve.jsonl                      a line per step
journal/STEP.jsonl               losses paid for since the checkpoint before: replayed, not paid again, on resume
checkpoint.safetensors           state after the last finished step (and .previous, should it be damaged)
prompt/, predictions.safetensors, result.json    what the run ends with: prompts, test probabilities, numbers
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.tensor_file import TensorFileError, read_metadata, read_tensors, write_atomically, write_tensors
from zopog_ref.app.errors import InputError
from zopog_ref.search import Arrays, Record

try:
    import fcntl
except ImportError:  # Windows: no advisory locks; two runs on one folder are not kept apart there
    fcntl = None  # type: ignore[assignment]

_CHECKPOINT, _PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


class RunFolder:
    """One run's folder: the Store and the Journal of zopog_ref.search, and its configuration and result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self._step = 0  # finished steps: the journal's current file
        self._replay: list[NDArray[np.float64]] = []
        self._lock: IO[str] | None = None
        self._curve: IO[str] | None = None

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> "RunFolder":
        """A fresh run. Errors: InputError when the folder already holds one."""
        if (path / "config.json").exists():
            raise InputError(f"{path} already holds a run: continue it with --resume {path}, or choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path)
        folder.take_lock()
        write_json(path / "config.json", config)
        return folder

    @classmethod
    def open(cls, path: Path, *, lock: bool = True) -> tuple["RunFolder", dict[str, Any]]:
        """An existing run and its configuration. Errors: InputError when there is none, or it is in use."""
        config = read_json(path / "config.json", f"{path} holds no run: start one with zopog tune --out {path}")
        folder = cls(path)
        if lock:
            folder.take_lock()
        return folder, config

    def take_lock(self) -> None:
        """Keep other processes out of the folder until close(). Errors: InputError when one is in it."""
        self._lock = open(self.path / ".lock", "w")  # noqa: SIM115  held as long as the run
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.close()
                message = f"another process is running in {self.path}: wait for it, or choose another --out"
                raise InputError(message) from error

    # -- Store ---------------------------------------------------------------------------------------------------

    def load(self) -> tuple[Arrays, list[Record]] | None:
        """The newest readable checkpoint, the curve up to it, and the journal after it made ready for replay."""
        arrays, step = self._newest_checkpoint()
        curve = self._read_curve(step)
        self._step = step
        self._replay = [losses for later in self._journal_files(step) for losses in _read_journal(later)]
        self._open_curve(curve)
        return None if arrays is None else (arrays, curve)

    def _newest_checkpoint(self) -> tuple[Arrays | None, int]:
        for name in (_CHECKPOINT, _PREVIOUS):
            path = self.path / name
            if not path.exists():
                continue
            try:
                arrays = {key: np.array(value) for key, value in read_tensors(path).items()}
                metadata = read_metadata(path)
                self._seconds_before = float(metadata["seconds"])
                return arrays, int(metadata["step"])
            except (TensorFileError, KeyError, ValueError, OSError) as error:
                self.warnings.append(f"{path} cannot be read ({error}); going back to the checkpoint before it")
        return None, 0

    def save(self, arrays: Arrays, record: Record) -> None:
        """After a step: the curve's line first, then the checkpoint, then the journal it makes superfluous."""
        if self._curve is None:
            self._open_curve([])
        assert self._curve is not None
        self._curve.write(json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n")
        self._curve.flush()
        os.fsync(self._curve.fileno())
        checkpoint = self.path / _CHECKPOINT
        if checkpoint.exists():
            _copy_link(checkpoint, self.path / _PREVIOUS)
        write_tensors(checkpoint, arrays, {"step": str(record.step), "seconds": repr(self.seconds)})
        self._step = record.step
        for old in (self.path / "journal").glob("*.jsonl"):
            if int(old.stem) < record.step - 1:  # the previous checkpoint may still need the last step's
                old.unlink()

    def _read_curve(self, steps: int) -> list[Record]:
        path = self.path / "curve.jsonl"
        lines = path.read_text("utf-8").splitlines()[:steps] if path.exists() else []
        if len(lines) < steps:
            raise InputError(f"{path} has {len(lines)} lines, the checkpoint stands after step {steps}: it was edited")
        return [Record(**json.loads(line)) for line in lines]

    def _open_curve(self, curve: list[Record]) -> None:
        """Only the lines the checkpoint knows; what a crash left behind it goes."""
        text = "".join(json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n" for record in curve)
        write_atomically(self.path / "curve.jsonl", [text.encode()])
        self._curve = open(self.path / "curve.jsonl", "a", encoding="utf-8")  # noqa: SIM115  open as long as the run

    # -- Journal -------------------------------------------------------------------------------------------------

    def replay(self) -> NDArray[np.float64] | None:
        """The next losses already paid for, or None."""
        return self._replay.pop(0) if self._replay else None

    def record(self, losses: NDArray[np.float64]) -> None:
        """Keep losses the moment they are paid for."""
        folder = self.path / "journal"
        folder.mkdir(exist_ok=True)
        with open(folder / f"{self._step:06d}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(losses.tolist()) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _journal_files(self, step: int) -> list[Path]:
        return sorted(path for path in (self.path / "journal").glob("*.jsonl") if int(path.stem) >= step)

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Time spent on this run, over all its parts."""
        return self._seconds_before + time.monotonic() - self._started

    def close(self) -> None:
        """Give the folder back; the run can be opened again."""
        for file in (self._curve, self._lock):
            if file is not None:
                file.close()
        self._curve = self._lock = None


def _read_journal(path: Path) -> list[NDArray[np.float64]]:
    """Losses of one step. A torn last line (a kill in the middle of a write) goes, so that appending can continue."""
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        write_atomically(path, [line + b"\n" for line in lines])
    return [np.asarray(json.loads(line), np.float64) for line in lines]


def _copy_link(source: Path, target: Path) -> None:
    """A second name for the checkpoint about to be replaced: no byte is copied, and none is ever half there."""
    temporary = target.with_name(target.name + ".tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        write_atomically(target, [source.read_bytes()])
        return
    os.replace(temporary, target)


def write_json(path: Path, value: Any) -> None:
    """Atomically; readable, keys in the order given."""
    write_atomically(path, [(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()])


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """Errors: InputError, with `missing` when there is no such file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(missing) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def free_name(wanted: Path) -> Path:
    """wanted, or wanted-2, wanted-3, ... : the first that holds no run."""
    number, path = 1, wanted
    while (path / "config.json").exists():
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
    return path


def say(message: str) -> None:
    """A message to the user: stderr, so that stdout stays what the command answers."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
