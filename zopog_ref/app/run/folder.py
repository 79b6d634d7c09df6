"""A run on disk: config, curve, journal, checkpoint, result. Nothing paid for is lost, nothing is half-written.

config.json                      everything needed to repeat the run
curve.jsonl                      a line per step
journal/STEP.jsonl               losses paid for since the checkpoint before: replayed, not paid again, on resume
checkpoint.safetensors           state after the last finished step (and .previous, should it be damaged)
answers/                         of `auto`, in place of these three: what each call was answered
prompt/, predictions.safetensors, result.json    what the run ends with: prompts, test probabilities, numbers

A folder may come from a stranger, or off a damaged disk: what is read is checked, and nothing outside is written.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.errors import UnusableFile
from zopog_models.files.atomic import write_atomically
from zopog_models.files.durable import FULL, DiskFull, Reserve, append_line
from zopog_models.files.repeated_keys import parse_json
from zopog_models.files.tensor_file import TensorFileError, read_metadata, read_tensors, write_tensors
from zopog_models.files.untrusted import check_regular, read_untrusted
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.curve import as_line, digest, read_curve, read_journal, read_record
from zopog_ref.search import Arrays, Record

try:
    import fcntl
except ImportError:  # Windows: no advisory locks; two runs on one folder are not kept apart there
    fcntl = None  # type: ignore[assignment]

LARGEST_JSON = 100_000_000  # bytes: a config.json names the rows of a test file, one number each
ANSWERS = "answers"  # of `auto`: a file for each call
_PART = re.compile(r"\..+\.[0-9a-f]{16}\.part")  # as `write_atomically` names what it has not finished
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


class RunFolder:
    """One run's folder: the Store and the Journal of zopog_ref.search, and its configuration and result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.warn: Callable[[str], None] = self.warnings.append  # of a damaged checkpoint, when it is met
        self._spent, self._looked = 0.0, time.monotonic()
        self._reserve = Reserve(path)
        self._go_on = f"make room, then zopog tune --resume {path}"
        self._step = 0  # finished steps: the journal's current file
        self._replay: list[NDArray[np.float64]] = []
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> "RunFolder":
        """A fresh run. Errors: InputError when the folder already holds one."""
        taken = f"{path} already holds a run: continue it with --resume {path}, or choose another --out"
        if (path / "config.json").exists():
            raise InputError(taken)
        if path.exists() and not path.is_dir():
            raise InputError(f"--out {path} is a file; give the name of a folder, which is made")
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path)
        folder.take_lock()
        try:
            if (path / "config.json").exists():  # another process was quicker, and is done by now
                raise InputError(taken)
            folder._tidy()
            write_json(path / "config.json", config)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def open(cls, path: Path, *, lock: bool = True) -> tuple["RunFolder", dict[str, Any]]:
        """An existing run and its configuration. Errors: InputError when there is none, or it is in use."""
        config = read_json(path / "config.json", f"{path} holds no run: start one with zopog tune --out {path}")
        folder = cls(path)
        if lock:
            folder.take_lock()
            try:
                folder._tidy()
            except InputError:
                folder.close()
                raise
        return folder, config

    def _tidy(self) -> None:
        """Of a folder that is ours alone. Errors: InputError for a link in it."""
        _refuse_links(self.path)
        for torn in _own_files(self.path):  # a kill in the middle of a write left it, be it after the last step
            if _PART.fullmatch(torn.name):
                torn.unlink(missing_ok=True)

    def take_lock(self) -> None:
        """Keep other processes out of the folder until close(). Errors: InputError when one is in it."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._lock = os.open(self.path / ".lock", flags, 0o666)  # held as long as the run
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                what = "a link" if error.errno == errno.ELOOP else "a folder"
                raise InputError(f"{self.path / '.lock'} is {what}: a run folder holds its own files") from None
            raise
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.close()
                message = f"another process is running in {self.path}: wait for it, or choose another --out"
                raise InputError(message) from error

    # -- Store ---------------------------------------------------------------------------------------------------

    def load(self) -> tuple[Arrays, list[Record]] | None:
        """The newest readable checkpoint, the curve up to it, and the journal after it made ready for replay.

        Errors: InputError when what is there cannot be continued without paying again; DiskFull.
        """
        arrays, step = self._newest_checkpoint()
        curve = self._read_curve(step)
        files = self._journal_files(step)
        if arrays is None and files and int(files[0].stem) > 0:
            raise InputError(f"{self.path} has lost the checkpoint before its journal {files[0].name}: restore it")
        self._step = step
        self._replay = [losses for later in files for losses in read_journal(later)]
        lines = "".join(as_line(record) + "\n" for record in curve)  # what a crash left behind the checkpoint goes
        self._reserve.take()
        write_atomically(self.path / "curve.jsonl", [lines.encode()])
        return None if arrays is None else (arrays, curve)

    def edited(self) -> bool:
        """Whether config.json is another file than the one that the last step was taken with."""
        try:
            found = read_metadata(self.path / CHECKPOINT).get("config")
        except (OSError, TensorFileError):
            return False  # load() says what is wrong with it
        return found is not None and found != self._config_digest()

    def _config_digest(self) -> str:
        path = self.path / "config.json"
        return hashlib.sha256(read_untrusted(path, LARGEST_JSON)).hexdigest() if path.exists() else ""

    def _newest_checkpoint(self) -> tuple[Arrays | None, int]:
        found = [path for name in (CHECKPOINT, PREVIOUS) if (path := self.path / name).exists()]
        unreadable = []
        for path in found:
            try:
                check_regular(path)
                arrays, metadata = read_tensors(path), read_metadata(path)
                arrays = {key: np.array(value) for key, value in arrays.items()}
                if metadata.get("sha256", right := digest(arrays)) != right:
                    raise TensorFileError("its numbers are not those that were saved")
                step, seconds = int(metadata["step"]), float(metadata["seconds"])
                if step < 1:
                    raise TensorFileError(f"it says that it stands after step {step}")
                self._spent = seconds if 0 <= seconds < math.inf else 0.0
                return arrays, step
            except (TensorFileError, KeyError, ValueError, OSError) as error:
                unreadable.append(f"{path} cannot be read ({error!s:.500})")
                if len(unreadable) < len(found):
                    self.warn(f"{unreadable[-1]}; going back to the checkpoint before it")
        if found:
            raise InputError(
                f"no checkpoint of {self.path} can be read, and going on without one would pay for everything again: "
                f"restore one, or start a new run ({'; '.join(unreadable)})"
            )
        return None, 0

    def save(self, arrays: Arrays, record: Record) -> None:
        """After a step: the curve's line first, then the checkpoint, then the journal it makes superfluous."""
        append_line(self.path / "curve.jsonl", as_line(record), self._reserve, self._go_on)
        checkpoint = self.path / CHECKPOINT
        about = {"step": str(record.step), "seconds": repr(self.seconds), "sha256": digest(arrays)}
        about["config"] = self._config_digest()
        try:
            if checkpoint.exists():
                _copy_link(checkpoint, self.path / PREVIOUS)
            write_tensors(checkpoint, arrays, about)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise DiskFull(checkpoint, f"all that was paid for is kept; {self._go_on}", error.errno) from None
        self._step = record.step
        for old in self._journal_files(0):
            if int(old.stem) < record.step - 1:  # the previous checkpoint may still need the last step's
                old.unlink()

    def _read_curve(self, steps: int) -> list[Record]:
        path = self.path / "curve.jsonl"
        lines = read_curve(path)[:steps]
        if len(lines) < steps:
            raise InputError(f"{path} has {len(lines)} lines, the checkpoint stands after step {steps}: it was edited")
        return [read_record(path, step, line) for step, line in enumerate(lines, start=1)]

    # -- Journal -------------------------------------------------------------------------------------------------

    def replay(self) -> NDArray[np.float64] | None:
        """The next losses already paid for, or None."""
        return self._replay.pop(0) if self._replay else None

    def record(self, losses: NDArray[np.float64]) -> None:
        """Keep losses the moment they are paid for. Errors: DiskFull, after keeping them in the reserve."""
        folder = self.path / "journal"
        folder.mkdir(exist_ok=True)
        line = json.dumps(losses.tolist(), allow_nan=False)
        append_line(folder / f"{self._step:06d}.jsonl", line, self._reserve, self._go_on)

    def _journal_files(self, step: int) -> list[Path]:
        files = [path for path in (self.path / "journal").glob("*.jsonl") if re.fullmatch(r"\d{6,15}", path.stem, re.A)]
        return sorted((path for path in files if int(path.stem) >= step), key=lambda path: int(path.stem))

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Time spent on this run, over all its parts. A clock that goes backwards adds nothing."""
        now = time.monotonic()
        self._spent, self._looked = self._spent + max(0.0, now - self._looked), now
        return self._spent

    def close(self) -> None:
        """Give the folder back; the run can be opened again."""
        self._reserve.give_up()
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def _own_files(path: Path) -> list[Path]:
    """What stands where a run writes. --out may name a folder with other folders in it, even with runs that go on."""
    return [*path.iterdir(), *(entry for name in ("journal", "prompt", ANSWERS) for entry in (path / name).glob("*"))]


def _refuse_links(path: Path) -> None:
    """Errors: InputError for a link in the folder, through which a file elsewhere would be written or deleted."""
    for entry in _own_files(path):
        if entry.is_symlink():
            raise InputError(f"{entry} is a link: a run folder holds its own files")


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
    if not os.path.exists(path):
        raise InputError(missing)
    try:
        value = parse_json(read_untrusted(path, LARGEST_JSON).decode())
    except UnusableFile as error:
        raise InputError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error!s:.500}") from error
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
