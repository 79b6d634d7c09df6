"""Waiting for somebody else: a server, a cluster. Every wait has an end, and a request to stop is an earlier one.

What is waited for runs in a thread of its own. Whoever waits for it gives it up at the deadline, or as soon as it is no
longer wanted. Where the thread uses a connection, that is shut then, so that it ends too.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Late", "Unwanted", "exchange", "use", "wait"]

_LOOK_EVERY = 0.1  # seconds between two looks at whether somebody asked to stop
_current = threading.local()  # the exchange that runs in this thread


class Late(Exception):
    """The deadline came before the answer."""


class Unwanted(Exception):
    """Somebody asked to stop, or nobody wants the answer any more."""


def wait(done: threading.Event, seconds: float, unwanted: Callable[[], bool]) -> bool:
    """Whether it is done within so many seconds. Every wait of this package for somebody else is this one.

    Raises Unwanted within a tenth of a second once unwanted() is true. It looks again and again instead of being woken,
    since the handler of a signal may not take a lock.
    """
    until = time.monotonic() + seconds
    while not done.is_set():
        if unwanted():
            raise Unwanted
        left = until - time.monotonic()
        if left <= 0:
            return False
        done.wait(min(left, _LOOK_EVERY))
    return True


def exchange(work: Callable[[], Any], seconds: float, unwanted: Callable[[], bool]) -> Any:
    """What work() gives, or raises, within so many seconds. Raises Late and Unwanted; the connection is shut then."""
    running = _Exchange(work)
    try:
        in_time = wait(running.done, seconds, unwanted)
    except BaseException:
        running.end()
        raise
    if not in_time:
        running.end()
        raise Late
    if running.error is not None:
        raise running.error
    return running.result


class _Exchange:
    def __init__(self, work: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self.connection: Any = None  # the one that is in use
        self.ended = False
        threading.Thread(target=self._run, args=(work,), name="exchange", daemon=True).start()

    def _run(self, work: Callable[[], Any]) -> None:
        _current.exchange = self
        try:
            self.result = work()
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()

    def use(self, connection: Any) -> None:
        self.connection = connection
        if self.ended:
            raise OSError("this exchange was ended")

    def end(self) -> None:
        """Shut the connection: the thread wakes from whatever it waits for, and nobody takes its answer."""
        self.ended = True
        second = getattr(self.connection, "second", None)
        if second is not None:
            with contextlib.suppress(OSError):
                second.shutdown(socket.SHUT_RDWR)


def use(connection: Any) -> None:
    """The exchange in this thread, if it is one, uses this connection now; its socket `second` can be shut."""
    running = getattr(_current, "exchange", None)
    if running is not None:
        running.use(connection)
