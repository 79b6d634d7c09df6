"""The layers of a Transformer encoder as graph operators. x is the name of a value; shapes stand at the line ends."""

from collections.abc import Mapping

import numpy as np

from zopog_models.families.encoder import EncoderArchitecture, LayerNames
from zopog_models.graph.builder import GraphBuilder


class Layers:
    """Layers that read their weights from a checkpoint's tensors by name."""

    def __init__(
        self, graph: GraphBuilder, tensors: Mapping[str, np.ndarray], architecture: EncoderArchitecture
    ) -> None:
        self.graph = graph
        self.tensors = tensors
        self.architecture = architecture

    def table(self, name: str) -> str:
        """A weight as it is stored."""
        return self.graph.weight(name, self.tensors[name])

    def linear(self, x: str, name: str) -> str:
        """x Wᵀ + b, with W published as (out, in)."""
        g = self.graph
        product = g.product(x, f"{name}.weight", self.tensors[f"{name}.weight"], transposed=True)
        return g.op("Add", product, self.table(f"{name}.bias"))

    def layer_norm(self, x: str, name: str) -> str:
        """(x − mean) / √(variance + ε) · γ + β over the last axis."""
        gamma, beta = self.table(f"{name}.weight"), self.table(f"{name}.bias")
        epsilon = self.architecture.layer_norm_eps
        return self.graph.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)

    def activation(self, x: str, kind: str) -> str:
        if kind == "relu":
            return self.graph.op("Relu", x)
        return self.graph.op("Gelu", x, approximate="none" if kind == "gelu" else "tanh")

    def attention(self, queries: str, x: str, mask: str, names: LayerNames) -> str:
        """softmax(Q Kᵀ / √head) V in `heads` heads; queries (R, Q, D) look at x (R, S, D) where mask (R, 1, Q, S)."""
        heads = self.architecture.heads
        q = self.linear(queries, names.query)  # (R, Q, D)
        k = self.linear(x, names.key)  # (R, S, D)
        v = self.linear(x, names.value)  # (R, S, D)
        return self.graph.op("Attention", q, k, v, mask, q_num_heads=heads, kv_num_heads=heads)  # (R, Q, D)

    def encoder_layer(self, queries: str, x: str, mask: str, names: LayerNames, unit_mask: str | None = None) -> str:
        """One layer of the encoder, with its normalisations after the residual sums, at the positions `queries`.

        unit_mask (F,), where there is one, multiplies the feed-forward hidden units.
        """
        g = self.graph
        attended = self.linear(self.attention(queries, x, mask, names), names.attended)
        hidden = self.layer_norm(g.op("Add", attended, queries), names.attended_norm)  # (R, Q, D)
        wide = self.activation(self.linear(hidden, names.wide), self.architecture.activation)  # (R, Q, F)
        if unit_mask is not None:
            wide = g.op("Mul", wide, unit_mask)
        narrow = self.linear(wide, names.narrow)  # (R, Q, D)
        return self.layer_norm(g.op("Add", narrow, hidden), names.narrow_norm)
