"""Gemma 3's forward pass (text), written out in float64 NumPy: the reference that its graph is held to.

Gemma 3 technical report, 2025: word embeddings times √D; layers of two kinds, with a window and a rotary base of their
own or without a window; RMSNorm times 1 + weight, before and after attention and feed-forward, and of each head's
queries and keys; queries with keys divided by √query_pre_attn_scalar; GELU's tanh form in the gate. Causal attention
and row layout are `numpy_gpt2`'s, positions `numpy_llama`'s; shares no code with the package.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.models import numpy_gpt2
from tests.models.numpy_gpt2 import SOUND, Flaws, attention, positions
from tests.models.numpy_llama import frequencies, rotated


def has_window(config: Mapping[str, Any], i: int) -> bool:
    if "layer_types" in config:
        return config["layer_types"][i] == "sliding_attention"
    return (i + 1) % config["sliding_window_pattern"] != 0


def waves_of(config: Mapping[str, Any], i: int, flaws: Flaws) -> np.ndarray:
    """The local base in layers with a window, the global one, rescaled, in the others."""
    if not has_window(config, i) or flaws.one_base:
        return frequencies(config, flaws)
    return frequencies({"head_dim": config["head_dim"], "rope_theta": config["rope_local_base_freq"]}, flaws)


def gelu(x: np.ndarray, flaws: Flaws) -> np.ndarray:
    if flaws.gelu:
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


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
    heads, groups, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[name], np.float64)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        y = x @ get(f"{name}.weight").T
        return y + get(f"{name}.bias") if f"{name}.bias" in tensors else y

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        weight = get(f"{name}.weight") + (0 if flaws.norm_as_stored else 1)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight

    def branch_norm(x: np.ndarray, name: str) -> np.ndarray:
        return x if flaws.no_branch_norms else norm(x, name)

    at = positions(visible, flaws)
    x = get("model.embed_tokens.weight")[np.asarray(ids)] + soft
    x = x * (1 if flaws.no_embedding_factor else math.sqrt(config["hidden_size"]))
    for i in range(config["num_hidden_layers"]):
        name, waves = f"model.layers.{i}", waves_of(config, i, flaws)

        def placed(x: np.ndarray, part: str, name: str = name, waves: np.ndarray = waves) -> np.ndarray:
            """One head of queries or keys, normalised and turned."""
            if flaws.late_head_norm:
                return norm(rotated(x, at, waves, flaws), f"{name}.self_attn.{part}_norm")
            return rotated(x if flaws.no_head_norm else norm(x, f"{name}.self_attn.{part}_norm"), at, waves, flaws)

        y = norm(x, f"{name}.input_layernorm")
        q, k, v = (linear(y, f"{name}.self_attn.{part}_proj") for part in "qkv")
        context = []
        for h in range(heads):
            g = h % groups if flaws.wrong_groups else h * groups // heads
            own, shared = slice(h * width, (h + 1) * width), slice(g * width, (g + 1) * width)
            window = config["sliding_window"] if has_window(config, i) else None
            context.append(
                attention(placed(q[:, own], "q"), placed(k[:, shared], "k"), v[:, shared], visible, flaws, window,
                          config["query_pre_attn_scalar"])
            )  # fmt: skip
        y = linear(np.concatenate(context, axis=1), f"{name}.self_attn.o_proj")
        x = x + branch_norm(y, f"{name}.post_attention_layernorm")
        y = norm(x, f"{name}.pre_feedforward_layernorm")
        gated = gelu(linear(y, f"{name}.mlp.gate_proj"), flaws) * linear(y, f"{name}.mlp.up_proj")
        x = x + branch_norm(linear(gated, f"{name}.mlp.down_proj"), f"{name}.post_feedforward_layernorm")
    x = norm(x, "model.norm")
    output = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return x @ get(output).T


def label_logits(*args: Any, **kwargs: Any) -> np.ndarray:
    """As numpy_gpt2.label_logits."""
    return numpy_gpt2.label_logits(*args, forward=full_logits, **kwargs)
