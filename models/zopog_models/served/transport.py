"""HTTP to a served model, made to last: deadlines, retries with back-off and jitter, a pace the server can set.

The client is urllib3 (extra `remote`): a thread-safe pool that other clients are built on, which needs no package of
its own. It is told to retry nothing and to follow nowhere: both are decided here, where every attempt is written down.
"""

import ipaddress
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from zopog_models.errors import ProviderError, ServiceError, SetupError
from zopog_models.served.request_log import RequestLog

__all__ = ["Answer", "ServiceError", "SetupError", "Transport", "Wire", "split_address"]

# Worth another attempt: too early, too often, or a server's own trouble, which may pass.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds
_LONGEST_ASKED = 900.0  # a server that asks for a longer pause is an error: the run can be continued later
_PART = 1 << 16


@dataclass(frozen=True)
class Wire:
    """How to talk to a server. None of it changes a result. Raises ValueError.

    Parameters
        timeout: seconds for a whole answer
        retries: further attempts of one request; 8 wait for a minute at least
        concurrency: requests under way at once
        key_variable: the environment variable that holds the key, which is sent as a bearer token; default: no key
        max_bytes: of an answer; default 64 MiB
    """

    timeout: float = 60.0
    retries: int = 8
    concurrency: int = 4
    key_variable: str | None = None
    max_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout is {self.timeout}; it must be a positive number of seconds")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it must be 0 or more")
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}; it must be at least 1")


class Answer(NamedTuple):
    """A complete answer: status, headers (names in lower case), body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Requests to one server. Safe to use from several threads.

    notify gets a line where somebody waits for long. Raises SetupError (an address or a key that cannot be used) and
    ProviderError (urllib3 is missing).
    """

    def __init__(
        self, url: str, wire: Wire, log: RequestLog, *, notify: Callable[[str], None] = lambda message: None
    ) -> None:
        self.url = url.rstrip("/")
        self.wire, self.log = wire, log
        self._notify = notify
        self._key = _key(split_address(url), wire.key_variable)
        self._http = _open_pool(wire)
        self._not_before = 0.0  # on the monotonic clock: a pause that the server asked for holds for all threads
        self._abandoned = threading.Event()
        self._jitter = random.Random()

    def get(self, path: str) -> Answer:
        """Read what the server says of itself; not written down. Any status but a passing failure comes back."""
        return self._insist("GET", path, None, {}, None, None)

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], identity: str, read: Callable[[Answer], Any]
    ) -> Any:
        """Ask, and what `read` makes of the answer. The same body whenever it is repeated.

        Raises ServiceError: no answer after all attempts, a status other than 200, what `read` raises as ServiceError.
        """
        return self._insist("POST", path, body, headers, identity, read)

    def abandon(self) -> None:
        """Wake whoever waits to try again: their question is no longer of interest."""
        self._abandoned.set()
        self._abandoned = threading.Event()

    def close(self) -> None:
        """Close the connections. A request that comes later opens new ones."""
        self._http.clear()

    def hide(self, text: str) -> str:
        """The text without the key, should a server repeat it."""
        return text.replace(self._key, "***") if self._key else text

    def _insist(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], identity: str | None,
        read: Callable[[Answer], Any] | None,
    ) -> Any:  # fmt: skip
        abandoned, where = self._abandoned, f"{method} {self.url}{path}"
        attempts = self.wire.retries + 1
        for attempt in range(1, attempts + 1):
            self._pause(self._not_before - time.monotonic(), abandoned, where)
            if identity is not None:
                self.log.sending(identity, attempt)
            try:
                answer = self._once(method, path, body, headers)
                if read is None and answer.status not in _PASSING:
                    return answer
                if read is not None and answer.status == 200:
                    return read(answer)
                why, asked = f"HTTP {answer.status}", _asked_pause(answer)
                detail = f"{why}{self._said(answer)}"
            except _Failure as failure:
                why, asked, detail = failure.why, None, self.hide(f"{failure.why} ({failure})")
                answer = None
            except ServiceError as error:
                if identity is not None:
                    self.log.failed(identity, "unusable answer")
                raise ServiceError(f"{where}: {self.hide(str(error))[:2000]}") from None
            if identity is not None:
                self.log.failed(identity, why)
            if answer is not None and answer.status not in _PASSING:
                raise ServiceError(f"{where}: {detail}")
            if attempt == attempts:
                raise ServiceError(f"{where}: {detail}; given up after {attempts} attempts")
            wait = self._wait(attempt, asked, where)
            if wait > 2:
                self._notify(f"{detail}; attempt {attempt + 1} of {attempts} in {wait:.0f} s")
            self._pause(wait, abandoned, where)
        raise AssertionError("unreachable")

    def _wait(self, attempt: int, asked: float | None, where: str) -> float:
        """Seconds before the next attempt: doubling, a random half of it off, and no less than the server asked for."""
        backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * self._jitter.uniform(0.5, 1.0)
        if asked is None:
            return backoff
        if asked > _LONGEST_ASKED:
            raise ServiceError(f"{where}: the server asks to come back in {asked:.0f} s: continue the run then")
        self._not_before = max(self._not_before, time.monotonic() + asked)
        return max(backoff, asked)

    @staticmethod
    def _pause(seconds: float, abandoned: threading.Event, where: str) -> None:
        if seconds > 0 and abandoned.wait(seconds):
            raise ServiceError(f"{where}: another request failed, this one was not repeated")

    def _said(self, answer: Answer) -> str:
        """The first words of an error's body, on one line."""
        text = " ".join(answer.body[:2000].decode("utf-8", "replace").split())
        return f": {self.hide(text)[:300]}" if text else ""

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        import urllib3

        until = time.monotonic() + self.wire.timeout
        sent = dict(headers) | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            response = self._http.request(
                method, self.url + path, body=body, headers=sent, preload_content=False, retries=False, redirect=False,
                timeout=urllib3.Timeout(connect=min(10.0, self.wire.timeout), read=self.wire.timeout),
            )  # fmt: skip
            try:
                content = self._body(response, until)
            except BaseException:
                response.close()  # half an answer is left in the connection: it cannot be used again
                raise
            finally:
                response.release_conn()  # a closed one too: the pool would wait for it for ever
        except ServiceError:
            raise
        except urllib3.exceptions.TimeoutError as error:
            raise _Failure("no answer in time", error) from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError, OverflowError) as error:
            # The last two: a chunk of 10^30 bytes is promised, a length that is no number.
            raise _Failure("connection lost", error) from None
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    def _body(self, response: Any, until: float) -> bytes:
        parts, size = [], 0
        while part := response.read1(_PART):
            parts.append(part)
            size += len(part)
            if size > self.wire.max_bytes:
                raise ServiceError(f"the answer is larger than {self.wire.max_bytes} bytes")
            if time.monotonic() > until:
                raise _Failure("no answer in time", f"{size} bytes in {self.wire.timeout:g} s")
        promised = None if "Content-Encoding" in response.headers else response.headers.get("Content-Length")
        if promised is not None and promised.isdigit() and size < int(promised):
            raise _Failure("connection lost", f"{size} of {promised} bytes")
        return b"".join(parts)


