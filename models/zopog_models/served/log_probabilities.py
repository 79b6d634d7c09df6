"""What a completions endpoint says of the next token: log-probabilities of the k most probable ones.

Several tokens may have one text, and a map has one place for each text: what is lost there shows in the log-probability
of the chosen token itself, which stands beside the map.

Both forms that servers answer in are read: {"top_logprobs": [{text: log p}]}, and entries with token and logprob.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zopog_models.errors import ServiceError
from zopog_models.files.repeated_keys import once
from zopog_models.served.coverage import CONTRADICTION, FLOOR, SILENT, refused_rows
from zopog_models.served.inference_protocol import read_object
from zopog_models.served.transport import Answer

__all__ = ["FLOOR_MARGIN", "LEAST", "floored", "read_scores", "score_words"]

FLOOR_MARGIN = 1.0  # nats
_ROUNDING = 1e-3  # nats, of what a server writes
LEAST = 1e3  # nats: less than this some servers write for no probability


class _Total(float):
    """The log-probability of several tokens of one text together."""


Score = Callable[[Mapping[str, float], Sequence[str]], np.ndarray]


def read_scores(answer: Answer, rows: int, words: Sequence[str], score: Score | None = None) -> np.ndarray:
    """(rows, 2, C) of an endpoint's answer: log-probabilities of the words, and the bits FLOOR and CONTRADICTION.

    score: what makes scores of what was returned; default `score_words`.

    A row of which the endpoint says nothing has SILENT there. Raises ServiceError: no JSON, another number of choices,
    a number that is none.
    """
    choices = read_object(answer.body, _added_up).get("choices")
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
        if choice.get("finish_reason") == "content_filter":
            result[index] = refused_rows(1, len(words))[0]
            continue
        top, contradicts = _settled(*_top(choice))
        if not top:
            result[index] = [[0], [SILENT]]
            continue
        result[index] = (score or score_words)(top, words)
        result[index, 1] += CONTRADICTION * contradicts
    return result


def score_words(top: Mapping[str, float], words: Sequence[str]) -> np.ndarray:
    """(2, C): log p of each word, of all returned tokens that are it but for a space in front; and 1 for a floor."""
    total: dict[str, list[float]] = {}
    for token, value in top.items():
        total.setdefault(token.strip(), []).append(value)
    return floored(top, [np.logaddexp.reduce(total[word]) if word in total else math.nan for word in words])


def floored(top: Mapping[str, float], scores: Sequence[float]) -> np.ndarray:
    """(2, C): scores with a floor in place of NaN, below all that was returned and what that leaves; and 1 for it."""
    left = max(1.0 - math.fsum(math.exp(value) for value in top.values()), 1e-12)
    floor = min(min(top.values()), math.log(left)) - FLOOR_MARGIN
    missing = np.isnan(scores)
    return np.array([np.where(missing, floor, scores), missing * FLOOR], np.float32)


def _top(choice: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, float] | None]:
    """Token text -> log p of what may follow: {"top_logprobs": [{text: log p}]}, or entries with token and logprob.

    {} where there is none. And the token that was chosen, with its own log p, where it is said.
    """
    logprobs = choice.get("logprobs")
    found: Any = None
    own: tuple[Any, Any] = (None, None)
    if isinstance(logprobs, dict):
        own = (_first(logprobs.get("tokens")), _first(logprobs.get("token_logprobs")))
        for key in ("top_logprobs", "content"):
            listed = logprobs.get(key)
            if isinstance(listed, list) and listed:
                found = listed[0]
                break
    if isinstance(found, dict) and isinstance(found.get("top_logprobs"), list):
        own = (found.get("token"), found.get("logprob"))
        entries = [entry for entry in found["top_logprobs"] if isinstance(entry, dict)]
        pairs = [(entry.get("token"), entry.get("logprob")) for entry in entries]
    elif isinstance(found, dict):
        pairs = list(found.items())
    else:
        pairs = []
    top: dict[str, float] = {}
    several: set[str] = set()  # texts of more than one token that is listed
    for token, value in dict.fromkeys(pairs) if _hashable(pairs) else pairs:  # what stands there twice is one token
        if value is None or value == -math.inf:  # some write it for a probability of 0
            continue
        if not isinstance(token, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise ServiceError(f"a log-probability of the answer is {value!r:.40} of {token!r:.40}")
        if value < -LEAST:
            continue
        if not value <= _ROUNDING:
            raise ServiceError(f"the answer says that log p of {token!r:.40} is {value}; it cannot be above 0")
        plain = _plain(token)
        several |= {plain} if plain in top or isinstance(value, _Total) else set()
        top[plain] = float(value) if plain not in top else float(np.logaddexp(top[plain], value))
    token, value = own
    said = isinstance(token, str) and isinstance(value, int | float) and not isinstance(value, bool)
    if not said or not -LEAST < value <= _ROUNDING:
        return top, None
    token = _plain(token)
    counted = token in several and value <= top[token] + _ROUNDING  # the chosen token is one of them
    return top, None if counted else (token, float(value))


def _settled(top: dict[str, float], own: tuple[str, float] | None) -> tuple[dict[str, float], bool]:
    """The map with the chosen token's own log p in it, and whether the two contradict each other.

    Where the map says another number of its text, it holds another token of that text: both count. Where that is more
    than the others leave, the own one alone does; where this is too much as well, it is no probability of the model's
    (some servers write it after sampling) and the map stays.
    """
    if own is None or not top:
        return top, False
    token, value = own
    listed = top.get(token)
    if listed is not None and abs(listed - value) <= _ROUNDING:
        return top, False
    left = 1.0 + _ROUNDING - math.fsum(math.exp(other) for text, other in top.items() if text != token)
    if math.exp(value) > left:
        return top, True
    both = value if listed is None else float(np.logaddexp(value, listed))
    return top | {token: both if math.exp(both) <= left else value}, listed is not None


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None


def _hashable(pairs: list[tuple[Any, Any]]) -> bool:
    return all(isinstance(part, str | int | float | None) for pair in pairs for part in pair)


def _added_up(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of an answer. A key that stands there twice with log-probabilities is two tokens of one text.

    Raises RepeatedKey for any other.
    """
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    if not all(type(value) in (int, float) and value <= _ROUNDING for _, value in pairs):
        return once(pairs)
    total: dict[str, Any] = {}
    for key, value in pairs:
        total[key] = value if key not in total else _Total(np.logaddexp(total[key], value))
    return total


def _plain(token: str) -> str:
    """A token's text with a plain space, however the tokenizer of the endpoint writes one."""
    return token.replace("▁", " ").replace("Ġ", " ")
