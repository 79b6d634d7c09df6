"""A masked language model as a black box: texts, prompts and offsets in, scores of the label words out.

The row that the encoder sees is  [first token] [n prompt tokens] [rest of the text],  and the soft prompt A z is added
to the n prompt positions:

    e = LayerNorm(word + position + type)     and  e[prompt] += offset      (injection = "post_layernorm")
    e = LayerNorm(word + offset[prompt] + position + type)                  (injection = "word_embedding")

A sentence-embedding model has no head: all positions go through all layers, a pooling makes one vector of them, and its
cosine with the labels' embeddings is the score.

Where embeddings are narrower than layers, the offset has the embeddings' width E. Then the encoder's layers, the last
of them only at the answer position, then the masked-token head, only for the label words. Dropout is off: the model is
frozen. What the families of `zopog_models.families` differ in are names, numbers, and whether there are type
embeddings and a map E -> D.
"""

import json
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.families.encoder import EmbeddingNames, EncoderArchitecture, EncoderFamily, HeadNames
from zopog_models.graph import onnx_format
from zopog_models.graph.builder import GraphBuilder
from zopog_models.graph.layers import Layers
from zopog_models.graph.modernbert import ModernBertLayers
from zopog_models.graph.mpnet import MPNetLayers

LAYERS: dict[str, type[Layers]] = {"mpnet": MPNetLayers, "modernbert": ModernBertLayers}  # others have BERT's
INJECTIONS = ("post_layernorm", "word_embedding")


def build(
    checkpoint: Checkpoint,
    injection: str = "post_layernorm",
    *,
    thinned: bool = False,
    graph: GraphBuilder | None = None,
) -> tuple[bytes, dict[str, np.ndarray]]:
    """The ONNX model (without weights) and its weights, for a masked language model.

    Inputs: text_ids (R, L) and attention_mask (R, L), int64, rows padded on the right; answer_position (R,), int64,
    the mask token's place in the text row before the prompt is inserted, at least 1; prompt_ids (P, n), int64;
    prompt_offset (P, n, E), float32; prompt_index (R,), int64: row r is read with prompt prompt_index[r]; label_ids
    (C,), int64. Output: logits (R, C), float32. n = 0 is the model without a prompt.
    Of a sentence-embedding model, label_embeddings (C, D), float32, stand in place of answer_position and label_ids;
    logits = ê · label_embeddings, and the unit vectors ê (R, D) are a second output, embedding.
    thinned=True adds the input unit_mask (layers, F), float32, by which each layer's feed-forward hidden units are
    multiplied (Clip-Tuning); without it the graph has no trace of one. graph: an empty builder, for weights that are
    shared, of another precision, or in a file. Raises ValueError for an unknown injection.
    """
    check_injection(injection)
    family, a = checkpoint.family, checkpoint.architecture
    assert isinstance(family, EncoderFamily)
    assert isinstance(a, EncoderArchitecture)
    g = GraphBuilder() if graph is None else graph
    layers = LAYERS.get(a.family, Layers)(g, checkpoint)
    embeddings, head = family.embedding_names(a), family.head_names(a)
    text_ids = g.input("text_ids", np.int64, ("R", "L"))
    attention_mask = g.input("attention_mask", np.int64, ("R", "L"))
    prompt_ids = g.input("prompt_ids", np.int64, ("P", "n"))
    prompt_offset = g.input("prompt_offset", np.float32, ("P", "n", a.embedding_size))
    prompt_index = g.input("prompt_index", np.int64, ("R",))
    offset = g.from_float32(prompt_offset)
    unit_mask: list[str | None] = [None] * a.layers
    if thinned:
        masks = g.input("unit_mask", np.float32, (a.layers, a.intermediate_size))
        unit_mask = [g.op("Gather", g.from_float32(masks), g.scalar(i)) for i in range(a.layers)]  # (F,) each
    n = g.op("Shape", prompt_ids, start=1, end=2)  # (1,)
    length = g.op("Shape", text_ids, start=1, end=2)  # (1,)
    row = _Row(text_ids, prompt_ids, offset, prompt_index, n, length, g.integers(1))
    words = layers.table(embeddings.words)  # (V, E)
    x = _embed(layers, embeddings, injection, words, row)
    visible, to_answer, to_all = _masks(g, attention_mask, row)
    total = g.op("Add", n, length)
    everywhere = layers.sight(to_all, None, total)
    last = a.layers - 1
    for i in range(last):
        x = layers.encoder_layer(x, x, everywhere, i, unit_mask[i])
    if a.pooling:
        labels = g.input("label_embeddings", np.float32, ("C", a.hidden_size))
        x = layers.end(layers.encoder_layer(x, x, everywhere, last, unit_mask[-1]))
        logits = _pooled_logits(g, x, visible, a, labels)
    else:
        answer_position = g.input("answer_position", np.int64, ("R",))
        label_ids = g.input("label_ids", np.int64, ("C",))
        # Behind the prompt. Of an input and a shape ONNX Runtime makes the sum on the host, and a GPU would wait.
        at = g.op("Add", g.op("Unsqueeze", answer_position, g.integers(1)), n)  # (R, 1)
        answer = g.op("Unsqueeze", g.op("GatherND", x, at, batch_dims=1), g.integers(1))  # (R, 1, D)
        answer = layers.encoder_layer(answer, x, layers.sight(to_answer, at, total), last, unit_mask[-1])
        hidden = layers.end(g.op("Squeeze", answer, g.integers(1)))  # (R, D)
        logits = g.to_float32(_label_logits(layers, hidden, words, label_ids, head))
    g.output(logits, "logits", np.float32, ("R", "C"))
    metadata = {"injection": injection, "architecture": json.dumps(asdict(a), sort_keys=True)}
    kind = "sentence_embedding" if a.pooling else "masked_language_model"
    return g.model_bytes(f"{a.family}_{kind}", metadata), g.initializers


