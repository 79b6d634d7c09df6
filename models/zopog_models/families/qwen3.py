"""Qwen3 (technical report, 2025, arXiv:2505.09388): Llama, with queries and keys normalised head by head.

RMSNorm of each head of queries and keys before it is turned by its position, a head width of its own (`head_dim`, not
D / heads), no bias, no BOS token.
"""

from types import MappingProxyType
from typing import Any

from zopog_models.families.family import Config
from zopog_models.families.llama import LlamaFamily, windows_of_last_layers


class Qwen3Family(LlamaFamily):
    """Qwen/Qwen3-0.6B and its like."""

    name = "qwen3"
    title = "Qwen3"
    defaults = MappingProxyType({"max_position_embeddings": 32768, "head_dim": 128})

    def own(self, config: Config) -> dict[str, Any]:
        return {"query_norm": True, "feed_forward_bias": False, "windows": windows_of_last_layers(config)}


QWEN3 = Qwen3Family()
