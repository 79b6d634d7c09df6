"""Connections that can be shut by whoever no longer waits for their answer, whatever part of it is under way.

A time-out for each read does not bound an answer: a server can send a byte every half second, in the status line, the
headers, or as endless `100 Continue`. So each exchange has one deadline (`runners/waiting.py`), from the first packet
of the connection to the last byte of the answer, at which its connection is shut.
"""

import http.client
import os
import socket
from typing import Any
from urllib.parse import SplitResult, unquote

from zopog_models.runners.waiting import use

__all__ = ["open_pool"]


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
            response_class = _FinalResponse
            second: socket.socket | None = None  # names the connection too, while TLS has taken the first socket

            def _new_conn(self) -> socket.socket:
                opened: socket.socket = super()._new_conn() if socket_path is None else _through(socket_path)
                self._close_second()
                self.second = opened.dup()
                try:
                    use(self)
                except BaseException:  # nobody waits any more, and nobody else knows of this socket
                    opened.close()
                    self._close_second()
                    raise
                return opened

            def putrequest(self, *arguments: Any, **options: Any) -> None:
                use(self)
                super().putrequest(*arguments, **options)

            def close(self) -> None:
                try:
                    super().close()
                finally:
                    self._close_second()

            def _close_second(self) -> None:
                second, self.second = self.second, None
                if second is not None:
                    second.close()

        Endable.__name__ = connection.__name__  # which stands in the message of a connection that fails
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


class _FinalResponse(http.client.HTTPResponse):
    """Of the answers before the answer (RFC 9110, 15.2), http.client passes over 100 alone: 103 would be the answer.

    101 is left: nobody has asked for another protocol, and what follows it is none of ours.
    """

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        passed_over = 100 < status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, http.HTTPStatus.CONTINUE if passed_over else status, reason


def _through(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.connect(path)
    except BaseException:
        opened.close()
        raise
    return opened
