"""Phi-3 (Abdin et al., 2024, arXiv:2404.14219), Phi-3.5 and Phi-4-mini: Llama, in fewer matrices.

Queries, keys and values lie in one matrix, gate and what it gates in another. Long-context models divide each rotary
frequency by a number of its own (LongRoPE, Ding et al., 2024, arXiv:2402.13753), by others in rows of more than
`original_max_position_embeddings`; those rows are not read, so the short ones' numbers are the ones.
"""

from types import MappingProxyType
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.decoder import DecoderArchitecture, layers_of
from zopog_models.families.family import Config
from zopog_models.families.llama import LlamaFamily
from zopog_models.families.rotary import Rotary, read_rotary
from zopog_models.families.windows import same_window


class Phi3Family(LlamaFamily):
    """microsoft/Phi-3-mini-4k-instruct, microsoft/Phi-4-mini-instruct and their like."""

    name = "phi3"
    title = "Phi-3, Phi-4-mini"
    defaults = MappingProxyType(
        {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
    )

    def own(self, config: Config) -> dict[str, Any]:
        layers, longest = layers_of(config, "num_hidden_layers"), config.size("max_position_embeddings")
        rotary = self.rotary(config)
        if rotary.kind == "longrope":
            longest = min(longest, rotary.original_max_positions)
        return {
            "query_bias": False,
            "output_bias": False,
            "feed_forward_bias": False,
            "position_rows": longest,
            "windows": same_window(config, layers, None),
        }

    def rotary(self, config: Config) -> Rotary:
        rotary = read_rotary(config, width=self.head_width(config))
        if rotary.kind not in ("default", "longrope"):
            raise CheckpointError(
                f"{config.path}: rotary positions of type {rotary.kind} are not supported for phi3; supported: "
                "default, longrope"
            )
        return rotary

    def shapes(self, architecture: Any) -> dict[str, tuple[int, ...]]:
        a: DecoderArchitecture = architecture
        shapes = {
            name: shape
            for name, shape in super().shapes(a).items()
            if name.split(".")[-2] not in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
        }
        for i in range(a.layers):
            layer = f"model.layers.{i}"
            rows = (a.heads + 2 * a.key_heads) * a.head_width
            shapes[f"{layer}.self_attn.qkv_proj.weight"] = (rows, a.hidden_size)
            shapes[f"{layer}.mlp.gate_up_proj.weight"] = (2 * a.intermediate_size, a.hidden_size)
        return shapes


PHI3 = Phi3Family()
