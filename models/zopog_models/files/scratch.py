"""Arrays that are made, not read: written part by part into a temporary file, and mapped from there.

So nobody holds them twice: memory that is mapped from a file can be given back and read again, and ONNX Runtime maps
the same file.
"""

import contextlib
import os
import tempfile
import weakref
from collections.abc import Iterable
from glob import escape, glob
from pathlib import Path

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Scratch"]

_PAGE = 4096  # an array begins at a multiple of this, so that it can be mapped by itself
_PREFIX, _NAME = "zopog-", "locked-weights"  # a file of this name has been locked ever since it bears it


class Scratch:
    """A temporary file of float32 arrays. Its name goes with `forget`, or with this object; what is mapped stays.

    It stands where Python puts temporary files, which TMPDIR says. What killed processes have left there is removed
    first. Raises OSError: no such folder, no room.
    """

    def __init__(self) -> None:
        _sweep(tempfile.gettempdir())
        self._path = Path(tempfile.mkdtemp(prefix=_PREFIX)) / "weights"
        self._file = self._path.open("wb")
        lock = _lock(os.dup(self._file.fileno()))  # held beyond `arrays`, which closes the file; by forks too
        if lock is not None:
            self._path = self._path.rename(self._path.with_name(_NAME))
        self._remove = weakref.finalize(self, _removed, self._path, lock)  # at the latest at the exit
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}

    def add(self, name: str, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
        """Write an array of this shape, given as parts that follow one another."""
        self._file.seek(-(-self._file.tell() // _PAGE) * _PAGE)
        self._places[name] = self._file.tell(), shape
        for part in parts:
            self._file.write(np.ascontiguousarray(part, "<f4").data)

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> read-only view of the file. Nothing can be added afterwards."""
        self._file.close()
        if not self._places:
            return {}
        content = np.asarray(np.memmap(self._path, np.uint8, "r"))
        sizes = {name: 4 * int(np.prod(shape)) for name, (_, shape) in self._places.items()}
        return {
            name: content[at : at + sizes[name]].view("<f4").reshape(shape)
            for name, (at, shape) in self._places.items()
        }

    def forget(self) -> None:
        """Remove the name: a process that is killed later leaves nothing behind. A second time does nothing."""
        self._file.close()
        self._remove()


def _removed(path: Path, lock: int | None) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
    if lock is not None:
        os.close(lock)


def _lock(file: int) -> int | None:
    """The file, which nobody else has locked; None, and it is closed, where somebody has, or nothing can be."""
    with contextlib.suppress(OSError):
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
    os.close(file)
    return None


def _sweep(folder: str) -> None:
    """Remove this user's files that nobody holds locked: whoever wrote them was killed."""
    for found in map(Path, glob(os.path.join(escape(folder), f"{_PREFIX}*", _NAME)) if fcntl is not None else []):
        with contextlib.suppress(OSError):  # it has gone by now
            mine = found.parent.lstat().st_uid == os.getuid()
            lock = _lock(os.open(found, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)) if mine else None
            if lock is not None:
                _removed(found, lock)
