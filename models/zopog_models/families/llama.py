"""Llama (Touvron et al. 2023; Llama 3, 2024) and Qwen2: RMSNorm, rotary positions, grouped heads, SwiGLU."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.decoder import DecoderArchitecture, DecoderFamily, layers_of
from zopog_models.families.family import Config
from zopog_models.families.rotary import Rotary, read_rotary
from zopog_models.families.windows import windows_of
from zopog_models.files.quoting import quoted


class LlamaFamily(DecoderFamily):
    """Names as save_pretrained writes them. What a relative has of its own stands in `own`."""

    name = "llama"
    title = "Llama"
    defaults: Mapping[str, Any] = MappingProxyType({"max_position_embeddings": 2048})  # what transformers reads

    def read(self, config: Config) -> DecoderArchitecture:
        """The numbers of config.json; what it does not name is as in `defaults`."""
        config = replace(config, values={**self.defaults, **config.values})
        return replace(self.numbers(config), **self.own(config))

    def own(self, config: Config) -> dict[str, Any]:
        """What is the relative's own: entries of DecoderArchitecture."""
        return {}

    def numbers(self, config: Config) -> DecoderArchitecture:
        """What all relatives have."""
        hidden_size, heads = config.size("hidden_size"), config.size("num_attention_heads")
        key_heads = heads if config.values.get("num_key_value_heads") is None else config.size("num_key_value_heads")
        if heads % key_heads:
            raise CheckpointError(
                f"{config.path}: num_attention_heads {heads} is not a multiple of num_key_value_heads {key_heads}"
            )
        return DecoderArchitecture(
            family=self.name,
            vocab_size=config.size("vocab_size"),
            hidden_size=hidden_size,
            embedding_size=hidden_size,
            layers=layers_of(config, "num_hidden_layers"),
            heads=heads,
            intermediate_size=config.size("intermediate_size"),
            tied=config.switch("tie_word_embeddings"),
            position_rows=config.size("max_position_embeddings"),
            key_heads=key_heads,
            head_width=self.head_width(config),
            norm_eps=config.fraction("rms_norm_eps", 1e-6),
            activation=self.activation(config),
            query_bias=config.switch("attention_bias"),
            output_bias=config.switch("attention_bias"),
            feed_forward_bias=config.switch("mlp_bias"),
            rotary=self.rotary(config),
        )

    def head_width(self, config: Config) -> int:
        """w: of its own, or D / heads."""
        hidden_size, heads = config.size("hidden_size"), config.size("num_attention_heads")
        if config.values.get("head_dim") is None and hidden_size % heads:
            raise CheckpointError(
                f"{config.path}: hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}"
            )
        width = hidden_size // heads if config.values.get("head_dim") is None else config.size("head_dim")
        config.even("head_dim", width)
        return width

    def rotary(self, config: Config) -> Rotary:
        """Positions."""
        return read_rotary(config)

    def activation(self, config: Config) -> str:
        """The gate's activation."""
        config.choice("hidden_act", ("silu", "swish"), "silu")
        return "silu"

    def word_embeddings(self, architecture: Any) -> str:
        return "model.embed_tokens.weight"

    def shapes(self, architecture: Any) -> dict[str, tuple[int, ...]]:
        a: DecoderArchitecture = architecture
        d, f, q, kv = a.hidden_size, a.intermediate_size, a.heads * a.head_width, a.key_heads * a.head_width
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (a.vocab_size, d)}

        def linear(name: str, out: int, inside: int, bias: bool) -> None:
            shapes[f"{name}.weight"] = (out, inside)
            if bias:
                shapes[f"{name}.bias"] = (out,)

        for i in range(a.layers):
            layer = f"model.layers.{i}"
            shapes[f"{layer}.input_layernorm.weight"] = (d,)
            linear(f"{layer}.self_attn.q_proj", q, d, a.query_bias)
            linear(f"{layer}.self_attn.k_proj", kv, d, a.query_bias)
            linear(f"{layer}.self_attn.v_proj", kv, d, a.query_bias)
            linear(f"{layer}.self_attn.o_proj", d, q, a.output_bias)
            if a.query_norm:
                shapes[f"{layer}.self_attn.q_norm.weight"] = (a.head_width,)
                shapes[f"{layer}.self_attn.k_norm.weight"] = (a.head_width,)
            shapes[f"{layer}.post_attention_layernorm.weight"] = (d,)
            if a.branch_norms:
                shapes[f"{layer}.pre_feedforward_layernorm.weight"] = (d,)
                shapes[f"{layer}.post_feedforward_layernorm.weight"] = (d,)
            linear(f"{layer}.mlp.gate_proj", f, d, a.feed_forward_bias)
            linear(f"{layer}.mlp.up_proj", f, d, a.feed_forward_bias)
            linear(f"{layer}.mlp.down_proj", d, f, a.feed_forward_bias)
        shapes["model.norm.weight"] = (d,)
        if not a.tied:
            shapes["lm_head.weight"] = (a.vocab_size, d)
        return shapes

    def canonical(self, stored: str, architecture: Any) -> str | None:
        if stored == "lm_head.weight" and architecture.tied:  # then the output matrix is the embedding
            return None
        # Rotary frequencies, stored as buffers by old versions of transformers: they follow from config.json.
        return None if re.fullmatch(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq", stored) else stored


class Qwen2Family(LlamaFamily):
    """Llama with biases on queries, keys and values (Qwen2 technical report, 2024)."""

    name = "qwen2"
    title = "Qwen2"
    defaults = MappingProxyType({"max_position_embeddings": 32768})

    def own(self, config: Config) -> dict[str, Any]:
        return {
            "query_bias": True,
            "output_bias": False,
            "feed_forward_bias": False,
            "windows": windows_of_last_layers(config),
        }


def windows_of_last_layers(config: Config) -> tuple[int, ...]:
    """Windows as Qwen has them: where they are switched on, of layers from `max_window_layers` on."""
    layers, sliding = layers_of(config, "num_hidden_layers"), config.switch("use_sliding_window")
    size = (
        config.size("sliding_window", 4096) if sliding and config.values.get("sliding_window", 0) is not None else None
    )
    start = config.values.get("max_window_layers", 28)
    if type(start) is not int:
        raise CheckpointError(f"{config.path}: max_window_layers must be a whole number, got {quoted(start)}")
    return windows_of(
        config, layers, size, ["full_attention" if i < start else "sliding_attention" for i in range(layers)]
    )


LLAMA = LlamaFamily()
QWEN2 = Qwen2Family()
