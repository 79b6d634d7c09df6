"""A stand-in for CuPy's arrays: NumPy's functions work on it, implicit copies to the host are refused, explicit ones
counted. What runs on these without an error keeps its arrays on the device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tests.kernels.host_device import HostDevice


class DeviceArray(NDArrayOperatorsMixin):
    """What CuPy's ndarray does and does not allow. waits: how often the host looked at a value."""

    waits = 0

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def strides(self) -> tuple[int, ...]:
        return self._array.strides

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> "DeviceArray":
        return DeviceArray(np.asarray(self._array[index]))

    def mean(self, axis: int | None = None) -> "DeviceArray":
        return np.mean(self, axis=axis)

    def get(self) -> np.ndarray:
        DeviceArray.waits += 1
        return self._array.copy()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed: use get()")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> "DeviceArray":
        if method != "__call__" or any(isinstance(given, np.ndarray) and given.ndim for given in inputs):
            raise TypeError(f"unsupported type: a host array met a device array in {ufunc.__name__}")
        return DeviceArray(np.asarray(ufunc(*(_inside(given) for given in inputs), **kwargs)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> "DeviceArray":
        if any(kind is not DeviceArray for kind in types):
            return NotImplemented  # type: ignore[no-any-return]
        return DeviceArray(np.asarray(function(*_inside(args), **_inside(kwargs))))


def _inside(given: Any) -> Any:
    if isinstance(given, DeviceArray):
        return given._array
    if isinstance(given, (list, tuple)):
        return type(given)(_inside(item) for item in given)
    if isinstance(given, dict):
        return {name: _inside(item) for name, item in given.items()}
    return given


class StrictDevice:
    """HostDevice behind DeviceArray: the code path of a GPU, without one. uploads: arrays that came from the host."""

    kind, index, stream = "cpu", 0, None

    def __init__(self) -> None:
        self.host, self.uploads = HostDevice(), 0

    def pointer(self, array: DeviceArray) -> int:
        assert isinstance(array, DeviceArray), "the address of a host array was asked for"
        return self.host.pointer(array._array)

    def empty(self, shape: Sequence[int], dtype: str) -> DeviceArray:
        return DeviceArray(self.host.empty(shape, dtype))

    def asarray(self, array: Any, dtype: str) -> DeviceArray:
        inside = _inside(array)
        if isinstance(array, DeviceArray) and inside.dtype == dtype and inside.flags.c_contiguous:
            return array
        self.uploads += not isinstance(array, DeviceArray)
        return DeviceArray(self.host.asarray(inside, dtype))

    def to_numpy(self, array: Any) -> np.ndarray:
        return array.get() if isinstance(array, DeviceArray) else np.asarray(array)

    def launch(self, kernel: str, grid: tuple[int, int], arguments: Sequence[Any]) -> None:
        assert not any(isinstance(argument, np.ndarray) for argument in arguments), f"{kernel} got a host array"
        self.host.launch(kernel, grid, [_inside(argument) for argument in arguments])
