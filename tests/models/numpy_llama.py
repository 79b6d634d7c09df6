"""Llama's forward pass, written out in float64 NumPy: the reference that the decoder graphs are held to.

Touvron et al. 2023 and Llama 3 (2024): RMSNorm, rotary positions in two halves, grouped key/value heads, SwiGLU, no
positions added to the embeddings. Its relatives differ by biases (Qwen2), by RMSNorm of each head's queries and keys
(Qwen3), by windows (Mistral; Qwen where it says so), by layers without positions (SmolLM3). As slow and obvious as
`numpy_gpt2`, whose causal attention and row layout it uses; shares no code with the package.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.models import numpy_gpt2
from tests.models.numpy_gpt2 import SOUND, Flaws, attention, positions


def frequencies(config: Mapping[str, Any], flaws: Flaws = SOUND) -> np.ndarray:
    """θ^(−2i/w), and Llama 3's rescaling: long waves slowed by `factor`, short ones kept, a ramp between."""
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    width = int(width * config.get("partial_rotary_factor", 1))
    theta = config["rope_theta"] or config["rope_parameters"]["rope_theta"]
    result = [theta ** (-2 * i / width) for i in range(width // 2)]
    scaling = config.get("rope_scaling")
    if not scaling or flaws.no_rope_scaling:
        return np.array(result)
    if scaling["rope_type"] == "dynamic":  # of rows that are not longer than the context
        return np.array(result)
    if scaling["rope_type"] == "longrope":
        return np.array(result) / np.array(scaling["short_factor"])
    if scaling["rope_type"] == "linear":
        return np.array(result) / scaling["factor"]
    if scaling["rope_type"] == "yarn":
        return yarn(np.array(result), config["rope_theta"], scaling)
    context = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    for i, frequency in enumerate(result):
        wavelength = 2 * math.pi / frequency
        if wavelength > context / low:
            result[i] = frequency / scaling["factor"]
        elif wavelength >= context / high:
            smooth = (context / wavelength - low) / (high - low)
            result[i] = (1 - smooth) * frequency / scaling["factor"] + smooth * frequency
    return np.array(result)


def yarn(waves: np.ndarray, theta: float, scaling: Mapping[str, Any]) -> np.ndarray:
    """Peng et al. 2023: between the pair that turns 32 times in the context and the one that turns once, a ramp in i."""
    half, context = len(waves), scaling["original_max_position_embeddings"]
    r = context / (2 * math.pi)
    low = max(math.floor(half * math.log(r / 32) / math.log(theta)), 0)
    high = min(math.ceil(half * math.log(r) / math.log(theta)), 2 * half - 1)
    result = waves.copy()
    for i in range(half):
        slowed = min(max((i - low) / (high - low), 0), 1)
        result[i] = waves[i] * (1 - slowed) + waves[i] / scaling["factor"] * slowed
    return result


def strength(config: Mapping[str, Any], flaws: Flaws = SOUND) -> float:
    """By which YaRN and LongRoPE multiply cosines and sines."""
    scaling = config.get("rope_scaling") or {"rope_type": "default"}
    if scaling["rope_type"] == "longrope" and not flaws.no_rope_scaling:
        context = config["original_max_position_embeddings"]
        return math.sqrt(1 + math.log(config["max_position_embeddings"] / context) / math.log(context))
    return 0.1 * math.log(scaling["factor"]) + 1 if scaling["rope_type"] == "yarn" and not flaws.no_rope_scaling else 1


def window_of(config: Mapping[str, Any], i: int) -> int | None:
    """How many positions layer i sees."""
    if config["model_type"] in ("mistral", "phi3"):
        return config["sliding_window"]
    if not config.get("use_sliding_window"):
        return None
    if "layer_types" in config:
        return config["sliding_window"] if config["layer_types"][i] == "sliding_attention" else None
    if config["model_type"] == "smollm3":
        return None if is_turned(config, i) else config["sliding_window"]
    return config["sliding_window"] if i >= config["max_window_layers"] else None


def is_turned(config: Mapping[str, Any], i: int) -> bool:
    """Whether layer i has positions."""
    if config["model_type"] != "smollm3":
        return True
    return bool(config["no_rope_layers"][i]) if "no_rope_layers" in config else (i + 1) % 4 != 0


def rotated(x: np.ndarray, at: np.ndarray, waves: np.ndarray, flaws: Flaws) -> np.ndarray:
    """x (S, w): the pair (x_i, x_{i + v/2}) turned by position · frequency_i, for v/2 frequencies; the rest as it is."""
    half = len(waves)
    result = x.copy()
    for i in range(half):
        a, b = (2 * i, 2 * i + 1) if flaws.interleaved_rotary else (i, i + half)
        cosine, sine = np.cos(at * waves[i]), np.sin(at * waves[i])  # (S,)
        result[:, a] = x[:, a] * cosine - x[:, b] * sine
        result[:, b] = x[:, b] * cosine + x[:, a] * sine
    return result


def taken_apart(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Phi-3's matrices under Llama's names."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["hidden_size"] // heads
    result = dict(tensors)
    for name, array in tensors.items():
        if name.endswith("qkv_proj.weight"):
            parts = np.split(array, [heads * width, (heads + groups) * width])
            result |= {name.replace("qkv", part): rows for part, rows in zip("qkv", parts, strict=True)}
        elif name.endswith("gate_up_proj.weight"):
            gate, up = np.split(array, 2)
            result |= {name.replace("gate_up", "gate"): gate, name.replace("gate_up", "up"): up}
    return result


def full_logits(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    ids: Sequence[int],
    visible: Sequence[int],
    soft: np.ndarray,
    flaws: Flaws = SOUND,
) -> np.ndarray:
    """One row: ids (S,), visible (S,), soft (S, D) added to the word embeddings; scores (S, V) at every position."""
    tensors = taken_apart(config, tensors) if config["model_type"] == "phi3" else tensors
    epsilon = flaws.epsilon or config["rms_norm_eps"]

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[name], np.float64)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        y = x @ get(f"{name}.weight").T
        return y + get(f"{name}.bias") if f"{name}.bias" in tensors else y

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * get(f"{name}.weight")

    def silu(x: np.ndarray) -> np.ndarray:
        if flaws.gelu:
            return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return x / (1 + np.exp(-x))

    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or config["hidden_size"] // heads
    waves, at = frequencies(config, flaws), positions(visible, flaws)
    x = get("model.embed_tokens.weight")[np.asarray(ids)] + soft
    for i in range(config["num_hidden_layers"]):
        name = f"model.layers.{i}"
        y = norm(x, f"{name}.input_layernorm")
        q, k, v = (linear(y, f"{name}.self_attn.{part}_proj") for part in "qkv")

        def placed(x: np.ndarray, part: str, i: int = i, name: str = name) -> np.ndarray:
            """One head of queries or keys, normalised and turned."""
            by_head = config["model_type"] == "qwen3" and not flaws.no_head_norm
            if by_head and not flaws.late_head_norm:
                x = norm(x, f"{name}.self_attn.{part}_norm")
            if is_turned(config, i) or flaws.turned_everywhere:
                x = rotated(x, at, waves, flaws)
                x[:, : 2 * len(waves)] *= strength(config, flaws)
            return norm(x, f"{name}.self_attn.{part}_norm") if by_head and flaws.late_head_norm else x

        context = []
        for h in range(heads):
            g = h % groups if flaws.wrong_groups else h * groups // heads
            own, shared = slice(h * width, (h + 1) * width), slice(g * width, (g + 1) * width)
            placed_q, placed_k = placed(q[:, own], "q"), placed(k[:, shared], "k")
            context.append(attention(placed_q, placed_k, v[:, shared], visible, flaws, window_of(config, i)))
        x = x + linear(np.concatenate(context, axis=1), f"{name}.self_attn.o_proj")
        y = norm(x, f"{name}.post_attention_layernorm")
        gated = silu(linear(y, f"{name}.mlp.gate_proj")) * linear(y, f"{name}.mlp.up_proj")
        x = x + linear(gated, f"{name}.mlp.down_proj")
    x = norm(x, "model.norm")
    output = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return x @ get(output).T


def label_logits(*args: Any, **kwargs: Any) -> np.ndarray:
    """As numpy_gpt2.label_logits."""
    return numpy_gpt2.label_logits(*args, forward=full_logits, **kwargs)
