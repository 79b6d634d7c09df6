"""zopog tune: learn a prompt, keep everything, compare with the manual prompt on the test split."""

import argparse
import dataclasses
import json
import signal
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.bundle import Prediction, Prompt, predict, save_prompt
from zopog_models.families.sentence import POOLINGS
from zopog_models.published_tasks import load_published, published_tasks
from zopog_models.runtime import TEMPERATURE, FrozenModel, load_model
from zopog_models.task import Rows, embedded_tasks, load_task
from zopog_models.template import Task, make_task, replace_template
from zopog_models.transport import ServiceError
from zopog_ref import search
from zopog_ref.app.backends import BACKENDS, on_backend, open_backend, stream_of
from zopog_ref.app.errors import InputError, Interrupted
from zopog_ref.app.experiment import Experiment, check_repeatable, configuration, method_of, prepare, preset_of
from zopog_ref.app.metrics import classification_metrics
from zopog_ref.app.precision import PRECISIONS, SCOPES, check_options, use_precision
from zopog_ref.app.predictions import Predictions, save_predictions
from zopog_ref.app.presets import PRESET_FIELDS, PRESETS, SETTINGS_NAMES, Preset, default_preset
from zopog_ref.app.progress import Progress
from zopog_ref.app.remote import add_arguments as add_remote_arguments
from zopog_ref.app.remote import check_options as check_remote_options
from zopog_ref.app.remote import close_requests, is_remote, keep_requests, open_remote, remote_settings, requests_of
from zopog_ref.app.run_folder import RunFolder, free_name, read_json, say, write_json
from zopog_ref.app.uncertainty import ensemble_metrics
from zopog_ref.app.workers import add_arguments as add_workers_argument
from zopog_ref.app.workers import check_options as check_workers
from zopog_ref.app.workers import ended_workers, open_on_workers
from zopog_ref.backend import NUMPY
from zopog_ref.methods import METHODS, settings_class
from zopog_ref.objective import LOSSES, Ledger

_TASK_FIELDS = ("name", "metric", "description", "text_columns", "label_column", "skip_labels")


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
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the policy step and the dev scores, if it agrees with fp32 on this run's rows (default: fp32)",
    )
    parser.add_argument("--precision-scope", choices=SCOPES, help="all: of zeroth-order steps too (default: policy)")
    parser.add_argument(
        "--precision-anyway", action="store_true", default=None, help="use it even if it does not agree with fp32"
    )
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
        numbers.add_argument(_option(name), type=type(getattr(defaults, name)), dest=name)
    for name, (kind, methods) in method_options().items():
        only = "" if len(methods) == len(METHODS) else ", ".join(methods)
        numbers.add_argument(_option(name), type=_switch if kind is bool else kind, dest=name, help=only)


def method_options() -> dict[str, tuple[type, list[str]]]:
    """Every setting of any method: its type, and the methods that have it."""
    options: dict[str, tuple[type, list[str]]] = {}
    for name in METHODS:
        for field in dataclasses.fields(settings_class(name)):
            options.setdefault(field.name, (type(field.default), []))[1].append(name)
    return options


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _switch(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"expected on or off, not {text!r}")
    return text.lower() == "on"


def run(arguments: argparse.Namespace) -> int:
    """Start or resume a run; report its result. Exit code 0, or Interrupted after saving."""
    with stop_requests() as should_stop:
        path, result = learn(arguments, should_stop, quiet=arguments.json)
    if arguments.json:
        print(json.dumps(result, indent=2))  # noqa: T201  the command's answer
    else:
        print(_table(result, path))  # noqa: T201
    return 0


def learn(arguments: argparse.Namespace, should_stop: Callable[[], bool], quiet: bool) -> tuple[Path, dict[str, Any]]:
    """Start or resume a run and carry it to its end: its folder and result. Errors: Interrupted after saving."""
    check_workers(arguments)
    with ended_workers(arguments):
        return _learn(arguments, should_stop, quiet)


def _learn(arguments: argparse.Namespace, should_stop: Callable[[], bool], quiet: bool) -> tuple[Path, dict[str, Any]]:
    folder, experiment, config = _start(arguments) if arguments.resume is None else _reopen(arguments)
    try:
        return folder.path, _run(folder, experiment, config, should_stop, quiet)
    except ServiceError as error:
        raise ServiceError(f"{error}. Nothing paid for is lost: zopog tune --resume {folder.path}") from error
    finally:
        close_requests(experiment.model)
        folder.close()


