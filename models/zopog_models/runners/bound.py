"""Tensors that stay where they are: what a session reads and writes by address, on the device of the mathematics.

Whoever owns the device offers a DeviceMemory (the kernels' device does). Its arrays answer NumPy's functions, as CuPy's
do. On the CPU the addresses are those of NumPy's arrays, and nothing else differs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["DeviceMemory", "Tensor", "part"]


class DeviceMemory(Protocol):
    """Arrays on one device, in the order of one stream. kind: "cpu" or "cuda"; index: of the device; stream: its
    address (of a CUDA stream that is not the null stream), or None where there is none."""

    kind: str
    index: int

    @property
    def stream(self) -> int | None: ...

    def empty(self, shape: Sequence[int], dtype: str) -> Any: ...

    def asarray(self, array: Any, dtype: str) -> Any:
        """The array on the device, C-contiguous, of this type. From the host: a copy that nothing waits for."""
        ...

    def to_numpy(self, array: Any) -> np.ndarray:
        """A copy for the host. Waits for the device."""
        ...

    def pointer(self, array: Any) -> int:
        """The address of the first element; 0 where there is none."""
        ...


class Tensor(NamedTuple):
    """Where a C-contiguous array lies. Whoever holds the array keeps it until what reads it has run."""

    address: int
    shape: tuple[int, ...]
    dtype: type


def part(memory: DeviceMemory, array: Any, first: int, shape: Sequence[int]) -> Tensor:
    """The elements of a C-contiguous array from `first` on, in order, as a tensor of this shape.

    Raises ValueError when they reach beyond the array.
    """
    shape, dtype = tuple(int(side) for side in shape), np.dtype(array.dtype)
    if first < 0 or first + int(np.prod(shape)) > array.size:
        raise ValueError(f"elements {first} and on as {shape} reach beyond an array of {array.size}")
    return Tensor(memory.pointer(array) + first * dtype.itemsize, shape, dtype.type)
