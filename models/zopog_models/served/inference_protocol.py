"""The messages of the Open Inference Protocol (KServe v2, REST): tensors as JSON, or as raw bytes behind the JSON.

https://github.com/kserve/open-inference-protocol; the binary tensor extension is the one of Triton Inference Server:
a body of JSON followed by little-endian tensors, the length of the JSON in the header Inference-Header-Content-Length.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from zopog_models.errors import RepeatedKey, ServiceError, SetupError
from zopog_models.files.quoting import quoted
from zopog_models.files.repeated_keys import once
from zopog_models.served.transport import Answer

__all__ = ["BINARY_EXTENSION", "DATATYPES", "Request", "encode_request", "read_object", "read_tensor", "tensor_types"]

BINARY_EXTENSION = "binary_tensor_data"
DATATYPES = {"INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}
_LENGTH = "Inference-Header-Content-Length"


class Request(NamedTuple):
    """A body and the headers that say how to read it."""

    body: bytes
    headers: dict[str, str]


def encode_request(
    tensors: Mapping[str, np.ndarray], datatypes: Mapping[str, str], output: str, identity: str, *, binary: bool
) -> Request:
    """Ask for one output. As JSON, a float32 is written with the digits that give back the same bits."""
    inputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, array in tensors.items():
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatypes[name]}
        values = np.ascontiguousarray(array, DATATYPES[datatypes[name]])
        if binary:
            raw.append(values.tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = values.ravel().tolist()
        inputs.append(entry)
    wanted: dict[str, Any] = {"name": output}
    if binary:
        wanted["parameters"] = {"binary_data": True}
    header = json.dumps({"id": identity, "inputs": inputs, "outputs": [wanted]}, allow_nan=False).encode()
    if not binary:
        return Request(header, {"Content-Type": "application/json"})
    headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(header))}
    return Request(b"".join([header, *raw]), headers)


def read_tensor(answer: Answer, output: str, shape: tuple[int, ...], identity: str) -> np.ndarray:
    """The output of an answer, float32, of exactly this shape and finite.

    Raises ServiceError, which says what is wrong: no JSON, another request's answer, no such output, another shape or
    datatype, fewer numbers than its shape says, a value that is not finite and where it stands.
    """
    content, raw = _split(answer)
    message = read_object(content)
    if message.get("id") not in (None, "", identity):
        raise ServiceError(f"the answer is to another request: id {message['id']!r:.80}, expected {identity!r}")
    outputs = message.get("outputs")
    if not isinstance(outputs, list) or not all(isinstance(entry, dict) for entry in outputs):
        raise ServiceError(f"the answer has no outputs: {content[:200]!r}")
    if sum(entry.get("name") == output for entry in outputs) > 1:
        raise ServiceError(f"the answer is unclear: the output {output!r} is there twice")
    start = 0
    for entry in outputs:
        parameters = entry.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if entry.get("name") != output:
            start += size if type(size) is int and size > 0 else 0
            continue
        if entry.get("shape") != list(shape):
            raise ServiceError(f"output {output!r} has shape {entry.get('shape')!r:.80}, expected {list(shape)}")
        values = _numbers(entry, None if size is None else raw[start : start + size] if type(size) is int else b"")
        if values.size != np.prod(shape):
            raise ServiceError(f"output {output!r} holds {values.size} numbers, its shape {list(shape)} says otherwise")
        with np.errstate(over="ignore"):  # what float32 cannot hold is named below
            values = values.reshape(shape).astype(np.float32)
        wrong = ~np.isfinite(values)
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            raise ServiceError(
                f"output {output!r} holds {int(wrong.sum())} values of {values.size} that are not finite, the first in "
                f"row {row} of this request: the continuous prompt may have diverged (a smaller step or scale), or the "
                "model is damaged"
            )
        return values
    names = ", ".join(repr(entry.get("name")) for entry in outputs)[:200]
    raise ServiceError(f"the answer has no output {output!r}, only {names or 'none'}")


def tensor_types(metadata: Mapping[str, Any], kind: str) -> dict[str, tuple[str, list[int]]]:
    """The "inputs" or "outputs" (kind) that a model's metadata list: name -> datatype, shape; {} where they do not.

    Raises SetupError for what is no list of tensors.
    """
    found = metadata.get(kind) or []
    result = {}
    for entry in found if isinstance(found, list) else [found]:
        fields = entry if isinstance(entry, dict) else {}
        name, datatype, shape = (fields.get(key) for key in ("name", "datatype", "shape"))
        if not (isinstance(name, str) and isinstance(datatype, str) and isinstance(shape, list)):
            raise SetupError(f"the model's metadata names {kind} in an unknown way: {entry!r:.200}")
        result[name] = (datatype, shape)
    return result


def read_object(content: bytes, pairs: Callable[[list[tuple[str, Any]]], Any] = once) -> dict[str, Any]:
    """The JSON object of an answer. pairs: what an object's pairs become. Raises ServiceError, for a key twice too."""
    try:
        value = json.loads(content, object_pairs_hook=pairs)
    except RepeatedKey as error:
        raise ServiceError(f"the answer is unclear: {error}") from None
    except (ValueError, RecursionError):
        raise ServiceError(f"the answer is not JSON: {content[:200]!r}") from None
    if not isinstance(value, dict):
        raise ServiceError(f"the answer is no JSON object: {content[:200]!r}")
    return value


def _split(answer: Answer) -> tuple[bytes, bytes]:
    """JSON, and what stands behind it."""
    text = answer.headers.get(_LENGTH.lower())
    if text is None:
        return answer.body, b""
    length = int(text) if text.isdecimal() and len(text) < 12 else -1
    if not 0 <= length <= len(answer.body):
        raise ServiceError(f"the header {_LENGTH} says {text!r:.40} of an answer of {len(answer.body)} bytes")
    return answer.body[:length], answer.body[length:]


def _numbers(entry: Mapping[str, Any], raw: bytes | None) -> np.ndarray:
    datatype = entry.get("datatype")
    if datatype not in ("FP32", "FP64"):
        raise ServiceError(f"output {entry.get('name')!r} has datatype {datatype!r:.40}, expected FP32 or FP64")
    if raw is not None:
        width = np.dtype(DATATYPES[datatype]).itemsize
        return np.frombuffer(raw[: len(raw) - len(raw) % width], DATATYPES[datatype])
    flat = _flat(entry.get("data"))
    try:
        return np.array([math.nan if value is None else value for value in flat], np.float64)  # null: some write it
    except OverflowError:
        raise ServiceError(f"output {entry.get('name')!r} holds something that is no number: too large") from None


def _flat(data: Any) -> list[Any]:
    """Numbers and nulls of nested lists. Raises ServiceError for anything else: true, "0.5"."""
    if not isinstance(data, list):
        raise ServiceError(f"the output holds something that is no number: {quoted(data)}, expected a list of numbers")
    flat, rest = [], [iter(data)]
    while rest:
        for value in rest[-1]:
            if isinstance(value, list):
                rest.append(iter(value))
                break
            if value is not None and type(value) not in (int, float):
                raise ServiceError(f"the output holds something that is no number: {quoted(value)}")
            flat.append(value)
        else:
            rest.pop()
    return flat