class _Failure(Exception):
    """An attempt that may be repeated."""

    def __init__(self, why: str, detail: object) -> None:
        super().__init__(str(detail)[:300])  # a broken status line is quoted, however long it is
        self.why = why


def split_address(url: str) -> SplitResult:
    """The parts of an http or https address. Raises SetupError, for one that holds a password or a query too."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise SetupError(f"{url!r} is no address; expected http://host:port/...") from None
    if parts.username is not None or parts.password is not None or parts.query:
        raise SetupError(
            "the address holds a user, a password or a query, and it is kept in the run folder: leave them out, and "
            "put a key into an environment variable"
        )
    if not usable:
        raise SetupError(f"{url!r} is no address; expected http://host:port/...")
    return parts


def _key(parts: SplitResult, variable: str | None) -> str:
    """The key, or "". It goes over an encrypted connection, or to this machine itself, or nowhere."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SetupError(f"the environment variable {variable} holds no key: set it, or leave the option out")
    if not key.isascii() or not key.isprintable():
        raise SetupError(f"the environment variable {variable} holds something that cannot be sent as a key")
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if parts.scheme != "https" and not local:
        raise SetupError(f"a key is not sent to {host} over http, where anybody on the way can read it: use https")
    return key


def _open_pool(wire: Wire) -> Any:
    try:
        import urllib3
    except ImportError as error:
        raise ProviderError(f'a served model needs urllib3 ({error}): pip install "urllib3>=2.7"') from error
    return urllib3.PoolManager(num_pools=2, maxsize=wire.concurrency, block=True)


def _asked_pause(answer: Answer) -> float | None:
    """Seconds that a Retry-After asks for (a number, or a date), or None."""
    text = answer.headers.get("retry-after")
    if text is None:
        return None
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(text)
    except (InvalidHeader, ValueError, OverflowError):  # a date of the year 99999 is a header that can be parsed
        return None
