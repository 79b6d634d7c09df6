"""A model that is only served as text: a completions endpoint in the manner of OpenAI's, read by its log-probabilities.

    model = open_completions("http://localhost:8000/v1#NAME", tokenizer="path/to/folder")

A row becomes one string, prompt tokens and template, and the endpoint is asked for the log-probabilities of the next
token. What becomes of them says `text_runner`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.checkpoints.description import Description, StatedFacts, describe
from zopog_models.errors import SetupError
from zopog_models.frozen.model import FrozenModel
from zopog_models.served.folder import without_weights
from zopog_models.served.requests import Requests
from zopog_models.served.text_runner import TextRunner
from zopog_models.served.wire import Wire, split_address

__all__ = ["LARGEST_TOP", "SENT", "TOP", "CompletionsRunner", "described", "open_completions"]

LARGEST_TOP = 1000
SENT = ("text", "ids")
TOP = 5  # endpoints allow 5 to 20, some more


def open_completions(
    url: str,
    tokenizer: str | Path,
    *,
    wire: Wire = Wire(),  # noqa: B008  frozen
    rows: int = 1,
    top: int = TOP,
    send: str = "text",
    notify: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FrozenModel:
    """A causal language model behind POST .../completions. Raises SetupError, CheckpointError, ProviderError.

    Parameters
        url: http(s)://host/v1#NAME, NAME as the endpoint knows the model
        tokenizer: a decoder's folder, best the served model's own: candidates and label words are its tokens
        wire: how to talk to the server
        rows: texts of one request; default 1, for many endpoints take no more
        top: k, how many log-probabilities to ask for, 1 to 1000; default 5
        send: "text", or "ids", the tokens themselves where the endpoint takes them (vLLM, SGLang, llama.cpp): what is
            learned is what is read then, and no text holds a special token by its spelling
        notify: gets a line where somebody waits for long
        should_stop: looked at while a request waits; when it is true, the wait ends with Stopped
    """
    if rows < 1:
        raise SetupError(f"rows of a request are {rows}; there must be at least 1")
    if send not in SENT:
        raise SetupError(f"send is {send!r}; choose one of {', '.join(SENT)}")
    about, requests = described("completions", url, tokenizer, wire, top, notify, should_stop)
    return FrozenModel(about, CompletionsRunner(about, requests, rows=rows, top=top, send=send))


def described(
    kind: str, url: str, tokenizer: str | Path, wire: Wire, top: int, notify: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> tuple[Description, Requests]:  # fmt: skip
    """What is known of a model that reads text alone, and the way to it. kind: how its address begins, without "+"."""
    base, _, name = url.partition("#")
    split_address(base)
    if not name:
        raise SetupError(f"{url!r} names no model; expected http://host:port/v1#NAME")
    if "?" in name:
        raise SetupError(
            "the model's name, behind #, holds a query, which would be kept in the run folder: leave it out, and put a "
            "key into an environment variable (--key-env, --header-env); --query holds what is no secret"
        )
    if not 1 <= top <= LARGEST_TOP:
        raise SetupError(f"top_logprobs is {top}; it must lie between 1 and {LARGEST_TOP}")
    requests = Requests(base, wire, notify, should_stop)
    checkpoint = without_weights(tokenizer)
    # Nobody sees the weights. There is no continuous prompt whose scale an embedding_std could set.
    facts = StatedFacts(f"{kind}:" + hashlib.sha256(name.encode()).hexdigest(), checkpoint.tokenizer_sha256)
    about = describe(checkpoint, name=name, source=f"{kind}+{url}", facts=facts)
    if about.mask_id is not None or about.pooling:
        raise SetupError(
            f"{tokenizer} is the folder of an encoder ({about.family}); a {kind} endpoint goes on with a text: "
            "give a decoder's, best the served model's own"
        )
    requests.asks(facts.model_sha256)
    return replace(about, embedding_size=1), requests  # of an offset that is always 0


class CompletionsRunner(TextRunner):
    """Label words scored by the log-probability of what follows a text. send: "text" or "ids"."""

    providers = ("completions endpoint",)
    path = "/completions"

    def __init__(self, about: Description, requests: Requests, *, rows: int, top: int, send: str = "text") -> None:
        super().__init__(about, requests, rows=rows, top=top)
        self._send = send

    def question(self, row: np.ndarray, prompt: np.ndarray, offset: np.ndarray | None = None) -> str:
        if self._send == "text":
            return self.text(row, prompt)
        first = self._about.first
        return json.dumps([*map(int, row[:first]), *map(int, prompt), *map(int, row[first:])])

    def text(self, row: np.ndarray, prompt: np.ndarray) -> str:
        """What the endpoint reads: the prompt's tokens, then the row's."""
        own = row[self._about.first :]  # a BOS token is the server's to add
        return self.plain(np.concatenate([prompt, own]))

    def body(self, questions: list[str], words: Sequence[str], seed: int | None) -> dict[str, Any]:
        drawing = {"temperature": 0} if seed is None else {"temperature": 1, "seed": seed}
        asked = questions if self._send == "text" else [json.loads(question) for question in questions]
        return {
            "model": self._about.name, "prompt": asked[0] if len(asked) == 1 else asked, "max_tokens": 1, **drawing,
            "logprobs": self.top,
        }  # fmt: skip
