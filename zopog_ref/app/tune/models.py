"""The frozen model of a run, wherever it computes: here, on Ray actors, or behind somebody else's server."""

import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit

from zopog_models.checkpoints.gguf import gguf_place
from zopog_models.errors import UnusableFile
from zopog_models.files.quoting import quoted
from zopog_models.files.suggestions import did_you_mean
from zopog_models.frozen.model import TEMPERATURE, FrozenModel, load_model
from zopog_models.served.addresses import ServedOptions, open_served
from zopog_models.served.wire import Wire
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say
from zopog_ref.app.run.config import WIRE, Machine, RunConfig, Served

# Known by a name without the organisation that it is under.
_ON_THE_HUB = (
    "FacebookAI/roberta-base", "FacebookAI/roberta-large", "google-bert/bert-base-uncased",
    "google-bert/bert-base-cased", "google-bert/bert-large-uncased", "distilbert/distilbert-base-uncased",
    "distilbert/distilroberta-base", "albert/albert-base-v2", "openai-community/gpt2",
    "sentence-transformers/all-MiniLM-L6-v2",
)  # fmt: skip
REQUESTS = "requests.jsonl"  # in a run folder


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
            wire = Wire(**{name: value for name, value in asdict(remote).items() if name in WIRE})
        except ValueError as error:
            raise InputError(f"--{error}") from error
        options = ServedOptions(
            wire=wire, rows=remote.rows_per_request, encoding=remote.encoding, notify=say, pooling=pooling,
            embedding_std=remote.embedding_std, temperature=factor, top=remote.top_logprobs,
            should_stop=should_stop,
        )  # fmt: skip
        return open_served(source, remote.tokenizer, options)
    if machine.workers is not None:
        from zopog_models.cluster.runner import open_cluster

        return open_cluster(
            source, workers=machine.workers, threads=machine.threads or 1, device=machine.device, pooling=pooling,
            temperature=factor, notify=say,
        )  # fmt: skip
    if source != "embedded" and "/" not in source and not gguf_place(source) and not Path(source).exists():
        raise InputError(
            f"--model {quoted(source)}: there is no such folder; a model on the hub has a name of the form org/name"
            + did_you_mean(source, ("embedded", *_ON_THE_HUB))
        )
    return load_model(
        source, device=machine.device, threads=machine.threads, pooling=pooling, temperature=factor, stream=stream
    )


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
        kind, _, url = address.partition("+")
        host = quoted(urlsplit(url).netloc)
        raise InputError(
            f"this folder says that its model is served by {host} ({quoted(kind)}): the texts would be sent there. If "
            f"they may, say so with --model {shlex.quote(address)[:500]}"
        )
    if saved.key_variable is not None and machine.key_variable is None:
        name, host = quoted(saved.key_variable), quoted(urlsplit(machine.address.partition("+")[2]).netloc)
        raise InputError(f"this run sends the key in the variable {name} to {host}: if it may, say so with --key-env")
    given = {name: getattr(machine, name) for name in WIRE}
    return replace(saved, **{name: value for name, value in given.items() if value is not None})


def keep_requests(model: FrozenModel, folder: Path) -> None:
    """Write a served model's requests down in the run folder, and answer from there what was answered before."""
    try:
        model.runner.keep(folder / REQUESTS)
    except UnusableFile:
        raise
    except ValueError as error:
        raise InputError(f"{error}: it was edited") from error


def go_on(folder: Path, config: RunConfig) -> str:
    """The command that continues a run: a served model is named again, and so is its key."""
    served = "" if config.remote is None else f" --model {shlex.quote(config.model)}"
    key = (
        ""
        if config.remote is None or config.remote.key_variable is None
        else f" --key-env {config.remote.key_variable}"
    )
    return f"zopog tune --resume {shlex.quote(str(folder))}{served}{key}"
