"""From the options of `zopog tune` to what they ask for: a run (`RunConfig`) and this machine's part in it."""

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zopog_models.errors import RepeatedKey, UnusableFile
from zopog_models.files.gguf_file import is_gguf
from zopog_models.files.repeated_keys import once
from zopog_models.files.untrusted import read_untrusted
from zopog_models.frozen.model import locate_model
from zopog_models.served.addresses import default_top, is_served
from zopog_models.tasks.chat import chat_template, in_conversation
from zopog_models.tasks.published_tasks import load_published, published_tasks
from zopog_models.tasks.task_files import embedded_tasks, load_task
from zopog_models.tasks.template import Task, make_task, replace_template
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import UNSAVED, WIRE, Machine, Precision, RunConfig, Served
from zopog_ref.app.run.presets import AUTO, PRESET_FIELDS, SEARCHLESS, TEMPLATE_ALONE, Preset, default_preset, preset_of
from zopog_ref.app.run.typed_json import whole
from zopog_ref.app.track.watchers import check_installed
from zopog_ref.app.tune.options import method_options, option, plain_name

_SERVED = tuple(field.name for field in dataclasses.fields(Served))
_LARGEST_INSTRUCTIONS = 1_000_000  # bytes
_DEFAULTS = {"model": "embedded", "seed": 42, "shots": 16}
# Options that a run keeps from its start.
_FIXED = (
    "task", "data", "seed", "shots",
    "train", "dev", "test", "template", "chat", "label_words", "prompt_position", "labels", "text_column",
    "label_column", "method",
    "settings", "out", "instructions", "pooling", "temperature",
    "backend", "precision", "precision_scope", "readout", "readout_tokens", "deploy_tuned", "refit",
    *(name for name in _SERVED if name not in WIRE),
)  # fmt: skip


def chosen_run(arguments: argparse.Namespace) -> RunConfig:
    """The run asked for. Errors: InputError, TaskError; what its numbers allow is looked at by `checks`."""
    chosen = {name: value for name, value in vars(arguments).items() if value is not None}
    arguments = argparse.Namespace(**vars(arguments) | _DEFAULTS | chosen)
    if arguments.tokenizer is not None and is_gguf(arguments.model):
        arguments.model, arguments.tokenizer = f"{arguments.model}#{arguments.tokenizer}", None
    task, source = _task(arguments)
    if arguments.chat:
        task, source = _in_conversation(task, arguments), None
    if changes := of_words_and_position(arguments):
        task, source = dataclasses.replace(task, **changes), None
    check_readout(arguments)
    if arguments.deploy_tuned and arguments.method in SEARCHLESS:
        raise InputError(f"--deploy-tuned: --method {arguments.method} tunes nothing")
    several, remote = arguments.template or task.templates, chosen_served(arguments)
    if remote is not None and remote.answers == "labels":
        if arguments.readout not in (None, "none"):
            raise InputError(f"--readout {arguments.readout} reads scores, and --answers labels gives none")
        arguments.readout = "none"
    method = arguments.method or "zo-pog"
    settings = arguments.settings or default_preset(arguments.model, method)
    return RunConfig(
        task=task,
        source=source,
        model=arguments.model,
        preset=chosen_preset(method, settings, vars(arguments)),
        settings=settings,
        seed=arguments.seed,
        shots=arguments.shots,
        backend=arguments.backend or "numpy",
        pooling=arguments.pooling,
        temperature=arguments.temperature,
        remote=remote,
        precision=chosen_precision(arguments),
        # A search without a readout is the run that it was in version 0.1.0, which knew none.
        readout=None if arguments.readout == "none" and method not in SEARCHLESS else arguments.readout or "auto",
        readout_tokens=arguments.readout_tokens,
        templates=tuple(several) if len(several) > 1 else None,
        deploy="tuned" if arguments.deploy_tuned else None,
        instructions=_instructions(arguments.instructions, method),
        refit=arguments.refit or None,
    )


def of_words_and_position(arguments: argparse.Namespace) -> dict[str, Any]:
    """What --label-words and --prompt-position change of a task."""
    words, position = arguments.label_words, arguments.prompt_position
    changes: dict[str, Any] = {} if words in (None, "whole") else {"first_pieces": words == "first-piece"}
    changes |= {"summed_pieces": True} if words == "sum" else {}
    return changes | ({"position": position} if position not in (None, "before") else {})


