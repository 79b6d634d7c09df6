"""A model's graph as a part of a larger one: its inputs are values that are already there, its outputs go on."""

from collections.abc import Sequence

import numpy as np

from zopog_models.graph import onnx_format
from zopog_models.graph.builder import OPSET, GraphBuilder
from zopog_models.graph.onnx_format import Attribute, Parts


class Inlined(GraphBuilder):
    """A builder to hand to `graph.build` as `graph`, before and after which other operators are added.

    values: the model's inputs by name; results: its outputs by name. Weights that are looked up at places known now
    are looked up now, and weights that nothing reads are left out.
    """

    def __init__(self, *, location: str) -> None:
        super().__init__(location=location)
        self.values: dict[str, str] = {}
        self.results: dict[str, str] = {}
        self._fixed: dict[str, np.ndarray] = {}
        self._read: set[str] = set()

    def constant(self, name: str, array: np.ndarray) -> str:
        """An array known now, under a name of its own."""
        self._fixed[name] = array
        return self._constant(name, array)

    def outer_input(self, name: str, dtype: type, shape: Sequence[str | int]) -> str:
        """An input of the whole graph."""
        return super().input(name, dtype, shape)

    def outer_output(self, value: str, name: str, dtype: type, shape: Sequence[str | int]) -> None:
        """An output of the whole graph."""
        super().output(value, name, dtype, shape)
        self._read.add(value)

    def input(self, name: str, dtype: type, shape: Sequence[str | int]) -> str:
        return self.values[name]

    def output(self, value: str, name: str, dtype: type, shape: Sequence[str | int]) -> None:
        self.results[name] = value

    def op(self, op_type: str, *inputs: str, **attributes: Attribute) -> str:
        if op_type == "Gather" and not attributes and inputs[0] in self.initializers and inputs[1] in self._fixed:
            table, places = inputs
            return self.weight(f"{table}.{places}", self.initializers[table][self._fixed[places]])
        return super().op(op_type, *inputs, **attributes)

    def op_many(self, op_type: str, *inputs: str, results: int, **attributes: Attribute) -> list[str]:
        self._read.update(inputs)
        return super().op_many(op_type, *inputs, results=results, **attributes)

    def model_bytes(self, name: str, metadata: dict[str, str]) -> bytes:
        return b""  # the inner graph is no model of its own

    def leave_out_the_unread(self) -> None:
        """Forget weights and constants that no operator reads; to be called when the graph is complete."""
        self.initializers = {name: array for name, array in self.initializers.items() if name in self._read}
        self._constants = {name: tensor for name, tensor in self._constants.items() if name in self._read}

    def model_parts(self, name: str, metadata: dict[str, str], *, inside: bool) -> Parts:
        """The finished ONNX model, with its weights inside, or in the file `location` beside it."""
        weights: list[Parts] = []
        for key, (offset, array) in zip(self.initializers, self.external_data(), strict=True):
            external = (self._location, offset)
            weights.append(
                onnx_format.tensor_parts(key, array) if inside else [onnx_format.tensor(key, array, external=external)]
            )
        constants: list[Parts] = [[constant] for constant in self._constants.values()]
        return onnx_format.model_parts(
            name, self._nodes, constants + weights, self._inputs, self._outputs, opset=OPSET, metadata=metadata
        )
