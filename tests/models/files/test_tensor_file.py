"""tensor_file: what is written comes back; no header, however wrong, gives an array it should not give."""

import contextlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zopog_models.files import tensor_file
from zopog_models.files.tensor_file import TensorFileError, read_metadata, read_tensors, write_tensors


def raw_file(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2], np.float16),
    "double": np.array(math.pi),
    "flags": np.array([True, False, True]),
    "bytes": np.arange(5, dtype=np.uint8),
    "long": np.array([[-(2**62)]]),
    "empty": np.zeros((0, 7), np.int32),
    "transposed": np.arange(12, dtype=np.int16).reshape(3, 4).T,
}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    write_tensors(path, ARRAYS, {"note": "äöü ✓"})
    read = read_tensors(path)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert np.array_equal(read[name], array)
        assert not read[name].flags.writeable
        assert read[name].flags.aligned
    assert read_metadata(path) == {"note": "äöü ✓"}


def test_no_tensors_at_all(tmp_path: Path) -> None:
    write_tensors(tmp_path / "none", {})
    assert read_tensors(tmp_path / "none") == {}
    assert read_metadata(tmp_path / "none") == {}


def test_bf16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.array([1.0, -0.15625, 3.3895314e38, 0.0], np.float32)  # each a bfloat16 already
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    path = raw_file(tmp_path / "b", {"x": entry("BF16", [4], 0, 8)}, upper.tobytes())
    assert read_tensors(path)["x"].dtype == np.float32
    assert np.array_equal(read_tensors(path)["x"], values)


def test_the_reference_implementation_agrees(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy", reason="the reference implementation is not installed")
    write_tensors(tmp_path / "ours", ARRAYS, {"a": "b"})
    theirs = reference.load_file(tmp_path / "ours")
    assert all(np.array_equal(theirs[name], ARRAYS[name]) for name in ARRAYS)
    contiguous = {name: np.require(array, requirements="C") for name, array in ARRAYS.items()}
    reference.save_file(contiguous, tmp_path / "theirs")
    ours = read_tensors(tmp_path / "theirs")
    assert all(np.array_equal(ours[name], ARRAYS[name]) for name in ARRAYS)


F4 = entry("F32", [1], 0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1234", "truncated: 4 bytes"),
        ((999).to_bytes(8, "little") + b"{}", "truncated: header of 999 bytes"),
        ((2**60).to_bytes(8, "little") + b"{}", "at most 100000000"),
        ((2).to_bytes(8, "little") + b"{,", "not JSON"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "not JSON"),
        ((2).to_bytes(8, "little") + b"[]", "JSON object"),
        ((60_000).to_bytes(8, "little") + b"[" * 60_000, "not JSON"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(TensorFileError, match=message):
        read_tensors(tmp_path / "bad")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"x": 3}, "expected dtype, shape and data_offsets"),
        ({"x": {"dtype": "F32", "shape": [1]}}, "expected dtype, shape and data_offsets"),
        ({"x": entry("F33", [1], 0, 4)}, "unknown dtype 'F33'"),
        ({"x": entry("F32", [2], 0, 4)}, r"needs 8 bytes, data_offsets span 4"),
        ({"x": entry("F32", [-1], 0, 4)}, "not a list of sizes"),
        ({"x": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, "not a list of sizes"),
        ({"x": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, "not a list of sizes"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, r"not \[begin, end\]"),
        ({"x": entry("F32", [1], 4, 0)}, r"not \[begin, end\]"),
        ({"x": entry("F32", [1], -4, 0)}, r"not \[begin, end\]"),
        ({"x": entry("F32", [2], 0, 8)}, "the file holds 4 bytes"),
        ({"x": entry("F32", [2**40, 2**40], 0, 4)}, "needs"),
        ({"x": F4, "y": F4}, "overlap"),
        ({"x": entry("U8", [2], 0, 2), "y": entry("U8", [3], 1, 4)}, "overlap"),
        ({"x": entry("U8", [2], 2, 4)}, "2 bytes before tensor 'x' belong to no tensor"),
        ({"x": entry("U8", [2], 0, 2)}, "2 bytes at the end"),
        (b'{"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "x": {}}', "'x' stands twice"),
        (b'{"x": {"dtype": "U8", "dtype": "I8", "shape": [4], "data_offsets": [0, 4]}}', "'dtype' stands twice"),
    ],
)
def test_lies_in_the_header(tmp_path: Path, header: object, message: str) -> None:
    path = raw_file(tmp_path / "bad", header, b"\0" * 4)
    with pytest.raises(TensorFileError, match=message) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


def test_metadata_must_be_strings(tmp_path: Path) -> None:
    with pytest.raises(TensorFileError, match="strings to strings"):
        read_metadata(raw_file(tmp_path / "bad", {"__metadata__": {"a": 1}}))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENTRIES = JSON_VALUES | st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "I64", "X"]) | JSON_VALUES,
        "shape": st.lists(st.integers(-1, 9) | st.integers(), max_size=3) | JSON_VALUES,
        "data_offsets": st.lists(st.integers(-1, 20) | st.integers(), max_size=3) | JSON_VALUES,
    }
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(header=st.dictionaries(st.text(max_size=3), ENTRIES, max_size=3) | JSON_VALUES, data=st.binary(max_size=24))
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, header: object, data: bytes) -> None:
    path = raw_file(tmp_path_factory.getbasetemp() / "fuzzed", header, data)
    try:
        tensors = read_tensors(path)
    except TensorFileError:
        return
    widened = {name for name in tensors if header[name]["dtype"] == "BF16"}
    assert sum(array.nbytes // (1 + (name in widened)) for name, array in tensors.items()) == len(data)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-bytes"
    path.write_bytes(content)
    try:
        read_tensors(path)
        read_metadata(path)
    except TensorFileError:
        pass


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_cut_and_flip_of_a_good_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "good"
    write_tensors(path, ARRAYS, {"note": "n"})
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
        path.write_bytes(content)
        with pytest.raises(TensorFileError):
            read_tensors(path)
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        with contextlib.suppress(TensorFileError):
            read_tensors(path)


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.safetensors"
    write_tensors(path, {"x": np.zeros(3)})
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"x": np.ones(1000)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]  # no leavings


def test_writing_in_place_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: with a writer that opens the file itself, the check above fails."""

    def in_place(path: Path, parts: list[bytes]) -> None:
        with path.open("wb") as file:
            file.write(parts[0])
            raise OSError(28, "No space left on device")

    path = tmp_path / "lost.safetensors"
    write_tensors(path, {"x": np.zeros(3)})
    before = path.read_bytes()
    monkeypatch.setattr(tensor_file, "write_atomically", in_place)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"x": np.ones(1000)})
    assert path.read_bytes() != before


def test_unstorable_dtypes_are_named(tmp_path: Path) -> None:
    with pytest.raises(TensorFileError, match="'x' has dtype complex128"):
        write_tensors(tmp_path / "bad", {"x": np.zeros(2, complex)})
    with pytest.raises(TensorFileError, match="has dtype object"):
        write_tensors(tmp_path / "bad", {"x": np.array([None])})
    assert not list(tmp_path.iterdir())
