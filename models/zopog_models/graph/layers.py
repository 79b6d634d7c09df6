"""The layers of a Transformer encoder as graph operators. x is the name of a value; shapes stand at the line ends."""

from typing import Any

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.families.encoder import EncoderArchitecture, EncoderFamily, LayerNames
from zopog_models.graph.builder import GraphBuilder


class Layers:
    """Layers that read their weights from a checkpoint's tensors by name: those of BERT, and what others change."""

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.family, EncoderFamily)
        assert isinstance(checkpoint.architecture, EncoderArchitecture)
        self.graph = graph
        self.tensors = checkpoint.tensors
        self.family: EncoderFamily = checkpoint.family
        self.architecture: EncoderArchitecture = checkpoint.architecture

    def sight(self, mask: str, at: str | None, total: str) -> Any:
        """What `encoder_layer` has to know of who looks at whom, once for all layers.

        mask (R, 1, Q, S), true where a position may be looked at; at (R, 1), where those that look stand in their rows,
        or None: all positions do; total (1,), S.
        """
        return mask

    def end(self, x: str) -> str:
        """What stands between the last layer and the head."""
        return x

    def places(self, total: str) -> str:
        """0 ... S − 1, (1, S)."""
        g = self.graph
        return g.op("Unsqueeze", g.op("Range", g.scalar(0), g.op("Squeeze", total), g.scalar(1)), g.integers(0))

    def table(self, name: str) -> str:
        """A weight as it is stored."""
        return self.graph.weight(name, self.tensors[name])

    def linear(self, x: str, name: str) -> str:
        """x Wᵀ (+ b), with W published as (out, in)."""
        g, bias = self.graph, f"{name}.bias"
        product = g.product(x, f"{name}.weight", self.tensors[f"{name}.weight"], transposed=True)
        return g.op("Add", product, self.table(bias)) if bias in self.tensors else product

    def layer_norm(self, x: str, name: str) -> str:
        """(x − mean) / √(variance + ε) · γ (+ β) over the last axis."""
        parts = [self.table(f"{name}.{part}") for part in ("weight", "bias") if f"{name}.{part}" in self.tensors]
        epsilon = self.architecture.layer_norm_eps
        return self.graph.op("LayerNormalization", x, *parts, axis=-1, epsilon=epsilon)

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

    def encoder_layer(self, queries: str, x: str, sight: Any, i: int, unit_mask: str | None = None) -> str:
        """The i-th layer, with its normalisations after the residual sums, at the positions `queries`.

        unit_mask (F,), where there is one, multiplies the feed-forward hidden units.
        """
        g, names = self.graph, self.family.layer_names(self.architecture, i)
        attended = self.linear(self.attention(queries, x, sight, names), names.attended)
        hidden = self.layer_norm(g.op("Add", attended, queries), names.attended_norm)  # (R, Q, D)
        wide = self.activation(self.linear(hidden, names.wide), self.architecture.activation)  # (R, Q, F)
        if unit_mask is not None:
            wide = g.op("Mul", wide, unit_mask)
        narrow = self.linear(wide, names.narrow)  # (R, Q, D)
        return self.layer_norm(g.op("Add", narrow, hidden), names.narrow_norm)
