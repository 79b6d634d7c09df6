"""Carrying a run out: started or gone on with, to its end or to a polite stop; all it finds is kept in its folder."""

import signal
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zopog_models.errors import ClusterError, ServiceError, Stopped
from zopog_models.files.durable import FULL, DiskFull
from zopog_models.frozen.model import FrozenModel
from zopog_models.prompts.bundle import save_prompt
from zopog_models.runners.runner import Scores
from zopog_models.served.text_runner import TextRunner
from zopog_models.tasks.notices import data_notices
from zopog_ref import search
from zopog_ref.app.errors import InputError, Interrupted
from zopog_ref.app.output import say
from zopog_ref.app.report.progress import Progress
from zopog_ref.app.run.config import Machine, RunConfig, versions
from zopog_ref.app.run.evidence import Evidence
from zopog_ref.app.run.experiment import Experiment, method_of, prepare
from zopog_ref.app.run.folder import ANSWERS, RunFolder, free_name, write_json
from zopog_ref.app.run.growing import grow
from zopog_ref.app.run.presets import AUTO, PRESET_FIELDS, SEARCHLESS
from zopog_ref.app.run.saved_run import read_result
from zopog_ref.app.track.watchers import Watchers, tracked
from zopog_ref.app.tune.backends import on_backend, open_backend, stream_of
from zopog_ref.app.tune.checks import check_numbers, check_precision, check_run, check_workers
from zopog_ref.app.tune.ending import check_end, end, reads, reserved
from zopog_ref.app.tune.models import check_place, continued, go_on, keep_requests, open_model, probe
from zopog_ref.app.tune.outlay import few_steps, missing_words, planned, words_and_position
from zopog_ref.app.tune.precision import use_precision
from zopog_ref.app.tune.readings import TOKENS
from zopog_ref.app.tune.result import result_of
from zopog_ref.backend import NUMPY
from zopog_ref.objective import Ledger


