"""MPNet and ModernBERT, written out in float64 NumPy as their papers and their code describe them.

In the spirit of numpy_encoders, with the arguments of `numpy_bert.full_logits`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.models import numpy_llama
from tests.models.numpy_bert import Flaws, activation, attention, layer_norm, soft_prompt
from tests.models.numpy_encoders import Parts, Tensors
from tests.models.numpy_gpt2 import SOUND


def bucket(distance: int) -> int:
    """Song et al. 2020, as T5: distances below 8 one by one, then 8 more buckets up to 128, both directions apart."""
    far = abs(distance)
    if far >= 8:
        steps = 0  # the largest with far / 8 ≥ 2^(steps / 2), in whole numbers
        while far**2 >= 64 * 2 ** (steps + 1):
            steps += 1
        far = min(8 + steps, 15)
    return far + (16 if distance > 0 else 0)


def mpnet(
    config: Mapping[str, Any], tensors: Tensors, ids: Sequence[int], visible: Sequence[int], offset: np.ndarray,
    injection: str, flaws: Flaws,
) -> np.ndarray:  # fmt: skip
    """RoBERTa without token types; scores shifted by the bucket of the distance."""
    m, size, soft = (
        Parts(tensors, flaws.epsilon or config["layer_norm_eps"]),
        len(ids),
        soft_prompt(len(ids), offset, flaws),
    )
    x = m.get("mpnet.embeddings.word_embeddings.weight")[np.asarray(ids)]
    if injection == "word_embedding":
        x = x + soft
    first = config["pad_token_id"] + 1 + flaws.position_shift
    x = m.norm(
        x + m.get("mpnet.embeddings.position_embeddings.weight")[first + np.arange(size)], "mpnet.embeddings.LayerNorm"
    )
    if injection == "post_layernorm":
        x = x + soft
    table = m.get("mpnet.encoder.relative_attention_bias.weight")  # (32, heads)
    sign = -1 if flaws.mirrored_shift else 1
    shift = np.array([[table[bucket(sign * (j - i))] for j in range(size)] for i in range(size)]).transpose(2, 0, 1)
    for i in range(config["num_hidden_layers"]):
        name = f"mpnet.encoder.layer.{i}"
        q, k, v = (m.linear(x, f"{name}.attention.attn.{part}") for part in "qkv")
        context = attention(q, k, v, config["num_attention_heads"], visible, flaws, shift=shift)
        x = m.norm(m.linear(context, f"{name}.attention.attn.o") + x, f"{name}.attention.LayerNorm")
        wide = activation(m.linear(x, f"{name}.intermediate.dense"), config["hidden_act"], flaws)
        x = m.norm(m.linear(wide, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
    x = m.norm(activation(m.linear(x, "lm_head.dense"), "gelu", flaws), "lm_head.layer_norm")
    tied = config.get("tie_word_embeddings", True)
    output = "mpnet.embeddings.word_embeddings" if tied else "lm_head.decoder"
    return x @ m.get(f"{output}.weight").T + m.get("lm_head.bias")


def modernbert(
    config: Mapping[str, Any], tensors: Tensors, ids: Sequence[int], visible: Sequence[int], offset: np.ndarray,
    injection: str, flaws: Flaws,
) -> np.ndarray:  # fmt: skip
    """Pre-normalised, gated, turned; every third layer sees everything, the others local_attention / 2 to either side."""
    epsilon, heads, size = flaws.epsilon or config["norm_eps"], config["num_attention_heads"], len(ids)
    width, at = config["hidden_size"] // heads, np.arange(size) + flaws.position_shift

    def get(name: str) -> np.ndarray:
        return np.asarray(tensors[name], np.float64)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        y = x @ get(f"{name}.weight").T
        return y + get(f"{name}.bias") if f"{name}.bias" in tensors else y

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        beta = get(f"{name}.bias") if f"{name}.bias" in tensors else np.zeros(x.shape[-1])
        return layer_norm(x, (get(f"{name}.weight"), beta), epsilon)

    def turned(x: np.ndarray, theta: float) -> np.ndarray:
        waves = np.array([theta ** (-2 * i / width) for i in range(width // 2)])
        heads_of = [x[:, h * width : (h + 1) * width] for h in range(heads)]
        return np.concatenate([numpy_llama.rotated(head, at, waves, SOUND) for head in heads_of], axis=1)

    soft = soft_prompt(size, offset, flaws)
    x = get("model.embeddings.tok_embeddings.weight")[np.asarray(ids)]
    x = norm(x + soft if injection == "word_embedding" else x, "model.embeddings.norm")
    x = x + soft if injection == "post_layernorm" else x
    for i in range(config["num_hidden_layers"]):
        name, everywhere = f"model.layers.{i}", i % config.get("global_attn_every_n_layers", 3) == 0
        if "layer_types" in config:
            everywhere = config["layer_types"][i] == "full_attention"
        y = x if i == 0 else norm(x, f"{name}.attn_norm")
        q, k, v = np.split(linear(y, f"{name}.attn.Wqkv"), 3, axis=1)
        base = config["global_rope_theta"] if everywhere or flaws.one_base else config["local_rope_theta"]
        reach = math.inf if everywhere or flaws.no_window else config["local_attention"] // 2 + flaws.window_shift
        near = np.abs(at[:, None] - at) <= reach
        context = attention(turned(q, base), turned(k, base), v, heads, visible, flaws, near=near)
        x = x + linear(context, f"{name}.attn.Wo")
        entered, gate = np.split(linear(norm(x, f"{name}.mlp_norm"), f"{name}.mlp.Wi"), 2, axis=1)
        x = x + linear(activation(entered, config["hidden_activation"], flaws) * gate, f"{name}.mlp.Wo")
    x = norm(x, "model.final_norm")
    x = norm(activation(linear(x, "head.dense"), config.get("classifier_activation", "gelu"), flaws), "head.norm")
    output = "model.embeddings.tok_embeddings" if config.get("tie_word_embeddings", True) else "decoder"
    scores = x @ get(f"{output}.weight").T
    return scores + get("decoder.bias") if "decoder.bias" in tensors else scores