def _start(arguments: argparse.Namespace) -> tuple[RunFolder, Experiment, dict[str, Any]]:
    task, source = chosen_task(arguments)
    settings, method = arguments.settings or default_preset(arguments.model), arguments.method or "zo-pog"
    preset = chosen_preset(method, settings, vars(arguments))
    precision = check_options(vars(arguments))
    check_numbers(preset, arguments.shots, arguments.seed, len(task.labels))
    check_remote_options(vars(arguments), preset)
    name = arguments.backend or "numpy"
    # Opened first: what is missing is said before the model is loaded, and the model computes on its stream.
    backend = open_backend(name, method_of(preset, arguments.seed))
    remote = remote_settings(vars(arguments)) if is_remote(arguments.model) else None
    model = _open_model(arguments.model, arguments, arguments.pooling, arguments.temperature, remote, backend)
    experiment = prepare(model, task, preset, arguments.seed, arguments.shots)
    experiment.backend = backend
    config = configuration(experiment, model=model.source, shots=arguments.shots, settings=settings)
    config["task"]["source"], config["backend"] = source, name
    if remote is not None:
        config["remote"] = remote
    if precision != "fp32":
        scope = arguments.precision_scope or "policy"
        config["precision"] = use_precision(experiment, precision, scope, bool(arguments.precision_anyway))
    path = arguments.out or free_name(Path("runs") / f"{task.name}-{method}-{arguments.seed}")
    folder = RunFolder.create(path, config)
    keep_requests(model, path)
    say(f"run folder {path}, model {model.source}, task {task.name}")
    say(f"settings {settings}: {preset.about}")
    for split, count in experiment.truncated.items():
        if count:
            say(f"{count} {split} rows did not fit the model's {model.max_positions} positions: their text was cut")
    return folder, experiment, config


def _open_model(
    source: str, arguments: argparse.Namespace, pooling: str | None, temperature: float | None,
    remote: Mapping[str, Any] | None = None, backend: Any = NUMPY,
) -> FrozenModel:  # fmt: skip
    temperature = TEMPERATURE if temperature is None else temperature
    if not 0 < temperature < float("inf"):
        raise InputError(f"--temperature is {temperature}; it must be a positive number")
    if remote is not None:
        return open_remote(source, remote, pooling, temperature)
    if arguments.workers is not None:
        return open_on_workers(source, arguments, pooling, temperature)
    device, stream = arguments.device, stream_of(backend, arguments.device)
    return load_model(
        source, device=device, threads=arguments.threads, pooling=pooling, temperature=temperature, stream=stream
    )


def chosen_preset(method: str, settings: str, given: Mapping[str, Any]) -> Preset:
    """Named settings of a method with what was given (option -> value or None) replaced. Errors: InputError."""
    preset = PRESETS[method, settings]
    changes = {name: given[name] for name in (*PRESET_FIELDS, *method_options()) if given.get(name) is not None}
    own = [field.name for field in dataclasses.fields(preset.method)]
    for name in changes:
        if name not in (*PRESET_FIELDS, *own):
            mine = ", ".join(map(_option, own))
            raise InputError(f"{_option(name)} is no setting of {method}, whose own are {mine}")
    try:
        return preset.changed(**changes)
    except ValueError as error:
        raise InputError(str(error)) from error


def check_numbers(preset: Preset, shots: int, seed: int, classes: int) -> None:
    """What is wrong with the numbers, before the model is loaded. Errors: InputError, MissingPackage."""
    for name in ("n_positions", "n_candidates", "dim", "batch_size", "budget"):
        if getattr(preset, name) < 1:
            raise InputError(f"{_option(name)} is {getattr(preset, name)}; it must be at least 1")
    if preset.loss not in LOSSES:
        raise InputError(f"--loss is {preset.loss!r}; choose one of {', '.join(LOSSES)}")
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


