"""What a comparison consists of, checked before any of it runs."""

import argparse
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.tasks.task_files import load_task
from zopog_models.tasks.template import Task
from zopog_ref.app.compare.cells import Cell, tune_arguments
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.experiment import prepare
from zopog_ref.app.run.presets import PRESET_FIELDS, PRESETS, Preset, default_preset
from zopog_ref.app.run.saved_run import read_configuration
from zopog_ref.app.tune.options import check_numbers, chosen_preset, method_options
from zopog_ref.app.tune.precision import check_options
from zopog_ref.methods import METHODS, entry_of, method_class

MANUAL = "manual"  # the row of the template alone


@dataclass(frozen=True)
class Variant:
    """A method with its settings: a row of the table."""

    name: str  # the method's, with ":SETTINGS" where they were chosen
    method: str
    settings: str
    changes: dict[str, str]  # option -> value, of this method alone
    preset: Preset


@dataclass(frozen=True)
class Plan:
    """Tasks x methods x seeds on one budget."""

    out: Path
    tasks: dict[str, tuple[str, Task]]  # name -> (how it was given, task)
    variants: list[Variant]
    seeds: list[int]
    shots: int
    budget: int
    model: str
    device: str
    precision: dict[str, str]  # how it was asked for: option -> value, "" for a switch; empty means fp32
    shared: dict[str, Any]  # settings given for every method

    def cells(self) -> list[Cell]:
        """Every cell, seed by seed: when one is interrupted early, whole seeds are done rather than whole methods."""
        return [
            Cell(task, variant.name, seed, self.folder(task, variant, seed), self._options(task, variant, seed))
            for seed in self.seeds
            for task in self.tasks
            for variant in self.variants
        ]

    def folder(self, task: str, variant: Variant, seed: int) -> Path:
        """The run folder of a cell."""
        return self.out / "runs" / task / variant.name.replace(":", "-") / str(seed)

    def _options(self, task: str, variant: Variant, seed: int) -> tuple[str, ...]:
        given = {
            "task": self.tasks[task][0], "method": variant.method, "settings": variant.settings, "seed": seed,
            "shots": self.shots, "model": self.model, "device": self.device, "budget": self.budget,
            **self.shared, **variant.changes,
        }  # fmt: skip
        parts = (part for name, value in (given | self.precision).items() for part in (_option(name), str(value)))
        return tuple(part for part in parts if part)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def make_plan(arguments: argparse.Namespace) -> Plan:
    """The plan asked for. Errors: InputError, TaskError, MissingPackage, before any model is loaded."""
    tasks: dict[str, tuple[str, Task]] = {}
    for source in _several(arguments.tasks, "--tasks"):
        task = load_task(source)
        if task.name in tasks:
            raise InputError(f"two tasks are called {task.name!r}: give each a name of its own in its TOML")
        if Path(task.name).name != task.name or task.name.startswith("."):
            raise InputError(f"the task's name {task.name!r} cannot be the name of a folder: change it in its TOML")
        tasks[task.name] = (source, task)
    seeds = [_seed(text) for text in _several(arguments.seeds, "--seeds")]
    variants = list(_variants(arguments))
    for _, task in tasks.values():
        for variant in variants:
            for seed in seeds:
                check_numbers(variant.preset, arguments.shots, seed, len(task.labels))
    shared = {name: getattr(arguments, name) for name in _SHARED if getattr(arguments, name) is not None}
    return Plan(
        arguments.out or Path("runs") / "compare", tasks, variants, seeds, arguments.shots, arguments.budget,
        arguments.model, arguments.device, _precision(arguments), shared,
    )  # fmt: skip


def _precision(arguments: argparse.Namespace) -> dict[str, str]:
    """Errors: InputError for a precision that the device has not."""
    if check_options(vars(arguments)) == "fp32":
        return {}
    asked = {"precision": arguments.precision, "precision_scope": arguments.precision_scope or "policy"}
    return asked | ({"precision_anyway": ""} if arguments.precision_anyway else {})


