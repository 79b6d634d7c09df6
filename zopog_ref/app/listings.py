"""zopog tasks, methods, models: what there is, one line each."""

import argparse
import sys
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

from zopog_models.families import FAMILIES
from zopog_models.families.encoder import EncoderFamily
from zopog_models.files.suggestions import did_you_mean
from zopog_models.tasks.published_tasks import published_tasks
from zopog_models.tasks.task_files import embedded_tasks
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import show, show_json
from zopog_ref.app.report.terminal import table
from zopog_ref.app.run.presets import PRESET_FIELDS, PRESETS
from zopog_ref.app.tune.meanings import meaning_of, symbol_of
from zopog_ref.app.tune.options import option, plain_name
from zopog_ref.methods import METHODS
from zopog_ref.objective import LOSSES

# What --method takes besides the registered methods: nothing is set of them in a table, a page says how they work.
WITHOUT_SEARCH = {
    "auto": "templates, instructions and demonstrations chosen with a budget of calls (docs/auto.md)",
    "none": "no search: the template with a readout (docs/readout.md)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="of a method: its settings, with meaning, default and choices")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def tasks() -> list[dict[str, str]]:
    """The embedded tasks, and the published ones, which need --data; any TOML of the same form is one too."""
    published = [
        replace(p.task, description=f"{p.task.description} (with --data DIR)") for p in published_tasks().values()
    ]
    return [
        {"name": t.name, "about": t.description, "template": t.template, "labels": ", ".join(t.labels)}
        for t in (*embedded_tasks(), *published)
    ]


def methods() -> list[dict[str, str]]:
    """The methods that `zopog tune --method` knows, those without a search last."""
    return [{"name": name, "about": entry.about} for name, entry in METHODS.items()] + [
        {"name": name, "about": about} for name, about in WITHOUT_SEARCH.items()
    ]


def models() -> list[dict[str, str]]:
    """The models that `--model` takes."""
    files = "config.json, *.safetensors and tokenizer.json"
    given = {
        "embedded": "a small BERT pretrained on WordNet, in this package: a demonstration that runs anywhere",
        "FOLDER": f"a Hugging Face folder ({files}) of a family below",
        "FILE.gguf": "a GGUF file of a Llama, Mistral, Qwen2 or Qwen3 (extra gguf; docs/models.md)",
        "ORG/NAME[@REVISION]": "the same from the Hugging Face Hub, pinned to its commit (extra hub)",
    }
    families = {name: f"{family.title} (model_type {name})" for name, family in FAMILIES.items()}
    sentence = {"sentence-transformers": "any encoder above with mean or cls pooling: labels are phrases"}
    encoders = {name: about for name, about in families.items() if isinstance(FAMILIES[name], EncoderFamily)}
    every = given | encoders | sentence | families
    return [{"name": name, "about": about} for name, about in every.items()]


def settings(method: str) -> list[dict[str, Any]]:
    """What can be set of a method: option, symbol, type, defaults, choices, meaning."""
    embedded, paper = (PRESETS[method, settings] for settings in ("embedded", "paper"))
    rows = []
    for name in (*PRESET_FIELDS, *(field.name for field in fields(embedded.method))):
        here, there = ((p if name in PRESET_FIELDS else p.method) for p in (embedded, paper))
        hints = {} if name in PRESET_FIELDS else get_type_hints(type(here))
        kind = type(getattr(here, name))
        choices = ("on", "off") if kind is bool else LOSSES if name == "loss" else get_args(hints.get(name))
        rows.append({
            "option": option(name), "symbol": symbol_of(name, method), "type": kind.__name__,
            "embedded": getattr(here, name), "paper": getattr(there, name), "choices": list(choices),
            "about": meaning_of(name, method),
        })  # fmt: skip
    return rows


def _one(arguments: argparse.Namespace) -> int:
    name = plain_name(arguments.name)
    if arguments.command == "methods" and name in WITHOUT_SEARCH:
        if arguments.json:
            show_json([])
        else:
            show(f"{name}: {WITHOUT_SEARCH[name]}\nIt has no settings beside those in zopog tune --help.")
        return 0
    if arguments.command != "methods" or name not in METHODS:
        known = [row["name"] for row in LISTS[arguments.command]()]
        if arguments.command != "methods":
            raise InputError(f"zopog {arguments.command} takes no name; zopog methods NAME does")
        raise InputError(f"unknown method {arguments.name!r}; there are {', '.join(known)}{did_you_mean(name, known)}")
    rows = settings(name)
    if arguments.json:
        show_json(rows, indent=2)
        return 0
    show(f"{name}: {METHODS[name].about}\n")
    said = {True: "on", False: "off"}
    body = []
    for row in rows:
        values = [said[row[k]] if isinstance(row[k], bool) else str(row[k]) for k in ("embedded", "paper")]
        choices = f" ({', '.join(row['choices'])})" if row["choices"] else ""
        body.append((row["option"], row["symbol"], row["type"], *values, row["about"] + choices))
    sys.stdout.write(
        table(("option of zopog tune", "symbol", "type", "embedded", "paper", "meaning"), body, "lllrrl") + "\n"
    )  # which is bold on a terminal
    show(f"\nembedded: {PRESETS[name, 'embedded'].about}\npaper: {PRESETS[name, 'paper'].about}")
    return 0


LISTS = {"tasks": tasks, "methods": methods, "models": models}


def run(arguments: argparse.Namespace) -> int:
    """Print the list named by the command."""
    if arguments.name is not None:
        return _one(arguments)
    rows = LISTS[arguments.command]()
    if arguments.json:
        show_json(rows, indent=2)
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        show(f"{row['name']:<{width}}  {row['about']}")
    return 0