def chosen_task(arguments: argparse.Namespace) -> tuple[Task, str | None]:
    """The task asked for, and its embedded name or TOML when it has one."""
    if arguments.train is None:
        given = [name for name in ("labels", "dev", "test") if getattr(arguments, name) is not None]
        if given:
            raise InputError(f"--{given[0]} describes your own data, but --train is missing")
        name = arguments.task or "supersense"
        task = task_named(name, arguments.data)
        if arguments.template is None:
            return task, name
        # The task's rows and labels with another template: a decoder's has to end with {mask}.
        return replace_template(task, arguments.template), None
    if arguments.data is not None:
        raise InputError("--data holds the files of a published --task; --train names a file of your own")
    if arguments.task:
        raise InputError("--task and --train were both given: a task TOML names its own train file")
    if not arguments.template or not arguments.labels:
        raise InputError('--train needs --template (such as "{text} . {mask} .") and --labels (such as "0=bad,1=good")')
    labels: dict[str, str] = {}
    for part in arguments.labels.split(","):
        value, equals, word = part.partition("=")
        if not equals or not value.strip() or not word.strip():
            raise InputError(f'--labels: {part!r} is not VALUE=WORD; expected something like "0=bad,1=good"')
        labels[value.strip()] = word.strip()
    name = arguments.train.parent.name or arguments.train.stem
    train, dev, test = (path and path.resolve() for path in (arguments.train, arguments.dev, arguments.test))
    return make_task(arguments.template, labels, train, dev, test, name=name), None


def task_named(name: str, data: Path | None) -> Task:
    """An embedded task, a TOML's, or a published one with the user's files. Errors: InputError, TaskError."""
    if name not in published_tasks():
        if data is not None:
            known = ", ".join(published_tasks())
            raise InputError(f"--data holds the files of a published task, which {name!r} is not: {known}")
        return load_task(name)
    if data is None:
        raise InputError(f"task {name!r} comes without its data: give the folder of its files with --data DIR")
    return load_published(name, data.resolve())


def task_of(config: dict[str, Any]) -> Task:
    """The task a run was started with, from its config.json."""
    saved = config["task"]
    if saved["source"] in {task.name for task in embedded_tasks()}:
        return load_task(saved["source"])
    files = (saved[split] for split in ("train", "dev", "test"))
    about = {name: saved[name] for name in _TASK_FIELDS if name in saved}
    return make_task(saved["template"], saved["labels"], *files, **about)


def _reopen(arguments: argparse.Namespace) -> tuple[RunFolder, Experiment, dict[str, Any]]:
    fixed = (
        "task",
        "data",
        "train",
        "dev",
        "test",
        "template",
        "labels",
        "method",
        "settings",
        "out",
        "pooling",
        "backend",
    )
    names = (
        *fixed,
        "precision",
        "precision_scope",
        "precision_anyway",
        "temperature",
        *PRESET_FIELDS,
        *method_options(),
    )
    given = [_option(name) for name in names if getattr(arguments, name) is not None]
    if given:
        raise InputError(f"{', '.join(given)}: fixed when the run was started; --resume goes on with what it had")
    folder, config = RunFolder.open(arguments.resume)
    try:
        preset = preset_of(config)
        backend = open_backend(config.get("backend", "numpy"), method_of(preset, config["seed"]))
        # A served model may have moved: then --model says where to, and its hash has to be the same.
        source = arguments.model if is_remote(arguments.model) and "remote" in config else config["model"]
        remote = remote_settings(vars(arguments), config["remote"]) if "remote" in config else None
        model = _open_model(source, arguments, config.get("pooling"), config.get("temperature"), remote, backend)
        experiment = prepare(model, task_of(config), preset, config["seed"], config["shots"])
        experiment.backend = backend
        check_repeatable(config, experiment)
        if saved := config.get("precision"):
            experiment.reduce(experiment.model.reduced(saved["precision"]), saved["scope"] == "all")
        keep_requests(model, folder.path)
    except BaseException:
        folder.close()
        raise
    return folder, experiment, config


def _run(
    folder: RunFolder, experiment: Experiment, config: dict[str, Any], should_stop: Callable[[], bool], quiet: bool
) -> dict[str, Any]:
    method, preset = experiment.method(), experiment.preset
    finished = folder.path / "result.json"
    if finished.exists():
        say(f"{folder.path} is finished already")
        return read_json(finished, "")
    ledger, rows = experiment.ledger(), len(experiment.train.labels)
    price = search.step_price(method, ledger, rows, preset.batch_size)
    method, objective = on_backend(experiment.backend, experiment, ledger, folder)
    progress = Progress(preset.budget, price, quiet)
    folder.warn = say
    result = search.run(
        method,
        objective,
        rows=rows,
        batch_size=preset.batch_size,
        dev=experiment.dev_score,
        store=folder,
        on_step=progress,
        should_stop=should_stop,
    )
    progress.close()
    if result.stop_reason == "interrupted":
        raise Interrupted(f"stopped and saved after {ledger.calls} calls: go on with zopog tune --resume {folder.path}")
    prompt = experiment.deployable(result.prompts)
    save_prompt(folder.path / "prompt", prompt)
    answer = _result(experiment, config, prompt, result, ledger, folder)
    write_json(finished, answer)
    return answer


