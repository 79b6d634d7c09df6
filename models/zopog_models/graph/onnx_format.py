"""The few ONNX messages this package writes, in protobuf's wire format.

A graph here is some hundred nodes with small attributes; its weights stay outside, or are written straight from
where they are, without a copy of the whole. Writing that takes the lines below, so that a checkpoint runs with NumPy
and ONNX Runtime alone. The tests read the result back with the `onnx` package and its checker. Field numbers:
onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

Attribute = int | float | str | Sequence[int]
Parts = list[bytes | memoryview]  # of one message, to be written one after the other

FLOAT, INT8, INT64, BOOL, FLOAT16, DOUBLE = 1, 3, 7, 9, 10, 11  # TensorProto.DataType
_ELEMENT_TYPES = {
    np.dtype(np.float32): FLOAT,
    np.dtype(np.int8): INT8,
    np.dtype(np.int64): INT64,
    np.dtype(np.bool_): BOOL,
    np.dtype(np.float16): FLOAT16,
    np.dtype(np.float64): DOUBLE,
}
_IR_VERSION = 11  # the first that goes with opset 23
EXTERNAL_LOCATION = "fed-by-the-session"  # no file of that name exists: arrays are handed over in memory


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers as two's complement in 64 bits
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _framed(field: int, parts: Parts) -> Parts:
    return [_varint(field << 3 | 2) + _varint(sum(map(len, parts))), *parts]


def node(
    op_type: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Attribute], domain: str = ""
) -> bytes:
    """NodeProto; an empty input name stands for an optional input left out."""
    body = b"".join(_bytes(1, name) for name in inputs) + b"".join(_bytes(2, name) for name in outputs)
    body += _bytes(3, outputs[0]) + _bytes(4, op_type) + (_bytes(7, domain) if domain else b"")
    return body + b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())


def _attribute(name: str, value: Attribute) -> bytes:
    head = _bytes(1, name)
    if isinstance(value, int):
        return head + _int(3, value) + _int(20, 2)
    if isinstance(value, float):
        return head + _float(2, value) + _int(20, 1)
    if isinstance(value, str):
        return head + _bytes(4, value) + _int(20, 3)
    return head + b"".join(_int(8, item) for item in value) + _int(20, 7)


def tensor(name: str, array: np.ndarray, *, external: tuple[str, int] | None) -> bytes:
    """TensorProto: the values themselves, or dtype, shape and where the values are: external = (file, offset)."""
    array = np.asarray(array)
    body = b"".join(_int(1, size) for size in array.shape)
    body += _int(2, _ELEMENT_TYPES[array.dtype]) + _bytes(8, name)
    if external is None:
        return body + _bytes(9, array.tobytes())
    entries = {"location": external[0], "offset": str(external[1]), "length": str(array.nbytes)}
    for key, value in entries.items():
        body += _bytes(13, _bytes(1, key) + _bytes(2, value))
    return body + _int(14, 1)


def tensor_parts(name: str, array: np.ndarray) -> Parts:
    """TensorProto with the values themselves, which are not copied where they are contiguous."""
    shape: tuple[int, ...] = array.shape
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    body = b"".join(_int(1, size) for size in shape)
    head = body + _int(2, _ELEMENT_TYPES[array.dtype]) + _bytes(8, name)
    return [head, *_framed(9, [flat.data])]


def value_info(name: str, dtype: type, shape: Sequence[str | int]) -> bytes:
    """ValueInfoProto of an input or output; a named dimension is free, equal names are equal sizes."""
    dimensions = b"".join(_bytes(1, _bytes(2, s) if isinstance(s, str) else _int(1, s)) for s in shape)
    tensor_type = _int(1, _ELEMENT_TYPES[np.dtype(dtype)]) + _bytes(2, dimensions)
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor_type))


def model(
    name: str,
    nodes: Sequence[bytes],
    initializers: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    *,
    opset: int,
    metadata: Mapping[str, str],
    domains: Sequence[str] = (),
) -> bytes:
    """ModelProto. domains: of operators besides ONNX's own."""
    tensors: list[Parts] = [[item] for item in initializers]
    parts = model_parts(name, nodes, tensors, inputs, outputs, opset=opset, metadata=metadata)
    return b"".join(parts + [_bytes(8, _bytes(1, domain) + _int(2, 1)) for domain in domains])


def model_parts(
    name: str,
    nodes: Sequence[bytes],
    initializers: Sequence[Parts],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    *,
    opset: int,
    metadata: Mapping[str, str],
) -> Parts:
    """ModelProto, piece by piece; initializers as `tensor_parts` gives them."""
    graph: Parts = [b"".join(_bytes(1, item) for item in nodes) + _bytes(2, name)]
    graph += [part for item in initializers for part in _framed(5, item)]
    graph += [b"".join(_bytes(11, item) for item in inputs) + b"".join(_bytes(12, item) for item in outputs)]
    tail = _bytes(8, _bytes(1, "") + _int(2, opset))
    for key, value in metadata.items():
        tail += _bytes(14, _bytes(1, key) + _bytes(2, value))
    return [_int(1, _IR_VERSION) + _bytes(2, "zopog-ref"), *_framed(7, graph), tail]
