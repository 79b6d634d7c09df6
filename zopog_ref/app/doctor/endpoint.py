"""zopog doctor --model ADDRESS: what a served model really returns, asked with two paid requests and nothing else."""

import argparse
from contextlib import closing
from typing import Any

import numpy as np

from zopog_models.runners.rows import ModelRows
from zopog_models.served.addresses import reads_text_alone
from zopog_models.served.text_runner import TextRunner
from zopog_models.tasks.encoding import encode, label_targets
from zopog_models.tasks.template import Task, make_task
from zopog_ref.app.errors import InputError
from zopog_ref.app.tune.choices import chosen_machine, chosen_served
from zopog_ref.app.tune.models import open_model
from zopog_ref.app.tune.options import add_served_arguments

_TEXTS = ("A warm, funny film that I would watch again.", "The plot is dull and the acting is worse.")
_TEMPLATE = "{text} It was {mask}"


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --template, --words and how a served model is asked."""
    parser.add_argument("--model", help="ask a served one twice; of one here, its label words' tokens")
    parser.add_argument("--template", default=_TEMPLATE, help=f"of one text (default: {_TEMPLATE!r})")
    parser.add_argument("--words", default="great,bad", help="label words, with commas (default: great,bad)")
    parser.set_defaults(device="cpu", threads=None, workers=None)
    add_served_arguments(parser)
    parser.set_defaults(retries=0)  # what is wrong is said at once


def task_asked(arguments: argparse.Namespace) -> Task:
    """--template with --words for labels. Errors: InputError, TaskError."""
    words = [word.strip() for word in arguments.words.split(",")]
    if not all(words) or len(set(words)) != len(words):
        raise InputError(f"--words {arguments.words!r}: expected words with commas, each once")
    task = make_task(arguments.template, {str(c): word for c, word in enumerate(words)})
    if len(task.slots) != 1:
        raise InputError("--template: a template of one text is asked about here")
    return task


def examine_endpoint(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the endpoint returns, and which methods learn there. Errors: InputError, ServiceError, UnusableInput."""
    task, machine = task_asked(arguments), chosen_machine(arguments)
    with closing(open_model(arguments.model, machine, remote=chosen_served(arguments))) as model:
        encoded = encode([(text,) for text in _TEXTS], task, model, 0)
        labels, nothing = label_targets(task, model), np.zeros((1, 0), np.int64)
        if isinstance(model.runner, TextRunner):
            which = np.zeros(len(_TEXTS), np.int64)
            rows = ModelRows(model.description, encoded.ids, encoded.answer_position, nothing, None, which, labels)
            if machine.most:
                model.runner.ask_for_most(rows)
            found = model.runner.probe(rows) | {"top_logprobs": model.runner.top}
        else:
            asked = (encoded.ids[:1], encoded.answer_position[:1], nothing, None, np.zeros(1, np.int64), labels)
            first, second = (model.logits(*asked) for _ in range(2))
            found = {"returned": [*task.labels.values()], "missing": [], "differs": float(np.abs(first - second).max())}
        report = model.runner.report()
        return {
            "model": model.name,
            "scores": str(model.scores),
            "continuous_prompts": not reads_text_alone(arguments.model),
            **found,
            "requests": report.get("requests", 0),
            "spending": report.get("spending", {}),
        }


def endpoint_text(found: dict[str, Any]) -> str:
    """For people."""
    known = {"any": "of any tokens", "top k": "of the most probable tokens", "labels": "none: labels alone"}
    lines = [
        f"model {found['model']}: {found['requests']} requests answered",
        f"  scores               {known[found['scores']]}"
        + (f", {found['top_logprobs']} asked for" if found["scores"] == "top k" else ""),
        f"  label words returned {', '.join(found['returned']) or 'none'}",
    ]
    if found["missing"]:
        lines.append(
            f"  not returned         {', '.join(found['missing'])}: choose other words, or raise --top-logprobs"
        )
    same = (
        "alike"
        if found["differs"] == 0
        else f"differ by {found['differs']:.2g} nats: runs cannot be repeated to the bit"
    )
    lines.append(f"  two equal requests   {same}")
    lines += [f"  {name:<20} {value}" for name, value in found["spending"].items()]
    learn = (
        "all but Clip-Tuning" if found["continuous_prompts"]
        else "bdpl, zo-pog --zeroth-order off, random-search --sigma 0, none"
    )  # fmt: skip
    return "\n".join([*lines, f"  methods              {learn}"])
