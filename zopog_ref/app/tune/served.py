"""Models that somebody else serves: how tune and predict open them, and what they keep of their requests."""

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import TEMPERATURE, FrozenModel
from zopog_models.served.completions import CompletionsModel
from zopog_models.served.kserve import RemoteModel
from zopog_models.served.transport import Wire
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import Machine, Served
from zopog_ref.app.run.folder import say

KSERVE, COMPLETIONS = "kserve+", "completions+"
REQUESTS = "requests.jsonl"  # in a run folder
_WIRE = ("timeout", "retries", "concurrency", "key_variable")


def is_remote(source: str) -> bool:
    """Whether a --model is an address."""
    return source.startswith((KSERVE, COMPLETIONS))


def continued(saved: Served, machine: Machine) -> Served:
    """What was saved, with what this machine says of the wire in its place.

    Errors: InputError when the run's folder, which may be a stranger's, names a variable of the environment to be sent
    to a server, and the user does not.
    """
    if saved.key_variable is not None and machine.key_variable is None:
        name = quoted(saved.key_variable)
        raise InputError(f"this run sends the key in the variable {name}: if it may, say so with --key-env")
    given = {name: getattr(machine, name) for name in _WIRE}
    return replace(saved, **{name: value for name, value in given.items() if value is not None})


def open_served(
    source: str, served: Served, pooling: str | None = None, temperature: float = TEMPERATURE
) -> RemoteModel | CompletionsModel:
    """The model at an address. Errors: SetupError, ServiceError, InputError."""
    try:
        wire = Wire(**{name: value for name, value in asdict(served).items() if name in _WIRE})
    except ValueError as error:
        raise InputError(f"--{error}") from error
    size: dict[str, int] = {} if served.rows_per_request is None else {"rows": served.rows_per_request}
    if source.startswith(COMPLETIONS):
        url = source.removeprefix(COMPLETIONS)
        return CompletionsModel(url, served.tokenizer, wire=wire, top=served.top_logprobs, notify=say, **size)
    return RemoteModel(
        source.removeprefix(KSERVE), served.tokenizer, wire=wire, encoding=served.encoding, notify=say,
        pooling=pooling, embedding_std=served.embedding_std, temperature=temperature, **size,
    )  # fmt: skip


def keep_requests(model: FrozenModel, folder: Path, held: ExitStack) -> None:
    """Write a served model's requests down in the run folder, and answer from there what was answered before; the file
    is given back before the folder is."""
    if isinstance(model, RemoteModel | CompletionsModel):
        try:
            model.log.keep(folder / REQUESTS)
        except ValueError as error:
            raise InputError(f"{error}: it was edited") from error
        held.callback(model.log.close)


def requests_of(model: FrozenModel) -> dict[str, Any]:
    """For result.json: every request that was sent, and of those, the repeated; {} of a local model."""
    if not isinstance(model, RemoteModel | CompletionsModel):
        return {}
    log = model.log
    found: dict[str, Any] = {
        "requests": log.sent,
        "retries": log.retries,
        "failures": dict(sorted(log.failures.items())),
    }
    if isinstance(model, CompletionsModel):
        found["label_words"] = model.coverage()
    return found