def learn(
    config: RunConfig | None, machine: Machine, out: Path | None, should_stop: Callable[[], bool], quiet: bool,
    finish: Callable[[Path], None] = lambda folder: None,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Carry a run to its end: its folder and result. config: of a new run, in `out` (None: a name of its own);
    None: go on with the run in `out`. finish: what else is written to its folder, while no other process can.

    Errors: Interrupted after saving; ServiceError, from which the run can go on too.
    """
    with ExitStack() as held:  # whatever happens, the model and the folder are given back
        try:
            if config is not None:
                folder, experiment, config = _start(config, machine, out, held, should_stop)
            elif out is not None:
                folder, experiment, config = _reopen(out, machine, held, should_stop)
            else:
                raise InputError("neither a new run nor the folder of one")
        except Stopped as error:
            raise Interrupted(f"{error}, before anything was asked of the model: the same command goes on") from None
        try:
            about = {"method": config.method, "task": config.task.name, "model": config.model, "seed": config.seed}
            about |= {name: getattr(config.preset, name) for name in PRESET_FIELDS} | asdict(config.preset.method)
            with tracked(machine.track, folder.path, about, say) as watchers:
                result = _run(folder, experiment, config, should_stop, quiet, watchers)
                watchers.close(result)
            finish(folder.path)
            return folder.path, result
        except Stopped as error:
            raise Interrupted(
                f"{error}. All that was answered is kept: go on with {go_on(folder.path, config)}"
            ) from None
        except (ServiceError, ClusterError) as error:
            kind = ServiceError if isinstance(error, ServiceError) else ClusterError
            raise kind(f"{error}. Nothing paid for is lost: {go_on(folder.path, config)}") from error
        except OSError as error:
            if error.errno not in FULL or isinstance(error, DiskFull):
                raise
            what = f"all that was paid for is kept; make room, then {go_on(folder.path, config)}"
            raise DiskFull(Path(error.filename or folder.path), what, error.errno) from None


def _start(
    config: RunConfig, machine: Machine, out: Path | None, held: ExitStack, should_stop: Callable[[], bool]
) -> tuple[RunFolder, Experiment, RunConfig]:
    check_workers(machine, config.model)
    check_run(config, machine)
    model, experiment = _opened(config, machine, held, should_stop)
    config = replace(config, model=model.source).opened(model)
    if config.precision is not None:
        config = replace(config, precision=use_precision(experiment, config.precision))
    asked, config = config.preset.n_candidates, replace(config, preset=experiment.preset)
    for line in probe(model, experiment, machine.most):
        say(line)
    if config.remote is not None and isinstance(model.runner, TextRunner):
        config = replace(config, remote=replace(config.remote, top_logprobs=model.runner.top))
    path = out or free_name(Path("runs") / f"{config.task.name}-{config.method}-{config.seed}")
    folder = RunFolder.create(path, config.to_json(Evidence.of(experiment)))
    held.callback(folder.close)
    if machine.shorter is not None and config.remote is None:  # a server's answers are kept with their own run
        grow(machine.shorter, path)
    keep_requests(model, path)
    say(f"run folder {path}, model {model.source}, task {config.task.name}")
    for line in _notices(experiment, config, asked):
        say(line)
    named = "" if config.method in SEARCHLESS else f"settings {config.settings}: "
    say(f"{named}{config.preset.about}")
    for line in words_and_position(experiment):
        say(line)
    if reads(config):
        say(f"readout {config.readout or 'none'}, of {_scores_said(model, config)}")
    for line in few_steps(experiment, config) + planned(experiment, config):
        say(line)
    for split, count in experiment.truncated.items():
        if count:
            say(f"{count} {split} rows did not fit the model's {model.max_positions} positions: their text was cut")
    return folder, experiment, config


def _scores_said(model: FrozenModel, config: RunConfig) -> str:
    """What scores the readout may read, for people."""
    if config.readout in ("none", "centred", "labels") or model.scores != Scores.ANY:
        return "the label words' scores"
    others = "the embedding" if model.pooling else f"the {config.readout_tokens or TOKENS} most probable tokens"
    return f"the label words' scores and {others}"


def _reopen(
    path: Path, machine: Machine, held: ExitStack, should_stop: Callable[[], bool]
) -> tuple[RunFolder, Experiment, RunConfig]:
    folder, values = RunFolder.open(path)
    held.callback(folder.close)
    config = RunConfig.from_json(values, path / "config.json")
    found = Evidence.from_json(values, path / "config.json")
    check_workers(machine, config.model)
    check_precision(config, machine)
    check_numbers(config)
    if machine.address is None:
        check_place(config.model)
    now = replace(config, model=machine.address or config.model)  # it may have moved: its hash has to be the same
    if config.remote is not None:
        now = replace(now, remote=continued(config.remote, machine, config.model))
    _say_what_changed(values, folder)
    model, experiment = _opened(now, machine, held, should_stop)
    found.check_same(Evidence.of(experiment))
    if config.precision is not None:
        experiment.reduce(model.reduced(config.precision.precision), config.precision.scope == "all")
    keep_requests(model, folder.path)
    return folder, experiment, config


def _notices(experiment: Experiment, config: RunConfig, candidates: int) -> list[str]:
    """What was done otherwise than asked, and what is odd about the data: a line each."""
    lines, task = [], config.task
    per_class = len(experiment.train.labels) // len(task.labels)
    if config.shots is not None and per_class < config.shots:
        lines.append(
            f"{config.shots} shots were asked for; the rarest class has rows for {per_class} to train on and as many "
            "for dev, which were set aside from the train file: give --dev FILE to train on more"
        )
    if experiment.preset.n_candidates < candidates:
        found = experiment.preset.n_candidates
        lines.append(f"{candidates} candidate tokens were asked for, the texts hold {found}: N is {found}")
    splits = {"train": experiment.train, "dev": experiment.dev, "test": experiment.test}
    return lines + data_notices({name: rows for name, rows in splits.items() if rows is not None}, task)


def _say_what_changed(values: dict[str, Any], folder: RunFolder) -> None:
    """A line where the run was started with other versions, or its config.json was written since."""
    then, now = values.get("versions"), versions()
    if isinstance(then, dict):
        other = [f"{name} {then[name]} (here {now.get(name, 'none')})" for name in then if now.get(name) != then[name]]
        if other:
            say(f"this run was started with {', '.join(other)}: its last digits may come out otherwise"[:1000])
    if folder.edited():
        say(f"{folder.path / 'config.json'} was edited since the last step: the run goes on with what it says now")


def _opened(
    config: RunConfig, machine: Machine, held: ExitStack, should_stop: Callable[[], bool]
) -> tuple[FrozenModel, Experiment]:
    """The run's model, and the run on it."""
    # Opened first: what is missing is said before the model is loaded, and the model computes on its stream.
    searches = config.method not in SEARCHLESS
    backend: Any = NUMPY
    if searches:
        backend = open_backend(config.backend or "numpy", method_of(config.preset, config.seed), machine.device)
    model = open_model(
        config.model, machine, pooling=config.pooling, temperature=config.temperature, remote=config.remote,
        stream=stream_of(backend, machine.device), should_stop=should_stop,
    )  # fmt: skip
    held.callback(model.close)
    if config.shots is None:
        raise InputError("this run was made by PromptClassifier.fit, which goes on with it when it is repeated")
    experiment = prepare(model, config.task, config.preset, config.seed, config.shots)
    experiment.backend = backend
    check_end(experiment, config)
    return model, experiment


def _run(
    folder: RunFolder, experiment: Experiment, config: RunConfig, should_stop: Callable[[], bool], quiet: bool,
    watchers: Watchers,
) -> dict[str, Any]:  # fmt: skip
    finished = folder.path / "result.json"
    if finished.exists():
        say(f"{folder.path} is finished already")
        return read_result(folder.path)
    ledger = experiment.ledger()
    if config.method in SEARCHLESS:
        tuned, result = None, search.SearchResult([], None, 0, None, [], "nothing to search")
    else:
        result = _searched(folder, experiment, config, ledger, should_stop, quiet, watchers)
        tuned = experiment.deployable(result.prompts)
    if config.method != AUTO:
        tested = 0 if experiment.test is None else len(experiment.test.labels)
        say(f"measuring on {len(experiment.dev.labels)} dev and {tested:,} test rows")
    experiment.answers, experiment.should_stop = folder.path / ANSWERS, should_stop
    ending = end(experiment, config, tuned, ledger, result.scores) if reads(config) else None
    if ending is not None and ending.arms is not None:
        result = replace(result, stop_reason=ending.arms["stop_reason"])
    prompt = tuned if ending is None else ending.deployed.prompt
    assert prompt is not None
    save_prompt(folder.path / "prompt", prompt)
    answer = result_of(experiment, config, prompt, result, ledger, folder, ending)
    write_json(finished, answer)
    return answer


def _searched(
    folder: RunFolder, experiment: Experiment, config: RunConfig, ledger: Ledger, should_stop: Callable[[], bool],
    quiet: bool, watchers: Watchers,
) -> search.SearchResult:  # fmt: skip
    """The search, with what its readout will cost kept back. Errors: Interrupted after saving."""
    method, preset, rows = experiment.method(), experiment.preset, len(experiment.train.labels)
    kept_back = reserved(experiment, config)
    ledger.budget -= kept_back
    price = search.step_price(method, ledger, rows, preset.batch_size)
    method, objective = on_backend(experiment.backend, experiment, ledger, folder)
    folder.warn = say
    with closing(Progress(preset.budget, price, quiet, kept_back)) as progress:

        def on_step(record: search.Record) -> None:
            progress(record)
            watchers(record)
            for line in missing_words(experiment) if record.step == 1 else ():
                say(line)

        result = search.run(
            method,
            objective,
            rows=rows,
            batch_size=preset.batch_size,
            dev=experiment.dev_score,
            store=folder,
            on_step=on_step,
            should_stop=should_stop,
        )
    if result.stop_reason == "interrupted":
        raise Interrupted(f"stopped and saved after {ledger.calls} calls: go on with {go_on(folder.path, config)}")
    ledger.budget += kept_back
    return result


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks the run to stop after the current step; a second one stops it at once.

    A wait for a server is no step: it ends at the first.
    """
    asked = threading.Event()

    def ask(number: int, frame: types.FrameType | None) -> None:
        if asked.is_set():
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
