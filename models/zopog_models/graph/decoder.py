"""A causal language model as a black box: texts, prompts and offsets in, scores of the label words out.

The row that the decoder sees is  [first token, where the family has one] [n prompt tokens] [rest of the text],  the
soft prompt A z is added to the prompt's word embeddings, before any positions, and the answer is what the model would
say next: the scores at the last token of the text.

A position sees what stands before it. So what the layers compute at the first token and the prompt depends on the
prompt alone: `build_prefix` computes its keys and values once, and `build(..., reuse=True)` reads any number of rows
with them. What differs between families stands in `gpt2` and `llama`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.graph.builder import GraphBuilder
from zopog_models.graph.decoder_layers import DecoderLayers
from zopog_models.graph.gpt2 import GPT2Layers
from zopog_models.graph.gpt_neox import GPTNeoXLayers
from zopog_models.graph.llama import LlamaLayers
from zopog_models.graph.opt import OPTLayers
from zopog_models.graph.phi3 import Phi3Layers

# family -> its layers
LAYERS: dict[str, type[DecoderLayers]] = {
    "gpt2": GPT2Layers,
    "gpt_neox": GPTNeoXLayers,
    "opt": OPTLayers,
    "phi3": Phi3Layers,
}  # the others are relatives of Llama


def layers_of(graph: GraphBuilder, checkpoint: Checkpoint) -> DecoderLayers:
    """The layers of the checkpoint's family."""
    return LAYERS.get(checkpoint.architecture.family, LlamaLayers)(graph, checkpoint)


def check_injection(injection: str) -> None:
    """Raises ValueError for another place of the soft prompt than the word embeddings."""
    if injection != "word_embedding":
        raise ValueError(
            f"a decoder's soft prompt is added to its word embeddings: injection must be 'word_embedding', "
            f"got {injection!r}"
        )


def build(
    checkpoint: Checkpoint,
    injection: str = "word_embedding",
    *,
    first: int,
    reuse: bool = False,
    graph: GraphBuilder | None = None,
) -> tuple[bytes, dict[str, np.ndarray]]:
    """The ONNX model (without weights) and its weights, for a decoder.

    first: tokens of a text row that stand before the prompt, 1 (a BOS token) or 0. Inputs: text_ids (R, L) and
    attention_mask (R, L), int64, rows padded anywhere after their first token; answer_position (R,), int64, the last
    token's place in the text row before the prompt is inserted; prompt_ids (P, n), int64; prompt_offset (P, n, D),
    float32; prompt_index (R,), int64: row r is read with prompt prompt_index[r]; label_ids (C,), int64. With reuse
    there is one more: prefix (layers, 2, P, m, key_heads · w), float32, keys and values of m positions that stand
    before the row and that all of it sees (m = 0: a row from its beginning). Output: logits (R, C), float32.
    graph: an empty builder, for weights of another precision, or in a file.
    Raises ValueError for an injection other than "word_embedding".
    """
    check_injection(injection)
    g = GraphBuilder() if graph is None else graph
    layers = layers_of(g, checkpoint)
    a = layers.architecture
    text_ids = g.input("text_ids", np.int64, ("R", "L"))
    attention_mask = g.input("attention_mask", np.int64, ("R", "L"))
    answer_position = g.input("answer_position", np.int64, ("R",))
    prompt_ids = g.input("prompt_ids", np.int64, ("P", "n"))
    prompt_offset = g.input("prompt_offset", np.float32, ("P", "n", a.hidden_size))
    prompt_index = g.input("prompt_index", np.int64, ("R",))
    label_ids = g.input("label_ids", np.int64, ("C",))
    prefix = None
    if reuse:
        prefix = g.input("prefix", np.float32, (a.layers, 2, "P", "m", a.key_heads * a.head_width))
        prefix = g.from_float32(prefix)
    n = g.op("Shape", prompt_ids, start=1, end=2)  # (1,)
    m = g.op("Shape", prefix, start=3, end=4) if prefix else g.integers(0)  # (1,)

    prompt = _prompt(layers, prompt_ids, g.from_float32(prompt_offset))  # (P, n, D), each prompt once
    x = _insert(g, g.op("Gather", layers.words(), text_ids), g.op("Gather", prompt, prompt_index), first)  # (R, S, D)
    prompt_mask = g.op("Expand", g.integers(1), g.op("Concat", g.op("Shape", text_ids, end=1), n, axis=0))  # (R, n)
    visible = _insert(g, attention_mask, prompt_mask, first)  # (R, S), S = n + L
    total = g.op("Add", m, g.op("Shape", visible, start=1, end=2))  # (1,), T = m + S
    positions = _positions(g, visible, m)  # (R, S)
    masks = _masks(layers, visible, positions, m)  # (R, S, T) each
    x = layers.start(x, positions, total)

    # Of an input and a shape ONNX Runtime makes the sum on the host, and a GPU would wait.
    at = g.op("Add", g.op("Unsqueeze", answer_position, g.integers(1)), n)  # (R, 1), the answer's place in the row
    x = _through_layers(layers, x, positions, masks, at, prompt_index, prefix)  # (R, 1, D)
    hidden = layers.end(g.op("Squeeze", x, g.integers(1)))  # (R, D)
    chosen = g.op("Gather", layers.outputs(), label_ids)  # (C, D): the vocabulary-wide head is never computed
    logits = g.to_float32(g.op("MatMul", hidden, g.op("Transpose", chosen, perm=(1, 0))))
    g.output(logits, "logits", np.float32, ("R", "C"))
    metadata = {"injection": injection, "architecture": json.dumps(asdict(a), sort_keys=True)}
    return g.model_bytes(f"{a.family}_causal_language_model", metadata), g.initializers


