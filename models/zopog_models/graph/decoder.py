"""A causal language model as a black box: texts, prompts and offsets in, scores of the label words out.

The row that the decoder sees is  [first token, where the family has one] [n prompt tokens] [rest of the text],  the
soft prompt A z is added to the prompt's word embeddings, before any positions, and the answer is what the model would
say next: the scores at the last token of the text.

A position sees what stands before it. So what the layers compute at the first token and the prompt depends on the
prompt alone, and what they compute at a text that stands before the prompt depends on the text alone: with keeps=True
the graph gives their keys and values, and with reuse=True it reads any number of rows with them. What differs between
families stands in `gpt2` and `llama`.
"""

import json
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
from zopog_models.graph.tokens import Packed, Padded

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
    keeps: bool = False,
    graph: GraphBuilder | None = None,
) -> tuple[bytes, dict[str, np.ndarray]]:
    """The ONNX model (without weights) and its weights, for a decoder.

    first: tokens of a text row that stand before the prompt, 1 (a BOS token) or 0. Inputs: text_ids (R, L) and
    attention_mask (R, L), int64, rows padded anywhere after their first token; answer_position (R,), int64, the last
    token's place in the text row before the prompt is inserted; prompt_ids (P, n), int64; prompt_offset (P, n, D),
    float32; prompt_index (R,), int64: row r is read with prompt prompt_index[r]; label_ids (C,), int64. With reuse
    there are three more: prefix (layers, 2, F, m, key_heads · w), float32, keys and values of what stands before rows
    and is seen by all of them; prefix_length (F,), int64, how many of the m positions each has; prefix_index (R,).
    Output: logits (R, C), float32. keeps: one more input, keep (1,), int64, and output, keys_values
    (layers, 2, R, keep, key_heads · w), of so many of the row's own positions, as a longer row's prefix has them (0:
    they cost nothing). graph: an empty builder, for weights of another precision, or in a file; a packed one has two
    more inputs (`graph.tokens`). Raises ValueError for an injection other than "word_embedding".
    """
    check_injection(injection)
    g = GraphBuilder() if graph is None else graph
    layers = layers_of(g, checkpoint)
    a = layers.architecture
    width = a.key_heads * a.head_width
    text_ids = g.input("text_ids", np.int64, ("R", "L"))
    attention_mask = g.input("attention_mask", np.int64, ("R", "L"))
    answer_position = g.input("answer_position", np.int64, ("R",))
    prompt_ids = g.input("prompt_ids", np.int64, ("P", "n"))
    prompt_offset = g.input("prompt_offset", np.float32, ("P", "n", a.hidden_size))
    prompt_index = g.input("prompt_index", np.int64, ("R",))
    label_ids = g.input("label_ids", np.int64, ("C",))
    prefix = None
    if reuse:
        prefix = _Prefix(
            g, g.input("prefix", np.float32, (a.layers, 2, "F", "m", width)),
            g.input("prefix_length", np.int64, ("F",)), g.input("prefix_index", np.int64, ("R",)),
        )  # fmt: skip
    n = g.op("Shape", prompt_ids, start=1, end=2)  # (1,)

    prompt = g.op("Add", g.op("Gather", layers.words(), prompt_ids), g.from_float32(prompt_offset))  # (P, n, D), once
    x = _insert(g, g.op("Gather", layers.words(), text_ids), g.op("Gather", prompt, prompt_index), first)  # (R, S, D)
    prompt_mask = g.op("Expand", g.integers(1), g.op("Concat", g.op("Shape", text_ids, end=1), n, axis=0))  # (R, n)
    visible = _insert(g, attention_mask, prompt_mask, first)  # (R, S), S = n + L
    positions = _positions(g, visible, prefix)  # (R, S)
    masks = _masks(layers, visible, positions, prefix)  # (R, S, m + S) each
    total = g.op("Shape", visible, start=1, end=2)  # (1,)
    if prefix:  # of which some may be padding
        total = g.op("Min", g.op("Add", prefix.size, total), g.integers(a.max_positions))
    tokens = Packed(g) if g.packed else Padded(g)
    layers.tokens = tokens
    x = layers.start(tokens.pack(x), tokens.pack(positions), total)

    # Of an input and a shape ONNX Runtime makes the sum on the host, and a GPU would wait.
    at = g.op("Add", g.op("Unsqueeze", answer_position, g.integers(1)), n)  # (R, 1), the answer's place in the row
    x, own = _through_layers(layers, x, tokens.pack(positions), masks, at, prefix)  # (R, 1, D)
    hidden = layers.end(g.op("Squeeze", x, g.integers(1)))  # (R, D)
    chosen = g.op("Gather", layers.outputs(), label_ids)  # (C, D): the vocabulary-wide head is never computed
    logits = g.to_float32(g.op("MatMul", hidden, g.op("Transpose", chosen, perm=(1, 0))))
    g.output(logits, "logits", np.float32, ("R", "C"))
    if keeps:
        kept = _kept(g, own, g.input("keep", np.int64, (1,)))
        g.output(g.to_float32(kept), "keys_values", np.float32, (a.layers, 2, "R", "keep", width))
    metadata = {"injection": injection, "architecture": json.dumps(asdict(a), sort_keys=True)}
    return g.model_bytes(f"{a.family}_causal_language_model", metadata), g.initializers


