"""Which kinds of served models there are, by how their address begins. A new one is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zopog_models.checkpoints.description import TEMPERATURE
from zopog_models.errors import SetupError
from zopog_models.frozen.model import FrozenModel
from zopog_models.served import completions, kserve
from zopog_models.served.wire import Wire

__all__ = ["OPENERS", "ServedOptions", "is_served", "open_served"]


@dataclass(frozen=True, kw_only=True)
class ServedOptions:
    """Everything that a served model can be opened with. Each kind takes what concerns it.

    Parameters
        wire: how to talk to the server
        rows: of one request; default: 64 for kserve, 1 for completions
        encoding: of tensors, "auto", "json" or "binary" (kserve)
        embedding_std: of the word embeddings; default: what the server says (kserve)
        pooling: "mean" or "cls" of a sentence-embedding model; default: what the folder says (kserve)
        temperature: the factor of a sentence-embedding model's cosines; default 20 (kserve)
        top: how many log-probabilities to ask for; default 5 (completions)
        notify: gets a line where somebody waits for long
        should_stop: looked at while a request waits; when it is true, the wait ends with Stopped
    """

    wire: Wire = Wire()  # noqa: RUF009  frozen
    rows: int | None = None
    encoding: str = "auto"
    embedding_std: float | None = None
    pooling: str | None = None
    temperature: float = TEMPERATURE
    top: int = 5
    notify: Callable[[str], None] = lambda message: None
    should_stop: Callable[[], bool] = lambda: False


Opener = Callable[[str, str | Path, ServedOptions], FrozenModel]


def _open_kserve(url: str, tokenizer: str | Path, o: ServedOptions) -> FrozenModel:
    return kserve.open_remote(
        url, tokenizer, wire=o.wire, rows=kserve.ROWS if o.rows is None else o.rows, encoding=o.encoding,
        embedding_std=o.embedding_std, pooling=o.pooling, temperature=o.temperature, notify=o.notify,
        should_stop=o.should_stop,
    )  # fmt: skip


def _open_completions(url: str, tokenizer: str | Path, o: ServedOptions) -> FrozenModel:
    rows = 1 if o.rows is None else o.rows
    return completions.open_completions(
        url, tokenizer, wire=o.wire, rows=rows, top=o.top, notify=o.notify, should_stop=o.should_stop
    )


# how an address begins -> what opens the rest of it, with the folder of the tokenizer
OPENERS: dict[str, Opener] = {
    "kserve+": _open_kserve,
    "completions+": _open_completions,
}


def is_served(source: str) -> bool:
    """Whether a model's source is an address."""
    return source.startswith(tuple(OPENERS))


def open_served(source: str, tokenizer: str | Path, options: ServedOptions = ServedOptions()) -> FrozenModel:
    """The model at an address. Raises SetupError, ServiceError, CheckpointError, ProviderError.

    Parameters
        source: such as kserve+http://host/v2/models/NAME, or completions+http://host/v1#NAME
        tokenizer: a folder with the model's config.json and tokenizer.json
        options: what differs from the defaults
    """
    for start, opener in OPENERS.items():
        if source.startswith(start):
            return opener(source.removeprefix(start), tokenizer, options)
    raise SetupError(f"{source!r} is no address of a served model; expected {', '.join(OPENERS)} and a URL")
