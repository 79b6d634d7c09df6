"""GPT-NeoX's layers (Black et al. 2022).

    x = x + W_o attention(LayerNorm(x)) + W_out gelu(W_in LayerNorm'(x))     `layers` times
    scores = LayerNorm(x) Oᵀ

Without use_parallel_residual the second term reads what the first has made of x.
"""

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.graph.builder import GraphBuilder
from zopog_models.graph.decoder_layers import DecoderLayers
from zopog_models.graph.rotary import Waves, add_waves, turned


class GPTNeoXLayers(DecoderLayers):
    """Weights read by the names of `families.gpt_neox`."""

    _waves: Waves

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        super().__init__(graph, checkpoint)
        self._thirds: dict[tuple[str, int], list[str]] = {}

    def words(self) -> str:
        return self.table("gpt_neox.embed_in.weight")

    def start(self, x: str, positions: str, total: str) -> str:
        a = self.architecture
        assert a.rotary is not None
        self._waves = add_waves(self.graph, a.rotary, a.head_width, a.max_positions, total)
        return x

    def before_attention(self, x: str, i: int) -> str:
        return self.layer_norm(x, f"gpt_neox.layers.{i}.input_layernorm")

    def queries(self, x: str, positions: str, i: int) -> str:
        return turned(self.graph, self._third(x, i, 0), self._waves, positions, self.architecture.heads)

    def keys_values(self, x: str, positions: str, i: int) -> tuple[str, str]:
        k = turned(self.graph, self._third(x, i, 1), self._waves, positions, self.architecture.heads)
        return k, self._third(x, i, 2)

    def attended(self, x: str, i: int) -> str:
        return self.linear(x, f"gpt_neox.layers.{i}.attention.dense")

    def feed_forward(self, x: str, i: int) -> str:
        layer = f"gpt_neox.layers.{i}"
        wide = self.linear(self.layer_norm(x, f"{layer}.post_attention_layernorm"), f"{layer}.mlp.dense_h_to_4h")
        return self.linear(self.gelu(wide), f"{layer}.mlp.dense_4h_to_h")

    def end(self, x: str) -> str:
        return self.layer_norm(x, "gpt_neox.final_layer_norm")

    def _third(self, x: str, i: int, which: int) -> str:
        """Queries (which = 0), keys (1) or values (2) of all heads, which have theirs side by side: (R, S, D)."""
        g, a = self.graph, self.architecture
        if (x, i) not in self._thirds:
            together = self.linear(x, f"gpt_neox.layers.{i}.attention.query_key_value")  # (R, S, 3 D)
            by_head = g.op("Reshape", together, g.integers(0, 0, a.heads, 3 * a.head_width))
            parts = g.op_many("Split", by_head, results=3, axis=-1, num_outputs=3)
            self._thirds[x, i] = [g.op("Reshape", part, g.integers(0, 0, a.hidden_size)) for part in parts]
        return self._thirds[x, i][which]
