"""What a completions endpoint says of the next token: log-probabilities of the k most probable ones.

Both forms that servers answer in are read: {"top_logprobs": [{text: log p}]}, and entries with token and logprob.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zopog_models.errors import ServiceError
from zopog_models.served.inference_protocol import read_object
from zopog_models.served.transport import Answer

__all__ = ["FLOOR_MARGIN", "read_scores", "score_words"]

FLOOR_MARGIN = 1.0  # nats


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