def check_injection(injection: str) -> None:
    """Raises ValueError for an unknown place of the soft prompt."""
    if injection not in INJECTIONS:
        raise ValueError(f"injection must be one of {INJECTIONS}, got {injection!r}")


class _Row(NamedTuple):
    """The inputs that stand in a row, and its lengths, by the names of their values."""

    text_ids: str  # (R, L)
    prompt_ids: str  # (P, n)
    offset: str  # (P, n, E)
    prompt_index: str  # (R,)
    n: str  # (1,), the prompt's length
    length: str  # (1,), L
    one: str


def _embed(layers: Layers, embeddings: EmbeddingNames, injection: str, words: str, row: _Row) -> str:
    """What enters the first layer, (R, S, D) with S = n + L. Prompts are embedded once each, not once a row."""
    g, (text_ids, prompt_ids, offset, prompt_index, n, length, one) = layers.graph, row
    text, prompt = g.op("Gather", words, text_ids), g.op("Gather", words, prompt_ids)  # (R, L, E), (P, n, E)
    if injection == "word_embedding":
        prompt = g.op("Add", prompt, offset)
    if embeddings.positions is not None:
        places = _places(layers, embeddings, embeddings.positions)  # (S, E)
        after_prompt = g.op("Add", n, one)
        prompt = g.op("Add", prompt, g.op("Slice", places, one, after_prompt))
        before = g.op("Slice", places, g.integers(0), one)
        behind = g.op("Slice", places, after_prompt, g.op("Add", n, length))
        text = g.op("Add", text, g.op("Concat", before, behind, axis=0))
    text, prompt = (layers.layer_norm(x, embeddings.norm) for x in (text, prompt))
    if injection == "post_layernorm":
        prompt = g.op("Add", prompt, offset)
    x = _insert(g, text, g.op("Gather", prompt, prompt_index))  # (R, S, E), S = n + L
    return x if embeddings.projection is None else layers.linear(x, embeddings.projection)  # (R, S, D)