def _instructions(path: Path | None, method: str) -> tuple[str, ...] | None:
    """The lines of --instructions. Errors: InputError for a file that has none, or is for another method."""
    if path is None:
        return None
    if method != AUTO:
        raise InputError(f"--instructions is for --method {AUTO}, and the method is {method}")
    try:
        text = read_untrusted(path, _LARGEST_INSTRUCTIONS).decode()
    except (OSError, UnicodeDecodeError, UnusableFile) as error:
        raise InputError(f"--instructions {path}: {error}") from None
    found = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not found:
        raise InputError(f"--instructions {path} holds no instruction: give one a line")
    return found


def _in_conversation(task: Task, arguments: argparse.Namespace) -> Task:
    """The task as what a user says to the model: from here on one with another template. Errors: InputError."""
    if is_served(arguments.model):
        raise InputError("--chat is for a model that is here; a served one has a conversation with chat+http://...")
    chat = chat_template(locate_model(arguments.model)[0])
    spoken = [in_conversation(one, chat, arguments.system or "") for one in arguments.template or task.templates]
    said = spoken[0] if spoken else in_conversation(task.template, chat, arguments.system or "")
    arguments.system, arguments.template = None, spoken or None
    return replace_template(task, said)


def check_readout(arguments: argparse.Namespace) -> None:
    """Errors: InputError for options of a readout that contradict each other."""
    tokens = arguments.readout_tokens
    if tokens is not None and tokens < 1:
        raise InputError(f"--readout-tokens is {tokens}; it must be at least 1")
    if tokens is not None and not whole(tokens):
        raise InputError(f"--readout-tokens is {tokens}; it must be less than 2^53")
    if arguments.refit and arguments.readout == "none":
        raise InputError("--refit fits a readout on the dev rows too, and --readout is none")
    if arguments.refit and arguments.answers == "labels":
        raise InputError("--refit fits a readout, which reads scores, and --answers labels gives none")
    if tokens is not None and arguments.readout not in (None, "auto", "vocabulary"):
        raise InputError(f"--readout-tokens is for the vocabulary readout, and --readout is {arguments.readout}")


def chosen_machine(arguments: argparse.Namespace) -> Machine:
    """How this machine carries the run out; of a continued run, where its model is now."""
    wire = said_of_the_wire(arguments)
    most, track = arguments.top_logprobs is None, tuple(dict.fromkeys(getattr(arguments, "track", None) or ()))
    check_installed(track)
    return Machine(arguments.device, arguments.threads, arguments.workers, arguments.model, wire, most, track)


def said_of_the_wire(arguments: argparse.Namespace) -> dict[str, Any]:
    """How a served model is talked to, as far as it was said: `Machine.wire`."""
    return _given(arguments, (*WIRE, *UNSAVED))


def check_resumed(arguments: argparse.Namespace) -> None:
    """Errors: InputError when a continued run is given what it cannot change."""
    names = (*_FIXED, *PRESET_FIELDS, *method_options())
    given = [option(name) for name in names if getattr(arguments, name) is not None]
    if given or arguments.precision_anyway:
        what = ", ".join([*given, *["--precision-anyway"] * arguments.precision_anyway])
        raise InputError(f"{what}: fixed when the run was started; --resume goes on with what it had")


def chosen_preset(method: str, settings: str, given: Mapping[str, Any]) -> Preset:
    """Named settings of a method with what was given (option -> value or None) replaced. Errors: InputError."""
    preset = preset_of(method, settings, given.get("budget"))
    changes = {name: given[name] for name in (*PRESET_FIELDS, *method_options()) if given.get(name) is not None}
    own = [field.name for field in dataclasses.fields(preset.method)]
    for name in changes:
        if name not in (*PRESET_FIELDS, *own):
            mine = ", ".join(map(option, own)) or "none"
            raise InputError(f"{option(name)} is no setting of {method}, whose own are {mine}")
        does = {TEMPLATE_ALONE: "searches nothing", AUTO: "chooses among texts"}
        if method in SEARCHLESS and name not in ("budget", "batch_size"):
            raise InputError(f"{option(name)} is no setting of --method {method}, which {does[method]}")
    try:
        return preset.changed(**changes)
    except ValueError as error:
        raise InputError(str(error)) from error