def _through_layers(
    layers: DecoderLayers,
    x: str,
    positions: str,
    masks: dict[int, str],
    at: str,
    prompt_index: str,
    prefix: str | None,
) -> str:
    """x (R, S, D) through all layers, the last one at the answer's place alone: (R, 1, D)."""
    g, a = layers.graph, layers.architecture
    heads_axis = g.integers(1)
    for i in range(a.layers):
        y = layers.before_attention(x, i)
        k, v = layers.keys_values(y, positions, i)  # (R, S, W)
        if prefix:
            k, v = (_after_prefix(g, prefix, i, which, prompt_index, value) for which, value in enumerate((k, v)))
        mask = masks[a.window(i)]
        queried, seen = positions, g.op("Unsqueeze", mask, heads_axis)  # (R, 1, S, T)
        if i == a.layers - 1:
            x, y, queried, seen = (_only(g, value, at) for value in (x, y, queried, mask))  # (R, D), ..., (R,), (R, T)
            x, y, queried = (g.op("Unsqueeze", value, g.integers(1)) for value in (x, y, queried))  # Q = 1
            seen = g.op("Unsqueeze", seen, g.integers(1, 2))  # (R, 1, 1, T)
        x = layers.layer(i, x, layers.queries(y, queried, i), k, v, seen)
    return x


def build_prefix(checkpoint: Checkpoint, weights: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, np.ndarray]]:
    """Keys and values of prompts, once each: the ONNX model and its weights, which are those of `build`, not copies.

    Inputs: first_ids (P, f), int64, the tokens before the prompt (f is 1 for a BOS token, or 0); prompt_ids (P, n);
    prompt_offset (P, n, D). Output: prefix (layers, 2, P, f + n, key_heads · w), float32, as `build` reads it.
    """
    g = GraphBuilder(weights)
    layers = layers_of(g, checkpoint)
    a = layers.architecture
    first_ids = g.input("first_ids", np.int64, ("P", "f"))
    prompt_ids = g.input("prompt_ids", np.int64, ("P", "n"))
    prompt_offset = g.input("prompt_offset", np.float32, ("P", "n", a.hidden_size))
    prompt = _prompt(layers, prompt_ids, prompt_offset)
    x = g.op("Concat", g.op("Gather", layers.words(), first_ids), prompt, axis=1)  # (P, m, D)
    shape = g.op("Shape", x, start=0, end=2)  # (P, m)
    visible = g.op("Expand", g.integers(1), shape)
    positions = _positions(g, visible, g.integers(0))
    masks = _masks(layers, visible, positions, g.integers(0))
    seen = {window: g.op("Unsqueeze", mask, g.integers(1)) for window, mask in masks.items()}  # (P, 1, m, m) each
    x = layers.start(x, positions, g.op("Shape", visible, start=1, end=2))
    found = []
    for i in range(a.layers):
        y = layers.before_attention(x, i)
        k, v = layers.keys_values(y, positions, i)
        found += [g.op("Unsqueeze", value, g.integers(0)) for value in (k, v)]  # (1, P, m, W)
        if i < a.layers - 1:  # of the last layer nothing else is ever looked at
            x = layers.layer(i, x, layers.queries(y, positions, i), k, v, seen[a.window(i)])
    width = a.key_heads * a.head_width
    shape = g.op("Concat", g.integers(a.layers, 2), shape, g.integers(width), axis=0)
    prefix = g.op("Reshape", g.op("Concat", *found, axis=0), shape, allowzero=1)
    g.output(prefix, "prefix", np.float32, (a.layers, 2, "P", "m", width))
    return g.model_bytes(f"{a.family}_prefix", {}), g.initializers


