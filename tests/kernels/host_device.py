"""The kernels without a GPU: the same source as host C++, every thread called in turn, on NumPy arrays."""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zopog_kernels.device import typed
from zopog_kernels.source import _KERNEL, kernels, module_source

COMPILER = shutil.which("g++") or shutil.which("clang++")
FLAGS = (
    "-std=c++17",
    "-O2",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-shared",
    "-fPIC",
    "-x",
    "c++",
    "-Wall",
    "-Wextra",
)
ORDERS = {"ascending": 0, "descending": 1, "scattered": 2}
_TYPES = {
    "uint64": ctypes.c_uint64,
    "uint32": ctypes.c_uint32,
    "int64": ctypes.c_int64,
    "int": ctypes.c_int32,
    "double": ctypes.c_double,
}

_MARGIN, _UNTOUCHED = 8192, 0xA5  # bytes

# Elements that no array is large enough to reach: the upper half of the counter.
_FAR = """
extern "C" void far_normals(uint64 seed, uint32 step, uint32 purpose, uint64 first, float* out) {
    const Normals4 u = normals_from({seed, step, purpose}, first);
    for (int lane = 0; lane < 4; ++lane) out[lane] = u.v[lane];
}
extern "C" void far_words(uint64 seed, uint32 step, uint32 purpose, uint64 first, uint32* out) {
    for (int lane = 0; lane < 4; ++lane) out[lane] = word({seed, step, purpose}, first + lane);
}
extern "C" void halves(const float* numbers, long long count, half_bits* out) {
    for (long long i = 0; i < count; ++i) out[i] = to_half(numbers[i]);
}
"""


def needs_compiler() -> None:
    if COMPILER is None:
        import pytest  # a machine that measures has none

        pytest.skip("no C++ compiler: the kernels cannot be compiled for the host")


def host_source(source: str) -> str:
    """The kernels, and for each a function that calls it for every thread of a grid."""
    parts = [source, _FAR]
    for kind, name, parameters in _KERNEL.findall(source):
        arguments = ", ".join(parameter.split()[-1] for parameter in parameters.split(","))
        call = f"{name}({arguments});"
        if kind == "THREAD":
            call = f"for (int place = 0; place < THREADS; ++place) {{ threadIdx.x = nth_thread(place); {call} }}"
        parts.append(
            f'extern "C" void host_{name}(unsigned grid_x, unsigned grid_y, int order, {parameters}) {{\n'
            "    blockDim = {THREADS, 1}; gridDim = {grid_x, grid_y}; threadIdx = {0, 0}; thread_order = order;\n"
            "    for (blockIdx.y = 0; blockIdx.y < grid_y; ++blockIdx.y)\n"
            f"        for (blockIdx.x = 0; blockIdx.x < grid_x; ++blockIdx.x) {{ {call} }}\n}}\n"
        )
    return "\n".join(parts)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="zopog-kernels-")


@functools.cache
def compiled(source: str, flags: tuple[str, ...] = FLAGS) -> ctypes.CDLL:
    assert COMPILER is not None
    text = host_source(source)
    library = Path(_folder().name) / f"{hashlib.sha256(repr((text, flags)).encode()).hexdigest()[:16]}.so"
    subprocess.run([COMPILER, *flags, "-o", library, "-"], input=text, text=True, check=True, stderr=subprocess.PIPE)
    return ctypes.CDLL(str(library))


class HostDevice:
    """zopog_kernels.device.Device on NumPy arrays. order: in which the threads of a block take their turn."""

    kind, index, stream = "cpu", 0, None

    def __init__(self, source: str | None = None, order: str = "ascending", flags: tuple[str, ...] = FLAGS) -> None:
        self.library, self.order = compiled(source or module_source(), flags), ORDERS[order]
        self.launches: list[str] = []

    def pointer(self, array: np.ndarray) -> int:
        assert array.flags.c_contiguous
        return array.ctypes.data if array.size else 0  # an empty array of CuPy has no address

    def empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """An array between two margins: what a kernel forgets to write, or writes beside it, shows."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = np.full(size + 2 * _MARGIN, _UNTOUCHED, np.uint8)
        array = buffer[_MARGIN : _MARGIN + size].view(dtype).reshape(tuple(shape))
        array[...] = np.nan if dtype.startswith("float") else 0x5A5A
        return array

    def asarray(self, array: Any, dtype: str) -> np.ndarray:
        return np.ascontiguousarray(array, dtype)

    def to_numpy(self, array: Any) -> np.ndarray:
        return np.array(array)

    def launch(self, kernel: str, grid: tuple[int, int], arguments: Sequence[Any]) -> None:
        assert all(side > 0 for side in grid), "CUDA refuses an empty grid"
        assert grid[0] < 1 << 31
        assert grid[1] < 1 << 16
        self.launches.append(kernel)
        function = getattr(self.library, f"host_{kernel}")
        function.restype = None
        values = [_c_value(argument, kind) for argument, kind in zip(arguments, kernels()[kernel], strict=True)]
        function(ctypes.c_uint32(grid[0]), ctypes.c_uint32(grid[1]), ctypes.c_int32(self.order), *values)
        for argument in arguments:
            buffer = argument
            while isinstance(buffer, np.ndarray) and buffer.base is not None:
                buffer = buffer.base
            if isinstance(buffer, np.ndarray) and buffer.dtype == np.uint8:
                margins = buffer[:_MARGIN], buffer[-_MARGIN:]
                assert all((margin == _UNTOUCHED).all() for margin in margins), f"{kernel} wrote beside its array"


def _c_value(argument: Any, kind: str) -> Any:
    argument = typed(argument, kind)
    if not kind.endswith("*"):
        return _TYPES[kind](argument.item())
    if isinstance(argument, np.uint64):
        return ctypes.c_void_p(None)
    expected = {"double": "float64", "float": "float32", "half_bits": "float16"}.get(
        kind.split()[-1].rstrip("*"), kind.split()[-1].rstrip("*")
    )
    assert argument.dtype == expected, (argument.dtype, kind)
    assert argument.flags.c_contiguous
    return ctypes.c_void_p(argument.ctypes.data)
