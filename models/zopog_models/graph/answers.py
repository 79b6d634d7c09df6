"""From a tokenised row to label probabilities, around any model's graph: what a baked file adds to the model.

    m prompts, weights w:   p_m(c | row) = softmax(logits_m(row))_c      (of votes: 1 at the largest, else 0)
    p(c | row) = Σ_m w_m p_m(c | row),     entropy = −Σ_c p(c | row) log p(c | row), in nats

    with a readout:         p(· | row) = softmax((1/M) Σ_m s_m(row) A_m + b), s_m the scores of the tokens it reads

Where the model answers is found in the row. A row that is not as the model's rows are (no first token, other masks than
the template's, no separator at its end) has no answer: all its outputs are NaN. So a wrong tokenisation is seen, and a
mask token smuggled into a text cannot move the answer.
"""

from dataclasses import dataclass

import numpy as np

from zopog_models.graph import onnx_format
from zopog_models.graph.inlined import Inlined


@dataclass(frozen=True)
class RowMarks:
    """Token ids that a row has: its first token, its mask, its last token; None where the family has none.

    masks: how many mask tokens the template has; answer: which of them is answered.
    """

    first: int | None
    mask: int | None
    last: int | None
    masks: int = 1
    answer: int = 0


def answer_position(g: Inlined, ids: str, mask: str, marks: RowMarks) -> tuple[str, str]:
    """Where rows (R, L) are answered, (R,): at the mask, or at the last attended token; and which are sound, (R,)."""
    attended = g.op("Greater", mask, g.scalar(0))  # (R, L)
    length = g.op("Squeeze", g.op("Shape", ids, start=1, end=2))
    places = g.op("Range", g.scalar(0), length, g.scalar(1))  # (L,)
    one = g.integers(1)

    def at(where: str) -> str:
        numbers = g.op("Where", where, places, g.scalar(-1))  # (R, L)
        return g.op("ReduceMax", numbers, one, keepdims=0)  # (R,)

    end = at(attended)
    sound = g.op("GreaterOrEqual", end, g.scalar(0))
    position = end
    if marks.first is not None:
        first = g.op("Gather", ids, g.scalar(0), axis=1)
        sound = g.op("And", sound, g.op("Equal", first, g.scalar(marks.first)))
        sound = g.op("And", sound, g.op("Gather", attended, g.scalar(0), axis=1))
    if marks.last is not None:
        inside = g.op("Unsqueeze", g.op("Max", end, g.scalar(0)), one)  # (R, 1)
        last = g.op("GatherND", ids, inside, batch_dims=1)
        sound = g.op("And", sound, g.op("Equal", last, g.scalar(marks.last)))
    if marks.mask is not None:
        masks = g.op("And", g.op("Equal", ids, g.scalar(marks.mask)), attended)
        count = g.op("ReduceSum", g.op("Cast", masks, to=onnx_format.INT64), one, keepdims=0)
        sound = g.op("And", sound, g.op("Equal", count, g.scalar(marks.masks)))
        if marks.masks > 1:
            numbered = g.op("CumSum", g.op("Cast", masks, to=onnx_format.INT64), g.scalar(1))  # from 1, (R, L)
            masks = g.op("And", masks, g.op("Equal", numbered, g.scalar(marks.answer + 1)))
        position = at(masks)
    # An unsound row is computed too, somewhere inside it, and then thrown away.
    return g.op("Max", position, g.scalar(0)), sound


def every_row_with_every_prompt(g: Inlined, values: dict[str, str], count: int) -> tuple[dict[str, str], str]:
    """values (R, ...) repeated for each of `count` prompts, (count · R, ...), and the prompt of each row."""
    rows = g.op("Shape", next(iter(values.values())), end=1)  # (1,)
    shape = g.op("Concat", g.integers(count), rows, axis=0)
    numbers = g.op("Unsqueeze", g.constant("prompt_numbers", np.arange(count)), g.integers(1))  # (count, 1)
    index = g.op("Reshape", g.op("Expand", numbers, shape), g.integers(-1))
    if count == 1:
        return values, index
    tiled = {}
    for name, value in values.items():
        times = (count,) if name == "answer_position" else (count, 1)
        tiled[name] = g.op("Tile", value, g.integers(*times))
    return tiled, index


def probabilities(g: Inlined, logits: str, sound: str, weights: np.ndarray, classes: int, *, votes: bool) -> None:
    """Outputs of the whole graph from logits (M · R, C): probabilities, and for several prompts what they differ in."""
    count = len(weights)
    if votes:
        winners = g.op("ArgMax", logits, axis=-1, keepdims=1)  # of equals the first
        each = g.op("Cast", g.op("Equal", winners, g.constant("classes", np.arange(classes))), to=onnx_format.FLOAT)
    else:
        each = g.op("Softmax", logits, axis=-1)  # (M · R, C)
    nothing, sound = g.constant("no_answer", np.array(np.nan, np.float32)), g.op("Unsqueeze", sound, g.integers(1))
    if count == 1:
        g.outer_output(g.op("Where", sound, each, nothing), "probabilities", np.float32, ("batch", classes))
        return
    each = g.op("Reshape", each, g.integers(count, -1, classes))  # (M, R, C)
    share = g.constant("prompt_weights", (weights / weights.sum()).astype(np.float32).reshape(count, 1, 1))
    mixture = g.op("ReduceSum", g.op("Mul", each, share), g.integers(0), keepdims=0)  # (R, C)
    mixture = g.op("Where", sound, mixture, nothing)
    # 0 log 0 = 0; NaN stays NaN by the product.
    logarithm = g.op("Log", g.op("Max", mixture, g.constant("smallest", np.array(1e-37, np.float32))))
    terms = g.op("ReduceSum", g.op("Mul", mixture, logarithm), g.integers(1), keepdims=0)
    per_prompt = g.op("Transpose", each, perm=(1, 0, 2))  # (R, M, C)
    per_prompt = g.op("Where", g.op("Unsqueeze", sound, g.integers(1)), per_prompt, nothing)
    g.outer_output(mixture, "probabilities", np.float32, ("batch", classes))
    g.outer_output(g.op("Neg", terms), "entropy", np.float32, ("batch",))
    g.outer_output(per_prompt, "per_prompt", np.float32, ("batch", count, classes))


def read(g: Inlined, scores: str, sound: str, matrices: np.ndarray, bias: np.ndarray) -> None:
    """The output `probabilities` from scores (M · R, U), matrices A (M, U, C) and bias (C,).

    In float64, as `PromptReadout.probabilities` has it: hundreds of scores cancel in the sum.
    """
    count, width, classes = matrices.shape
    each = g.op("Reshape", g.op("Cast", scores, to=onnx_format.DOUBLE), g.integers(count, -1, width))  # (M, R, U)
    parts = g.op("MatMul", each, g.constant("readout_matrices", np.asarray(matrices / count, np.float64)))
    logits = g.op("ReduceSum", parts, g.integers(0), keepdims=0)  # (R, C)
    logits = g.op("Add", logits, g.constant("readout_bias", np.asarray(bias, np.float64)))
    p = g.op("Cast", g.op("Softmax", logits, axis=-1), to=onnx_format.FLOAT)
    nothing, sound = g.constant("no_answer", np.array(np.nan, np.float32)), g.op("Unsqueeze", sound, g.integers(1))
    g.outer_output(g.op("Where", sound, p, nothing), "probabilities", np.float32, ("batch", classes))
