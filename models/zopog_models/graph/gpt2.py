"""GPT-2's layers (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

    x = word + offset + position
    x = x + W_o attention(LayerNorm(x))          causal, heads of width D / heads
    x = x + W_proj gelu(W_fc LayerNorm(x))       both times `layers` times
    scores = LayerNorm(x) Eᵀ                     E the word embeddings, unless untied

Its linear maps are published as "Conv1D": x W + b with W (in, out), and queries, keys and values side by side in one
matrix.
"""

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.graph.builder import GraphBuilder
from zopog_models.graph.decoder_layers import DecoderLayers


class GPT2Layers(DecoderLayers):
    """Weights read by the names of `families.gpt2`."""

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        super().__init__(graph, checkpoint)
        self._thirds: dict[tuple[str, int], list[str]] = {}

    def words(self) -> str:
        return self.table("transformer.wte.weight")

    def start(self, x: str, positions: str, total: str) -> str:
        return self.graph.op("Add", x, self.graph.op("Gather", self.table("transformer.wpe.weight"), positions))

    def before_attention(self, x: str, i: int) -> str:
        return self.layer_norm(x, f"transformer.h.{i}.ln_1")

    def queries(self, x: str, positions: str, i: int) -> str:
        return self._third(x, i, 0)

    def keys_values(self, x: str, positions: str, i: int) -> tuple[str, str]:
        return self._third(x, i, 1), self._third(x, i, 2)

    def attended(self, x: str, i: int) -> str:
        return self._conv1d(x, f"transformer.h.{i}.attn.c_proj")

    def feed_forward(self, x: str, i: int) -> str:
        layer = f"transformer.h.{i}"
        wide = self._conv1d(self.layer_norm(x, f"{layer}.ln_2"), f"{layer}.mlp.c_fc")  # (R, Q, F)
        return self._conv1d(self.gelu(wide), f"{layer}.mlp.c_proj")

    def end(self, x: str) -> str:
        return self.layer_norm(x, "transformer.ln_f")

    def _conv1d(self, x: str, name: str) -> str:
        """x W + b, with W published as (in, out)."""
        g = self.graph
        product = g.product(x, f"{name}.weight", self.tensors[f"{name}.weight"])
        return g.op("Add", product, self.table(f"{name}.bias"))

    def _third(self, x: str, i: int, which: int) -> str:
        """Queries (which = 0), keys (1) or values (2): a third of c_attn's columns.

        In the last layer, where queries are asked for at one position alone, each third is a product of its own.
        """
        g, d, name = self.graph, self.architecture.hidden_size, f"transformer.h.{i}.attn.c_attn"
        if i < self.architecture.layers - 1:
            if (x, i) not in self._thirds:
                self._thirds[x, i] = g.op_many("Split", self._conv1d(x, name), results=3, axis=-1, num_outputs=3)
            return self._thirds[x, i][which]
        weight: np.ndarray = self.tensors[f"{name}.weight"][:, which * d : (which + 1) * d]  # (D, D)
        bias: np.ndarray = self.tensors[f"{name}.bias"][which * d : (which + 1) * d]
        product = g.product(x, f"{name}.weight.{'qkv'[which]}", weight)
        return g.op("Add", product, g.weight(f"{name}.bias.{'qkv'[which]}", bias))
