"""The layers of a Transformer encoder as graph operators. x is the name of a value; shapes stand at the line ends."""

from typing import Any

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.families.encoder import EncoderArchitecture, EncoderFamily, LayerNames
from zopog_models.graph import onnx_format
from zopog_models.graph.builder import GraphBuilder


class Layers:
    """Layers that read their weights from a checkpoint's tensors by name: those of BERT, and what others change.

    masked: whether the attention needs a mask even where a row's length could tell what may be looked at.
    """

    masked = False

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.family, EncoderFamily)
        assert isinstance(checkpoint.architecture, EncoderArchitecture)
        self.graph = graph
        self.tensors = checkpoint.tensors
        self.family: EncoderFamily = checkpoint.family
        self.architecture: EncoderArchitecture = checkpoint.architecture
        self.by_length = graph.by_length and not self.masked

    def sight(self, mask: str, at: str | None, total: str) -> Any:
        """What `encoder_layer` has to know of who looks at whom, once for all layers.

        mask (R, 1, Q, S), true where a position may be looked at; at (R, 1), where those that look stand in their rows,
        or None: all positions do; total (1,), S. Here: the mask, or with by_length the rows' lengths (R,).
        """
        g = self.graph
        if not self.by_length:
            return mask
        shown = g.op("Cast", g.op("Gather", mask, g.scalar(0), axis=2), to=onnx_format.INT64)  # (R, 1, S)
        return g.op("ReduceSum", shown, g.integers(1, 2), keepdims=0)  # (R,)

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

    def linear(self, x: str, name: str, *, biased: bool = True) -> str:
        """x Wᵀ (+ b), with W published as (out, in)."""
        g, bias = self.graph, f"{name}.bias"
        product = g.product(x, f"{name}.weight", self.tensors[f"{name}.weight"], transposed=True)
        return g.op("Add", product, self.table(bias)) if biased and bias in self.tensors else product

    def layer_norm(self, x: str, name: str) -> str:
        """(x − mean) / √(variance + ε) · γ (+ β) over the last axis."""
        epsilon = self.architecture.layer_norm_eps
        return self.graph.op("LayerNormalization", x, *self._norm_parts(name), axis=-1, epsilon=epsilon)

    def _norm_parts(self, name: str) -> list[str]:
        return [self.table(f"{name}.{part}") for part in ("weight", "bias") if f"{name}.{part}" in self.tensors]

    def sum_norm(self, x: str, name: str, residual: str, norm: str, bias: str | None = None) -> str:
        """LayerNorm(x Wᵀ + b + residual); bias: the value to add in place of b, of a fused graph."""
        g = self.graph
        if not g.fused:
            return self.layer_norm(g.op("Add", self.linear(x, name), residual), norm)
        if bias is None:
            bias = self.table(f"{name}.bias") if f"{name}.bias" in self.tensors else ""
        scale, shift = [*self._norm_parts(norm), ""][:2]
        product, epsilon = self.linear(x, name, biased=False), self.architecture.layer_norm_eps
        return g.runtime_op("SkipLayerNormalization", product, residual, scale, shift, bias, epsilon=epsilon)

    def activation(self, x: str, kind: str) -> str:
        if kind == "relu":
            return self.graph.op("Relu", x)
        return self.graph.op("Gelu", x, approximate="none" if kind == "gelu" else "tanh")

    def attention(self, queries: str, x: str, mask: str, names: LayerNames) -> str:
        """softmax(Q Kᵀ / √head) V in `heads` heads; queries (R, Q, D) look at x (R, S, D) where mask (R, 1, Q, S).

        fused: without the biases of keys, which move all scores of a query alike, and of values: see `value_bias`.
        """
        g, heads = self.graph, self.architecture.heads
        q = self.linear(queries, names.query)  # (R, Q, D)
        k, v = (self.linear(x, name, biased=not g.fused) for name in (names.key, names.value))  # (R, S, D)
        seen = ("", "", "", mask) if self.by_length else (mask,)
        return g.op("Attention", q, k, v, *seen, q_num_heads=heads, kv_num_heads=heads)  # (R, Q, D)

    def value_bias(self, names: LayerNames) -> str | None:
        """b + W b_v: attention's weights sum to 1, so W (o + b_v) + b = W o + (b + W b_v). None: nothing to add."""
        values, bias = f"{names.value}.bias", f"{names.attended}.bias"
        if not self.graph.fused or values not in self.tensors or bias not in self.tensors:
            return None
        weight, b_v, b = (np.asarray(self.tensors[n], np.float32) for n in (f"{names.attended}.weight", values, bias))
        return self.graph.weight(f"{bias} with the values'", weight @ b_v + b)

    def encoder_layer(self, queries: str, x: str, sight: Any, i: int, unit_mask: str | None = None) -> str:
        """The i-th layer, with its normalisations after the residual sums, at the positions `queries`.

        unit_mask (F,), where there is one, multiplies the feed-forward hidden units.
        """
        g, names = self.graph, self.family.layer_names(self.architecture, i)
        attended = self.attention(queries, x, sight, names)
        hidden = self.sum_norm(attended, names.attended, queries, names.attended_norm, self.value_bias(names))
        wide = self.activation(self.linear(hidden, names.wide), self.architecture.activation)  # (R, Q, F)
        if unit_mask is not None:
            wide = g.op("Mul", wide, unit_mask)
        return self.sum_norm(wide, names.narrow, hidden, names.narrow_norm)  # (R, Q, D)