def _result(
    experiment: Experiment, config: dict[str, Any], prompt: Prompt, result: search.SearchResult, ledger: Ledger,
    folder: RunFolder,
) -> dict[str, Any]:  # fmt: skip
    preset, test, task, tuned, manual = experiment.preset, experiment.test, experiment.task, None, None
    if test is not None:
        answers, plain = (predict(experiment.model, p, test.texts) for p in (prompt, experiment.manual()))
        rows = np.array(experiment.splits["test"].rows, np.int64)
        kept = Predictions(rows, test.labels, answers.per_prompt, prompt.weights, plain.probabilities)
        save_predictions(folder.path, kept)
        tuned, manual = scored(answers, task, test, prompt.weights), scored(plain, task, test)
    return {
        "method": config["method"],
        "task": task.name,
        "model": config["model"],
        "settings": config["settings"],
        "seed": experiment.seed,
        "budget": preset.budget,
        "calls": ledger.calls,
        "sequences": ledger.sequences,
        "tokens": ledger.tokens,
        "seconds": round(folder.seconds, 3),
        "stop_reason": result.stop_reason,
        "manual_accuracy": manual and manual["accuracy"],
        "dev_accuracy": evaluate(experiment.model, prompt, task, experiment.dev)["accuracy"],
        "dev_loss": result.dev and result.dev.loss,
        "best_step": result.best_step,
        "test_accuracy": tuned and tuned["accuracy"],
        "test_metrics": tuned,
        "manual_metrics": manual,
        **({"precision": config["precision"]} if "precision" in config else {}),
        **requests_of(experiment.model),
        "prompt_tokens": [[experiment.model.tokenizer.id_to_token(int(i)) for i in ids] for ids in prompt.ids],
        "n": preset.n_positions,
        "N": preset.n_candidates,
        "d": preset.dim,
    }


def evaluate(model: FrozenModel, prompt: Prompt, task: Task, rows: Rows) -> dict[str, Any]:
    """Metrics of a prompt on labelled rows, exactly as `zopog predict` would answer them."""
    return scored(predict(model, prompt, rows.texts), task, rows, prompt.weights)


def scored(prediction: Prediction, task: Task, rows: Rows, weights: np.ndarray | None = None) -> dict[str, Any]:
    """Metrics of predictions on labelled rows, how sure they are (docs/uncertainty.md), how many texts were cut."""
    predicted = np.argmax(prediction.probabilities, axis=1)  # (rows,)
    metrics = classification_metrics(rows.labels, predicted, list(task.labels))
    unsure = ensemble_metrics(prediction.per_prompt, weights, rows.labels)
    return metrics | {"truncated": prediction.truncated, "uncertainty": unsure}


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks the run to stop after the current step; a second Ctrl-C stops it at once."""
    asked = threading.Event()

    def ask(number: int, frame: types.FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()
        say("\nstopping after this step (again to stop at once)")

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _table(result: dict[str, Any], folder: Path) -> str:
    rows = [("prompt", "test accuracy", "macro F1", "API calls")]
    for name, metrics, calls in (
        ("manual (template alone)", result["manual_metrics"], 0),
        (f"tuned ({result['method']})", result["test_metrics"], result["calls"]),
    ):
        if metrics is not None:
            rows.append((name, f"{metrics['accuracy']:.1%}", f"{metrics['macro_f1']:.3f}", str(calls)))
    if len(rows) == 1:
        lines = [f"dev accuracy {result['dev_accuracy']:.1%}; no rows are left for a test"]
    else:
        lines = ["  ".join([f"{row[0]:<26}", *(f"{cell:>13}" for cell in row[1:])]) for row in rows]
        metrics = result["test_metrics"]
        most = f"always answering the most frequent class: {metrics['majority']:.1%}"
        cut = f" ({metrics['truncated']} cut to the model's positions)" if metrics["truncated"] else ""
        lines.append(f"{metrics['rows']} test rows{cut}; {most}")
    spent = f"{result['seconds']:.0f} s, {result['sequences']} sequences"
    return "\n".join([*lines, f"{spent}; the prompt to deploy: {folder / 'prompt'}"])
