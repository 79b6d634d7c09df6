"""The frozen model of a run, wherever it computes: here, on Ray actors, or behind somebody else's server."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import TEMPERATURE, FrozenModel, load_model
from zopog_models.served.addresses import ServedOptions, open_served
from zopog_models.served.wire import Wire
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import WIRE, Machine, Served
from zopog_ref.app.run.folder import say

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
    return load_model(
        source, device=machine.device, threads=machine.threads, pooling=pooling, temperature=factor, stream=stream
    )


def continued(saved: Served, machine: Machine) -> Served:
    """What was saved, with what this machine says of the wire in its place.

    Errors: InputError when the run's folder, which may be a stranger's, names a variable of the environment to be sent
    to a server, and the user does not.
    """
    if saved.key_variable is not None and machine.key_variable is None:
        name = quoted(saved.key_variable)
        raise InputError(f"this run sends the key in the variable {name}: if it may, say so with --key-env")
    given = {name: getattr(machine, name) for name in WIRE}
    return replace(saved, **{name: value for name, value in given.items() if value is not None})


def keep_requests(model: FrozenModel, folder: Path) -> None:
    """Write a served model's requests down in the run folder, and answer from there what was answered before."""
    try:
        model.runner.keep(folder / REQUESTS)
    except ValueError as error:
        raise InputError(f"{error}: it was edited") from error
