"""A model that is only served as text: a completions endpoint in the manner of OpenAI's, read by its log-probabilities.

    model = CompletionsModel("http://localhost:8000/v1#NAME", tokenizer="path/to/folder")

A row becomes one string, prompt tokens and template, and the endpoint is asked for the log-probabilities of the next
token. It returns the k most probable ones; the score of a label word is its log-probability among them. A word that is
not among them is less probable than all of them, and than what they leave: its score is

    min( least log p returned,  log(1 - sum of p returned) ) - FLOOR_MARGIN

and it is counted (`coverage`). There is no place for A z in a text, so only methods that learn tokens alone can use it.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.frozen.rows import ModelRows
from zopog_models.served.inference_protocol import read_object
from zopog_models.served.kserve import ServedModel
from zopog_models.served.transport import Answer, ServiceError, SetupError, Wire, split_address

__all__ = ["FLOOR_MARGIN", "LARGEST_TOP", "CompletionsModel"]

FLOOR_MARGIN = 1.0  # nats
LARGEST_TOP = 1000
# llama.cpp keeps silent about a token that is a part of a character only. At temperature 0 that is always the most
# probable one; at temperature 1, which leaves the distribution as it is, another one is drawn.
_DRAWS = 8
_SILENT = "the answer has no log-probabilities of the next token: the endpoint does not offer them, or not this way"


class CompletionsModel(ServedModel):
    """A causal language model behind POST .../completions, scoring label words by the log-probability of what follows.

    url: http(s)://host/v1#NAME, NAME as the endpoint knows the model; tokenizer: a decoder's folder, best the served
    model's own: candidates and label words are its tokens. top: k, how many log-probabilities to ask for (endpoints
    allow 5 to 20, some more); rows: texts of one request (many endpoints take only 1).
    Raises SetupError, CheckpointError, ProviderError.
    """

    def __init__(
        self,
        url: str,
        tokenizer: str | Path,
        *,
        wire: Wire = Wire(),  # noqa: B008  frozen
        rows: int = 1,
        top: int = 5,
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        base, _, name = url.partition("#")
        split_address(base)
        if not name:
            raise SetupError(f"{url!r} names no model; expected http://host:port/v1#NAME")
        if not 1 <= top <= LARGEST_TOP:
            raise SetupError(f"top_logprobs is {top}; it must lie between 1 and {LARGEST_TOP}")
        super().__init__(base, tokenizer, wire, rows, notify)
        if self.mask_id is not None or self.pooling:
            raise SetupError(
                f"{tokenizer} is the folder of an encoder ({self.family}); a completions endpoint goes on with a text: "
                "give a decoder's, best the served model's own"
            )
        self.name, self.source, self.top = name, f"completions+{url}", top
        self.embedding_size = 1  # of an offset that is always 0
        self.providers = ("completions endpoint",)
        self._asked = 0
        self._missing: dict[int, int] = {}

    @cached_property
    def embedding_std(self) -> float:
        """1: there is no continuous prompt whose scale it could set."""
        return 1.0

    @property
    def sha256(self) -> str:
        """Nobody sees the weights: "completions:" and a hash of the model's name."""
        return "completions:" + hashlib.sha256(self.name.encode()).hexdigest()

    def coverage(self) -> dict[str, Any]:
        """Rows that were scored, and for every label word in how many of them it was not among the k returned."""
        words = {self.tokenizer.decode([token]).strip(): count for token, count in sorted(self._missing.items())}
        return {"rows": self._asked, "top_logprobs": self.top, "not_returned": words}

    def text(self, row: np.ndarray, prompt: np.ndarray) -> str:
        """What the endpoint reads: the prompt's tokens, then the row's."""
        start = 0 if self.cls_id is None else 1  # a BOS token is the server's to add
        return self.tokenizer.decode([*map(int, prompt), *map(int, row[start:])], skip_special_tokens=False)

    def logits(
        self,
        text_ids: Sequence[np.ndarray],
        answer_position: np.ndarray,
        prompt_ids: np.ndarray,
        prompt_offset: np.ndarray | None,
        prompt_index: np.ndarray,
        label_ids: np.ndarray,
    ) -> np.ndarray:
        """Log-probabilities (R, C), float32, of the label words after each row; arguments as of `FrozenModel.logits`.

        Raises ValueError as there, and for an offset that is not 0.
        """
        if prompt_offset is not None and np.any(prompt_offset):
            raise ValueError("a completions endpoint reads text: there is no continuous prompt, the offsets must be 0")
        rows = ModelRows(self, text_ids, answer_position, prompt_ids, None, prompt_index, label_ids)
        texts = [self.text(row, rows.prompt_ids[p]) for row, p in zip(rows.texts, rows.prompt_index)]
        # Equal texts once, in a fixed order, so that the same question is always cut into the same requests.
        distinct, place = np.unique(np.array(texts, object), return_inverse=True)
        words = [self._word(int(token)) for token in rows.label_ids]
        result = np.empty((len(distinct), len(words)), np.float32)
        absent = np.empty(result.shape, bool)

        def run(start: int) -> None:
            part = slice(start, start + self.chunk_rows)
            scores = self._complete(list(distinct[part]), words)  # (rows, 2, C)
            result[part], absent[part] = scores[:, 0], scores[:, 1] > 0

        self._begin()
        try:
            self.run_all(run, range(0, len(distinct), self.chunk_rows))
        except BaseException:
            self._settle()
            raise
        place = place.reshape(-1)
        self._asked += len(texts)
        for token, count in zip(rows.label_ids, absent[place].sum(axis=0)):
            self._missing[int(token)] = self._missing.get(int(token), 0) + int(count)
        return result[place]

    def _word(self, token: int) -> str:
        return self.tokenizer.decode([token], skip_special_tokens=False).strip()

    def _complete(self, texts: list[str], words: list[str]) -> np.ndarray:
        """(rows, 2, C): log-probabilities, and 1 where a word was not returned."""
        scores = self._answer(texts, words, {"temperature": 0})
        for seed in range(_DRAWS):
            silent = scores[:, 1] < 0
            if not silent.any():
                return scores
            drawn = self._answer(texts, words, {"temperature": 1, "seed": seed})
            scores = np.where(silent[:, None, :], drawn, scores)
        raise ServiceError(f"POST {self.transport.url}/completions: {_SILENT}")

    def _answer(self, texts: list[str], words: list[str], drawing: Mapping[str, int]) -> np.ndarray:
        """As `read_scores`."""
        question = {
            "model": self.name, "prompt": texts[0] if len(texts) == 1 else texts, "max_tokens": 1, **drawing,
            "logprobs": self.top,
        }  # fmt: skip
        body = json.dumps(question).encode()
        identity = hashlib.sha256(body + json.dumps(words).encode()).hexdigest()[:32]
        headers, shape = {"Content-Type": "application/json"}, (len(texts), 2, len(words))
        return self._ask(
            "/completions", body, headers, identity, shape, lambda answer: read_scores(answer, len(texts), words)
        )


