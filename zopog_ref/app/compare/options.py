"""The options of `zopog compare`, and the plan that they ask for."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zopog_models.files.suggestions import did_you_mean
from zopog_models.tasks.task_files import load_task
from zopog_models.tasks.template import Task, replace_template
from zopog_ref.app.compare.plan import MANUAL, Plan, Variant
from zopog_ref.app.compare.schedule import EXECUTORS
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import WORD_SCORINGS
from zopog_ref.app.run.presets import (
    PRESET_FIELDS,
    PRESETS,
    SEARCHLESS,
    SETTINGS_NAMES,
    default_preset,
    preset_of,
)
from zopog_ref.app.tune.checks import check_run
from zopog_ref.app.tune.choices import (
    check_no_data,
    check_readout,
    chosen_precision,
    chosen_preset,
    chosen_served,
    of_words_and_position,
    own_task,
    said_of_the_wire,
)
from zopog_ref.app.tune.options import (
    add_data_arguments,
    add_position_argument,
    add_precision_arguments,
    add_readout_arguments,
    add_served_arguments,
    method_options,
    option,
    plain_name,
    setting_of,
)
from zopog_ref.methods import METHODS, method_class

BUDGETS = "3,15,50,200,800"
_ANY = 10**9  # calls: a budget that pays a step of everything
_SHARED = tuple(name for name in PRESET_FIELDS if name != "budget")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", "--task", metavar="A,B,...", help="embedded tasks or task TOMLs (supersense)")
    add_data_arguments(parser)
    parser.add_argument(
        "--methods",
        default="all",
        metavar="A,B,...",
        help="METHOD or METHOD:SETTINGS; all (default); auto: chosen questions; none: template and readout",
    )
    parser.add_argument("--seeds", default="42,14,81", metavar="A,B,...", help="default 42,14,81; five tell more")
    parser.add_argument("--budget", type=int, help="API calls of every run (default 4000)")
    parser.add_argument(
        "--curve", action="store_true", help="several budgets, a run of its own for each: what calls buy"
    )
    parser.add_argument("--budgets", metavar="A,B,...", help=f"of --curve (default {BUDGETS})")
    parser.add_argument("--shots", type=int, default=16, help="training rows a class (default 16)")
    parser.add_argument(
        "--model", default="embedded", help="embedded, a Hugging Face folder, FILE.gguf, or a served model's address"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    add_precision_arguments(parser)
    add_readout_arguments(parser)
    parser.add_argument(
        "--template",
        action="append",
        help="in place of the tasks' own; given several times, the baselines read all of them together",
    )
    add_position_argument(parser)
    parser.add_argument(
        "--label-words", choices=WORD_SCORINGS, metavar="HOW", help="whole; of several tokens first-piece, or their sum"
    )
    parser.add_argument(
        "--settings", choices=SETTINGS_NAMES, help="named settings (default: embedded of that model, auto of any other)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="METHOD.NAME=VALUE", help="one setting of one method; repeatable"
    )
    parser.add_argument("--workers", type=int, help="runs at once (default: one a core); cores are shared out")
    parser.add_argument("--threads", type=int, metavar="N", help="of the model in each run (default: cores / workers)")
    parser.add_argument("--executor", choices=tuple(EXECUTORS), default="process")
    add_served_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/compare; the same command goes on there")
    parser.add_argument("--json", action="store_true", help="compare.json on stdout, nothing else there")
    group = parser.add_argument_group("settings of every method, in place of its own")
    defaults = PRESETS["zo-pog", "embedded"]
    for name in _SHARED:
        group.add_argument(option(name), type=type(getattr(defaults, name)), dest=name)


def make_plan(arguments: argparse.Namespace) -> Plan:
    """The plan asked for. Errors: InputError, TaskError, MissingPackage, before any model is loaded."""
    check_readout(arguments)
    remote = chosen_served(arguments)
    for name in ("workers", "threads"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    if remote is not None and arguments.workers not in (None, 1):
        raise InputError("--workers: runs on a served model go one after another; --concurrency asks it several things")
    if remote is not None and arguments.threads is not None:
        raise InputError("--threads: a served model computes elsewhere; --concurrency asks it several things")
    plan = Plan(
        out=arguments.out or Path("runs") / "compare",
        tasks=_tasks(arguments),
        variants=list(_variants(arguments)),
        seeds=[_whole(text, "--seeds", "42,14,81") for text in _several(arguments.seeds, "--seeds")],
        shots=arguments.shots,
        budget=4000 if arguments.budget is None else arguments.budget,
        model=arguments.model,
        device=arguments.device,
        fewer=chosen_precision(arguments),
        readout=arguments.readout or ("none" if remote is not None and remote.answers == "labels" else "auto"),
        readout_tokens=arguments.readout_tokens,
        refit=arguments.refit or None,
        remote=remote,
        wire=said_of_the_wire(arguments),
        most=arguments.top_logprobs is None,
    )
    for cell in plan.cells():
        check_run(cell.config, cell.machine)
    return plan


def make_curve(arguments: argparse.Namespace) -> tuple[Plan, list[int]]:
    """The plan of --curve without a budget that anything could fail for, and the budgets. Errors: as `make_plan`."""
    if arguments.budget is not None:
        raise InputError("--curve takes several budgets: --budgets 50,200,800 in place of --budget")
    if arguments.budget_usd is not None:
        raise InputError("--curve has several comparisons, and --budget-usd caps one: run each with --budget instead")
    budgets = sorted(_whole(text, "--budgets") for text in _several(arguments.budgets or BUDGETS, "--budgets"))
    if budgets[0] < 1:
        raise InputError(f"--budgets: {budgets[0]} calls; a budget is at least 1")
    if "none" not in (names := _methods(arguments)):
        arguments.methods = ",".join([*names, "none"])  # what needs no search is what a search has to beat
    arguments.budget = _ANY
    return make_plan(arguments), budgets


def _tasks(arguments: argparse.Namespace) -> dict[str, tuple[str | None, Task]]:
    """By name: how each was given, with its own template, and the task. Errors: InputError, TaskError."""
    given, changes = arguments.template or [], of_words_and_position(arguments)
    if arguments.train is not None:
        if arguments.tasks is not None:
            raise InputError("--tasks and --train were both given: a task TOML names its own train file")
        task = own_task(arguments)
        return {task.name: (None, replace(_with_templates(task, given), **changes))}
    check_no_data(arguments)
    tasks: dict[str, tuple[str | None, Task]] = {}
    for source in _several(arguments.tasks or "supersense", "--tasks"):
        task = load_task(source)
        if task.name in tasks:
            raise InputError(f"two tasks are called {task.name!r}: give each a name of its own in its TOML")
        if Path(task.name).name != task.name or task.name.startswith("."):
            raise InputError(f"the task's name {task.name!r} cannot be the name of a folder: change it in its TOML")
        task = replace(_with_templates(task, given) if given else task, **changes)
        tasks[task.name] = (None if given or changes else source, task)
    return tasks


def _with_templates(task: Task, given: Sequence[str]) -> Task:
    """The task's rows and labels with other templates. Errors: TaskError."""
    return replace(replace_template(task, given[0]), templates=tuple(given) if len(given) > 1 else ())


