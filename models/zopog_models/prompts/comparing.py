"""A baked file held against `predict`: on which rows, by how much they differ, and how much float32 explains."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zopog_models.errors import BakeError
from zopog_models.frozen.model import FrozenModel
from zopog_models.prompts.bundle import Prompt
from zopog_models.prompts.predicting import predict
from zopog_models.runners.session import require_device
from zopog_models.tasks.encoding import encode, row_recipe
from zopog_models.tasks.template import make_task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from zopog_models.checkpoints.checked_tokenizer import CheckedTokenizer

Rows = Sequence[tuple[str, ...]]
Recipes = Sequence[Sequence[int | str]]  # one a template
TOLERANCE, MOST = 1e-6, 1e-4  # of a probability: what any model may differ by, and what none may
_TEXTS = (
    "a small animal",
    "The food was terrible, the people were great!",
    "",
    "zürich & 東京 [MASK] <mask> 12.5% of 'everything' …",
    "a person who works in a large city near the sea and likes to sleep until noon on most days of the week",
)


def row_ids(
    recipe: Sequence[int | str], texts: tuple[str, ...], tokenizer: "Tokenizer | CheckedTokenizer"
) -> list[int]:
    """A row by its recipe, uncut: what a caller without this package does. texts: as in `predict`."""
    slots = ("text",) if len(texts) == 1 else ("text_a", "text_b")
    filling = {slot: text.strip() for slot, text in zip(slots, texts)}
    ids: list[int] = []
    for piece in recipe:
        if isinstance(piece, str):
            filled = re.sub(r"\{(text|text_a|text_b)\}", lambda slot: filling[slot[1]], piece)
            ids += tokenizer.encode(filled, add_special_tokens=False).ids
        else:
            ids.append(piece)
    return ids


def largest_difference(path: Path, model: FrozenModel, prompt: Prompt, texts: Rows, recipes: Recipes) -> float:
    """Between probabilities of the file, run by ONNX Runtime alone, and of `predict`; rows together and one by one."""
    ort = require_device("cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = model.threads
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = predict(model, prompt, texts)
    rows = [[row_ids(recipe, text, model.tokenizer) for recipe in recipes] for text in texts]
    differences = []
    for batch in (list(range(len(rows))), [0], [len(rows) - 1]):
        longest = max(len(row) for i in batch for row in rows[i])
        ids = np.full((len(batch), len(recipes), longest), model.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for line, i in enumerate(batch):
            for place, row in enumerate(rows[i]):
                ids[line, place, : len(row)], mask[line, place, : len(row)] = row, 1
        if not prompt.templates:
            ids, mask = ids[:, 0], mask[:, 0]
        found = session.run(None, {"input_ids": ids, "attention_mask": mask})
        differences.append(np.abs(found[0] - expected.probabilities[batch]).max())
        if len(found) > 1:
            differences.append(np.abs(found[2] - expected.per_prompt.transpose(1, 0, 2)[batch]).max())
    return float(np.max(differences))  # NaN, where there is one


def rounding_tolerance(model: FrozenModel, prompt: Prompt, texts: Rows) -> float:
    """How far two right computations of a probability may be apart in float32: ε · largest score · √layers.

    A score is a sum whose terms were rounded in every layer, each to ε of its size, in a random direction; a softmax
    makes of a difference of scores at most half of it. A readout multiplies it by the length of its longest column. At
    least TOLERANCE, at most MOST: a wrong graph is further off.
    """
    task = make_task(prompt.template, prompt.labels)
    encoded = encode(texts, task, model, prompt.n_positions)
    count, rows = len(prompt.ids), len(texts)
    places, index = np.tile(encoded.answer_position, count), np.repeat(np.arange(count), rows)
    logits = model.logits(encoded.ids * count, places, prompt.ids, prompt.offsets, index, prompt.label_ids)
    layers, _ = model.hidden_units
    matrices = () if prompt.readout is None else prompt.readout.matrices
    gain = max([1.0, *(float(np.linalg.norm(matrix, axis=0).max()) for matrix in matrices)])
    expected = float(np.finfo(np.float32).eps) * float(np.abs(logits).max(initial=0)) * layers**0.5 * gain
    return min(max(TOLERANCE, expected), MOST)


def rows_to_compare(model: FrozenModel, prompt: Prompt) -> list[tuple[str, ...]]:
    """Rows to compare on: of several lengths and characters, those that fit uncut."""
    task = make_task(prompt.template, prompt.labels)
    recipes = [row_recipe(make_task(template, prompt.labels), model) for template in {*prompt.every_template}]
    room = model.max_positions - prompt.n_positions
    words = [word for label in prompt.labels.values() for word in (label, f"it is like {label} .")]
    shift = len(task.slots) - 1  # a row of two texts has two of them
    every = [*_TEXTS, *words[:20]]
    rows: list[tuple[str, ...]]
    rows = [(text,) if not shift else (text, every[i - 1]) for i, text in enumerate(every)]
    fitting = [row for row in rows if all(0 < len(row_ids(recipe, row, model.tokenizer)) <= room for recipe in recipes)]
    if not fitting:
        raise BakeError(f"no text fits beside the template {prompt.template!r}: {room} positions are left for the row")
    return fitting
