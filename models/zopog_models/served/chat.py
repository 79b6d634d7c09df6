"""A chat model behind POST .../chat/completions, in the manner of OpenAI's, read by its answer's log-probabilities.

    model = open_chat("https://api.example.com/v1#NAME", tokenizer="path/to/folder")

A row becomes a conversation: the template's text is what the user says; the prompt's tokens, as text, stand in the
system's part or in front of the user's. The first token of the answer is matched to the label words (`answer_words`).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.checkpoints.description import Description
from zopog_models.errors import SetupError
from zopog_models.frozen.model import FrozenModel
from zopog_models.served.answer_words import score_answers
from zopog_models.served.completions import described
from zopog_models.served.log_probabilities import read_scores
from zopog_models.served.requests import Requests
from zopog_models.served.text_runner import TextRunner
from zopog_models.served.transport import Answer
from zopog_models.served.wire import Wire

__all__ = ["PROMPT_PLACES", "TOP", "ChatRunner", "open_chat"]

PROMPT_PLACES = ("user", "system")
TOP = 20  # the most that OpenAI's endpoint gives


def open_chat(
    url: str,
    tokenizer: str | Path,
    *,
    wire: Wire = Wire(),  # noqa: B008  frozen
    top: int = TOP,
    prompt_in: str = "user",
    system: str = "",
    notify: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FrozenModel:
    """A chat model behind POST .../chat/completions. Raises SetupError, CheckpointError, ProviderError.

    Parameters
        url: http(s)://host/v1#NAME, NAME as the endpoint knows the model
        tokenizer: a decoder's folder, best the served model's own: candidates and label words are its tokens
        wire: how to talk to the server
        top: k, how many log-probabilities to ask for; default 20
        prompt_in: where the prompt's tokens stand, "user" (in front of the text) or "system" (after `system`)
        system: what the system says in every conversation; default: nothing
        notify: gets a line where somebody waits for long
        should_stop: looked at while a request waits; when it is true, the wait ends with Stopped
    """
    if prompt_in not in PROMPT_PLACES:
        raise SetupError(f"prompt_in is {prompt_in!r}; choose one of {', '.join(PROMPT_PLACES)}")
    about, requests = described("chat", url, tokenizer, wire, top, notify, should_stop)
    return FrozenModel(about, ChatRunner(about, requests, top=top, prompt_in=prompt_in, system=system))


class ChatRunner(TextRunner):
    """Label words scored by the log-probability of a chat model's first token.

    Parameters
        about, requests, top: as of `TextRunner`; one conversation is one request
        prompt_in, system: as of `open_chat`
    """

    providers = ("chat endpoint",)
    path = "/chat/completions"

    def __init__(self, about: Description, requests: Requests, *, top: int, prompt_in: str, system: str) -> None:
        super().__init__(about, requests, rows=1, top=top)
        self._prompt_in, self._system = prompt_in, system

    def question(self, row: np.ndarray, prompt: np.ndarray) -> str:
        """The conversation, as JSON."""
        learned, text = self._text(prompt), self._text(row[self._about.first :])
        system, user = [self._system], [text]
        (system if self._prompt_in == "system" else user).insert(self._prompt_in == "system", learned)
        told = " ".join(part.strip() for part in system if part.strip())
        asked = " ".join(part.strip() for part in user if part.strip())
        messages = [{"role": "system", "content": told}] * bool(told) + [{"role": "user", "content": asked}]
        return json.dumps(messages, ensure_ascii=False)

    def body(self, questions: list[str], seed: int | None) -> dict[str, Any]:
        drawing = {"temperature": 0} if seed is None else {"temperature": 1, "seed": seed}
        return {
            "model": self._about.name, "messages": json.loads(questions[0]), "max_tokens": 1, **drawing,
            "logprobs": True, "top_logprobs": self.top,
        }  # fmt: skip

    def read(self, answer: Answer, rows: int, words: list[str]) -> np.ndarray:
        return read_scores(answer, rows, words, score_answers)

    def _text(self, ids: np.ndarray) -> str:
        return self._about.tokenizer.decode([*map(int, ids)], skip_special_tokens=False)