def _kept(g: GraphBuilder, own: list[str], keep: str) -> str:
    """Keys and values (R, S, W) of all layers, in turn, at the first `keep` positions: (layers, 2, R, keep, W)."""
    from_here, columns = g.integers(0), g.integers(1)
    firsts = [g.op("Slice", value, from_here, keep, columns) for value in own]  # before they are put together
    halves = g.integers(len(own) // 2, 2)
    stacked = g.op("Concat", *(g.op("Unsqueeze", value, g.integers(0)) for value in firsts), axis=0)
    shape = g.op("Concat", halves, g.op("Shape", stacked, start=1), axis=0)
    return g.op("Reshape", stacked, shape, allowzero=1)


class _Prefix:
    """Keys and values of what stands before the rows, some of F for each row, padded to m positions."""

    def __init__(self, g: GraphBuilder, keys_values: str, length: str, index: str) -> None:
        self.graph, self.keys_values, self.index = g, g.from_float32(keys_values), index
        self.size = g.op("Shape", keys_values, start=3, end=4)  # (1,), m
        self.length = g.op("Unsqueeze", g.op("Gather", length, index), g.integers(1))  # (R, 1)
        self.places = g.op("Range", g.scalar(0), g.op("Squeeze", self.size), g.scalar(1))  # (m,)

    def before(self, own: str, i: int, which: int) -> str:
        """[the prefix's keys (which = 0) or values (1) of layer i] [the row's own]: (R, m + S, W)."""
        g = self.graph
        layer = g.op("Gather", g.op("Gather", self.keys_values, g.scalar(i), axis=0), g.scalar(which), axis=0)
        return g.op("Concat", g.op("Gather", layer, self.index, axis=0), own, axis=1)


def _through_layers(
    layers: DecoderLayers, x: str, positions: str, masks: dict[int, str], at: str, prefix: _Prefix | None
) -> tuple[str, list[str]]:
    """x (B, s, D) through all layers, the last one at the answer's place alone: (R, 1, D); and all keys and values."""
    g, a, tokens = layers.graph, layers.architecture, layers.tokens
    heads_axis = g.integers(1)
    own = []
    for i in range(a.layers):
        y = layers.before_attention(x, i)
        k, v = (tokens.unpack(value) for value in layers.keys_values(y, positions, i))  # (R, S, W)
        own += [k, v]
        if prefix:
            k, v = (prefix.before(value, i, which) for which, value in enumerate((k, v)))
        seen = masks[a.window(i)]  # (R, S, T)
        if i == a.layers - 1:
            x, y, positions = (tokens.only(value, at) for value in (x, y, positions))  # (R, 1, D), ..., (R, 1)
            layers.tokens = Padded(g)
            seen = g.op("Unsqueeze", g.op("GatherND", seen, at, batch_dims=1), g.integers(1))  # (R, 1, T)
        q = layers.tokens.unpack(layers.queries(y, positions, i))
        x = layers.layer(i, x, q, k, v, g.op("Unsqueeze", seen, heads_axis))  # of a mask (R, 1, Q, T)
    return x, own


def _insert(g: GraphBuilder, text: str, prompt: str, first: int) -> str:
    """[first tokens] [prompt] [rest of the text] along axis 1."""
    if first == 0:
        return g.op("Concat", prompt, text, axis=1)
    head = g.op("Slice", text, g.integers(0), g.integers(first), g.integers(1))
    tail = g.op("Slice", text, g.integers(first), g.integers(2**62), g.integers(1))
    return g.op("Concat", head, prompt, tail, axis=1)


def _positions(g: GraphBuilder, visible: str, prefix: _Prefix | None) -> str:
    """0, 1, ... over the visible tokens of (R, S), after the prefix. Padding gets some too; nobody looks at it."""
    counted = g.op("Sub", g.op("CumSum", visible, g.scalar(1)), g.scalar(1))
    counted = g.op("Max", counted, g.scalar(0))
    return g.op("Add", counted, prefix.length) if prefix else counted


def _causal_mask(g: GraphBuilder, visible: str, prefix: _Prefix | None) -> str:
    """Who looks at whom, (R, S, m + S): at the prefix, at visible tokens up to one's own, and always at oneself.

    Oneself, so that even padding looks at something: a softmax over nothing would be no number, and 0 times that too.
    """
    size = g.op("Squeeze", g.op("Shape", visible, start=1, end=2))
    places = g.op("Range", g.scalar(0), size, g.scalar(1))  # (S,)
    column, row = g.op("Unsqueeze", places, g.integers(0)), g.op("Unsqueeze", places, g.integers(1))
    shown = g.op("Unsqueeze", g.op("Greater", visible, g.scalar(0)), g.integers(1))  # (R, 1, S)
    seen = g.op("And", g.op("Less", column, row), shown)  # (R, S, S)
    seen = g.op("Or", seen, g.op("Equal", column, row))
    if not prefix:
        return seen
    shape = g.op("Concat", g.op("Shape", seen, start=0, end=2), prefix.size, axis=0)
    filled = g.op("Unsqueeze", g.op("Less", prefix.places, prefix.length), g.integers(1))  # (R, 1, m)
    return g.op("Concat", g.op("Expand", filled, shape), seen, axis=2)


def _masks(layers: DecoderLayers, visible: str, positions: str, prefix: _Prefix | None) -> dict[int, str]:
    """Who looks at whom, (R, S, m + S), in layers of each window there is: within it, counted in positions."""
    g, a = layers.graph, layers.architecture
    whole = _causal_mask(g, visible, prefix)
    masks = {0: whole}
    if not any(map(a.window, range(a.layers))):
        return masks
    looked_at = positions  # (R, S)
    if prefix:
        rows = g.op("Shape", visible, start=0, end=1)
        before = g.op("Expand", g.op("Unsqueeze", prefix.places, g.integers(0)),
                      g.op("Concat", rows, prefix.size, axis=0))  # (R, m)  # fmt: skip
        looked_at = g.op("Concat", before, positions, axis=1)  # (R, m + S)
    back = g.op("Sub", g.op("Unsqueeze", positions, g.integers(2)), g.op("Unsqueeze", looked_at, g.integers(1)))
    for window in {a.window(i) for i in range(a.layers)} - {0}:
        masks[window] = g.op("And", whole, g.op("Less", back, g.scalar(window)))
    return masks