_SHARED = tuple(name for name in PRESET_FIELDS if name != "budget")


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Settings that every method has."""
    group = parser.add_argument_group("settings of every method, in place of its own")
    defaults = PRESETS["zo-pog", "embedded"]
    for name in _SHARED:
        group.add_argument(_option(name), type=type(getattr(defaults, name)), dest=name)


def _several(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"{option} is empty")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{option} names {', '.join(twice)} twice")
    return names


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--seeds: {text!r} is not a whole number; expected something like 42,14,81") from None


def _variants(arguments: argparse.Namespace) -> Iterator[Variant]:
    names = list(METHODS) if arguments.methods == "all" else _several(arguments.methods, "--methods")
    changes = _changes(arguments.set)
    for name in names:
        method, _, settings = name.partition(":")
        if method == MANUAL:
            raise InputError("the manual prompt is a row of every table; leave it out of --methods")
        if method not in METHODS:
            raise InputError(f"unknown method {method!r} in --methods; there are {', '.join(METHODS)}")
        method_class(method)  # its package is there
        settings = settings or arguments.settings or default_preset(arguments.model)
        if (method, settings) not in PRESETS:
            raise InputError(f"{method} has no settings {settings!r}")
        own = {_option(key): value for key, value in changes.get(name, {}).items()}
        parsed = _parsed([part for pair in own.items() for part in pair])
        given = {key: getattr(arguments, key) for key in (*_SHARED, "budget") if getattr(arguments, key) is not None}
        given |= {key: getattr(parsed, key) for key in changes.get(name, {})}
        yield Variant(name, method, settings, changes.get(name, {}), chosen_preset(method, settings, given))
    if unused := sorted(changes.keys() - set(names)):
        raise InputError(f"--set names {', '.join(unused)}, which is not among --methods {','.join(names)}")


def _changes(given: list[str]) -> dict[str, dict[str, str]]:
    """--set METHOD.NAME=VALUE, by method."""
    changes: dict[str, dict[str, str]] = {}
    for text in given:
        left, equals, value = text.partition("=")
        method, dot, name = left.rpartition(".")
        name = name.replace("-", "_")
        if not (dot and equals and method and value):
            raise InputError(f"--set {text!r} is not METHOD.NAME=VALUE, such as bbt.popsize=40")
        if name not in (*method_options(), *_SHARED):
            raise InputError(f"--set {text!r}: no method has a setting {name!r}")
        changes.setdefault(method, {})[name] = value
    return changes


def _parsed(options: list[str]) -> argparse.Namespace:
    try:
        return tune_arguments(options)
    except argparse.ArgumentError as error:
        raise InputError(f"--set: {error}") from None


def check_data(plan: Plan) -> FrozenModel:
    """Load the model and build each task's first run: shots, label words, candidates, every row of every file.

    Errors: whatever a run would stumble over before its first call.
    """
    model = load_model(plan.model, device=plan.device)
    for _, task in plan.tasks.values():
        prepare(model, task, plan.variants[0].preset, plan.seeds[0], plan.shots)
    return model


def check_started(plan: Plan) -> None:
    """Errors: InputError when a cell's folder holds a run that is not the one of this plan."""
    by_name = {variant.name: variant for variant in plan.variants}
    for cell in plan.cells():
        path = cell.folder / "config.json"
        if not path.exists():
            continue
        variant, task, config = by_name[cell.method], plan.tasks[cell.task][1], read_configuration(cell.folder)
        preset = dataclasses.asdict(variant.preset)
        del preset["about"], preset["method_name"]
        wanted = {
            "method": variant.method, "model": plan.model, "seed": cell.seed, "shots": plan.shots,
            "settings": variant.settings, "template": task.template, "labels": dict(task.labels),
            "precision": plan.precision.get("precision", "fp32"),
            "precision_scope": plan.precision.get("precision_scope"),
            **preset.pop("method"), **preset,
        }  # fmt: skip
        saved = config["preset"]
        found = {**config, **config["task"], **saved["method"], **{k: v for k, v in saved.items() if k != "method"}}
        found["method"] = config["method"]
        fewer = config.get("precision") or {"precision": "fp32"}
        found["precision"], found["precision_scope"] = fewer["precision"], fewer.get("scope")
        if changed := [name for name in wanted if found.get(name) != wanted[name]]:
            was = ", ".join(f"{name} {quoted(found.get(name))} (now {wanted[name]!r})" for name in changed)
            raise InputError(f"{cell.folder} was started with {was}: choose another --out, or give what it had")


def about(variant: Variant) -> str:
    """One line on the method."""
    return entry_of(variant.method).about
