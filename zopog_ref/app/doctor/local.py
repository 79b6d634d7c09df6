"""zopog doctor --model FOLDER, FILE.gguf or ORG/NAME: what a model here is, and which tokens its label words are."""

import argparse
from contextlib import closing
from typing import Any

from zopog_models.errors import TaskError
from zopog_models.tasks.label_words import has_space, word_pieces
from zopog_models.tasks.template import Task, replace_template
from zopog_ref.app.tune.choices import chosen_machine, chosen_served
from zopog_ref.app.tune.models import open_model


def examine_model(arguments: argparse.Namespace, task: Task) -> dict[str, Any]:
    """The model, and its label words' tokens with and without a space before them.

    Errors: InputError; what opening it raises.
    """
    asked = vars(arguments) | {"retries": arguments.retries or None}  # 0 is doctor's own
    chosen_served(argparse.Namespace(**asked))  # refuses what is said of a served model
    with closing(open_model(arguments.model, chosen_machine(arguments))) as model:
        before, after = task.template.split("{mask}")
        forms = {space: replace_template(task, before.rstrip(" ") + space + "{mask}" + after) for space in (" ", "")}
        if model.mask_id is not None:
            del forms[""]  # a masked model's words have one form
        words = {} if model.pooling else {space: _words(form, model) for space, form in forms.items()}
        return {
            "model": model.name,
            "family": model.family,
            "vocabulary": model.vocab_size,
            "positions": model.max_positions,
            "masked": model.mask_id is not None,
            "template": {"text": task.template, "has_space": has_space(task, model)},
            "label_words": [
                {"space": bool(space), "tokens": tokens, "refused": refused}
                for space, (tokens, refused) in words.items()
            ],
        }


def _words(task: Task, model: Any) -> tuple[dict[str, list[str]], str | None]:
    """Each word's tokens, or why there are none."""
    try:
        return {word: word_pieces(word, task, model)[1] for word in task.labels.values()}, None
    except TaskError as error:
        return {}, str(error)


def model_text(found: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"model {found['model']}: {found['family']}, {found['vocabulary']:,} tokens, {found['positions']:,} positions",
        f"template {found['template']['text']!r}",
    ]
    for form in found["label_words"]:
        mine = " (this template's)" if form["space"] == found["template"]["has_space"] else ""
        lines.append(f"label words {'with the' if form['space'] else 'without a'} space before them{mine}")
        lines += [f"  {form['refused']}"] if form["refused"] else []
        for word, tokens in form["tokens"].items():
            other = "another word" + ("" if found["masked"] else ", or --label-words first-piece or sum")
            several = "" if len(tokens) == 1 else f": {len(tokens)} tokens; take {other}"
            lines.append(f"  {word:<16} {' + '.join(map(repr, tokens))}{several}")
    if not found["label_words"]:
        lines.append("labels are phrases, read as the texts are: any words will do")
    return "\n".join(lines)
