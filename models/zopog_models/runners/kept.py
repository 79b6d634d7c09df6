"""Keys and values of rows' beginnings, kept from one call to the next: those that were used last."""

import threading
from collections import OrderedDict

import numpy as np

__all__ = ["KEPT_BYTES", "KeptRows"]

# In all. What does not fit is computed again when it is asked for again.
KEPT_BYTES = 512 * 2**20


class KeptRows:
    """Arrays by name, in at most `limit` bytes. May be asked from several threads."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = KEPT_BYTES if limit is None else limit
        self.bytes = 0
        self._arrays: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: bytes) -> np.ndarray | None:
        """The array of this name, which now is the one used last."""
        with self._lock:
            if name in self._arrays:
                self._arrays.move_to_end(name)
            return self._arrays.get(name)

    def put(self, name: bytes, array: np.ndarray) -> None:
        """Keep it, in place of those that were not used for longest."""
        with self._lock:
            if name in self._arrays or array.nbytes > self.limit:
                return
            self._arrays[name] = array
            self.bytes += array.nbytes
            while self.bytes > self.limit:
                self.bytes -= self._arrays.popitem(last=False)[1].nbytes