def chosen_precision(arguments: argparse.Namespace) -> Precision | None:
    """Of --precision, --precision-scope and --precision-anyway; None is fp32. Errors: InputError."""
    if arguments.precision in (None, "fp32"):
        if arguments.precision_scope or arguments.precision_anyway:
            raise InputError("--precision-scope and --precision-anyway say how --precision is used, which is fp32")
        return None
    scope = arguments.precision_scope or "policy"
    return Precision(arguments.precision, scope, anyway=arguments.precision_anyway)


def _given(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """What was said of these options. Those that may be repeated are tuples."""
    values = ((name, getattr(arguments, name)) for name in names)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values if value is not None}


def chosen_served(arguments: argparse.Namespace) -> Served | None:
    """How the served model is asked; None of one that is here."""
    given = _given(arguments, (*_SERVED, *UNSAVED))
    if not is_served(arguments.model):
        if given:
            raise InputError(f"{option(next(iter(given)))} is for a served model, and --model is {arguments.model!r}")
        return None
    if "tokenizer" not in given:
        raise InputError(
            f"--model {arguments.model} needs --tokenizer FOLDER: a folder with its config.json and tokenizer.json"
        )
    top = default_top(arguments.model)
    defaults = {} if top is None else {"top_logprobs": top}
    kept = {name: value for name, value in given.items() if name not in UNSAVED}
    return Served(**defaults | kept | {"tokenizer": str(arguments.tokenizer)})


def _task(arguments: argparse.Namespace) -> tuple[Task, str | None]:
    """The task asked for, and its embedded name or TOML when it has one."""
    if arguments.train is None:
        check_no_data(arguments)
        name = "supersense" if arguments.task is None else arguments.task
        task = _task_named(name, arguments.data)
        if arguments.template is None:
            return task, name
        # The task's rows and labels with another template: a decoder's has to end with {mask}.
        return replace_template(task, arguments.template[0]), None
    if arguments.data is not None:
        raise InputError("--data holds the files of a published --task; --train names a file of your own")
    if arguments.task:
        raise InputError("--task and --train were both given: a task TOML names its own train file")
    return own_task(arguments), None


def check_no_data(arguments: argparse.Namespace) -> None:
    """Errors: InputError for what describes own data where there are none."""
    own = ("labels", "dev", "test", "text_column", "label_column")
    if given := [name for name in own if getattr(arguments, name) is not None]:
        raise InputError(f"{option(given[0])} describes your own data, but --train is missing")


def own_task(arguments: argparse.Namespace) -> Task:
    """Of --train, --dev, --test, --labels and --template. Errors: InputError, TaskError."""
    if not arguments.template or not arguments.labels:
        raise InputError('--train needs --template (such as "{text} . {mask} .") and --labels (such as "0=bad,1=good")')
    pairs = []
    for part in arguments.labels.split(","):
        value, equals, word = part.partition("=")
        if not equals or not value.strip() or not word.strip():
            raise InputError(f'--labels: {part!r} is not VALUE=WORD; expected something like "0=bad,1=good"')
        pairs.append((value.strip(), word.strip()))
    try:
        labels = once(pairs)
    except RepeatedKey as error:
        raise InputError(f"--labels: {error}") from None
    stem = arguments.train.name.partition(".")[0]
    name = arguments.train.resolve().parent.name if stem.lower() in ("", "train") else stem
    train, dev, test = (path and path.resolve() for path in (arguments.train, arguments.dev, arguments.test))
    columns = {"text_columns": arguments.text_column, "label_column": arguments.label_column or "label"}
    return make_task(arguments.template[0], labels, train, dev, test, name=name, **columns)


def _task_named(name: str, data: Path | None) -> Task:
    """An embedded task, a TOML's, or a published one with the user's files. Errors: InputError, TaskError."""
    spelled = plain_name(name)  # names are lower case; files are as they are
    name = spelled if spelled in (*published_tasks(), *(task.name for task in embedded_tasks())) else name
    if name not in published_tasks():
        if data is not None:
            known = ", ".join(published_tasks())
            raise InputError(f"--data holds the files of a published task, which {name!r} is not: {known}")
        return load_task(name)
    if data is None:
        raise InputError(f"task {name!r} comes without its data: give the folder of its files with --data DIR")
    return load_published(name, data.resolve())
