"""What all runners have in common that ask a model in conversations: who says what, and how its answer is read.

A row becomes a conversation: the template's text is what the user says; the prompt's tokens, as text, stand in the
system's part or in front of the user's. The answer is read by the log-probabilities of its first token, or, where a
model gives none, by the label word that it holds:

    log p = log(1 - ERROR) for that label, log(ERROR / (C - 1)) for the others

An answer without a label word, or with several at once in its beginning, is the same score for all, and is counted.
"""

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zopog_models.checkpoints.description import Description
from zopog_models.errors import ServiceError, SetupError
from zopog_models.runners.runner import Scores
from zopog_models.served.coverage import FLOOR, refused_rows
from zopog_models.served.inference_protocol import read_object
from zopog_models.served.requests import Requests
from zopog_models.served.text_runner import TextRunner
from zopog_models.served.transport import Answer

__all__ = ["ANSWERS", "PROMPT_PLACES", "ConversationRunner", "Talk", "is_filtered", "label_in", "score_label"]

PROMPT_PLACES = ("user", "system")
ANSWERS = ("scores", "labels")
ERROR = 0.05
_LIMIT = 4096  # tokens of an answer
# Thai, Lao, Burmese, Khmer; Kana, Han
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Talk:
    """How a conversation is led. Raises SetupError.

    Parameters
        prompt_in: where the prompt's tokens stand, "user" (in front of the text) or "system" (after `system`)
        system: what the system says in every conversation; default: nothing
        answers: "scores", log-probabilities of the first token, or "labels", the label word that is answered
        answer_tokens: of an answer that is read for its label, at most; a reasoning model needs hundreds
    """

    prompt_in: str = "user"
    system: str = ""
    answers: str = "scores"
    answer_tokens: int = 8

    def __post_init__(self) -> None:
        for name, known in (("prompt_in", PROMPT_PLACES), ("answers", ANSWERS)):
            if getattr(self, name) not in known:
                raise SetupError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}")
        if not 1 <= self.answer_tokens <= _LIMIT:
            raise SetupError(f"answer_tokens is {self.answer_tokens}; it must lie between 1 and {_LIMIT}")


class ConversationRunner(TextRunner):
    """Label words scored by what a model answers in a conversation; one conversation is one request.

    Parameters
        about, requests, top: as of `TextRunner`
        talk: how the conversation is led
    """

    def __init__(self, about: Description, requests: Requests, *, talk: Talk, top: int) -> None:
        super().__init__(about, requests, rows=1, top=top)
        self.talk = talk
        if talk.answers == "labels":
            self.scores, self.written = Scores.LABELS, talk.answer_tokens

    gives_scores = False
    # What a refusal says -> what is left out, and what is called otherwise.
    other_ways: ClassVar[dict[str, tuple[str, str]]] = {"['\"`]temperature['\"`]": ("temperature", "")}

    def question(self, row: np.ndarray, prompt: np.ndarray, offset: np.ndarray | None = None) -> str:
        """The conversation, as JSON: [{"role": "system", ...}, {"role": "user", ...}]."""
        learned, text = self.plain(prompt), self.plain(row[self._about.first :])
        in_system = self.talk.prompt_in == "system"
        told = (self.talk.system, learned) if in_system else (self.talk.system,)
        asked = (text,) if in_system else (learned, text)
        system, user = (" ".join(part.strip() for part in parts if part.strip()) for parts in (told, asked))
        messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": user}]
        return json.dumps(messages, ensure_ascii=False)

    def read(self, answer: Answer, rows: int, words: list[str]) -> np.ndarray:
        if self.talk.answers == "scores":
            return self.read_answer(answer, words)
        found = read_object(answer.body)
        if is_filtered(found):
            return refused_rows(1, len(words))
        return score_label(label_in(self.text_of(found), words), len(words))[None]

    def adapts(self, refusal: str) -> bool:
        for word, way in self.other_ways.items():
            if re.search(word, refusal) and way not in self._ways:
                self._ways.append(way)
                return True
        return False

    def read_answer(self, answer: Answer, words: list[str]) -> np.ndarray:
        """(1, 2, C) of an answer with log-probabilities, as `read_scores`."""
        raise SetupError(f"a {self.providers[0]} gives no log-probabilities: learn from its labels, --answers labels")

    def text_of(self, answer: dict[str, Any]) -> str:
        """The words of an answer. Raises ServiceError where there are none."""
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str | None):
            raise ServiceError(f"the answer's content is {text!r:.40}, expected a text")
        return text or ""

    def plain(self, ids: np.ndarray) -> str:
        """The text of token ids."""
        return self._about.tokenizer.decode([*map(int, ids)], skip_special_tokens=False)


def is_filtered(answer: dict[str, Any]) -> bool:
    """Whether an answer says that it was filtered away or refused: in OpenAI's forms, or in Anthropic's."""
    choices, details = answer.get("choices"), answer.get("incomplete_details")
    first = choices[0] if isinstance(choices, list) and choices else None
    reasons = [first.get("finish_reason") if isinstance(first, dict) else None, answer.get("stop_reason")]
    reasons.append(details.get("reason") if isinstance(details, dict) else None)
    return "content_filter" in reasons or "refusal" in reasons


def label_in(text: str, words: Sequence[str]) -> int | None:
    """The label word that stands first in an answer, as a word of its own; None where there is none.

    A reasoning model's <think>...</think> is not its answer. Cases are told apart only where label words differ by
    nothing else. Scripts without spaces have no words of their own: there a label word counts wherever it stands.
    """
    text = unicodedata.normalize("NFC", re.sub(r"(?s)^.*</think>", "", text))
    words = [unicodedata.normalize("NFC", word) for word in words]
    if len({word.casefold() for word in words}) == len(words):
        text, words = text.casefold(), [word.casefold() for word in words]
    found = {c: match.start() for c, word in enumerate(words) if (match := _alone(word).search(text))}
    first = [c for c, start in found.items() if start == min(found.values())]
    return max(first, key=lambda c: len(words[c])) if first else None  # "very good" before "very"


def score_label(label: int | None, classes: int) -> np.ndarray:
    """(2, C): the scores of an answered label, and FLOOR for every word of an answer without one."""
    if label is None:
        return np.array([[-math.log(classes)] * classes, [FLOOR] * classes], np.float32)
    others = math.log(ERROR / (classes - 1)) if classes > 1 else 0.0
    scores = np.full((2, classes), others, np.float32)
    scores[0, label], scores[1] = math.log1p(-ERROR), 0
    return scores


def _alone(word: str) -> re.Pattern[str]:
    before = "" if _UNSPACED.match(word[:1]) else r"(?<!\w)"
    after = "" if _UNSPACED.match(word[-1:]) else r"(?!\w)"
    return re.compile(before + re.escape(word) + after)
