"""Lines that are on the disk when the call returns, and a reserve of space for the last of them.

An answer that was paid for must be kept even if the disk filled up while it was computed. So a run holds some space
back in a file of its own, and gives it up for that last line; then it stops.
"""

import contextlib
import errno
import os
from pathlib import Path

from zopog_models.errors import UnusableFile

__all__ = ["FULL", "RESERVE_BYTES", "DiskFull", "Reserve", "append_line"]

RESERVE_BYTES = 256 * 1024  # several steps' losses, written as text
FULL = {
    errno.ENOSPC: "no space is left on the disk of",
    errno.EDQUOT: "no space is left, by quota, on the disk of",
    errno.EROFS: "nothing can be written any more on the disk of",
}  # errno -> what it says of a file


class DiskFull(OSError):
    """A disk takes no more; says what was kept, and how to go on."""

    def __init__(self, path: Path, what: str, number: int | None = errno.ENOSPC) -> None:
        super().__init__(number, what, str(path))

    def __str__(self) -> str:
        return f"{FULL[self.errno or errno.ENOSPC]} {self.filename}: {self.strerror}"


class Reserve:
    """Space held back on the disk of a folder, for the line that would not fit any more."""

    def __init__(self, folder: Path, name: str = ".reserve") -> None:
        self._path = folder / name

    def take(self) -> None:
        """Hold the space back. Raises DiskFull and UnusableFile, before anything is paid for."""
        try:
            if self._path.exists() and self._path.stat().st_size == RESERVE_BYTES:
                return
            self.give_up()
            with open(self._path, "xb", buffering=0) as file:
                _write(file.fileno(), os.urandom(RESERVE_BYTES))  # what a file system cannot store in less
                os.fsync(file.fileno())
        except FileExistsError:
            raise UnusableFile(f"{self._path} is no file: remove it") from None
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.give_up()
            what = "nothing was asked of the model; make room and start again"
            raise DiskFull(self._path.parent, what, error.errno) from None

    def give_up(self) -> None:
        """Free the space."""
        with contextlib.suppress(OSError):  # of a disk that takes no writes there is nothing to free
            self._path.unlink(missing_ok=True)


def append_line(path: Path, line: str, reserve: Reserve | None, resume: str, sync: bool = True) -> None:
    """Append a line, on the disk when this returns. resume: how to go on, for the message.

    reserve: None where the line may be lost. sync: False, if it need not survive a power cut.
    Errors: DiskFull, after the line was kept in the space of the reserve, or when even that was too little; no part of
    a line is left behind then.
    """
    try:
        _append(path, line, sync)
    except OSError as error:
        if error.errno not in FULL:
            raise
        kept = "all that was paid for is kept"
        if reserve is not None:
            reserve.give_up()
            try:
                _append(path, line, sync)
            except OSError:
                kept = "the last answer could not be kept, all before it was"
        raise DiskFull(path, f"{kept}; {resume}", error.errno) from None


def _append(path: Path, line: str, sync: bool) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    try:
        before = os.fstat(handle).st_size
        try:
            _write(handle, line.encode() + b"\n")
            if sync:
                os.fsync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)


def _write(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
