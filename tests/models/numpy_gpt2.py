"""GPT-2's forward pass, written out in float64 NumPy: the reference that the decoder graphs are held to.

Radford et al. 2019: learned positions, LayerNorm before each block (and one at the end), causal attention, tanh GELU,
the output matrix is the word embedding. Slow and obvious on purpose: one row at a time, every layer at every
position, the head over the whole vocabulary. Shares no code with the package; reads the published tensor names.
`Flaws` break it on purpose, one way each, for the tests that check the tests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Flaws:
    see_the_future: bool = False
    see_padding: bool = False
    count_padding: bool = False  # positions that go on counting over padding
    drop_offset: bool = False
    offset_shift: int = 0
    prompt_shift: int = 0  # the prompt one place further on in the row
    answer_shift: int = 0
    position_shift: int = 0
    unscaled_attention: bool = False
    interleaved_rotary: bool = False  # Llama: pairs (0, 1), (2, 3) instead of two halves
    wrong_groups: bool = False  # Llama: query head h looks at key head h modulo the number of them
    no_rope_scaling: bool = False  # Llama
    gelu: bool = False  # the exact GELU, or GELU instead of SiLU
    epsilon: float | None = None
    window_shift: int = 0  # windows larger by this
    no_window: bool = False
    no_head_norm: bool = False  # queries and keys as they come
    late_head_norm: bool = False  # queries and keys normalised after they are turned
    turned_everywhere: bool = False  # SmolLM3: positions in every layer
    one_base: bool = False  # Gemma 3: layers with a window turned as those without
    norm_as_stored: bool = False  # Gemma 3: RMSNorm's weights without the 1
    no_embedding_factor: bool = False  # Gemma 3
    no_branch_norms: bool = False  # Gemma 3
    whole_rotary: bool = False  # GPT-NeoX: all of a head turned
    one_after_the_other: bool = False  # GPT-NeoX: feed-forward reads what attention gives


SOUND = Flaws()


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: Sequence[int], flaws: Flaws, window: int | None = None,
    scalar: float | None = None,
) -> np.ndarray:  # fmt: skip
    """One head: softmax(Q Kᵀ / √w) V over the visible positions up to the query's own. All (S, w).

    window: so many of them only, the last ones; scalar: a number in place of w.
    """
    size, width = q.shape
    scores = q @ k.T / (1 if flaws.unscaled_attention else math.sqrt(scalar or width))
    i, j = np.arange(size)[:, None], np.arange(size)
    future = (j > i) & (not flaws.see_the_future)
    padding = (j != i) & ~np.asarray(visible, bool) & (not flaws.see_padding)
    scores[future | padding] = -np.inf
    if window is not None and not flaws.no_window:
        at = positions(visible, flaws)
        scores[at[:, None] - at >= window + flaws.window_shift] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def positions(visible: Sequence[int], flaws: Flaws) -> np.ndarray:
    """0, 1, 2, ... over the visible tokens; a padding token has its predecessor's (nobody looks at it)."""
    counted = np.ones(len(visible), int) if flaws.count_padding else np.asarray(visible, int)
    return np.maximum(np.cumsum(counted) - 1, 0) + flaws.position_shift


def full_logits(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    ids: Sequence[int],
    visible: Sequence[int],
    soft: np.ndarray,
    flaws: Flaws = SOUND,
) -> np.ndarray:
    """One row: ids (S,), visible (S,), soft (S, D) added to the word embeddings; scores (S, V) at every position."""
    epsilon = flaws.epsilon or config["layer_norm_epsilon"]

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[name], np.float64)

    def conv1d(x: np.ndarray, name: str) -> np.ndarray:
        return x @ get(f"{name}.weight") + get(f"{name}.bias")

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return scaled * get(f"{name}.weight") + get(f"{name}.bias")

    def activation(x: np.ndarray) -> np.ndarray:
        if config["activation_function"] == "relu":
            return np.maximum(x, 0)
        if config["activation_function"] == "gelu" or flaws.gelu:
            return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    heads, wide = config["n_head"], config["n_embd"]
    x = get("transformer.wte.weight")[np.asarray(ids)] + soft
    x = x + get("transformer.wpe.weight")[positions(visible, flaws)]
    for i in range(config["n_layer"]):
        name = f"transformer.h.{i}"
        qkv = conv1d(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn")  # (S, 3 D)
        q, k, v = qkv[:, :wide], qkv[:, wide : 2 * wide], qkv[:, 2 * wide :]
        spans = [slice(h * wide // heads, (h + 1) * wide // heads) for h in range(heads)]
        context = np.concatenate([attention(q[:, s], k[:, s], v[:, s], visible, flaws) for s in spans], axis=1)
        x = x + conv1d(context, f"{name}.attn.c_proj")
        x = x + conv1d(activation(conv1d(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")), f"{name}.mlp.c_proj")
    x = norm(x, "transformer.ln_f")
    output = "transformer.wte.weight" if config.get("tie_word_embeddings", True) else "lm_head.weight"
    return x @ get(output).T


def label_logits(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    text_ids: Sequence[np.ndarray],
    answer_position: Sequence[int],
    prompt_ids: np.ndarray,
    prompt_offset: np.ndarray,
    prompt_index: Sequence[int],
    label_ids: Sequence[int],
    first: int,
    flaws: Flaws = SOUND,
    forward: Any = full_logits,
    left: bool = False,
    prompt_place: Sequence[int] | None = None,
) -> np.ndarray:
    """What the graph computes: (R, C). first: tokens before the prompt (1: a BOS, 0: none), or prompt_place (R,).

    Rows are padded to the longest with token 0, on the right, or (left) between the prompt and the rest of the text.
    """
    longest = max(map(len, text_ids))
    n = prompt_ids.shape[1]
    rows = []
    places = [first] * len(text_ids) if prompt_place is None else prompt_place
    for ids, position, p, place in zip(text_ids, answer_position, prompt_index, places, strict=True):
        where = place + flaws.prompt_shift
        head, rest = [*ids[:where], *prompt_ids[p]], list(ids[where:])
        padding = [0] * (longest - len(ids))
        row = [*head, *padding, *rest] if left else [*head, *rest, *padding]
        shown = [1] * len(rest)
        hidden = [0] * len(padding)
        visible = [1] * len(head) + (hidden + shown if left else shown + hidden)
        soft = np.zeros((len(row), prompt_offset.shape[2]))
        if not flaws.drop_offset:
            soft[where + flaws.offset_shift : where + flaws.offset_shift + n] = prompt_offset[p]
        scores = forward(config, tensors, row, visible, soft, flaws)
        at = position + n + flaws.answer_shift + (len(padding) if left else 0)
        rows.append(scores[at][list(label_ids)])
    return np.array(rows)
