"""The frozen model of a run, wherever it computes: here, on Ray actors, or behind somebody else's server."""

import os
import shlex
import signal
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from zopog_models.checkpoints.gguf import gguf_place
from zopog_models.checkpoints.hub import is_hub_id
from zopog_models.errors import ServiceError, Stopped, UnusableFile
from zopog_models.files.quoting import quoted
from zopog_models.files.suggestions import did_you_mean
from zopog_models.frozen.model import TEMPERATURE, FrozenModel, load_model
from zopog_models.served.addresses import ServedOptions, host_of, open_served
from zopog_models.served.conversation import Talk
from zopog_models.served.text_runner import TextRunner
from zopog_models.served.wire import Wire
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say
from zopog_ref.app.run.config import UNSAVED, WIRE, Machine, RunConfig, Served
from zopog_ref.app.run.experiment import Experiment

# Known by a name without the organisation that it is under.
_ON_THE_HUB = (
    "FacebookAI/roberta-base", "FacebookAI/roberta-large", "google-bert/bert-base-uncased",
    "google-bert/bert-base-cased", "google-bert/bert-large-uncased", "distilbert/distilbert-base-uncased",
    "distilbert/distilroberta-base", "albert/albert-base-v2", "openai-community/gpt2",
    "sentence-transformers/all-MiniLM-L6-v2",
)  # fmt: skip
REQUESTS = "requests.jsonl"  # in a run folder
_PROBED = 3  # rows, of which a filter may refuse the first


def open_model(
    source: str, machine: Machine, *, pooling: str | None = None, temperature: float | None = None,
    remote: Served | None = None, stream: int | None = None, should_stop: Callable[[], bool] = lambda: False,
) -> FrozenModel:  # fmt: skip
    """Open it; whoever opened it closes it. stream: as of `load_model`. should_stop: ends every wait for a server.

    Errors: InputError, ServiceError (Stopped after a request to stop), others.
    """
    factor = TEMPERATURE if temperature is None else temperature
    if remote is not None:
        try:
            unsaved = {name: machine.wire[name] for name in UNSAVED if name in machine.wire}
            wire = Wire(**{name: value for name, value in asdict(remote).items() if name in WIRE}, **unsaved)
        except ValueError as error:
            raise InputError(f"--{error}") from error
        options = ServedOptions(
            wire=wire, rows=remote.rows_per_request, encoding=remote.encoding, notify=say, pooling=pooling,
            embedding_std=remote.embedding_std, temperature=factor, top=remote.top_logprobs, send=remote.send,
            talk=Talk(remote.prompt_in, remote.system, remote.answers, remote.answer_tokens),
            should_stop=should_stop,
        )  # fmt: skip
        return open_served(source, remote.tokenizer, options)
    if machine.workers is not None:
        from zopog_models.cluster.runner import open_cluster

        return open_cluster(
            source, workers=machine.workers, threads=machine.threads or 1, device=machine.device, pooling=pooling,
            temperature=factor, notify=say, should_stop=should_stop,
        )  # fmt: skip
    if source != "embedded" and "/" not in source and not gguf_place(source) and not Path(source).exists():
        raise InputError(
            f"--model {quoted(source)}: there is no such folder; a model on the hub has a name of the form org/name"
            + did_you_mean(source, ("embedded", *_ON_THE_HUB))
        )
    with _left_at_once() if is_hub_id(source) and not Path(source).exists() else nullcontext():
        return load_model(
            source, device=machine.device, threads=machine.threads, pooling=pooling, temperature=factor, stream=stream
        )


