"""Llama's forward pass, written out in float64 NumPy: the reference that the decoder graphs are held to.

Touvron et al. 2023 and Llama 3 (2024): RMSNorm, rotary positions in two halves, grouped key/value heads, SwiGLU, no
positions added to the embeddings. Qwen2 differs by biases on queries, keys and values. As slow and obvious as
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
    result = [config["rope_theta"] ** (-2 * i / width) for i in range(width // 2)]
    scaling = config.get("rope_scaling")
    if not scaling or flaws.no_rope_scaling:
        return np.array(result)
    if scaling["rope_type"] == "linear":
        return np.array(result) / scaling["factor"]
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


def rotated(x: np.ndarray, at: np.ndarray, waves: np.ndarray, flaws: Flaws) -> np.ndarray:
    """x (S, w): the pair (x_i, x_{i + w/2}) turned by the angle position · frequency_i."""
    half = x.shape[1] // 2
    result = np.empty_like(x)
    for i in range(half):
        a, b = (2 * i, 2 * i + 1) if flaws.interleaved_rotary else (i, i + half)
        cosine, sine = np.cos(at * waves[i]), np.sin(at * waves[i])  # (S,)
        result[:, a] = x[:, a] * cosine - x[:, b] * sine
        result[:, b] = x[:, b] * cosine + x[:, a] * sine
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
        context = []
        for h in range(heads):
            g = h % groups if flaws.wrong_groups else h * groups // heads
            own, shared = slice(h * width, (h + 1) * width), slice(g * width, (g + 1) * width)
            turned_q, turned_k = (rotated(part, at, waves, flaws) for part in (q[:, own], k[:, shared]))
            context.append(attention(turned_q, turned_k, v[:, shared], visible, flaws))
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
