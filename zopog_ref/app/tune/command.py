"""zopog tune: learn a prompt, keep everything, compare with the manual prompt on the test split."""

import argparse
import json
import signal
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zopog_models.frozen.model import TEMPERATURE, FrozenModel, load_model
from zopog_models.prompts.bundle import save_prompt
from zopog_models.served.transport import ServiceError
from zopog_ref import search
from zopog_ref.app.errors import InputError, Interrupted
from zopog_ref.app.report.progress import Progress
from zopog_ref.app.run.config import check_repeatable, configuration, preset_of
from zopog_ref.app.run.experiment import Experiment, method_of, prepare
from zopog_ref.app.run.folder import RunFolder, free_name, say, write_json
from zopog_ref.app.run.presets import PRESET_FIELDS, default_preset
from zopog_ref.app.run.saved_run import CONFIGURATION, read_result
from zopog_ref.app.run.saved_values import check
from zopog_ref.app.tune.backends import on_backend, open_backend, stream_of
from zopog_ref.app.tune.options import add_arguments, check_numbers, chosen_preset, method_options, option
from zopog_ref.app.tune.precision import check_options, use_precision
from zopog_ref.app.tune.result import result_of, table
from zopog_ref.app.tune.served import check_options as check_remote_options
from zopog_ref.app.tune.served import close_requests, is_remote, keep_requests, open_remote, remote_settings
from zopog_ref.app.tune.task import chosen_task, task_of
from zopog_ref.app.tune.workers import check_options as check_workers
from zopog_ref.app.tune.workers import ended_workers, open_on_workers
from zopog_ref.backend import NUMPY

__all__ = ["add_arguments", "learn", "run", "stop_requests"]

# Options that a run keeps from its start; those with a default of their own cannot be told from a choice.
_FIXED = (
    "task", "data", "train", "dev", "test", "template", "labels", "method", "settings", "out", "pooling", "temperature",
    "backend", "precision", "precision_scope", "precision_anyway",
)  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Start or resume a run; report its result. Exit code 0, or Interrupted after saving."""
    with stop_requests() as should_stop:
        path, result = learn(arguments, should_stop, quiet=arguments.json)
    if arguments.json:
        print(json.dumps(result, indent=2))  # noqa: T201  the command's answer
    else:
        print(table(result, path))  # noqa: T201
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


def _reopen(arguments: argparse.Namespace) -> tuple[RunFolder, Experiment, dict[str, Any]]:
    names = (*_FIXED, *PRESET_FIELDS, *method_options())
    given = [option(name) for name in names if getattr(arguments, name) is not None]
    if given:
        raise InputError(f"{', '.join(given)}: fixed when the run was started; --resume goes on with what it had")
    folder, config = RunFolder.open(arguments.resume)
    try:
        check(config, CONFIGURATION, folder.path / "config.json")
        preset, task = preset_of(config), task_of(config)
        check_numbers(preset, config["shots"] or 1, config["seed"], len(task.labels))
        backend = open_backend(config.get("backend") or "numpy", method_of(preset, config["seed"]))
        # A served model may have moved: then --model says where to, and its hash has to be the same.
        source = arguments.model if is_remote(arguments.model) and config.get("remote") else config["model"]
        remote = remote_settings(vars(arguments), config["remote"]) if config.get("remote") else None
        model = _open_model(source, arguments, config.get("pooling"), config.get("temperature"), remote, backend)
        experiment = prepare(model, task, preset, config["seed"], config["shots"])
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
        return read_result(folder.path)
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
    answer = result_of(experiment, config, prompt, result, ledger, folder)
    write_json(finished, answer)
    return answer


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
