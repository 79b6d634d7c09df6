"""GPT-NeoX's forward pass, written out in float64 NumPy: the reference that its graph is held to.

Black et al. 2022: attention and feed-forward side by side, part of each head turned, queries, keys and values head by
head in one matrix. Causal attention and row layout are `numpy_gpt2`'s; shares no code with the package.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.models import numpy_gpt2
from tests.models.numpy_gpt2 import SOUND, Flaws, attention, positions
from tests.models.numpy_llama import frequencies, rotated


def full_logits(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    ids: Sequence[int],
    visible: Sequence[int],
    soft: np.ndarray,
    flaws: Flaws = SOUND,
) -> np.ndarray:
    """One row: ids (S,), visible (S,), soft (S, D) added to the word embeddings; scores (S, V) at every position."""
    epsilon, heads = flaws.epsilon or config["layer_norm_eps"], config["num_attention_heads"]
    width, size = config["hidden_size"] // heads, len(ids)

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[name], np.float64)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        y = x @ get(f"{name}.weight").T
        return y + get(f"{name}.bias") if f"{name}.bias" in tensors else y

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return scaled * get(f"{name}.weight") + get(f"{name}.bias")

    def activation(x: np.ndarray) -> np.ndarray:
        if (config["hidden_act"] == "gelu") != flaws.gelu:
            return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    turned = width if flaws.whole_rotary else int(width * config["rotary_pct"])
    rotary = {"head_dim": turned, "rope_theta": config["rotary_emb_base"], "rope_scaling": config.get("rope_scaling")}
    waves, at = frequencies(rotary, flaws), positions(visible, flaws)
    x = get("gpt_neox.embed_in.weight")[np.asarray(ids)] + soft
    for i in range(config["num_hidden_layers"]):
        name = f"gpt_neox.layers.{i}"
        qkv = linear(norm(x, f"{name}.input_layernorm"), f"{name}.attention.query_key_value")
        context = []
        for q, k, v in qkv.reshape(size, heads, 3, width).transpose(1, 2, 0, 3):
            placed_q, placed_k = rotated(q, at, waves, flaws), rotated(k, at, waves, flaws)
            context.append(attention(placed_q, placed_k, v, visible, flaws))
        y = linear(np.concatenate(context, axis=1), f"{name}.attention.dense")
        side_by_side = config.get("use_parallel_residual", True) and not flaws.one_after_the_other
        read = norm(x if side_by_side else x + y, f"{name}.post_attention_layernorm")
        x = x + y + linear(activation(linear(read, f"{name}.mlp.dense_h_to_4h")), f"{name}.mlp.dense_4h_to_h")
    x = norm(x, "gpt_neox.final_layer_norm")
    output = "gpt_neox.embed_in.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return x @ get(output).T


def label_logits(*args: Any, **kwargs: Any) -> np.ndarray:
    """As numpy_gpt2.label_logits."""
    return numpy_gpt2.label_logits(*args, forward=full_logits, **kwargs)
