"""A device's memory on the CPU: NumPy's arrays by address, uploads counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class NumPyMemory:
    """zopog_models.runners.bound.DeviceMemory on NumPy's arrays. uploads: arrays that came from the host."""

    kind, index, stream = "cpu", 0, None

    def __init__(self) -> None:
        self.uploads: list[str] = []
        self.addresses: set[int] = set()

    def empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        array = np.empty(tuple(shape), dtype)
        array[...] = np.nan  # what is not written shows
        self.addresses.add(array.ctypes.data)
        return array

    def asarray(self, array: Any, dtype: str) -> np.ndarray:
        self.uploads.append(dtype)
        return np.ascontiguousarray(array, dtype)

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def pointer(self, array: np.ndarray) -> int:
        assert array.flags.c_contiguous
        return array.ctypes.data if array.size else 0  # an empty array of CuPy has no address
