"""A masked language model's forward pass, written out in float64 NumPy: the reference that the graphs are held to.

Slow and obvious on purpose: one row at a time, every layer at every position, the head over the whole vocabulary,
padding left in and masked. Shares no code with the package; reads the published tensor names. The keyword arguments of
`Flaws` break it on purpose, one way each, for the tests that check the tests.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Flaws:
    epsilon: float | None = None  # another epsilon in every LayerNorm
    tanh_gelu: bool = False
    drop_offset: bool = False
    position_shift: int = 0
    offset_on_first_token: bool = False
    see_padding: bool = False
    answer_shift: int = 0
    unscaled_attention: bool = False
    token_type: int = 0
    mirrored_shift: bool = False  # MPNet: i − j in place of j − i
    no_window: bool = False  # ModernBERT
    window_shift: int = 0  # ModernBERT: windows wider by this on either side
    one_base: bool = False  # ModernBERT: all layers turned as those that see everything


SOUND = Flaws()


def layer_norm(x: np.ndarray, weights: tuple[np.ndarray, np.ndarray], epsilon: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weights[0] + weights[1]


def activation(x: np.ndarray, kind: str, flaws: Flaws) -> np.ndarray:
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu" and not flaws.tanh_gelu:
        return x * 0.5 * (1 + _erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, visible: Sequence[int], flaws: Flaws,
    shift: np.ndarray | None = None, near: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """softmax(q kᵀ / √width) v, head by head: (S, D). shift (heads, S, S) is added, near (S, S) says who sees whom."""
    width = q.shape[1] // heads
    hidden_away = np.zeros(len(k), bool) if flaws.see_padding else ~np.asarray(visible, bool)
    context = np.empty_like(q)
    for h in range(heads):
        span = slice(h * width, (h + 1) * width)
        scores = q[:, span] @ k[:, span].T / (1 if flaws.unscaled_attention else math.sqrt(width))
        scores = scores if shift is None else scores + shift[h]
        scores[:, hidden_away] = -np.inf
        if near is not None:
            lost = ~(near & ~hidden_away).any(1, keepdims=True)  # padding that sees nothing: nobody looks at it
            scores[~(near | lost)] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        context[:, span] = scores / scores.sum(-1, keepdims=True) @ v[:, span]
    return context


def soft_prompt(size: int, offset: np.ndarray, flaws: Flaws) -> np.ndarray:
    """What is added to a row's embeddings (S, E): offset at positions 1..n, nothing elsewhere."""
    soft = np.zeros((size, offset.shape[1]))
    if not flaws.drop_offset:
        start = 0 if flaws.offset_on_first_token else 1
        soft[start : start + len(offset)] = offset
    return soft


def hidden_states(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    ids: Sequence[int],
    visible: Sequence[int],
    offset: np.ndarray,
    injection: str,
    flaws: Flaws = SOUND,
) -> np.ndarray:
    """One row (S,) whose positions 1..n hold the prompt, offset (n, D): the last layer (S, D)."""
    family = config["model_type"]
    epsilon = flaws.epsilon or config["layer_norm_eps"]

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[name], np.float64)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ get(f"{name}.weight").T + get(f"{name}.bias")

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return layer_norm(x, (get(f"{name}.weight"), get(f"{name}.bias")), epsilon)

    size = len(ids)
    first = config["pad_token_id"] + 1 if family == "roberta" else 0
    soft = soft_prompt(size, offset, flaws)
    x = get(f"{family}.embeddings.word_embeddings.weight")[np.asarray(ids)]
    if injection == "word_embedding":
        x = x + soft
    x = x + get(f"{family}.embeddings.position_embeddings.weight")[first + flaws.position_shift + np.arange(size)]
    x = x + get(f"{family}.embeddings.token_type_embeddings.weight")[flaws.token_type]
    x = norm(x, f"{family}.embeddings.LayerNorm")
    if injection == "post_layernorm":
        x = x + soft

    for i in range(config["num_hidden_layers"]):
        name = f"{family}.encoder.layer.{i}"
        q, k, v = (linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        context = attention(q, k, v, config["num_attention_heads"], visible, flaws)
        x = norm(x + linear(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        wide = activation(linear(x, f"{name}.intermediate.dense"), config["hidden_act"], flaws)
        x = norm(x + linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    return x


def full_logits(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    ids: Sequence[int],
    visible: Sequence[int],
    offset: np.ndarray,
    injection: str,
    flaws: Flaws = SOUND,
) -> np.ndarray:
    """One row (S,) whose positions 1..n hold the prompt, offset (n, D): scores (S, V) at every position."""
    x = hidden_states(config, tensors, ids, visible, offset, injection, flaws)
    family, epsilon = config["model_type"], flaws.epsilon or config["layer_norm_eps"]

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[name], np.float64)

    if family == "bert":
        dense, head_norm, bias = (
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.bias",
        )
        kind = config["hidden_act"]
    else:
        dense, head_norm, bias = "lm_head.dense", "lm_head.layer_norm", "lm_head.bias"
        kind = "gelu"
    x = activation(x @ get(f"{dense}.weight").T + get(f"{dense}.bias"), kind, flaws)
    x = layer_norm(x, (get(f"{head_norm}.weight"), get(f"{head_norm}.bias")), epsilon)
    output = f"{family}.embeddings.word_embeddings.weight"
    if not config.get("tie_word_embeddings", True):
        output = bias.replace("bias", "decoder.weight")
    return x @ get(output).T + get(bias)


def label_logits(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    text_ids: Sequence[np.ndarray],
    answer_position: Sequence[int],
    prompt_ids: np.ndarray,
    prompt_offset: np.ndarray,
    prompt_index: Sequence[int],
    label_ids: Sequence[int],
    injection: str = "post_layernorm",
    flaws: Flaws = SOUND,
    forward: Callable[..., np.ndarray] = full_logits,
) -> np.ndarray:
    """What the graph computes: (R, C). Rows are padded to the longest, as a naive caller would.

    forward: the family's forward pass, with full_logits' arguments.
    """
    longest = max(map(len, text_ids))
    n = prompt_ids.shape[1]
    rows = []
    for ids, position, p in zip(text_ids, answer_position, prompt_index, strict=True):
        padding = longest - len(ids)
        row = [ids[0], *prompt_ids[p], *ids[1:], *[config["pad_token_id"]] * padding]
        visible = [1] * (len(ids) + n) + [0] * padding
        scores = forward(config, tensors, row, visible, prompt_offset[p], injection, flaws)
        rows.append(scores[position + n + flaws.answer_shift][list(label_ids)])
    return np.array(rows)