def read_scores(answer: Answer, rows: int, words: Sequence[str]) -> np.ndarray:
    """(rows, 2, C) of an endpoint's answer: log-probabilities of the words, and 1 where the floor stands for one.

    A row of which the endpoint says nothing has −1 there. Raises ServiceError: no JSON, another number of choices, a
    number that is none.
    """
    choices = read_object(answer.body).get("choices")
    if not isinstance(choices, list) or len(choices) != rows:
        found = len(choices) if isinstance(choices, list) else "no"
        raise ServiceError(f"the answer has {found} choices, {rows} were asked for (one text a request may be allowed)")
    result = np.empty((rows, 2, len(words)), np.float32)
    seen = set()
    for place, choice in enumerate(choices):
        index = choice.get("index", place) if isinstance(choice, dict) else None
        if type(index) is not int or not 0 <= index < rows or index in seen:
            raise ServiceError(
                f"choice {place} of the answer has index {index!r:.40}, expected 0 to {rows - 1} once each"
            )
        seen.add(index)
        top = _top(choice)
        result[index] = score_words(top, words) if top else [[0], [-1]]
    return result


def score_words(top: Mapping[str, float], words: Sequence[str]) -> np.ndarray:
    """(2, C): log p of each word, of all returned tokens that are it but for a space in front; and 1 for a floor."""
    total: dict[str, list[float]] = {}
    for token, value in top.items():
        total.setdefault(token.strip(), []).append(value)
    left = max(1.0 - math.fsum(math.exp(value) for value in top.values()), 1e-12)
    floor = min(min(top.values()), math.log(left)) - FLOOR_MARGIN
    scores = np.empty((2, len(words)), np.float32)
    for c, word in enumerate(words):
        found = total.get(word)
        scores[:, c] = (floor, 1) if found is None else (np.logaddexp.reduce(found), 0)
    return scores


def _top(choice: Mapping[str, Any]) -> dict[str, float]:
    """Token text -> log p of what may follow: {"top_logprobs": [{text: log p}]}, or entries with token and logprob.

    {} where there is none.
    """
    logprobs = choice.get("logprobs")
    found: Any = None
    if isinstance(logprobs, dict):
        for key in ("top_logprobs", "content"):
            listed = logprobs.get(key)
            if isinstance(listed, list) and listed:
                found = listed[0]
                break
    if isinstance(found, dict) and isinstance(found.get("top_logprobs"), list):
        entries = [entry for entry in found["top_logprobs"] if isinstance(entry, dict)]
        pairs = [(entry.get("token"), entry.get("logprob")) for entry in entries]
    elif isinstance(found, dict):
        pairs = list(found.items())
    else:
        pairs = []
    top: dict[str, float] = {}
    for token, value in pairs:
        if value is None or value == -math.inf:  # some write it for a probability of 0
            continue
        if not isinstance(token, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise ServiceError(f"a log-probability of the answer is {value!r:.40} of {token!r:.40}")
        if not value <= 1e-3:
            raise ServiceError(f"the answer says that log p of {token!r:.40} is {value}; it cannot be above 0")
        plain = _plain(token)
        top[plain] = max(float(value), top.get(plain, -math.inf))
    return top


def _plain(token: str) -> str:
    """A token's text with a plain space, however the tokenizer of the endpoint writes one."""
    return token.replace("▁", " ").replace("Ġ", " ")
