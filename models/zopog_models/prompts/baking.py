"""A model, its tuned prompts and their label words as one ONNX file: token ids in, label probabilities out.

Inputs  input_ids, attention_mask (R, L), int64: rows without the prompt, padded on the right; of M prompts with
        templates of their own (R, M, L), the text in each of the templates
Outputs probabilities (R, C); for M > 1 prompts also entropy (R,), in nats, and per_prompt (R, M, C); float32. With a
        readout, which reads all prompts at once, probabilities alone

Weights are inside the file, or, of models that a single ONNX file cannot hold, in FILE.onnx.data beside it. What makes
a row of a text is in the file's metadata, `row`; see `encoding.row_recipe`. A file is compared with `predict` before it
takes its name.
"""

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zopog_models.errors import BakeError
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.files.atomic import write_atomically
from zopog_models.frozen.model import FrozenModel
from zopog_models.graph import build
from zopog_models.graph.answers import RowMarks, answer_position, every_row_with_every_prompt, probabilities, read
from zopog_models.graph.inlined import Inlined
from zopog_models.prompts.bundle import Prompt
from zopog_models.prompts.comparing import largest_difference, rounding_tolerance, row_ids, rows_to_compare
from zopog_models.prompts.export import write_weights
from zopog_models.prompts.predicting import check_match
from zopog_models.prompts.readout import targets
from zopog_models.runners.local import LocalRunner
from zopog_models.tasks.encoding import row_recipe
from zopog_models.tasks.layout import lay_out
from zopog_models.tasks.template import make_task

if TYPE_CHECKING:
    pass

__all__ = ["BakeError", "Baked", "bake", "row_ids"]

FORMAT = 1
INSIDE_BYTES = 2_000_000_000  # of weights; an ONNX file cannot hold more than 2^31 bytes, graph included


@dataclass(frozen=True)
class Baked:
    """What was written, and what a caller must know. All but the paths and the check is in the file's metadata too.

    path; data: the weights' file, if there is one beside; size: of both, in bytes; row: see `encoding.row_recipe`;
    rows: of each template, where there are several, and then row is the first; threshold: of the prediction sets;
    labels: in the order of the probabilities; max_length: the longest row, in tokens; pad_id: any id will do where the
    attention mask is 0; prompts: M; difference: the largest from `predict`, over `checked` rows.
    """

    path: Path
    data: Path | None
    size: int
    template: str
    row: list[int | str]
    labels: list[str]
    max_length: int
    pad_id: int
    prompts: int
    predict: str
    model: str
    model_sha256: str
    tokenizer_sha256: str
    injection: str
    rows: list[list[int | str]] = field(default_factory=list)
    threshold: list[float] | None = None  # class c is in the prediction set where 1 - p_c is at most this
    checked: int = 0
    difference: float = float("nan")

    @property
    def metadata(self) -> dict[str, str]:
        """metadata_props: strings as they are, all else as JSON."""
        left_out = ("path", "data", "size", "checked", "difference")
        said = {name: value for name, value in asdict(self).items() if value or name not in ("rows", "threshold")}
        entries = {name: value for name, value in said.items() if name not in left_out}
        entries = {"zopog_baked": FORMAT} | entries
        return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in entries.items()}


