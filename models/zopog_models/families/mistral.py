"""Mistral (Jiang et al., 2023, arXiv:2310.06825): Llama without biases, in whose layers a position sees a window.

`sliding_window` positions, its own and those before it; null is all of them, as in later models.
"""

from types import MappingProxyType
from typing import Any

from zopog_models.families.decoder import layers_of
from zopog_models.families.family import Config
from zopog_models.families.llama import LlamaFamily
from zopog_models.families.windows import same_window


class MistralFamily(LlamaFamily):
    """mistralai/Mistral-7B-v0.1 and its like."""

    name = "mistral"
    title = "Mistral"
    defaults = MappingProxyType({"max_position_embeddings": 131072, "num_key_value_heads": 8})

    def own(self, config: Config) -> dict[str, Any]:
        config.choice("layer_types", (None,), None)
        return {
            "query_bias": False,
            "output_bias": False,
            "feed_forward_bias": False,
            "windows": same_window(config, layers_of(config, "num_hidden_layers"), 4096),
        }


MISTRAL = MistralFamily()
