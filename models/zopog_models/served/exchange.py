"""One exchange with a server, with one deadline from the first packet of the connection to the last byte of the answer.

A time-out for each read does not bound an answer: a server can send a byte every half second, in the status line, the
headers, or as endless `100 Continue`. So the exchange runs in a thread of its own. Whoever waits for it ends it at the
deadline, or as soon as it is no longer wanted, by shutting its connection, whatever part of the answer is under way.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote

__all__ = ["Late", "Unwanted", "exchange", "open_pool", "wait"]

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


def open_pool(
    concurrency: int, *, proxy: SplitResult | None = None, certificates: str | None = None,
    socket_path: str | None = None,
) -> Any:  # fmt: skip
    """A urllib3 pool whose connections can be shut from another thread. Raises ImportError without urllib3.

    proxy: to go through; certificates: a file or folder of those that are trusted; socket_path: of a Unix socket, to
    which all connections are made.
    """
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    def endable(connection: Any) -> Any:
        class Endable(connection):  # type: ignore[misc]
            second: socket.socket | None = None  # names the connection too, while TLS has taken the first socket

            def _new_conn(self) -> socket.socket:
                opened: socket.socket = super()._new_conn() if socket_path is None else _through(socket_path)
                self._close_second()
                self.second = opened.dup()
                self._use()
                return opened

            def putrequest(self, *arguments: Any, **options: Any) -> None:
                self._use()
                super().putrequest(*arguments, **options)

            def close(self) -> None:
                try:
                    super().close()
                finally:
                    self._close_second()

            def _use(self) -> None:
                running = getattr(_current, "exchange", None)
                if running is not None:
                    running.use(self)

            def _close_second(self) -> None:
                second, self.second = self.second, None
                if second is not None:
                    second.close()

        return Endable

    options: dict[str, Any] = {"num_pools": 2, "maxsize": concurrency, "block": True}
    if certificates is not None:
        options["ca_cert_dir" if os.path.isdir(certificates) else "ca_certs"] = certificates
    if proxy is None:
        pool = urllib3.PoolManager(**options)
    else:
        user = None if proxy.username is None else f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        at = f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}"
        pool = urllib3.ProxyManager(at, proxy_headers=urllib3.make_headers(proxy_basic_auth=user), **options)
    classes = {
        "http": (urllib3.HTTPConnectionPool, HTTPConnection),
        "https": (urllib3.HTTPSConnectionPool, HTTPSConnection),
    }
    pool.pool_classes_by_scheme = {
        scheme: type("EndablePool", (kind,), {"ConnectionCls": endable(connection)})
        for scheme, (kind, connection) in classes.items()
    }
    return pool


def _through(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.connect(path)
    except BaseException:
        opened.close()
        raise
    return opened