def bake(model: FrozenModel, prompt: Prompt, out: str | Path, *, tolerance: float | None = None) -> Baked:
    """Write the file and compare it with `predict`. tolerance: of a probability (default: `rounding_tolerance`).

    The file is whole, compared and under its name, or it is not there: an older file keeps its name until then. Raises
    PromptMismatch (another model than the prompt's), TaskError, BakeError (a name that does not end in .onnx; a model
    that is computed elsewhere; answers that differ by more than tolerance), OSError.

    Parameters
        model: the one that the prompt was tuned for, computed in this process
        prompt: one, or several with weights
        out: the .onnx file
        tolerance: the largest allowed difference in a probability
    """
    out = Path(out)
    if out.suffix != ".onnx":
        raise BakeError(f"the file must end in .onnx, got {str(out)!r}")
    check_match(model, prompt)
    if prompt.position == "after" or prompt.summed:
        what = "stands after the text" if prompt.position == "after" else "has label words of several tokens"
        raise BakeError(
            f"this prompt {what}, which a baked file's graph does not read: deploy its folder (zopog predict)"
        )
    recipes = [
        row_recipe(make_task(template, prompt.labels), model) for template in prompt.templates or [prompt.template]
    ]
    recipe, readout = recipes[0], prompt.readout
    graph = _graph(model, prompt, recipes, f"{out.name}.data")
    inside = sum(array.nbytes for array in graph.initializers.values()) <= INSIDE_BYTES
    baked = Baked(
        path=out,
        data=None if inside else out.with_name(f"{out.name}.data"),
        size=0,
        template=prompt.template,
        row=recipe,
        labels=list(prompt.labels),
        max_length=model.max_positions - prompt.n_positions,
        pad_id=model.pad_id,
        prompts=len(prompt.answer_weights),
        predict=prompt.predict,
        model=prompt.model,
        model_sha256=prompt.model_sha256,
        tokenizer_sha256=prompt.tokenizer_sha256,
        injection=prompt.injection,
        rows=recipes if prompt.templates else [],
        threshold=None if readout is None or readout.threshold is None else readout.threshold.tolist(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as unfinished:
        file = Path(unfinished) / out.name
        if baked.data is not None:
            write_weights(file.with_name(baked.data.name), graph)
        write_atomically(file, graph.model_parts(f"baked_{model.family}", baked.metadata, inside=inside))
        texts = rows_to_compare(model, prompt)
        difference = largest_difference(file, model, prompt, texts, recipes)
        tolerance = rounding_tolerance(model, prompt, texts) if tolerance is None else tolerance
        if not difference <= tolerance:
            raise BakeError(
                f"the baked file's probabilities differ from predict's by up to {difference:.1e}, more than "
                f"{tolerance:.3g}: nothing was written; a tolerance that allows it can be given"
            )
        files = list(Path(unfinished).iterdir())
        size = sum(path.stat().st_size for path in files)
        for path in sorted(files, key=lambda path: path == file):  # the weights first, the model last
            path.replace(out.with_name(path.name))
    return Baked(**{**vars(baked), "size": size, "checked": len(texts), "difference": difference})


def _graph(model: FrozenModel, prompt: Prompt, recipes: Sequence[Sequence[int | str]], location: str) -> Inlined:
    local = model.runner
    if not isinstance(local, LocalRunner):
        raise BakeError(f"{model.name!r} is computed elsewhere; its weights have to be here to be baked")
    checkpoint = local.checkpoint
    decoder = isinstance(checkpoint.architecture, DecoderArchitecture)
    first = 0 if model.cls_id is None else 1
    g = Inlined(location=location)
    rows, index, sound = _rows(g, model, prompt)
    prompt_ids, offsets = np.asarray(prompt.ids, np.int64), np.asarray(prompt.offsets, np.float32)
    # What a decoder computes at the prompt's positions is the same for all rows: computed now, once. A row needs a
    # token of its own after them, which the template gives.
    reuse = decoder and prompt_ids.shape[1] > 0 and all(_begins_itself(recipe, model) for recipe in recipes)
    if reuse:
        assert local.reuse is not None
        first_ids = np.full((len(prompt_ids), first), model.cls_id or 0, np.int64)
        g.values["prefix"] = g.weight("prompt_keys_values", local.reuse.computed(first_ids, prompt_ids, offsets))
        lengths = np.full(len(prompt_ids), first + prompt_ids.shape[1])
        g.values |= {"prefix_length": g.constant("prefix_length", lengths), "prefix_index": index}
        from_here, to_end, columns = g.integers(first), g.integers(2**62), g.integers(1)
        for name in ("text_ids", "attention_mask"):
            rows[name] = g.op("Slice", rows[name], from_here, to_end, columns)
        rows["answer_position"] = g.op("Max", g.op("Sub", rows["answer_position"], g.scalar(first)), g.scalar(0))
        prompt_ids, offsets = prompt_ids[:, :0], offsets[:, :0]
    g.values |= rows | {"prompt_index": index}
    g.values["prompt_ids"] = g.constant("prompt_ids", prompt_ids)
    g.values["prompt_offset"] = g.weight("prompt_offset", offsets)
    asked, wide = (None, None) if prompt.readout is None else prompt.readout.asked()
    wanted = np.asarray(prompt.label_ids) if asked is None else targets(asked, np.asarray(prompt.label_ids))
    if model.pooling:
        g.values["label_embeddings"] = g.weight("label_embeddings", np.asarray(wanted, np.float32))
    else:
        g.values["label_ids"] = g.constant("label_ids", np.asarray(wanted, np.int64))
    build(checkpoint, prompt.injection, first=first, reuse=reuse, graph=g)
    weights = np.asarray(prompt.weights, np.float64)
    if prompt.readout is not None and wide is not None:
        read(g, g.results["logits"], sound, wide, prompt.readout.bias)
    else:
        probabilities(g, g.results["logits"], sound, weights, len(prompt.labels), votes=prompt.predict == "votes")
    g.leave_out_the_unread()
    return g


def _rows(g: Inlined, model: FrozenModel, prompt: Prompt) -> tuple[dict[str, str], str, str]:
    """Every row with every prompt, prompt by prompt (M · R, ...), the prompt of each, and which rows are sound (R,)."""
    count = len(prompt.ids)
    if not prompt.templates:
        ids, mask = (g.outer_input(name, np.int64, ("batch", "length")) for name in ("input_ids", "attention_mask"))
        position, sound = answer_position(g, ids, mask, _row_marks(model, prompt.template, prompt))
        one = {"text_ids": ids, "attention_mask": mask, "answer_position": position}
        return *every_row_with_every_prompt(g, one, count), sound
    shape = ("batch", count, "length")
    inputs = [g.outer_input(name, np.int64, shape) for name in ("input_ids", "attention_mask")]
    parts: dict[str, list[str]] = {"text_ids": [], "attention_mask": [], "answer_position": []}
    sounds = []
    for m, template in enumerate(prompt.templates):
        ids, mask = (g.op("Gather", value, g.scalar(m), axis=1) for value in inputs)
        position, sound = answer_position(g, ids, mask, _row_marks(model, template, prompt))
        for name, value in zip(parts, (ids, mask, position)):
            parts[name].append(value)
        sounds.append(sound)
    _, index = every_row_with_every_prompt(g, {"text_ids": parts["text_ids"][0]}, count)
    sound = sounds[0]
    for other in sounds[1:]:
        sound = g.op("And", sound, other)
    return {name: g.op("Concat", *values, axis=0) for name, values in parts.items()}, index, sound


def _row_marks(model: FrozenModel, template: str, prompt: Prompt) -> RowMarks:
    """What is the same in all rows of a template."""
    layout = lay_out(make_task(template, prompt.labels), model)
    if layout.answer is None:
        return RowMarks(model.cls_id, model.mask_id, model.sep_id)
    masks = [i for i, token in enumerate(layout.specials) if token == model.mask_id]
    return RowMarks(model.cls_id, model.mask_id, model.sep_id, len(masks), masks.index(layout.answer))


def _begins_itself(recipe: Sequence[int | str], model: FrozenModel) -> bool:
    """Whether a row has a token of its own whatever its texts are."""
    return any(isinstance(piece, str) and _has_words(piece, model) for piece in recipe)


def _has_words(piece: str, model: FrozenModel) -> bool:
    """Whether there is a token in a piece of the recipe whatever its texts are."""
    return len(row_ids([re.sub(r"\{\w+\}", "{text}", piece)], ("",), model.tokenizer)) > 0
