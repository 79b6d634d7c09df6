"""Replacing a file as a whole: whoever reads it finds the old content or the new, never a part."""

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

__all__ = ["discard", "write_atomically"]


def write_atomically(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Replace the content of `path` by `parts`, all or nothing: temporary file, fsync, rename, fsync of the folder.

    An OSError has the name of `path`, whichever call it came from.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        discard(temporary, path, error)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself must survive a power cut
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def discard(temporary: Path, path: Path, error: BaseException) -> None:
    """After an error on the way to `path`: what was begun goes, and an OSError gets the name of `path`."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
    if isinstance(error, OSError):
        error.filename = str(path)
