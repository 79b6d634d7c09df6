"""The options of `zopog tune`, and the numbers they make, checked before anything is loaded."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zopog_models.families.sentence import POOLINGS
from zopog_models.frozen.model import TEMPERATURE
from zopog_ref import search
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.experiment import method_of
from zopog_ref.app.run.presets import PRESET_FIELDS, PRESETS, SETTINGS_NAMES, Preset
from zopog_ref.app.tune import precision
from zopog_ref.app.tune.backends import BACKENDS
from zopog_ref.app.tune.served import add_arguments as add_remote_arguments
from zopog_ref.app.tune.workers import add_arguments as add_workers_argument
from zopog_ref.methods import METHODS, settings_class
from zopog_ref.objective import LOSSES, Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options; those of the method and the preset come from their dataclasses."""
    parser.add_argument(
        "--task", help="an embedded task's name, a task TOML, or with --data a published task's (default: supersense)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="your copy of a published task's files, as GLUE's or with our columns"
    )
    own = parser.add_argument_group("your own data, instead of --task")
    own.add_argument("--train", type=Path, metavar="FILE", help="TSV, CSV or JSONL with text columns and `label`")
    own.add_argument("--dev", type=Path, metavar="FILE", help="default: other rows of the train file")
    own.add_argument("--test", type=Path, metavar="FILE", help="default: unused rows of the train file")
    own.add_argument(
        "--template",
        help='with {text}, or {text_a} and {text_b}, and {mask}: "{text} . {mask} ."; with --task: instead of its own',
    )
    own.add_argument("--labels", metavar="VALUE=WORD,...", help='label values and their words: "0=bad,1=good"')
    parser.add_argument(
        "--model",
        default="embedded",
        help="embedded, a Hugging Face folder, org/name[@revision] on the hub, or the address of a served model",
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="read the model as a sentence-embedding model")
    parser.add_argument("--temperature", type=float, help=f"of a sentence-embedding model (default {TEMPERATURE:g})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--backend", choices=BACKENDS, help="of the mathematics outside the model (default: numpy)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    precision.add_arguments(parser)
    parser.add_argument("--method", choices=tuple(METHODS), help="default: zo-pog; zopog methods says what there is")
    parser.add_argument("--settings", choices=SETTINGS_NAMES, help="named settings (default: the model's own)")
    parser.add_argument("--shots", type=int, default=16, help="training rows a class (default 16)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, help="run folder (default: runs/TASK-METHOD-SEED)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on from the last checkpoint of a run folder")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout, nothing else there")
    add_workers_argument(parser)
    add_remote_arguments(parser)
    numbers = parser.add_argument_group("settings, to change one at a time")
    defaults = PRESETS["zo-pog", "embedded"]
    for name in PRESET_FIELDS:
        numbers.add_argument(option(name), type=type(getattr(defaults, name)), dest=name)
    for name, (kind, methods) in method_options().items():
        only = "" if len(methods) == len(METHODS) else ", ".join(methods)
        numbers.add_argument(option(name), type=_switch if kind is bool else kind, dest=name, help=only)


def method_options() -> dict[str, tuple[type, list[str]]]:
    """Every setting of any method: its type, and the methods that have it."""
    options: dict[str, tuple[type, list[str]]] = {}
    for name in METHODS:
        for field in dataclasses.fields(settings_class(name)):
            options.setdefault(field.name, (type(field.default), []))[1].append(name)
    return options


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _switch(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"expected on or off, not {text!r}")
    return text.lower() == "on"


def chosen_preset(method: str, settings: str, given: Mapping[str, Any]) -> Preset:
    """Named settings of a method with what was given (option -> value or None) replaced. Errors: InputError."""
    preset = PRESETS[method, settings]
    changes = {name: given[name] for name in (*PRESET_FIELDS, *method_options()) if given.get(name) is not None}
    own = [field.name for field in dataclasses.fields(preset.method)]
    for name in changes:
        if name not in (*PRESET_FIELDS, *own):
            mine = ", ".join(map(option, own))
            raise InputError(f"{option(name)} is no setting of {method}, whose own are {mine}")
    try:
        return preset.changed(**changes)
    except ValueError as error:
        raise InputError(str(error)) from error


def check_numbers(preset: Preset, shots: int, seed: int, classes: int) -> None:
    """What is wrong with the numbers, before the model is loaded. Errors: InputError, MissingPackage."""
    for name in ("n_positions", "n_candidates", "dim", "batch_size", "budget"):
        if getattr(preset, name) < 1:
            raise InputError(f"{option(name)} is {getattr(preset, name)}; it must be at least 1")
    if preset.loss not in LOSSES:
        raise InputError(f"--loss is {preset.loss!r:.100}; choose one of {', '.join(LOSSES)}")
    if shots < 1:
        raise InputError(f"--shots is {shots}; it must be at least 1")
    if not 0 <= seed < 1 << 64:
        raise InputError(f"--seed is {seed}; it must be in [0, 2^64)")
    ledger = Ledger(preset.budget, batch_size=preset.batch_size)
    try:
        method = method_of(preset, seed)
    except ValueError as error:  # a setting that does not fit n, N or d
        raise InputError(str(error)) from error
    if method.loss not in (None, preset.loss):
        raise InputError(f"--loss is {preset.loss!r}, but {preset.method_name} sees only the {method.loss!r} loss")
    cost = search.step_price(method, ledger, shots * classes, preset.batch_size)
    if preset.budget < cost:
        raise InputError(f"--budget is {preset.budget} calls and one step costs {cost}: raise it, or use fewer samples")
