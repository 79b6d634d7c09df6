"""Reading and writing `.safetensors` files with NumPy alone.

The format: 8 bytes (little-endian length of the header), the header (JSON: tensor name -> dtype, shape,
data_offsets; `__metadata__` -> strings), then the tensors' bytes. A header is somebody else's claim about a file, so
every claim is checked before a single array is made, and each lie has its own message.
"""

from __future__ import annotations  # signatures show names, not what these stand for

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.errors import TensorFileError
from zopog_models.files.atomic import write_atomically
from zopog_models.files.quoting import quoted

__all__ = ["TensorFileError", "in_place", "read_metadata", "read_tensors", "write_tensors"]

_MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a file, as read-only views into it (memory-mapped: nothing is read until it is used).

    BF16, which NumPy does not have, is widened to float32, exactly. Raises TensorFileError when the file is damaged,
    OSError when it cannot be read.
    """
    header, data, path = _open(path)
    spans: list[tuple[int, int, str]] = []
    tensors: dict[str, np.ndarray] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype_name, shape, begin, end = _checked_entry(path, name, entry, data.size)
        raw = data[begin:end]
        array = raw.view(_DTYPES[dtype_name]).reshape(shape)
        if dtype_name == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
            array.flags.writeable = False
        tensors[name] = array
        spans.append((begin, end, name))
    _check_coverage(path, spans, data.size)
    return tensors


def read_metadata(path: str | Path) -> dict[str, str]:
    """The strings under `__metadata__` (empty when there are none). Raises as `read_tensors`."""
    header, _, path = _open(path)
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TensorFileError(f"{path}: __metadata__ must map strings to strings, got {quoted(metadata)}")
    return metadata


def in_place(arrays: Mapping[str, np.ndarray]) -> tuple[Path | None, dict[str, tuple[str, int]]]:
    """Which arrays are still where `read_tensors` found them: a folder, and name -> (file name, offset in bytes).

    Arrays with memory of their own are left out, and those of any folder but the one that holds the most bytes.
    """
    found: dict[Path, dict[str, tuple[str, int]]] = {}
    for name, array in arrays.items():
        base: Any = array
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        if not isinstance(base, np.memmap) or base.filename is None or not array.flags.c_contiguous:
            continue
        path = Path(base.filename)
        place = path.name, array.ctypes.data - base.ctypes.data + base.offset
        found.setdefault(path.parent, {})[name] = place
    if not found:
        return None, {}
    folder = max(found, key=lambda folder: sum(arrays[name].nbytes for name in found[folder]))
    return folder, found[folder]


def write_tensors(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a file so that `path` holds, at every moment, either the old content or the whole new one.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and then take the name. Raises
    TensorFileError for a dtype that the format lacks, OSError (full disk, no permission) with the old file intact.
    """
    path = Path(path)
    arrays = {name: _storable(path, name, array) for name, array in tensors.items()}
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(metadata)
    # Wide items first: then every tensor starts at a multiple of its item size.
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    offset = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _DTYPE_NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = (arrays[name].reshape(-1).view(np.uint8).data for name in order)  # views: nothing is copied
    write_atomically(path, [len(text).to_bytes(8, "little"), text, *data])


def _storable(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
    if array.dtype not in _DTYPE_NAMES:
        raise TensorFileError(
            f"{path}: tensor {name!r} has dtype {array.dtype}; a .safetensors file holds {', '.join(_DTYPES)}"
        )
    if name == "__metadata__":
        raise TensorFileError(f"{path}: a tensor cannot be called '__metadata__', the format reserves that name")
    return array


def _open(path: str | Path) -> tuple[dict[str, Any], np.ndarray, Path]:
    """The parsed header and the bytes behind it."""
    path = Path(path)
    size = path.stat().st_size
    if size < 8:
        raise TensorFileError(f"{path}: truncated: {size} bytes, a .safetensors file starts with 8 bytes of length")
    content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > _MAX_HEADER_BYTES:
        raise TensorFileError(f"{path}: header of {length} bytes declared, at most {_MAX_HEADER_BYTES} are allowed")
    if 8 + length > size:
        raise TensorFileError(f"{path}: truncated: header of {length} bytes declared, the file has {size} bytes")
    try:
        header = json.loads(content[8 : 8 + length].tobytes().decode("utf-8"), object_pairs_hook=_without_duplicates)
    except TensorFileError as error:
        raise TensorFileError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"{path}: the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise TensorFileError(f"{path}: the header must be a JSON object, got {quoted(header)}")
    return header, content[8 + length :], path


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise TensorFileError(f"the name {quoted(name)} stands twice in the header")
            seen.add(name)
    return names


def _checked_entry(path: Path, name: str, entry: Any, size: int) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise TensorFileError(f"{path}: {quoted(name)}: expected dtype, shape and data_offsets, got {quoted(entry)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise TensorFileError(f"{path}: {quoted(name)}: unknown dtype {quoted(dtype)}; known: {', '.join(_DTYPES)}")
    if not _are_sizes(shape):
        raise TensorFileError(f"{path}: tensor {quoted(name)}: shape {quoted(shape)} is not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise TensorFileError(f"{path}: tensor {quoted(name)}: data_offsets {quoted(offsets)} are not [begin, end]")
    begin, end = offsets
    if end > size:
        raise TensorFileError(
            f"{path}: tensor {quoted(name)}: bytes {begin} to {end} declared, the file holds {size} bytes of data "
            "(truncated, or a wrong header)"
        )
    if 0 in shape and math.prod(n for n in shape if n) >= 2**48:  # NumPy has no such array, though it has no byte
        raise TensorFileError(f"{path}: tensor {quoted(name)}: shape {quoted(shape)} is not a list of sizes")
    needed = math.prod(shape) * _DTYPES[dtype].itemsize
    if needed != end - begin:
        raise TensorFileError(
            f"{path}: tensor {quoted(name)}: shape {quoted(shape)} of {dtype} needs {needed} bytes, "
            f"data_offsets span {end - begin}"
        )
    return dtype, tuple(shape), begin, end


def _are_sizes(value: Any) -> bool:
    # `type` and not isinstance: JSON's `true` would pass for 1. 64 dimensions are NumPy's limit.
    return isinstance(value, list) and len(value) <= 64 and all(type(n) is int and 0 <= n < 2**48 for n in value)


def _check_coverage(path: Path, spans: list[tuple[int, int, str]], size: int) -> None:
    """Tensors must follow one another without overlap and without bytes that belong to none."""
    position, previous = 0, "the header"
    for begin, end, name in sorted(spans):
        if begin < position:
            raise TensorFileError(f"{path}: tensors {quoted(previous)} and {quoted(name)} overlap")
        if begin > position:
            raise TensorFileError(f"{path}: {begin - position} bytes before tensor {quoted(name)} belong to no tensor")
        position, previous = end, name
    if position != size:
        raise TensorFileError(f"{path}: {size - position} bytes at the end belong to no tensor")
