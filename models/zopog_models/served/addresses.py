"""Which kinds of served models there are, by how their address begins. A new one is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zopog_models.checkpoints.description import TEMPERATURE
from zopog_models.errors import SetupError
from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import FrozenModel
from zopog_models.served import chat, completions, exact, kserve
from zopog_models.served.conversation import Talk
from zopog_models.served.wire import Wire, split_address

__all__ = [
    "OPENERS",
    "TEXT_ALONE",
    "ServedOptions",
    "default_top",
    "host_of",
    "is_served",
    "open_served",
    "reads_text_alone",
]


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
        top: how many log-probabilities to ask for; default 5 (completions), 20 (chat)
        send: "text" or "ids" (completions)
        talk: how a conversation is led (chat, responses, anthropic)
        notify: gets a line where somebody waits for long
        should_stop: looked at while a request waits; when it is true, the wait ends with Stopped
    """

    wire: Wire = Wire()  # noqa: RUF009  frozen
    rows: int | None = None
    encoding: str = "auto"
    embedding_std: float | None = None
    pooling: str | None = None
    temperature: float = TEMPERATURE
    top: int | None = None
    send: str = "text"
    talk: Talk = Talk()  # noqa: RUF009  frozen
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
    return completions.open_completions(
        url, tokenizer, wire=o.wire, rows=1 if o.rows is None else o.rows, top=o.top or completions.TOP, send=o.send,
        notify=o.notify, should_stop=o.should_stop,
    )  # fmt: skip


def _open_chat(kind: str, url: str, tokenizer: str | Path, o: ServedOptions) -> FrozenModel:
    if o.rows not in (None, 1):
        raise SetupError("a chat endpoint answers one conversation a request: leave --rows-per-request out")
    return chat.open_chat(
        url, tokenizer, kind=kind, wire=o.wire, top=o.top or chat.TOP, talk=o.talk, notify=o.notify,
        should_stop=o.should_stop,
    )  # fmt: skip


def _open_exact(kind: str, url: str, tokenizer: str | Path, o: ServedOptions) -> FrozenModel:
    if o.rows not in (None, 1):
        raise SetupError(f"{kind} is asked about one row a request: leave --rows-per-request out")
    return exact.open_exact(url, tokenizer, kind=kind, wire=o.wire, notify=o.notify, should_stop=o.should_stop)


# how an address begins -> what opens the rest of it, with the folder of the tokenizer
OPENERS: dict[str, Opener] = {
    "kserve+": _open_kserve,
    "completions+": _open_completions,
    **{f"{kind}+": partial(_open_chat, kind) for kind in chat.KINDS},
    **{f"{kind}+": partial(_open_exact, kind) for kind in exact.KINDS},
}
# what they are sent has no room for A z -> log-probabilities that are asked for, if nobody says how many
TEXT_ALONE = {"completions+": completions.TOP} | dict.fromkeys((f"{kind}+" for kind in chat.KINDS), chat.TOP)


def is_served(source: str) -> bool:
    """Whether a model's source is an address."""
    return source.startswith(tuple(OPENERS))


def host_of(source: str) -> str:
    """Of an address, the machine as messages show it. Raises SetupError, for one that holds a password too.

    A black box of one's own may stand at what is no URL: of that, what follows a user and goes before a query.
    """
    address = source.partition("+")[2].partition("#")[0]
    if "://" not in address:
        return quoted(address.rpartition("@")[2].partition("?")[0])
    return quoted(split_address(address).netloc)


def reads_text_alone(source: str) -> bool:
    """Whether a model's source is the address of one that takes no continuous prompt."""
    return source.startswith(tuple(TEXT_ALONE))


def default_top(source: str) -> int | None:
    """How many log-probabilities are asked for, where nobody says it; None of a model that is asked for scores."""
    return next((top for start, top in TEXT_ALONE.items() if source.startswith(start)), None)


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
