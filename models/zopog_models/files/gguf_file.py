"""Reading `.gguf` files, llama.cpp's format: metadata, and tensors as the bytes that they are stored in.

The format (versions 2 and 3, little-endian): GGUF, version, number of tensors, number of entries; each entry a key, a
type and a value; for each tensor a name, dimensions (the fastest first), a type and an offset; then, aligned, the data.
A stranger wrote all of that: the reader of the package `gguf` believes every count, so this one reads the header, and
believes none. The package knows the types: how many bytes a block has, and what it says.
"""

import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zopog_models.errors import CheckpointError, ProviderError, UnusableFile
from zopog_models.files.quoting import quoted
from zopog_models.files.untrusted import refuse_pointer

__all__ = ["Gguf", "StoredTensor", "dequantised", "is_gguf", "read_gguf"]

MAX_HEADER = 512_000_000  # bytes before the data; published files stay below 20 million
MAX_ENTRIES = 100_000  # of metadata, and tensors
MAX_ITEMS = 8_000_000  # of a list; the largest vocabulary has 262,144
MAX_NAME = 65_535  # bytes of a key, and of a tensor's name
MAX_DIMENSIONS = 4
_STRING, _LIST, _BOOL = 8, 9, 7
_NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4",
            6: "<f4", _BOOL: "u1", 10: "<u8", 11: "<i8", 12: "<f8"}  # fmt: skip


class StoredTensor(NamedTuple):
    """A tensor as it is stored: the number of its type, its shape in NumPy's order, its bytes (a view of the file)."""

    kind: int
    shape: tuple[int, ...]
    data: np.ndarray

    @property
    def kind_name(self) -> str:
        """Q4_1 and the like."""
        return str(_package().GGMLQuantizationType(self.kind).name)


class Gguf(NamedTuple):
    """Metadata (numbers, strings, lists of strings, arrays of numbers) and tensors by name."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]


def is_gguf(source: str | Path) -> bool:
    """Whether a model's source reads as a GGUF file."""
    return str(source).lower().endswith(".gguf")