@contextmanager
def _left_at_once() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the process while files come from the hub.

    The hub's client waits for threads of its own, which end with the last file or with the process. Nothing has been
    computed yet, and what has come stays in the cache.
    """

    def leave(number: int, frame: types.FrameType | None) -> None:
        say("\nstopped while files came from the hub: the same command goes on")
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_place(source: str) -> None:
    """Errors: InputError for a model's folder, named by a run, that is no longer there."""
    place = gguf_place(source)
    path = Path(source) if place is None else place[0]
    if path.is_absolute() and not path.exists():
        raise InputError(f"the model of this run is no longer at {quoted(source)}: say where it is with --model FOLDER")


def continued(saved: Served, machine: Machine, address: str) -> Served:
    """What was saved, with what this machine says of the wire in its place. address: of the server, in the run folder.

    Errors: InputError when the run's folder, which may be a stranger's, names a server that texts would be sent to, or
    a variable of the environment to be sent there, and the user does not.
    """
    if machine.address is None:
        kind, host = address.partition("+")[0], host_of(address)
        raise InputError(
            f"this folder says that its model is served by {host} ({quoted(kind)}): the texts would be sent there. If "
            f"they may, say so with --model {shlex.quote(address)[:500]}"
        )
    host = host_of(machine.address)
    if saved.key_variable is not None and "key_variable" not in machine.wire:
        name = quoted(saved.key_variable)
        raise InputError(f"this run sends the key in the variable {name} to {host}: if it may, say so with --key-env")
    if saved.headers_env and "headers_env" not in machine.wire:
        names = ", ".join(quoted(name) for name in saved.headers_env)
        raise InputError(f"this run sends variables to {host} ({names}): if it may, say so with --header-env")
    return replace(saved, **{name: value for name, value in machine.wire.items() if name in WIRE})


def keep_requests(model: FrozenModel, folder: Path) -> None:
    """Write a served model's requests down in the run folder, and answer from there what was answered before."""
    try:
        model.runner.keep(folder / REQUESTS)
    except UnusableFile:
        raise
    except ValueError as error:
        raise InputError(f"{error}: it was edited") from error


def probe(model: FrozenModel, experiment: Experiment, most: bool = False) -> list[str]:
    """What a text endpoint really returns for a row, a line each; nothing of other models. Two requests.

    most: ask for as many log-probabilities as it gives from here on, so that few label words are missing.

    Errors: ServiceError where it returns nothing that can be learned from.
    """
    if not isinstance(model.runner, TextRunner):
        return []
    lines, default = [], model.runner.top
    try:
        if most:
            model.runner.ask_for_most(experiment.first_rows(_PROBED))
        found = model.runner.probe(experiment.first_rows(_PROBED))
    except Stopped:
        raise
    except ServiceError as error:
        raise ServiceError(f"{error}. Nothing was started: the endpoint was asked about {_PROBED} rows") from error
    asked = f"the endpoint was asked about one row twice: its label words {', '.join(found['returned']) or 'none'}"
    if model.runner.top != default:
        lines.append(f"the endpoint gives {model.runner.top} log-probabilities: so many are asked for (--top-logprobs)")
    lines += [f"{asked} are among what it returns" + (f", {', '.join(found['missing'])} not" * bool(found["missing"]))]
    if not found["returned"]:
        lines.append(
            "no label word is among what it returns: choose words that it answers with, or ask for more with "
            "--top-logprobs"
        )
    if found["differs"] > 0:
        lines.append(f"two equal requests differ by {found['differs']:.2g} nats: runs cannot be repeated to the bit")
    return lines


def go_on(folder: Path, config: RunConfig) -> str:
    """The command that continues a run."""
    return f"zopog tune --resume {shlex.quote(str(folder))}{named_again(config)}"


def named_again(config: RunConfig) -> str:
    """Options of a command that asks a served model once more: its address, and the variables that hold its keys."""
    remote = config.remote
    if remote is None:
        return ""
    key = "" if remote.key_variable is None else f" --key-env {shlex.quote(remote.key_variable)}"
    key += "".join(f" --header-env {shlex.quote(header)}" for header in remote.headers_env)
    return f" --model {shlex.quote(config.model)}{key}"