def _masks(g: GraphBuilder, attention_mask: str, row: _Row) -> tuple[str, str, str]:
    """Which positions may be looked at, the prompt always, padding never: (R, S), (R, 1, 1, S) and (R, 1, S, S)."""
    text_ids, n, length, one = row.text_ids, row.n, row.length, row.one
    prompt_mask = g.op("Expand", one, g.op("Concat", g.op("Shape", text_ids, end=1), n, axis=0))  # (R, n)
    visible = g.op("Greater", _insert(g, attention_mask, prompt_mask), g.scalar(0))  # (R, S)
    to_answer = g.op("Unsqueeze", visible, g.integers(1, 2))  # (R, 1, 1, S)
    # ONNX Runtime's CPU Attention does not broadcast the query axis of a mask: expand it.
    total = g.op("Add", n, length)
    to_all = g.op("Expand", to_answer, g.op("Concat", one, one, total, one, axis=0))  # (R, 1, S, S)
    return visible, to_answer, to_all


def _pooled_logits(g: GraphBuilder, x: str, visible: str, a: EncoderArchitecture, labels: str) -> str:
    """Products (R, C) of the rows' unit vectors, an output of their own, with the labels' embeddings (C, D)."""
    embedding = _pool(g, g.to_float32(x), visible, a.pooling)  # (R, D)
    g.output(embedding, "embedding", np.float32, ("R", a.hidden_size))
    return g.op("MatMul", embedding, g.op("Transpose", labels, perm=(1, 0)))


def _places(layers: Layers, names: EmbeddingNames, positions: str) -> str:
    """position + type embedding of every place in a row: row 0 is the first token's place, every token is of type 0."""
    places = layers.tensors[positions][layers.architecture.first_position :].astype(np.float32)
    if names.types is not None:
        # Summed here, once, in float32, as the model would on every run.
        places = places + layers.tensors[names.types][0].astype(np.float32)
    return layers.graph.weight("places", places)


def _insert(g: GraphBuilder, text: str, prompt: str) -> str:
    """[first token] [prompt] [rest of the text] along axis 1."""
    first, rest = g.integers(1), g.integers(2**62)
    head = g.op("Slice", text, g.integers(0), first, g.integers(1))
    tail = g.op("Slice", text, first, rest, g.integers(1))
    return g.op("Concat", head, prompt, tail, axis=1)


def _pool(g: GraphBuilder, x: str, visible: str, pooling: str) -> str:
    """One unit vector a row: the mean over what is visible, or the first token. (R, S, D), (R, S) -> (R, D)."""
    if pooling == "cls":
        pooled = g.op("Gather", x, g.scalar(0), axis=1)  # (R, D)
    else:
        # The mean's denominator goes with the normalisation that follows.
        seen = g.op("Cast", g.op("Unsqueeze", visible, g.integers(1)), to=onnx_format.FLOAT)  # (R, 1, S)
        pooled = g.op("Squeeze", g.op("MatMul", seen, x), g.integers(1))  # (R, D)
    # From operators that every ONNX Runtime has; a vector of zeros stays one.
    length = g.op("ReduceL2", pooled, g.integers(-1), keepdims=1)  # (R, 1)
    smallest = g.op("Cast", g.doubles("smallest_length", np.array(1e-30)), to=onnx_format.FLOAT)
    return g.op("Div", pooled, g.op("Max", length, smallest))


def _label_logits(layers: Layers, hidden: str, words: str, label_ids: str, names: HeadNames) -> str:
    """The masked-token head's scores, computed for the label words only: (R, D), (C,) -> (R, C)."""
    g, a = layers.graph, layers.architecture
    hidden = layers.layer_norm(layers.activation(layers.linear(hidden, names.dense), a.head_activation), names.norm)
    outputs = g.op("Gather", words if a.tied else layers.table(names.output), label_ids)  # (C, E)
    scores = g.op("MatMul", hidden, g.op("Transpose", outputs, perm=(1, 0)))
    if names.bias not in layers.tensors:
        return scores
    return g.op("Add", scores, g.op("Gather", layers.table(names.bias), label_ids))
