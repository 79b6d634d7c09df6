"""zopog tasks, methods, models: what there is, one line each."""

import argparse
from dataclasses import replace

from zopog_models.families import FAMILIES
from zopog_models.families.encoder import EncoderFamily
from zopog_models.tasks.published_tasks import published_tasks
from zopog_models.tasks.task_files import embedded_tasks
from zopog_ref.app.output import show, show_json
from zopog_ref.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    """The methods that `zopog tune --method` knows."""
    return [{"name": name, "about": entry.about} for name, entry in METHODS.items()]


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


LISTS = {"tasks": tasks, "methods": methods, "models": models}


def run(arguments: argparse.Namespace) -> int:
    """Print the list named by the command."""
    rows = LISTS[arguments.command]()
    if arguments.json:
        show_json(rows, indent=2)
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        show(f"{row['name']:<{width}}  {row['about']}")
    return 0
