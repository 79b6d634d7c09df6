"""The layers of Llama and Qwen2 (Touvron et al. 2023; Llama 3, 2024; Qwen2 technical report, 2024).

    x = word + offset
    x = x + W_o attention(RMSNorm(x))                        causal; queries and keys turned by their positions
    x = x + W_down (silu(W_gate y) * W_up y), y = RMSNorm(x)     both times `layers` times
    scores = RMSNorm(x) Oᵀ

Heads of keys and values serve heads / key_heads heads of queries each (Ainslie et al. 2023). Rotary positions (Su et
al. 2021): at position p the pair (x_i, x_{i + w/2}) of a head of width w is turned by the angle p · f_i.
"""

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.families.rotary import Rotary
from zopog_models.graph.builder import GraphBuilder
from zopog_models.graph.decoder_layers import DecoderLayers
from zopog_models.graph.rotary import Waves, add_waves, turned


class LlamaLayers(DecoderLayers):
    """Weights read by the names of `families.llama`."""

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        super().__init__(graph, checkpoint)
        self._waves: dict[Rotary, Waves] = {}

    def words(self) -> str:
        return self.table("model.embed_tokens.weight")

    def start(self, x: str, positions: str, total: str) -> str:
        g, a = self.graph, self.architecture
        for i in range(a.layers):
            rotary = a.rotary_of(i)
            if rotary is not None and rotary not in self._waves:
                name = "rotary" if rotary == a.rotary else "rotary_local"
                self._waves[rotary] = add_waves(g, rotary, a.head_width, a.max_positions, total, name)
        if a.embedding_factor == 1:
            return x
        return g.op("Mul", x, g.weight("embedding_factor", np.array([a.embedding_factor], np.float32)))

    def before_attention(self, x: str, i: int) -> str:
        return self._rms_norm(x, f"model.layers.{i}.input_layernorm")

    def queries(self, x: str, positions: str, i: int) -> str:
        return self._turned(x, f"model.layers.{i}.self_attn.q", positions, self.architecture.heads, i)

    def keys_values(self, x: str, positions: str, i: int) -> tuple[str, str]:
        k = self._turned(x, f"model.layers.{i}.self_attn.k", positions, self.architecture.key_heads, i)
        return k, self.linear(x, f"model.layers.{i}.self_attn.v_proj")

    def attended(self, x: str, i: int) -> str:
        layer = f"model.layers.{i}"
        y = self.linear(x, f"{layer}.self_attn.o_proj", outliers=True)  # nothing normalises what it reads
        return self._rms_norm(y, f"{layer}.post_attention_layernorm") if self.architecture.branch_norms else y

    def feed_forward(self, x: str, i: int) -> str:
        g, layer, branch = self.graph, f"model.layers.{i}", self.architecture.branch_norms
        y = self._rms_norm(x, f"{layer}.{'pre_feedforward' if branch else 'post_attention'}_layernorm")
        gate, up = self.linear(y, f"{layer}.mlp.gate_proj"), self.linear(y, f"{layer}.mlp.up_proj")  # (R, Q, F)
        if self.architecture.activation == "silu":
            gate = g.op("Mul", gate, g.op("Sigmoid", gate))
        else:
            gate = g.op("Gelu", gate, approximate="tanh")
        y = g.op("Mul", gate, up)
        if g.apart:
            y = g.op("Max", y, g.weight("least", np.array([np.finfo(np.float32).min], np.float32)))
        y = self.linear(y, f"{layer}.mlp.down_proj", outliers=True)
        return self._rms_norm(y, f"{layer}.post_feedforward_layernorm") if branch else y

    def end(self, x: str) -> str:
        return self._rms_norm(x, "model.norm")

    def _rms_norm(self, x: str, name: str) -> str:
        """x / √(mean x² + ε) · γ over the last axis."""
        a, name = self.architecture, f"{name}.weight"
        weight = self.tensors[name]
        # In float32: of a weight that is stored less 1 in half precision, the sum has more digits than that has.
        gamma = self.graph.weight(name, weight.astype(np.float32) + a.norm_offset if a.norm_offset else weight)
        return self.graph.op("RMSNormalization", x, gamma, axis=-1, epsilon=a.norm_eps)

    def _turned(self, x: str, name: str, positions: str, heads: int, i: int) -> str:
        """Queries or keys of layer i: a linear map, a normalisation of each head where there is one, the positions."""
        g, a, rotary = self.graph, self.architecture, self.architecture.rotary_of(i)
        y = self.linear(x, f"{name}_proj")
        if a.query_norm:
            y = g.op("Reshape", y, g.integers(0, 0, heads, a.head_width))  # (R, S, heads, w)
            y = self._rms_norm(y, f"{name}_norm")
            y = g.op("Reshape", y, g.integers(0, 0, heads * a.head_width))
        return y if rotary is None else turned(g, y, self._waves[rotary], positions, heads)
