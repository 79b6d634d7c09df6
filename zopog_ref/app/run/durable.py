"""Lines that are on the disk when the call returns, and a reserve of space for the last of them.

An answer that was paid for must be kept even if the disk filled up while it was computed. So a run holds some space
back in a file of its own, and gives it up for that last line; then it stops.
"""

import errno
import os
from pathlib import Path

RESERVE_BYTES = 256 * 1024  # several steps' losses, written as text
FULL = {errno.ENOSPC, errno.EDQUOT}


class DiskFull(OSError):
    """No space is left; says what was kept, and how to go on."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.ENOSPC, what, str(path))

    def __str__(self) -> str:
        return f"no space is left on the disk of {self.filename}: {self.strerror}"


class Reserve:
    """Space held back on the disk of a folder, for the line that would not fit any more."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".reserve"

    def take(self) -> None:
        """Hold the space back. Errors: DiskFull, before anything is paid for."""
        try:
            if self._path.exists() and self._path.stat().st_size == RESERVE_BYTES:
                return
            self.give_up()
            with open(self._path, "xb", buffering=0) as file:
                _write(file.fileno(), os.urandom(RESERVE_BYTES))  # what a file system cannot store in less
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.give_up()
            raise DiskFull(self._path.parent, "nothing was asked of the model; make room and start again") from None

    def give_up(self) -> None:
        """Free the space."""
        self._path.unlink(missing_ok=True)


def append_line(path: Path, line: str, reserve: Reserve, resume: str) -> None:
    """Append a line, on the disk when this returns. resume: how to go on, for the message.

    Errors: DiskFull, after the line was kept in the space of the reserve, or when even that was too little; no part of
    a line is left behind then.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    try:
        before = os.fstat(handle).st_size
        try:
            _append(handle, line, before)
        except OSError as error:
            if error.errno not in FULL:
                raise
            reserve.give_up()
            try:
                _append(handle, line, before)
            except OSError:
                raise DiskFull(path, f"the last answer could not be kept, all before it was; {resume}") from None
            raise DiskFull(path, f"all that was paid for is kept; {resume}") from None
    finally:
        os.close(handle)


def _append(handle: int, line: str, before: int) -> None:
    try:
        _write(handle, line.encode() + b"\n")
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, before)
        raise


def _write(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
