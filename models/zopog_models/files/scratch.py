"""Arrays that are made, not read: written part by part into a temporary file, and mapped from there.

So nobody holds them twice: memory that is mapped from a file can be given back and read again, and ONNX Runtime maps
the same file.
"""

import contextlib
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np

__all__ = ["Scratch"]

_PAGE = 4096  # an array begins at a multiple of this, so that it can be mapped by itself


class Scratch:
    """A temporary file of float32 arrays. Its name goes with `forget`, or with this object; what is mapped stays.

    It stands where Python puts temporary files, which TMPDIR says. Raises OSError: no such folder, no room.
    """

    def __init__(self) -> None:
        self._path = Path(tempfile.mkdtemp(prefix="zopog-")) / "weights"
        self._remove = weakref.finalize(self, _removed, self._path)  # at the latest at the exit
        self._file = self._path.open("wb")
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


def _removed(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
