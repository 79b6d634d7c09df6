"""Where the tokens of padded rows stand while they go through a decoder's layers.

All but attention reads each token by itself, so on a CPU the tokens of all rows stand one under the other, without the
padding: of 32 texts in chunks of 8, sorted by length, an eighth is padding. Attention has its rows back, padded. A GPU
would have to wait for the number of tokens, and OpenVINO plans for shapes that it knows: there rows stay padded.
"""

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
    """Without padding. B is the number of visible tokens and s = 1. What padding shows is that of some token."""

    def __init__(self, graph: GraphBuilder, visible: str) -> None:
        super().__init__(graph)
        g = graph
        flat = g.op("Reshape", visible, g.integers(-1))  # (R S,)
        self._places = g.op("Squeeze", g.op("NonZero", flat), g.integers(0))  # (B,)
        counted = g.op("Sub", g.op("CumSum", flat, g.scalar(0)), g.scalar(1))
        self._tokens = g.op("Reshape", g.op("Max", counted, g.scalar(0)), g.op("Shape", visible))  # (R, S)

    def pack(self, x: str) -> str:
        g = self.graph
        shape = g.op("Concat", g.integers(-1, 1), g.op("Shape", x, start=2), axis=0)
        return g.op("Gather", g.op("Reshape", x, shape), self._places)

    def unpack(self, x: str) -> str:
        g = self.graph
        return g.op("Gather", g.op("Squeeze", x, g.integers(1)), self._tokens)

    def only(self, x: str, at: str) -> str:
        return self.graph.op("Gather", x, self.graph.op("GatherND", self._tokens, at, batch_dims=1))
