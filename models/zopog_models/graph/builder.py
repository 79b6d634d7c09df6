"""A graph under construction: operators are called like functions and return the names of their results."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from zopog_models.files.tensor_file import in_place
from zopog_models.graph import onnx_format
from zopog_models.graph.onnx_format import Attribute
from zopog_models.graph.quantized import quantize

OPSET = 23  # the first with Attention as a standard operator
OPSET_BY_LENGTH = 24  # the first whose Attention takes the rows' lengths in place of a mask
RUNTIME_S_OWN = "com.microsoft"  # operators of ONNX Runtime beside ONNX's
PRECISIONS = {"fp32": np.float32, "fp16": np.float16, "int8": np.float32}  # what is not a linear map's weight, and sums
_PAGE = 4096  # weights in a file begin at multiples of this, so that they can be mapped into memory


class GraphBuilder:
    """Collects nodes, constants and weights; `model_bytes` gives the finished ONNX model.

    Weights enter the model as names, dtypes and shapes only; the arrays are in `initializers`, for
    `SessionOptions.add_external_initializers`, or for a file beside the model's (`external_data`). shared: arrays of
    another graph of the same model, by name, to use instead of copies. precision: "fp32" or "fp16", of the weights and
    of what is computed with them; "int8": linear maps as in `quantized`, all else fp32. Inputs and outputs are float32
    in any case. location: the weights' file. fused: for a session on CUDA, with ONNX Runtime's own operators and
    without sums that change nothing; by_length: rows, padded on the right, are told by their lengths. packed: a
    decoder's tokens go through its layers each once (`tokens`). apart: a maximum that changes nothing keeps
    OpenVINO from making one operator of a gated feed-forward layer, which 2026.4 compiles for one thread by ending the
    process.
    """

    def __init__(
        self,
        shared: Mapping[str, np.ndarray] | None = None,
        *,
        precision: str = "fp32",
        location: str = onnx_format.EXTERNAL_LOCATION,
        fused: bool = False,
        packed: bool = False,
        apart: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self._shared = shared or {}
        self.fused, self.packed, self.apart = fused, packed, apart
        self.by_length = fused and precision == "fp16"  # flash attention, which has no mask and no float32
        self._dtype = PRECISIONS[precision]
        self._integers = precision == "int8"
        self._quantized: dict[str, list[str]] = {}
        self._location = location
        self.initializers: dict[str, np.ndarray] = {}
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, dtype: type, shape: Sequence[str | int]) -> str:
        self._inputs.append(onnx_format.value_info(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: type, shape: Sequence[str | int]) -> None:
        self._nodes.append(onnx_format.node("Identity", [value], [name], {}))
        self._outputs.append(onnx_format.value_info(name, dtype, shape))

    def op(self, op_type: str, *inputs: str, **attributes: Attribute) -> str:
        """Apply an operator with one result."""
        return self.op_many(op_type, *inputs, results=1, **attributes)[0]

    def op_many(self, op_type: str, *inputs: str, results: int, **attributes: Attribute) -> list[str]:
        """Apply an operator with several results."""
        return self._apply("", op_type, inputs, results, attributes)

    def runtime_op(self, op_type: str, *inputs: str, **attributes: Attribute) -> str:
        """Apply an operator with one result that ONNX Runtime has beside ONNX's."""
        return self._apply(RUNTIME_S_OWN, op_type, inputs, 1, attributes)[0]

    def _apply(
        self, domain: str, op_type: str, inputs: Sequence[str], results: int, attributes: Mapping[str, Attribute]
    ) -> list[str]:
        stem = f"{op_type}_{len(self._nodes)}"
        outputs = [f"{stem}_{i}" for i in range(results)]
        self._nodes.append(onnx_format.node(op_type, inputs, outputs, attributes, domain))
        return outputs

    def integers(self, *values: int) -> str:
        """A constant vector of int64, such as axes, bounds or shapes."""
        return self._constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: int) -> str:
        """A constant int64 without dimensions."""
        return self._constant(f"int_{value}", np.array(value, np.int64))

    def doubles(self, name: str, array: np.ndarray) -> str:
        """A small constant of float64, under a name of its own."""
        return self._constant(name, np.asarray(array, np.float64))

    def _constant(self, name: str, array: np.ndarray) -> str:
        self._constants[name] = onnx_format.tensor(name, array, external=None)
        return name

    def weight(self, name: str, array: np.ndarray) -> str:
        """A weight, contiguous: copied only when it is not so already, once for all layers that share it.

        Raises ValueError for one that is too large for fp16.
        """
        if name not in self.initializers:
            shared = self._shared.get(name)
            self.initializers[name] = self._stored(name, array) if shared is None else shared
        return name

    def product(self, x: str, name: str, array: np.ndarray, *, transposed: bool = False, outliers: bool = False) -> str:
        """x W, for a weight W (in, out); transposed: x Wᵀ, for one that is published as (out, in).

        outliers: a few of x's channels are far larger than the others, so "int8" computes this map in float32.
        """
        if outliers or not self._integers:
            weight = self.weight(name, array)
            # A product reads a weight either way, so a transposed one is never written out.
            return self.op("MatMul", x, self.op("Transpose", weight, perm=(1, 0)) if transposed else weight)
        if x not in self._quantized:  # queries, keys and values share theirs
            self._quantized[x] = self.op_many("DynamicQuantizeLinear", x, results=3)
        integers, scale, zero = self._quantized[x]
        weight, scales = f"{name}.int8", f"{name}.scales"
        if weight not in self.initializers:
            self.initializers[weight], self.initializers[scales] = quantize(array.T if transposed else array)
        sums = self.op("Cast", self.op("MatMulInteger", integers, weight, zero), to=onnx_format.FLOAT)
        return self.op("Mul", sums, self.op("Mul", scale, scales))

    def _stored(self, name: str, array: np.ndarray) -> np.ndarray:
        if self._dtype == np.float16 and array.size and max(array.max(), -array.min()) > np.finfo(np.float16).max:
            raise ValueError(f"{name} holds values that fp16 cannot: take fp32")
        return np.require(array, self._dtype, ["C", "A"])

    def from_float32(self, value: str) -> str:
        """A float32 value in the precision of the weights."""
        return value if self._dtype == np.float32 else self.op("Cast", value, to=onnx_format.FLOAT16)

    def to_float32(self, value: str) -> str:
        """A value in the precision of the weights as float32."""
        return value if self._dtype == np.float32 else self.op("Cast", value, to=onnx_format.FLOAT)

    def external_data(self) -> Iterator[tuple[int, np.ndarray]]:
        """Where each weight stands in the weights' file: (offset in bytes, array), one after the other."""
        offset = 0
        for array in self.initializers.values():
            yield offset, array
            offset += -(-array.nbytes // _PAGE) * _PAGE

    def model_bytes(self, name: str, metadata: dict[str, str]) -> bytes:
        # Of a graph for a session, weights that are still in the checkpoint's file are read from there.
        in_memory = self._location == onnx_format.EXTERNAL_LOCATION
        places = in_place(self.initializers)[1] if in_memory else {}
        weights = [
            onnx_format.tensor(key, array, external=places.get(key, (self._location, offset)))
            for key, (offset, array) in zip(self.initializers, self.external_data(), strict=True)
        ]
        return onnx_format.model(
            name,
            self._nodes,
            [*self._constants.values(), *weights],
            self._inputs,
            self._outputs,
            opset=OPSET_BY_LENGTH if self.by_length else OPSET,
            metadata=metadata,
            domains=[RUNTIME_S_OWN] if self.fused else [],
        )
