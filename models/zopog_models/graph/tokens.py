"""Where the tokens of padded rows stand while they go through a decoder's layers.

All but attention reads each token by itself. So on a CPU the tokens of all rows stand one under the other, without
padding and each once (`runners.each_once` says which are equal). Attention has its rows back, padded. A GPU would have
to wait for the number of tokens: there rows stay as they are.
"""

import numpy as np

from zopog_models.graph.builder import GraphBuilder

__all__ = ["Packed", "Padded"]


class Padded:
    """Rows as they are. B = R and s = S."""

    def __init__(self, graph: GraphBuilder) -> None:
        self.graph = graph

    def pack(self, x: str) -> str:
        """(R, S, ...) -> (B, s, ...)."""
        return x

    def unpack(self, x: str) -> str:
        """(B, s, W) -> (R, S, W)."""
        return x

    def only(self, x: str, at: str) -> str:
        """(B, s, ...) -> (R, 1, ...), at one place of each row (R, 1)."""
        g = self.graph
        return g.op("Unsqueeze", g.op("GatherND", x, at, batch_dims=1), g.integers(1))


class Packed(Padded):
    """B tokens, and s = 1. Two more inputs: places (B,), of each in (R S,); tokens (R, S), which one stands where.

    What padding shows is that of some token.
    """

    def __init__(self, graph: GraphBuilder) -> None:
        super().__init__(graph)
        self._places = graph.input("places", np.int64, ("B",))
        self._tokens = graph.input("tokens", np.int64, ("R", "S"))

    def pack(self, x: str) -> str:
        g = self.graph
        shape = g.op("Concat", g.integers(-1, 1), g.op("Shape", x, start=2), axis=0)
        return g.op("Gather", g.op("Reshape", x, shape), self._places)

    def unpack(self, x: str) -> str:
        g = self.graph
        return g.op("Gather", g.op("Squeeze", x, g.integers(1)), self._tokens)

    def only(self, x: str, at: str) -> str:
        return self.graph.op("Gather", x, self.graph.op("GatherND", self._tokens, at, batch_dims=1))
