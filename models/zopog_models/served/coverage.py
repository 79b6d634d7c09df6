"""What an endpoint said of each text: which label words it left out, whether it refused, or contradicted itself.

A text counts once, however often it was asked about. All of it is read from the answers that are written down, so a run
that was interrupted reports what an undisturbed one does.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from zopog_models.errors import ServiceError

__all__ = ["CONTRADICTION", "FLOOR", "REFUSED", "SILENT", "Coverage", "first_of", "is_split", "refused_rows"]

# In the second line of a text's answer, for every label word: bits, or what holds for the text as a whole.
FLOOR = 1  # the word was not returned
CONTRADICTION = 2  # the chosen token's own log-probability is not the listed one
SILENT = -1  # no log-probabilities
REFUSED = -2  # the endpoint will not answer


class Coverage:
    """Counts over texts. Safe to use from several threads.

    share: of texts that may be refused. One is always allowed.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._flags: dict[str, np.ndarray] = {}
        self._split: set[str] = set()  # requests whose texts were asked about one by one
        self._columns: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def labels(self, tokens: Iterable[int]) -> None:
        """The label words of the columns."""
        self._columns = tuple(tokens)

    def take(self, identity: str, flags: np.ndarray) -> None:
        """What was said (rows, C) of the texts of one request, or of one that stands in for it."""
        with self._lock:
            first = first_of(identity)
            if is_split(flags):
                self._split.add(first)
                self._flags.pop(first, None)
            if first in self._split:
                return
            before = self._flags.get(first)
            if before is None or before.shape != flags.shape:
                self._flags[first] = flags
            else:
                self._flags[first] = np.where(before < 0, flags, before)

    def restore(self, answers: Mapping[str, np.ndarray]) -> None:
        """Go on from answers that were written down before."""
        for identity, answer in sorted(answers.items(), key=lambda item: _order(item[0])):
            if answer.ndim == 3 and answer.shape[1] == 2:
                self.take(identity, answer[:, 1])

    def check(self, why: str) -> None:
        """Raises ServiceError, with the words of the last refusal, when too many texts were refused."""
        rows, refused, _ = self._counts()
        if refused > max(1.0, math.floor(self.share * rows)):
            raise ServiceError(
                f"{why}. The endpoint refused {refused} of {rows} texts, more than {self.share:.0%}: look at the texts "
                "and the endpoint's filter, or allow more with --refused-share"
            )

    def report(self, word: Callable[[int], str]) -> dict[str, Any]:
        """Texts, and for every label word of how many of them it was not returned; what else there was."""
        rows, refused, contradictions = self._counts()
        missing = np.zeros(len(self._columns), np.int64)
        for flags in self._flags.values():
            if flags.shape[1] == len(missing):
                missing += ((flags > 0) & (flags.astype(np.int64) & FLOOR > 0)).sum(axis=0)
        found: dict[str, Any] = {"rows": rows}
        found["not_returned"] = {word(token): int(n) for token, n in sorted(zip(self._columns, missing))}
        return found | {k: n for k, n in (("refused", refused), ("contradictions", contradictions)) if n}

    def _counts(self) -> tuple[int, int, int]:
        """Texts, those that were refused, those whose answer contradicts itself."""
        with self._lock:
            first = np.concatenate([np.zeros(0), *(flags[:, 0] for flags in self._flags.values() if flags.shape[1])])
        contradicting = (first > 0) & (first.astype(np.int64) & CONTRADICTION > 0)
        return int((first != SILENT).sum()), int((first == REFUSED).sum()), int(contradicting.sum())


def first_of(identity: str) -> str:
    """The question that this one stands in for: ID of ID-1, which asked again, or itself."""
    return identity.partition("-")[0]


def refused_rows(rows: int, words: int) -> np.ndarray:
    """(rows, 2, C): no answer, which is the same score for every label word."""
    answer = np.empty((rows, 2, words), np.float32)
    answer[:, 0], answer[:, 1] = -math.log(words), REFUSED
    return answer


def is_split(flags: np.ndarray) -> bool:
    """Whether (rows, C) are of a request of several texts that was refused: each was asked about by itself then."""
    return len(flags) > 1 and bool((flags == REFUSED).all())


def _order(identity: str) -> tuple[str, int]:
    first, _, number = identity.partition("-")
    return first, int(number) if number.isdecimal() and len(number) < 9 else 0
