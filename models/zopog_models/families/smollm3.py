"""SmolLM3 (Bakouch et al., 2025, huggingface.co/blog/smollm3): Llama, every fourth layer without positions.

Those layers (Yang et al., 2025, arXiv:2501.18795) read keys as they come; the mask alone says what stands before.
"""

from types import MappingProxyType
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.decoder import layers_of
from zopog_models.families.family import Config
from zopog_models.families.llama import LlamaFamily
from zopog_models.families.windows import windows_of
from zopog_models.files.quoting import quoted


class SmolLM3Family(LlamaFamily):
    """HuggingFaceTB/SmolLM3-3B and its like."""

    name = "smollm3"
    title = "SmolLM3"
    defaults = MappingProxyType(
        {
            "max_position_embeddings": 32768,
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
            "rope_theta": 2000000.0,
        }
    )

    def own(self, config: Config) -> dict[str, Any]:
        layers, listed = layers_of(config, "num_hidden_layers"), config.values.get("no_rope_layers")
        if listed is None:
            interval = config.size("no_rope_layer_interval", 4)
            listed = [int((i + 1) % interval != 0) for i in range(layers)]
        if not isinstance(listed, list) or len(listed) < layers or not all(turned in (0, 1) for turned in listed):
            raise CheckpointError(
                f"{config.path}: no_rope_layers must hold 1 (positions) or 0 (none) for each of {layers} layers, got "
                f"{quoted(listed)}"
            )
        unturned = tuple(i for i in range(layers) if not listed[i])
        windowed = config.switch("use_sliding_window") and config.values.get("sliding_window") is not None
        kinds = ["sliding_attention" if i in unturned else "full_attention" for i in range(layers)]
        size = config.size("sliding_window") if windowed else None
        return {"unturned": unturned, "windows": windows_of(config, layers, size, kinds)}


SMOLLM3 = SmolLM3Family()