def _prompt(layers: DecoderLayers, prompt_ids: str, prompt_offset: str) -> str:
    g = layers.graph
    return g.op("Add", g.op("Gather", layers.words(), prompt_ids), prompt_offset)


def _insert(g: GraphBuilder, text: str, prompt: str, first: int) -> str:
    """[first tokens] [prompt] [rest of the text] along axis 1."""
    if first == 0:
        return g.op("Concat", prompt, text, axis=1)
    head = g.op("Slice", text, g.integers(0), g.integers(first), g.integers(1))
    tail = g.op("Slice", text, g.integers(first), g.integers(2**62), g.integers(1))
    return g.op("Concat", head, prompt, tail, axis=1)


def _positions(g: GraphBuilder, visible: str, m: str) -> str:
    """m, m + 1, ... over the visible tokens of (R, S). Padding gets some position too; nobody looks at it."""
    counted = g.op("Sub", g.op("CumSum", visible, g.scalar(1)), g.scalar(1))
    return g.op("Add", g.op("Max", counted, g.scalar(0)), m)


def _causal_mask(g: GraphBuilder, visible: str, m: str) -> str:
    """Who looks at whom, (R, S, m + S): at the prefix, at visible tokens up to one's own, and always at oneself.

    Oneself, so that even padding looks at something: a softmax over nothing would be no number, and 0 times that too.
    """
    size = g.op("Squeeze", g.op("Shape", visible, start=1, end=2))
    places = g.op("Range", g.scalar(0), size, g.scalar(1))  # (S,)
    column, row = g.op("Unsqueeze", places, g.integers(0)), g.op("Unsqueeze", places, g.integers(1))
    shown = g.op("Unsqueeze", g.op("Greater", visible, g.scalar(0)), g.integers(1))  # (R, 1, S)
    seen = g.op("And", g.op("Less", column, row), shown)  # (R, S, S)
    seen = g.op("Or", seen, g.op("Equal", column, row))
    shape = g.op("Concat", g.op("Shape", seen, start=0, end=2), m, axis=0)
    prefix = g.op("Greater", g.op("Expand", g.integers(1), shape), g.scalar(0))  # (R, S, m), all true
    return g.op("Concat", prefix, seen, axis=2)


def _masks(layers: DecoderLayers, visible: str, positions: str, m: str) -> dict[int, str]:
    """Who looks at whom, (R, S, m + S), in layers of each window there is: within it, counted in positions."""
    g, a = layers.graph, layers.architecture
    whole = _causal_mask(g, visible, m)
    masks = {0: whole}
    if not any(map(a.window, range(a.layers))):
        return masks
    rows = g.op("Shape", visible, start=0, end=1)
    before = g.op("Range", g.scalar(0), g.op("Squeeze", m), g.scalar(1))  # (m,), positions of the prefix
    before = g.op("Expand", g.op("Unsqueeze", before, g.integers(0)), g.op("Concat", rows, m, axis=0))  # (R, m)
    looked_at = g.op("Concat", before, positions, axis=1)  # (R, m + S)
    back = g.op("Sub", g.op("Unsqueeze", positions, g.integers(2)), g.op("Unsqueeze", looked_at, g.integers(1)))
    for window in {a.window(i) for i in range(a.layers)} - {0}:
        masks[window] = g.op("And", whole, g.op("Less", back, g.scalar(window)))
    return masks


def _after_prefix(g: GraphBuilder, prefix: str, i: int, which: int, prompt_index: str, own: str) -> str:
    """[the prefix's keys (which = 0) or values (1) of layer i] [the row's own]: (R, m + S, W)."""
    layer = g.op("Gather", g.op("Gather", prefix, g.scalar(i), axis=0), g.scalar(which), axis=0)  # (P, m, W)
    return g.op("Concat", g.op("Gather", layer, prompt_index, axis=0), own, axis=1)


def _only(g: GraphBuilder, value: str, at: str) -> str:
    """value (R, S, ...) at one place of each row, at (R, 1): (R, ...)."""
    return g.op("GatherND", value, at, batch_dims=1)
