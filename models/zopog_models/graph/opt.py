"""OPT's layers (Zhang et al. 2022).

x = word + offset + position
x = x + W_o attention(LayerNorm(x))
x = x + W_2 relu(W_1 LayerNorm(x))           both times `layers` times
scores = LayerNorm(x) Eᵀ
"""

from zopog_models.families.opt import FIRST_POSITION
from zopog_models.graph.decoder_layers import DecoderLayers


class OPTLayers(DecoderLayers):
    """Weights read by the names of `families.opt`."""

    def words(self) -> str:
        return self.table("model.decoder.embed_tokens.weight")

    def start(self, x: str, positions: str, total: str) -> str:
        g, name = self.graph, "model.decoder.embed_positions.weight"
        rows = g.weight(f"{name}.from_the_first", self.tensors[name][FIRST_POSITION:])
        return g.op("Add", x, g.op("Gather", rows, positions))

    def before_attention(self, x: str, i: int) -> str:
        return self.layer_norm(x, f"model.decoder.layers.{i}.self_attn_layer_norm")

    def queries(self, x: str, positions: str, i: int) -> str:
        return self.linear(x, f"model.decoder.layers.{i}.self_attn.q_proj")

    def keys_values(self, x: str, positions: str, i: int) -> tuple[str, str]:
        attention = f"model.decoder.layers.{i}.self_attn"
        return self.linear(x, f"{attention}.k_proj"), self.linear(x, f"{attention}.v_proj")

    def attended(self, x: str, i: int) -> str:
        return self.linear(x, f"model.decoder.layers.{i}.self_attn.out_proj")

    def feed_forward(self, x: str, i: int) -> str:
        layer = f"model.decoder.layers.{i}"
        return self.linear(
            self.gelu(self.linear(self.layer_norm(x, f"{layer}.final_layer_norm"), f"{layer}.fc1")), f"{layer}.fc2"
        )

    def end(self, x: str) -> str:
        return self.layer_norm(x, "model.decoder.final_layer_norm")
