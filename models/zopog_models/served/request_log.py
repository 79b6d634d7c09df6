"""Every request to a served model, written down before it is sent, and its answer the moment it is there.

A line per event, so that a killed process leaves an exact count, and no answer that was paid for is ever asked again:

    {"sent": ID, "attempt": 1}            before the request leaves; attempt 2 is the first retry
    {"failed": ID, "why": "HTTP 503"}     no usable answer
    {"failed": ID, "why": "no answer in time", "usage": [90, 1], "said": false}    which may be billed all the same
    {"answered": ID, "shape": [64, 2], "scores": "..."}    float32, little endian, base64

With a request may stand "most": [read, written], tokens that it can take, which count where a kill left it without an
end; with an answer "usage", its tokens, "said": false where the server did not say them, and "cached": true where
nobody was asked.

ID is the hash of what was asked. It holds no key, no address and no text.
"""

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.durable import Reserve, append_line
from zopog_models.files.lines import whole_lines
from zopog_models.served.spending import Prices, Spending, Usage

__all__ = ["RequestLog"]

_SYNC_EVERY = 5.0  # seconds: a disk may take longer to be sure of a line than a server to answer


class RequestLog:
    """Counts and answers, in memory, and after `keep(path)` on disk. Safe to use from several threads.

    Attributes: sent (requests), retries (those of them that repeat an earlier one), failures: why -> how often; cached
    (answers that nobody was asked for). spending: gets the tokens of each answer.
    """

    def __init__(self, spending: Spending | None = None) -> None:
        self.spending = Spending() if spending is None else spending
        self.sent = 0
        self.retries = 0
        self.cached = 0
        self.failures: Counter[str] = Counter()
        self._answers: dict[str, np.ndarray] = {}
        self._under_way: dict[str, Usage] = {}  # sent, without an end so far
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._reserve: Reserve | None = None
        self._synced = time.monotonic()
        self._unwritten: list[str] = []

    def keep(self, path: Path) -> None:
        """Go on in this file: what an earlier part of the run left there counts, and is not asked again.

        A torn last line (a kill in the middle of a write) goes. Space is held back for the answers that are under way
        when the disk fills up. Raises OSError, DiskFull among them, and ValueError for a damaged file.
        """
        with self._lock:
            if path.exists():
                self._read(whole_lines(path), path)
            self._path, self._reserve = path, Reserve(path.parent, ".requests.reserve")
            self._reserve.take()
            if self._unwritten:
                append_line(path, "\n".join(self._unwritten), self._reserve, self._go_on(), sync=False)
            self._unwritten.clear()

    @classmethod
    def spent(cls, path: Path, prices: Prices) -> float:
        """US dollars of what is written down in a file. Raises UnusableFile, and ValueError for a damaged one."""
        log = cls(Spending(prices))
        log._read(whole_lines(path), path)
        return float(log.spending.report().get("usd", 0.0))

    def answer(self, identity: str) -> np.ndarray | None:
        """The answer to the same question, if there was one."""
        with self._lock:
            return self._answers.get(identity)

    def answers(self) -> dict[str, np.ndarray]:
        """All answers there are, by question."""
        with self._lock:
            return dict(self._answers)

    def sending(self, identity: str, attempt: int, most: Usage | None = None) -> None:
        """Before a request leaves. most: tokens that it can take. Raises DiskFull: then it must not."""
        self._add({"sent": identity, "attempt": attempt} | ({} if most is None else {"most": list(most)}))

    def failed(self, identity: str, why: str, usage: Usage | None = None, said: bool = False) -> None:
        """No usable answer, and a word or two why. usage: what may be billed all the same."""
        self._add({"failed": identity, "why": why} | _tokens(usage, said))

    def answered(
        self, identity: str, scores: np.ndarray, *, usage: Usage | None = None, said: bool = True, cached: bool = False
    ) -> None:
        """A usable answer; safe from a kill when this returns, and from a power cut within _SYNC_EVERY.

        Raises DiskFull after it was kept in the space held back.
        """
        content = base64.b64encode(np.ascontiguousarray(scores, "<f4").tobytes()).decode()
        event: dict[str, Any] = {"answered": identity, "shape": list(scores.shape), "scores": content}
        self._add(event | _tokens(usage, said) | ({"cached": True} if cached else {}), safe=True)

    def close(self) -> None:
        """Give the file back; counting goes on in memory."""
        with self._lock:
            if self._reserve is not None:
                self._reserve.give_up()
            self._path = self._reserve = None

    def _read(self, lines: Iterable[bytes], path: Path) -> None:
        for number, line in enumerate(lines, start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                raise ValueError(f"{path}, line {number} is no event of a request: {error!r:.200}") from None
        for most in self._under_way.values():  # a kill was their end
            self.spending.count(most, said=False)
        self._under_way.clear()

    def _add(self, event: dict[str, Any], safe: bool = False) -> None:
        text = json.dumps(event)
        with self._lock:
            if self._path is None:
                self._take(event)
                self._unwritten.append(text)
                return
            sync = safe and time.monotonic() - self._synced > _SYNC_EVERY
            if safe:  # what was answered counts, whatever becomes of the line; a request that must not leave does not
                self._take(event)
            append_line(self._path, text, self._reserve if safe else None, self._go_on(), sync)
            self._synced = time.monotonic() if sync else self._synced
            if not safe:
                self._take(event)

    def _go_on(self) -> str:
        assert self._path is not None
        return f"make room, then zopog tune --resume {self._path.parent}"

    def _take(self, event: dict[str, Any]) -> None:
        kinds = {"sent": str, "attempt": int, "failed": str, "why": str, "answered": str}
        if wrong := [name for name, kind in kinds.items() if name in event and type(event[name]) is not kind]:
            raise TypeError(f"{wrong[0]} of another kind")
        if "usage" in event:
            self.spending.count(_usage(event["usage"]), event.get("said") is not False)
        if "sent" in event:
            self.sent += 1
            self.retries += event["attempt"] > 1
            if (killed := self._under_way.pop(event["sent"], None)) is not None:  # and asked again
                self.spending.count(killed, said=False)
            if "most" in event:
                self._under_way[event["sent"]] = _usage(event["most"])
            return
        self._under_way.pop(event["failed"] if "failed" in event else event["answered"], None)
        if "failed" in event:
            self.failures[event["why"]] += 1
        else:
            content = np.frombuffer(base64.b64decode(event["scores"], validate=True), "<f4")
            self.cached += event.get("cached") is True
            self._answers[event["answered"]] = content.reshape(event["shape"]).astype(np.float32)


def _tokens(usage: Usage | None, said: bool) -> dict[str, Any]:
    return {} if usage is None else {"usage": list(usage)} | ({} if said else {"said": False})


def _usage(counts: Any) -> Usage:
    """Raises ValueError for what is no pair of counts."""
    read, written = counts
    if not all(type(count) is int and count >= 0 for count in (read, written)):
        raise ValueError(f"{counts!r:.40} are no tokens")
    return Usage(read, written)
