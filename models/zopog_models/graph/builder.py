"""A graph under construction: operators are called like functions and return the names of their results."""

from collections.abc import Mapping, Sequence

import numpy as np

from . import onnx_format
from .onnx_format import Attribute

OPSET = 23  # the first with Attention as a standard operator


class GraphBuilder:
    """Collects nodes, constants and weights; `model_bytes` gives the finished ONNX model.

    Weights enter the model as names, dtypes and shapes only; the arrays are in `initializers`, for
    `SessionOptions.add_external_initializers`. shared: arrays of another graph of the same model, by name, to use
    instead of copies.
    """

    def __init__(self, shared: Mapping[str, np.ndarray] | None = None) -> None:
        self._shared = shared or {}
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
        stem = f"{op_type}_{len(self._nodes)}"
        outputs = [f"{stem}_{i}" for i in range(results)]
        self._nodes.append(onnx_format.node(op_type, inputs, outputs, attributes))
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
        self._constants[name] = onnx_format.tensor(name, array, external=False)
        return name

    def weight(self, name: str, array: np.ndarray) -> str:
        """A weight, float32 and contiguous: copied only when it is not so already, once for layers that share it."""
        if name not in self.initializers:
            shared = self._shared.get(name)
            self.initializers[name] = np.require(array, np.float32, ["C", "A"]) if shared is None else shared
        return name

    def model_bytes(self, name: str, metadata: dict[str, str]) -> bytes:
        weights = [onnx_format.tensor(key, array, external=True) for key, array in self.initializers.items()]
        return onnx_format.model(
            name,
            self._nodes,
            [*self._constants.values(), *weights],
            self._inputs,
            self._outputs,
            opset=OPSET,
            metadata=metadata,
        )
