"""Gemma 3, text (technical report, 2025, arXiv:2503.19786): five layers with a window to each that sees everything.

Layers with a window have rotary positions with a base of their own. RMSNorm's weights are stored less 1; what attention
and feed-forward give is normalised once more before it is added; so is each head of queries and keys. What enters the
first layer is √D times the word embeddings, the soft prompt included. Queries with keys are divided by
√query_pre_attn_scalar.
"""

import math
from types import MappingProxyType
from typing import Any

from zopog_models.families.decoder import layers_of
from zopog_models.families.family import Config
from zopog_models.families.llama import LlamaFamily
from zopog_models.families.rotary import Rotary, read_rotary
from zopog_models.families.windows import windows_of


class Gemma3Family(LlamaFamily):
    """google/gemma-3-1b-it, google/gemma-3-270m and their like."""

    name = "gemma3_text"
    title = "Gemma 3 (text)"
    defaults = MappingProxyType(
        {
            "max_position_embeddings": 131072,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": 4096,
            "tie_word_embeddings": True,
            "rope_theta": 1000000.0,
        }
    )

    def own(self, config: Config) -> dict[str, Any]:
        config.choice("use_bidirectional_attention", (False, None), False)
        config.choice("attn_logit_softcapping", (None,), None)
        config.choice("final_logit_softcapping", (None,), None)
        layers, every = layers_of(config, "num_hidden_layers"), config.size("sliding_window_pattern", 6)
        kinds = ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers)]
        windows = windows_of(config, layers, config.size("sliding_window"), kinds)
        return {
            "feed_forward_bias": False,
            "windows": windows,
            "local_rotary": read_rotary(config, "rope_local_base_freq", layers="sliding_attention"),
            "query_norm": True,
            "norm_offset": 1.0,
            "branch_norms": True,
            "embedding_factor": math.sqrt(config.size("hidden_size")),
            "attention_scale": config.size("query_pre_attn_scalar", 256) ** -0.5,
        }

    def rotary(self, config: Config) -> Rotary:
        return read_rotary(config, layers="full_attention")

    def activation(self, config: Config) -> str:
        config.choice("hidden_activation", ("gelu_pytorch_tanh",), "gelu_pytorch_tanh")
        return "gelu_pytorch_tanh"


GEMMA3 = Gemma3Family()
