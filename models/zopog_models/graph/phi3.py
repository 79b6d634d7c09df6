"""Phi-3's layers: Llama's, whose queries, keys and values are rows of one matrix, and so are gate and up."""

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.graph.builder import GraphBuilder
from zopog_models.graph.llama import LlamaLayers


class Phi3Layers(LlamaLayers):
    """Weights read by the names of `families.phi3`."""

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        super().__init__(graph, checkpoint)
        a = self.architecture
        q, kv, f = a.heads * a.head_width, a.key_heads * a.head_width, a.intermediate_size
        # Llama's name -> the matrix, and which of its rows
        self._parts = {
            "q_proj": ("qkv_proj", 0, q),
            "k_proj": ("qkv_proj", q, q + kv),
            "v_proj": ("qkv_proj", q + kv, q + 2 * kv),
            "gate_proj": ("gate_up_proj", 0, f),
            "up_proj": ("gate_up_proj", f, 2 * f),
        }

    def linear(self, x: str, name: str, *, outliers: bool = False) -> str:
        block, _, part = name.rpartition(".")
        if part not in self._parts:
            return super().linear(x, name, outliers=outliers)
        whole, start, end = self._parts[part]
        weight = f"{block}.{whole}.weight"
        return self.graph.product(x, f"{weight}.{part}", self.tensors[weight][start:end], transposed=True)
