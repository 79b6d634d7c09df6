"""Llama (Touvron et al. 2023; Llama 3, 2024) and Qwen2: RMSNorm, rotary positions, grouped heads, SwiGLU."""

import re
from collections.abc import Mapping
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.decoder import DecoderArchitecture, DecoderFamily, Rotary, layers_of
from zopog_models.families.family import Config
from zopog_models.files.quoting import quoted

_MOST_POSITIONS = 2**24  # 16 million; the longest published context is 10 million


class LlamaFamily(DecoderFamily):
    """Names as save_pretrained writes them."""

    name = "llama"
    title = "Llama"

    def read(self, config: Config) -> DecoderArchitecture:
        return self._read(
            config, query_bias=_switch(config, "attention_bias"), output_bias=_switch(config, "attention_bias")
        )

    def _read(self, config: Config, *, query_bias: bool, output_bias: bool) -> DecoderArchitecture:
        hidden_size, heads = config.size("hidden_size"), config.size("num_attention_heads")
        key_heads = heads if config.values.get("num_key_value_heads") is None else config.size("num_key_value_heads")
        if heads % key_heads:
            raise CheckpointError(
                f"{config.path}: num_attention_heads {heads} is not a multiple of num_key_value_heads {key_heads}"
            )
        if config.values.get("head_dim") is not None:
            head_width = config.size("head_dim")
        elif hidden_size % heads:
            raise CheckpointError(
                f"{config.path}: hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}"
            )
        else:
            head_width = hidden_size // heads
        if head_width % 2:
            raise CheckpointError(f"{config.path}: rotary positions need an even head width, got {head_width}")
        return DecoderArchitecture(
            family=self.name,
            vocab_size=config.size("vocab_size"),
            hidden_size=hidden_size,
            embedding_size=hidden_size,
            layers=layers_of(config, "num_hidden_layers"),
            heads=heads,
            intermediate_size=config.size("intermediate_size"),
            tied=_switch(config, "tie_word_embeddings"),
            position_rows=_positions(config),
            key_heads=key_heads,
            head_width=head_width,
            norm_eps=config.fraction("rms_norm_eps", 1e-6),
            activation=config.choice("hidden_act", ("silu", "swish"), "silu"),
            query_bias=query_bias,
            output_bias=output_bias,
            feed_forward_bias=_switch(config, "mlp_bias"),
            rotary=_rotary(config),
        )

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
            shapes[f"{layer}.post_attention_layernorm.weight"] = (d,)
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

    def read(self, config: Config) -> DecoderArchitecture:
        config.choice("use_sliding_window", (False,), False)
        return self._read(config, query_bias=True, output_bias=False)


def _positions(config: Config) -> int:
    """No tensor's shape bears the number out, and cos and sin are made for so many: no memory on its word alone."""
    found = config.size("max_position_embeddings")
    if found > _MOST_POSITIONS:
        raise CheckpointError(
            f"{config.path}: max_position_embeddings is {quoted(found)}; at most {_MOST_POSITIONS} are supported"
        )
    return found


def _switch(config: Config, name: str) -> bool:
    return bool(config.choice(name, (True, False, None), False))


def _rotary(config: Config) -> Rotary:
    """θ and the rescaling, from `rope_theta` and `rope_scaling`, or from `rope_parameters` (transformers 5)."""
    newer = config.values.get("rope_parameters")
    values = config.values.get("rope_scaling") if newer is None else newer
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{config.path}: rope_scaling must be an object, got {quoted(values)}")
    kind = values.get("rope_type", values.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise CheckpointError(
            f"{config.path}: rotary positions of type {quoted(kind)} are not supported; "
            "supported: default, linear, llama3"
        )

    def number(name: str, default: Any = None) -> float:
        value = values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            shown = quoted(value)
            raise CheckpointError(f"{config.path}: {name} of the rotary positions must be positive, got {shown}")
        return float(value)

    theta = number("rope_theta", config.values.get("rope_theta", 10000.0))
    if kind == "default":
        return Rotary(theta=theta)
    factor = number("factor")
    if kind == "linear":
        return Rotary(theta=theta, kind=kind, factor=factor)
    low, high = number("low_freq_factor"), number("high_freq_factor")
    if low >= high:
        raise CheckpointError(f"{config.path}: low_freq_factor {low} must be below high_freq_factor {high}")
    positions = int(number("original_max_position_embeddings"))
    return Rotary(
        theta=theta,
        kind=kind,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_positions=positions,
    )


LLAMA = LlamaFamily()
QWEN2 = Qwen2Family()
