"""DistilBERT, ELECTRA's generator and ALBERT, each written out in float64 NumPy as its paper and its code describe it.

In the spirit of numpy_bert: slow, obvious, by published tensor names, and sharing no code with the package. One
function a family, with the arguments of `numpy_bert.full_logits`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.models.numpy_bert import Flaws, activation, attention, full_logits, layer_norm, soft_prompt

Tensors = Mapping[str, np.ndarray]


class Parts:
    """Linear maps and normalisations by name."""

    def __init__(self, tensors: Tensors, epsilon: float) -> None:
        self.tensors, self.epsilon = tensors, epsilon

    def get(self, name: str) -> np.ndarray:
        return np.asarray(self.tensors[name], np.float64)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return layer_norm(x, (self.get(f"{name}.weight"), self.get(f"{name}.bias")), self.epsilon)


def distilbert(
    config: Mapping[str, Any], tensors: Tensors, ids: Sequence[int], visible: Sequence[int], offset: np.ndarray,
    injection: str, flaws: Flaws,
) -> np.ndarray:  # fmt: skip
    """No types, no pooler, ε = 1e-12 throughout."""
    m, size, soft = Parts(tensors, flaws.epsilon or 1e-12), len(ids), soft_prompt(len(ids), offset, flaws)
    x = m.get("distilbert.embeddings.word_embeddings.weight")[np.asarray(ids)]
    if injection == "word_embedding":
        x = x + soft
    x = x + m.get("distilbert.embeddings.position_embeddings.weight")[flaws.position_shift + np.arange(size)]
    x = m.norm(x, "distilbert.embeddings.LayerNorm")
    if injection == "post_layernorm":
        x = x + soft
    for i in range(config["n_layers"]):
        name = f"distilbert.transformer.layer.{i}"
        q, k, v = (m.linear(x, f"{name}.attention.{part}") for part in ("q_lin", "k_lin", "v_lin"))
        context = attention(q, k, v, config["n_heads"], visible, flaws)
        x = m.norm(m.linear(context, f"{name}.attention.out_lin") + x, f"{name}.sa_layer_norm")
        wide = activation(m.linear(x, f"{name}.ffn.lin1"), config["activation"], flaws)
        x = m.norm(m.linear(wide, f"{name}.ffn.lin2") + x, f"{name}.output_layer_norm")
    x = m.norm(activation(m.linear(x, "vocab_transform"), config["activation"], flaws), "vocab_layer_norm")
    output = "distilbert.embeddings.word_embeddings" if config.get("tie_word_embeddings", True) else "vocab_projector"
    return x @ m.get(f"{output}.weight").T + m.get("vocab_projector.bias")


def electra(
    config: Mapping[str, Any], tensors: Tensors, ids: Sequence[int], visible: Sequence[int], offset: np.ndarray,
    injection: str, flaws: Flaws,
) -> np.ndarray:  # fmt: skip
    """Embeddings of width E, a map to D, BERT's layers, a head back to E whose activation is always gelu."""
    m, size = Parts(tensors, flaws.epsilon or config["layer_norm_eps"]), len(ids)
    x = _bert_embeddings(m, "electra", ids, offset, injection, flaws)
    if config["embedding_size"] != config["hidden_size"]:
        x = m.linear(x, "electra.embeddings_project")
    assert x.shape == (size, config["hidden_size"])
    for i in range(config["num_hidden_layers"]):
        name = f"electra.encoder.layer.{i}"
        q, k, v = (m.linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        context = attention(q, k, v, config["num_attention_heads"], visible, flaws)
        x = m.norm(m.linear(context, f"{name}.attention.output.dense") + x, f"{name}.attention.output.LayerNorm")
        wide = activation(m.linear(x, f"{name}.intermediate.dense"), config["hidden_act"], flaws)
        x = m.norm(m.linear(wide, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
    x = activation(m.linear(x, "generator_predictions.dense"), "gelu", flaws)
    x = m.norm(x, "generator_predictions.LayerNorm")
    return x @ m.get("electra.embeddings.word_embeddings.weight").T + m.get("generator_lm_head.bias")


def albert(
    config: Mapping[str, Any], tensors: Tensors, ids: Sequence[int], visible: Sequence[int], offset: np.ndarray,
    injection: str, flaws: Flaws,
) -> np.ndarray:  # fmt: skip
    """Factorised embeddings; group by group, the same weights again and again."""
    m = Parts(tensors, flaws.epsilon or config["layer_norm_eps"])
    x = _bert_embeddings(m, "albert", ids, offset, injection, flaws)
    x = m.linear(x, "albert.encoder.embedding_hidden_mapping_in")
    layers, groups = config["num_hidden_layers"], config["num_hidden_groups"]
    for i in range(layers):
        for inner in range(config["inner_group_num"]):
            name = f"albert.encoder.albert_layer_groups.{int(i / (layers / groups))}.albert_layers.{inner}"
            q, k, v = (m.linear(x, f"{name}.attention.{part}") for part in ("query", "key", "value"))
            context = attention(q, k, v, config["num_attention_heads"], visible, flaws)
            x = m.norm(x + m.linear(context, f"{name}.attention.dense"), f"{name}.attention.LayerNorm")
            wide = activation(m.linear(x, f"{name}.ffn"), config["hidden_act"], flaws)
            x = m.norm(m.linear(wide, f"{name}.ffn_output") + x, f"{name}.full_layer_layer_norm")
    x = m.norm(activation(m.linear(x, "predictions.dense"), config["hidden_act"], flaws), "predictions.LayerNorm")
    return x @ m.get("albert.embeddings.word_embeddings.weight").T + m.get("predictions.bias")


def _bert_embeddings(
    m: Parts, family: str, ids: Sequence[int], offset: np.ndarray, injection: str, flaws: Flaws
) -> np.ndarray:
    """word + position + type, normalised, of width E: (S, E)."""
    soft = soft_prompt(len(ids), offset, flaws)
    x = m.get(f"{family}.embeddings.word_embeddings.weight")[np.asarray(ids)]
    if injection == "word_embedding":
        x = x + soft
    places = flaws.position_shift + np.arange(len(ids))
    x = x + m.get(f"{family}.embeddings.position_embeddings.weight")[places]
    x = x + m.get(f"{family}.embeddings.token_type_embeddings.weight")[flaws.token_type]
    x = m.norm(x, f"{family}.embeddings.LayerNorm")
    return x + soft if injection == "post_layernorm" else x


def as_roberta(config: Mapping[str, Any], *args: Any) -> np.ndarray:
    """XLM-R and CamemBERT: RoBERTa, whose names they kept."""
    return full_logits({**config, "model_type": "roberta"}, *args)
