"""OPT's forward pass, written out in float64 NumPy: the reference that its graph is held to.

Zhang et al. 2022: GPT-2's plan with relu and matrices published as (out, in); positions count from row 2 of the table.
Causal attention and row layout are `numpy_gpt2`'s; shares no code with the package.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.models import numpy_gpt2
from tests.models.numpy_gpt2 import SOUND, Flaws, attention, positions


def full_logits(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    ids: Sequence[int],
    visible: Sequence[int],
    soft: np.ndarray,
    flaws: Flaws = SOUND,
) -> np.ndarray:
    """One row: ids (S,), visible (S,), soft (S, D) added to the word embeddings; scores (S, V) at every position."""
    epsilon, heads = flaws.epsilon or 1e-5, config["num_attention_heads"]
    width = config["hidden_size"] // heads

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[f"model.decoder.{name}"], np.float64)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        y = x @ get(f"{name}.weight").T
        return y + get(f"{name}.bias") if config.get("enable_bias", True) else y

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return scaled * get(f"{name}.weight") + get(f"{name}.bias")

    def activation(x: np.ndarray) -> np.ndarray:
        if config["activation_function"] == "gelu" or flaws.gelu:
            return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return np.maximum(x, 0)

    x = get("embed_tokens.weight")[np.asarray(ids)] + soft
    x = x + get("embed_positions.weight")[2 + positions(visible, flaws)]
    for i in range(config["num_hidden_layers"]):
        name = f"layers.{i}"
        y = norm(x, f"{name}.self_attn_layer_norm")
        q, k, v = (linear(y, f"{name}.self_attn.{part}_proj") for part in "qkv")
        spans = [slice(h * width, (h + 1) * width) for h in range(heads)]
        context = np.concatenate([attention(q[:, s], k[:, s], v[:, s], visible, flaws) for s in spans], axis=1)
        x = x + linear(context, f"{name}.self_attn.out_proj")
        x = x + linear(activation(linear(norm(x, f"{name}.final_layer_norm"), f"{name}.fc1")), f"{name}.fc2")
    x = norm(x, "final_layer_norm")
    if config.get("tie_word_embeddings", True):
        return x @ get("embed_tokens.weight").T
    return x @ np.asarray(tensors["lm_head.weight"], np.float64).T


def label_logits(*args: Any, **kwargs: Any) -> np.ndarray:
    """As numpy_gpt2.label_logits."""
    return numpy_gpt2.label_logits(*args, forward=full_logits, **kwargs)