def _several(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"{option} is empty")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{option} names {', '.join(twice)} twice")
    return names


def _whole(text: str, option: str, like: str = "3,15,50") -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is not a whole number; expected something like {like}") from None


def _methods(arguments: argparse.Namespace) -> list[str]:
    """The names in --methods, as the package spells them; all stands for the searches."""
    every = ",".join(METHODS)
    return _several(
        ",".join(every if plain_name(name) == "all" else plain_name(name) for name in arguments.methods.split(",")),
        "--methods",
    )


def _variants(arguments: argparse.Namespace) -> Iterator[Variant]:
    names = _methods(arguments)
    changes = _changes(arguments.set)
    for name in names:
        method, _, settings = name.partition(":")
        if method == MANUAL:
            raise InputError("the manual prompt is a row of every table; leave it out of --methods")
        if method not in (*METHODS, *SEARCHLESS):
            known = (*METHODS, *SEARCHLESS)
            hint = did_you_mean(method, known)
            raise InputError(f"unknown method {method!r} in --methods; there are {', '.join(known)}{hint}")
        settings = settings or arguments.settings or default_preset(arguments.model, method)
        if method in SEARCHLESS:
            own = {key: value for key in ("budget", "batch_size") if (value := getattr(arguments, key)) is not None}
            yield Variant(name, method, settings, preset_of(method, settings).changed(**own))
            continue
        method_class(method)  # its package is there
        given = (
            {key: getattr(arguments, key) for key in _SHARED}
            | {"budget": 4000 if arguments.budget is None else arguments.budget}
            | changes.get(name, {})
        )
        yield Variant(name, method, settings, chosen_preset(method, settings, given), given)
    if unused := sorted(changes.keys() - set(names)):
        raise InputError(f"--set names {', '.join(unused)}, which is not among --methods {','.join(names)}")


def _changes(given: list[str]) -> dict[str, dict[str, Any]]:
    """--set METHOD.NAME=VALUE, by method."""
    changes: dict[str, dict[str, Any]] = {}
    for text in given:
        left, equals, value = text.partition("=")
        method, dot, name = left.rpartition(".")
        method, name = plain_name(method), name.strip().replace("-", "_")
        if not (dot and equals and method and value):
            raise InputError(f"--set {text!r} is not METHOD.NAME=VALUE, such as bbt.popsize=40")
        known = (*method_options(), *_SHARED)
        if name not in known:
            raise InputError(f"--set {text!r}: no method has a setting {name!r}{did_you_mean(name, known)}")
        if name in changes.setdefault(method, {}):
            raise InputError(f"--set {text!r}: {method}.{name} is set twice; leave one of the two out")
        try:
            changes[method][name] = setting_of(name, value)
        except ValueError as error:
            raise InputError(f"--set {text!r}: {error}") from None
    return changes