def read_gguf(path: str | Path) -> Gguf:
    """The header, every claim checked, and views of the tensors' bytes: nothing else is read before it is used.

    Raises CheckpointError (a file that is damaged, truncated, big-endian or of an unknown version) and ProviderError
    (no package gguf).
    """
    path = Path(path)
    package = _package()
    try:
        refuse_pointer(path)
        content = np.asarray(np.memmap(path, np.uint8, "r")) if path.stat().st_size else np.zeros(0, np.uint8)
    except UnusableFile as error:
        raise CheckpointError(str(error)) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    header = _Header(path, content)
    tensors, metadata = header.counts()
    values = header.entries(metadata)
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment not in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
        raise CheckpointError(f"{path}: general.alignment must be a power of 2 from 8 to 4096, got {quoted(alignment)}")
    places = [header.tensor() for _ in range(tensors)]
    start = -(-header.at // alignment) * alignment
    return Gguf(path, values, _checked(path, content, places, start, alignment, package.GGML_QUANT_SIZES))


def dequantised(path: Path, name: str, tensor: StoredTensor) -> np.ndarray:
    """float32, or a view of the file where it holds float32 or float16. Raises CheckpointError for a type unknown."""
    package = _package()
    kinds = package.GGMLQuantizationType
    if tensor.kind in (kinds.F32, kinds.F16):
        return tensor.data.view("<f4" if tensor.kind == kinds.F32 else "<f2").reshape(tensor.shape)
    try:
        with np.errstate(all="ignore"):  # what a stranger's scales overflow to is seen in the scores
            rows = tensor.data.reshape(*tensor.shape[:-1], -1)
            found: np.ndarray = package.quants.dequantize(rows, kinds(tensor.kind))
    except NotImplementedError:
        raise CheckpointError(
            f"{path}: {quoted(name)} is of type {tensor.kind_name}, which the package gguf does not dequantise"
        ) from None
    return found.reshape(tensor.shape)


def _package() -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise ProviderError(
            f'a GGUF file needs the package gguf ({error}); install it with: pip install "gguf>=0.17"'
        ) from error
    return gguf


class _Place(NamedTuple):
    """A tensor as the header has it; dimensions in the file's order."""

    name: str
    dimensions: tuple[int, ...]
    kind: int
    offset: int


class _Header:
    """What is read from the beginning of the file, one thing after the other."""

    def __init__(self, path: Path, content: np.ndarray) -> None:
        self._path, self._content, self.at = path, content, 0
        self._end = min(len(content), MAX_HEADER)

    def counts(self) -> tuple[int, int]:
        """Tensors and entries that follow."""
        if self._take(4, "the mark") != b"GGUF":
            raise CheckpointError(f"{self._path} is not a GGUF file: it does not begin with GGUF")
        version: int = self._number("I", "the version")
        if version not in (2, 3):
            if version in (2 << 24, 3 << 24):
                raise CheckpointError(
                    f"{self._path} is big-endian: gguf-convert-endian FILE little, of the package gguf, turns it"
                )
            raise CheckpointError(f"{self._path}: GGUF version {version} is not supported; supported: 2, 3")
        tensors, entries = self._number("Q", "the counts"), self._number("Q", "the counts")
        for count, what in ((tensors, "tensors"), (entries, "entries of metadata")):
            if count > MAX_ENTRIES:
                raise CheckpointError(f"{self._path}: {count} {what} declared, at most {MAX_ENTRIES} are supported")
        return tensors, entries

    def entries(self, count: int) -> dict[str, Any]:
        """Key -> value."""
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self._string("a key", MAX_NAME)
            if key in found:
                raise CheckpointError(f"{self._path}: the key {quoted(key)} stands twice")
            found[key] = self._value(key, self._number("I", key))
        return found

    def tensor(self) -> _Place:
        """The next tensor's place."""
        name = self._string("a tensor's name", MAX_NAME)
        dimensions = self._number("I", name)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise CheckpointError(f"{self._path}: {quoted(name)} has {dimensions} dimensions, 1 to 4 are supported")
        sizes = tuple(self._number("Q", name) for _ in range(dimensions))
        return _Place(name, sizes, self._number("I", name), self._number("Q", name))

    def _value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self._string(key, MAX_HEADER)
        if kind in _NUMBERS:
            return self._numbers(key, kind, 1)[0].item() if kind != _BOOL else bool(self._numbers(key, kind, 1)[0])
        if kind != _LIST:
            raise CheckpointError(f"{self._path}: {quoted(key)} is of type {kind}, which GGUF does not have")
        inner, count = self._number("I", key), self._number("Q", key)
        if count > MAX_ITEMS:
            raise CheckpointError(
                f"{self._path}: {quoted(key)} lists {count} values, at most {MAX_ITEMS} are supported"
            )
        if inner == _STRING:
            return [self._string(key, MAX_HEADER) for _ in range(count)]
        if inner in _NUMBERS:
            return self._numbers(key, inner, count)
        raise CheckpointError(f"{self._path}: {quoted(key)} is a list of type {inner}, which is not supported")

    def _numbers(self, what: str, kind: int, count: int) -> np.ndarray:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self._take(count * dtype.itemsize, what), dtype)

    def _number(self, code: str, what: str) -> int:
        size = struct.calcsize("<" + code)
        return int(struct.unpack("<" + code, self._take(size, what))[0])

    def _string(self, what: str, most: int) -> str:
        length = self._number("Q", what)
        if length > most:
            raise CheckpointError(f"{self._path}: {quoted(what)} has {length} bytes, at most {most} are supported")
        try:
            return self._take(length, what).decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self._path}: {quoted(what)} is not UTF-8 ({error.reason})") from None

    def _take(self, count: int, what: str) -> bytes:
        if count > self._end - self.at:
            if self._end < len(self._content):
                raise CheckpointError(f"{self._path}: a header of more than {MAX_HEADER} bytes is not supported")
            raise CheckpointError(
                f"{self._path}: truncated: {count} bytes of {quoted(what)} are declared at byte {self.at}, the file "
                f"has {len(self._content)}"
            )
        self.at += count
        return self._content[self.at - count : self.at].tobytes()


def _checked(
    path: Path, content: np.ndarray, places: list[_Place], start: int, alignment: int, sizes: Any
) -> dict[str, StoredTensor]:
    """Every tensor with its bytes: inside the file, aligned, whole blocks, and none on another's."""
    found: dict[str, StoredTensor] = {}
    by_number = {int(kind): block for kind, block in sizes.items()}
    end, before = 0, ""
    for place in sorted(places, key=lambda place: place.offset):
        name, shape = quoted(place.name), place.dimensions[::-1]
        if place.name in found:
            raise CheckpointError(f"{path}: the tensor {name} stands twice")
        if place.kind not in by_number:
            raise CheckpointError(f"{path}: {name} is of type {place.kind}, which the package gguf does not know")
        block, block_bytes = by_number[place.kind]
        if min(shape) < 1 or math.prod(shape) >= 2**48 or shape[-1] % block:
            raise CheckpointError(f"{path}: {name} has the shape {shape}; its rows must be whole blocks of {block}")
        size = math.prod(shape) // block * block_bytes
        if place.offset % alignment:
            raise CheckpointError(f"{path}: {name} begins at {place.offset}, which is no multiple of {alignment}")
        if place.offset < end:
            raise CheckpointError(f"{path}: the tensors {quoted(before)} and {name} overlap")
        if start + place.offset + size > len(content):
            raise CheckpointError(
                f"{path}: {name} ends at byte {start + place.offset + size}, the file has {len(content)} (truncated, "
                "or a wrong header)"
            )
        end, before = place.offset + size, place.name
        found[place.name] = StoredTensor(place.kind, shape, content[start + place.offset : start + end])
    return found
