"""The questions to one server: asked, written down, answered from the log when they were answered before."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.errors import Refused, ServiceError, SetupError, Stopped
from zopog_models.runners.waiting import Unwanted, wait
from zopog_models.served.answer_cache import AnswerCache
from zopog_models.served.request_log import RequestLog
from zopog_models.served.spending import Prices, Spending, Usage, usage_of
from zopog_models.served.transport import Answer, Transport
from zopog_models.served.wire import Wire

__all__ = ["Requests"]


class Requests:
    """The requests of one runner to one server. Safe to use from several threads.

    should_stop: as of `Transport`. Attributes: log, transport. Raises SetupError and ProviderError as `Transport`.
    """

    def __init__(
        self, url: str, wire: Wire, notify: Callable[[str], None], should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        prices = None if wire.price_in is None or wire.price_out is None else Prices(wire.price_in, wire.price_out)
        try:
            self.spending = Spending(prices, wire.budget_usd)
        except ValueError as error:
            raise SetupError(f"--{error}") from error
        self.log = RequestLog(self.spending)
        self.cache = None if wire.cache is None else AnswerCache(wire.cache, url, notify)
        self.transport = Transport(url, wire, self.log, notify=notify, should_stop=should_stop)
        self._under_way, self._given_up, self._lock = 0, False, threading.Lock()
        self._idle = threading.Event()  # nothing is under way
        self._idle.set()

    @contextmanager
    def one_call(self) -> Iterator[None]:
        """Around the requests of one question to the model: when one of them fails for good, no other is repeated."""
        self._given_up = False  # whatever became of the last call
        try:
            yield
        except Exception:  # of all requests under way one failed for good, or somebody asked to stop
            self._settle()
            raise
        except BaseException:  # the user wants to leave at once
            self.transport.end()
            raise

    def ask(
        self, path: str, body: bytes, headers: Mapping[str, str], identity: str, shape: tuple[int, ...],
        read: Callable[[Answer], np.ndarray], written: int = 0,
    ) -> np.ndarray:  # fmt: skip
        """The answer, written down. A question that was answered before gets the answer there was, if it fits.

        written: tokens that the answer holds at most; 0 of a server that does not count tokens. Raises CapReached.
        """
        found = self.log.answer(identity)
        if found is not None and found.shape == shape and np.isfinite(found).all():
            return found
        if self.cache is not None and (found := self.cache.get(identity, shape)) is not None:
            self.log.answered(identity, found, cached=True)
            return found
        with self._lock:
            if self._given_up:  # the same call's, by a thread that has not been told yet
                kind = Stopped if self.transport.should_stop() else ServiceError
                raise kind("another request failed or was stopped, this one was not sent")
            self._under_way += 1
            self._idle.clear()
        most = Usage(len(body), written) if written else None
        said: Usage | None = None

        def reading(answer: Answer) -> np.ndarray:
            nonlocal said
            said = None if most is None else usage_of(answer.body)
            return read(answer)

        aside = 0.0
        try:
            aside = 0.0 if most is None else self.spending.set_aside(most)
            found = self.transport.post(path, body, headers, identity, reading, most)
            self.log.answered(identity, found, usage=said or most, said=said is not None)
            if self.cache is not None:
                self.cache.put(identity, found)
        except Refused:  # this question alone
            raise
        except BaseException:
            self._given_up = True
            raise
        finally:
            self.spending.settle(aside)
            with self._lock:
                self._under_way -= 1
                if not self._under_way:
                    self._idle.set()
        return found

    def asks(self, model: str) -> None:
        """Which model answers, by its hash: another one's answers are not its own."""
        if self.cache is not None:
            self.cache.model = model

    def keep(self, path: Path) -> None:
        """Go on in this file; see `RequestLog.keep`."""
        self.log.keep(path)

    def report(self) -> dict[str, Any]:
        """Requests that were sent, those of them that were repeated, and why -> how often one failed."""
        log = self.log
        found = {"requests": log.sent, "retries": log.retries, "failures": dict(sorted(log.failures.items()))}
        found |= {} if self.cache is None else {"cached": log.cached}
        return found | ({"spending": spent} if (spent := self.spending.report()) else {})

    def close(self) -> None:
        """Give the log's file and the connections back."""
        self.log.close()
        self.transport.close()

    def _settle(self) -> None:
        """After a request failed for good: repeat no other, but take the answers that are still on their way."""
        self.transport.abandon()
        with contextlib.suppress(Unwanted):
            wait(self._idle, self.transport.wire.timeout, self.transport.patience())
