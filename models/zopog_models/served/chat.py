"""Chat models behind an API: OpenAI's chat completions and Responses, and whoever speaks them; Anthropic's messages.

    model = open_chat("https://api.example.com/v1#NAME", tokenizer="path/to/folder")

The first token of the answer is matched to the label words (`answer_words`). What a model calls a parameter that limits
its answer changed with time, and some take no temperature: where a server says so, it is asked in the other way.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from zopog_models.checkpoints.description import Description
from zopog_models.errors import SetupError
from zopog_models.frozen.model import FrozenModel
from zopog_models.served.answer_words import score_answers
from zopog_models.served.completions import described
from zopog_models.served.conversation import ConversationRunner, Talk, is_filtered
from zopog_models.served.inference_protocol import read_object
from zopog_models.served.log_probabilities import read_scores
from zopog_models.served.requests import Requests
from zopog_models.served.transport import Answer
from zopog_models.served.wire import Wire

__all__ = ["KINDS", "TOP", "AnthropicRunner", "ChatRunner", "ResponsesRunner", "open_chat"]

TOP = 20  # the most that OpenAI's endpoint gives


def open_chat(
    url: str,
    tokenizer: str | Path,
    *,
    kind: str = "chat",
    wire: Wire = Wire(),  # noqa: B008  frozen
    top: int = TOP,
    talk: Talk = Talk(),  # noqa: B008  frozen
    notify: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FrozenModel:
    """A model that is asked in conversations. Raises SetupError, CheckpointError, ProviderError.

    Parameters
        url: http(s)://host/v1#NAME, NAME as the endpoint knows the model
        tokenizer: a decoder's folder, best the served model's own: candidates and label words are its tokens
        kind: "chat", "responses" or "anthropic"
        wire: how to talk to the server
        top: k, how many log-probabilities to ask for; default 20
        talk: how the conversation is led
        notify: gets a line where somebody waits for long
        should_stop: looked at while a request waits; when it is true, the wait ends with Stopped
    """
    runner = KINDS[kind]
    if talk.answers == "scores" and not runner.gives_scores:
        raise SetupError(f"{kind} gives no log-probabilities: learn from its answers alone, with --answers labels")
    about, requests = described(kind, url, tokenizer, wire, top, notify, should_stop)
    return FrozenModel(about, runner(about, requests, talk=talk, top=top))


class ChatRunner(ConversationRunner):
    """POST .../chat/completions."""

    providers = ("chat endpoint",)
    path = "/chat/completions"
    gives_scores = True
    other_ways: ClassVar[dict[str, tuple[str, str]]] = ConversationRunner.other_ways | {
        "max_completion_tokens": ("max_tokens", "max_completion_tokens")
    }

    def body(self, questions: list[str], words: Sequence[str], seed: int | None) -> dict[str, Any]:
        drawing = {"temperature": 0} if seed is None else {"temperature": 1, "seed": seed}
        asked = {"model": self._about.name, "messages": json.loads(questions[0]), "max_tokens": self.written, **drawing}
        return asked | ({"logprobs": True, "top_logprobs": self.top} if self.talk.answers == "scores" else {})

    def read_answer(self, answer: Answer, words: list[str]) -> Any:
        return read_scores(answer, 1, words, score_answers)


class ResponsesRunner(ChatRunner):
    """POST .../responses, OpenAI's newer form."""

    providers = ("Responses endpoint",)
    path = "/responses"

    def __init__(self, about: Description, requests: Requests, *, talk: Talk, top: int) -> None:
        super().__init__(about, requests, talk=talk, top=top)
        self.written = max(16, self.written)  # the least that it takes, and may be billed for

    def body(self, questions: list[str], words: Sequence[str], seed: int | None) -> dict[str, Any]:
        drawing = {"temperature": 0 if seed is None else 1}
        asked = {"model": self._about.name, "input": json.loads(questions[0]), **drawing}
        asked |= {"max_output_tokens": self.written}
        if self.talk.answers == "labels":
            return asked
        return asked | {"include": ["message.output_text.logprobs"], "top_logprobs": self.top}

    def read_answer(self, answer: Answer, words: list[str]) -> Any:
        found = read_object(answer.body)
        logprobs = [part.get("logprobs") for part in _parts(found)]
        reason = "content_filter" if is_filtered(found) else None
        body = {"choices": [{"finish_reason": reason, "logprobs": {"content": next(iter(logprobs), None)}}]}
        return read_scores(Answer(200, {}, json.dumps(body).encode()), 1, words, score_answers)

    def text_of(self, answer: dict[str, Any]) -> str:
        return "".join(str(part.get("text", "")) for part in _parts(answer))


class AnthropicRunner(ConversationRunner):
    """POST .../messages of Anthropic: labels alone."""

    providers = ("Anthropic endpoint",)
    path = "/messages"
    gives_scores = False
    headers: ClassVar[dict[str, str]] = {"anthropic-version": "2023-06-01"}

    def body(self, questions: list[str], words: Sequence[str], seed: int | None) -> dict[str, Any]:
        messages = json.loads(questions[0])
        system = {"system": messages[0]["content"]} if messages[0]["role"] == "system" else {}
        return {
            "model": self._about.name,
            "max_tokens": self.written,
            "temperature": 0,
            **system,
            "messages": messages[-1:],
        }

    def text_of(self, answer: dict[str, Any]) -> str:
        parts = answer.get("content")
        found = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        return "".join(text for text in found if isinstance(text, str))


KINDS: dict[str, type[ConversationRunner]] = {
    "chat": ChatRunner, "responses": ResponsesRunner, "anthropic": AnthropicRunner,
}  # fmt: skip


def _parts(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The text parts of a Responses answer."""
    output = answer.get("output")
    messages = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    contents = [item["content"] for item in messages if isinstance(item.get("content"), list)]
    return [
        part for content in contents for part in content if isinstance(part, dict) and part.get("type") == "output_text"
    ]
