"""What the backend needs of a GPU: arrays, and a kernel launch. CuPy is imported here only, when it is asked for."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zopog_kernels.source import BLOCK, OPTIONS, kernels, module_source

__all__ = ["BackendUnavailable", "CuPyDevice", "Device", "typed"]


class BackendUnavailable(RuntimeError):
    """CuPy or a GPU is missing; the message says what to install."""


class Device(Protocol):
    """Arrays of one device and the kernels on it, in the order of one stream. It is a model's DeviceMemory, too.

    kind: "cuda", or "cpu" for arrays of NumPy; index: of the device.
    """

    kind: str
    index: int

    @property
    def stream(self) -> int | None:
        """The stream's address, for a model that is to run on it; None where there are no streams."""
        ...

    def pointer(self, array: Any) -> int:
        """The address of an array's first element; 0 where it has none."""
        ...

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        """A C-contiguous array with nothing written to it."""
        ...

    def asarray(self, array: Any, dtype: str) -> Any:
        """The array on the device, C-contiguous, of this type; itself when it is that already."""
        ...

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """A copy for the host. Waits for the device."""
        ...

    def launch(self, kernel: str, grid: tuple[int, int], arguments: Sequence[Any]) -> None:
        """Start a kernel of 128-thread blocks. Arguments: arrays, numbers, or None for no array. Does not wait."""
        ...


_SCALARS = {
    "uint64": np.uint64, "uint32": np.uint32, "int64": np.int64, "int": np.int32, "double": np.float64,
}  # fmt: skip
_DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64", "int64", "uint32")}


class CuPyDevice:
    """The current CUDA device through CuPy; launches go to CuPy's current stream.

    The module is compiled by NVRTC when first used, and CuPy keeps the binary on disk for later processes.
    Errors: BackendUnavailable when CuPy or a CUDA device is missing.
    """

    kind = "cuda"

    def __init__(self) -> None:
        self.cupy = _require_cupy()
        self.index = int(self.cupy.cuda.Device().id)
        module = self.cupy.RawModule(code=module_source(), options=OPTIONS)
        self._kernels = {
            name: (module.get_function(name), [_converter(kind) for kind in types]) for name, types in kernels().items()
        }

    @property
    def stream(self) -> int:
        """The address of CuPy's current stream. Where that is the null stream, which ONNX Runtime does not take, a new
        one becomes current; it is a blocking one, so that it comes after what the null stream holds."""
        current = self.cupy.cuda.get_current_stream()
        if not current.ptr:
            current = self._stream = self.cupy.cuda.Stream()  # kept: sessions hold nothing but its address
            current.use()
        return int(current.ptr)

    def pointer(self, array: Any) -> int:
        return int(array.data.ptr)

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        return self.cupy.ndarray(tuple(shape), _DTYPES[dtype])

    def asarray(self, array: Any, dtype: str) -> Any:
        wanted = _DTYPES[dtype]
        if isinstance(array, self.cupy.ndarray) and array.dtype == wanted and array.flags.c_contiguous:
            return array  # most calls of a step end here, and CuPy takes longer to see it
        return self.cupy.asarray(array, wanted, order="C")

    def to_numpy(self, array: Any) -> NDArray[Any]:
        return np.asarray(self.cupy.asnumpy(array))

    def launch(self, kernel: str, grid: tuple[int, int], arguments: Sequence[Any]) -> None:
        function, converters = self._kernels[kernel]
        pairs = zip(converters, arguments, strict=True)
        function(grid, (BLOCK,), tuple([convert(argument) for convert, argument in pairs]))


def typed(argument: Any, kind: str) -> Any:
    """A number as the NumPy scalar of its C++ type, None as a null pointer; arrays as they are."""
    return _converter(kind)(argument)


def _converter(kind: str) -> Callable[[Any], Any]:
    return _address if kind.endswith("*") else _SCALARS[kind]


def _address(array: Any) -> Any:
    return np.uint64(0) if array is None else array


def _require_cupy() -> ModuleType:
    advice = (
        'install it with: pip install "cupy-cuda13x>=13.6" (CUDA 13) or "cupy-cuda12x>=13.6" (CUDA 12); '
        "without a GPU, use the NumPy backend, which gives the same numbers"
    )
    try:
        import cupy
    except ImportError as error:
        raise BackendUnavailable(f"the cupy backend needs CuPy ({error}); {advice}") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailable(
            f"CuPy {cupy.__version__} finds no CUDA device ({error}): see with nvidia-smi that the "
            f"driver runs and is new enough for CuPy's CUDA major; {advice}"
        ) from error
    if not count:
        raise BackendUnavailable(f"CuPy {cupy.__version__} finds no CUDA device; {advice}")
    return cupy
