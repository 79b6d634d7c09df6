"""HTTP to a served model, made to last: deadlines, retries with back-off and jitter, a pace the server can set.

The client is urllib3 (extra `remote`): a thread-safe pool that other clients are built on, which needs no package of
its own. It is told to retry nothing and to follow nowhere: both are decided here, where every attempt is written down.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from zopog_models.errors import Refused, ServiceError, SetupError, Stopped
from zopog_models.runners.waiting import Late, Unwanted, exchange, wait
from zopog_models.served.pace import asked_pause, pause_until_reset, shared_pace
from zopog_models.served.reach import Reach
from zopog_models.served.request_log import RequestLog
from zopog_models.served.spending import Usage, usage_of
from zopog_models.served.statuses import PASSING, is_final, is_refusal, may_be_billed, means
from zopog_models.served.wire import Wire

__all__ = ["Answer", "Transport"]

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds
_LONGEST_ASKED = 900.0  # a server that asks for a longer pause is an error: the run can be continued later
_PART = 1 << 16
_UNREACHED = "no connection"
_GRACE = 5.0  # seconds that an answer under way, which may be paid for, still has when somebody asks to stop
_TOKENS_A_BYTE = 0.3  # of a request, for its pace: what servers assume is 1 token in 4 characters
_TELLING = ("error", "errors", "detail", "message", "msg", "reason", "title", "fault")  # keys of what is no answer
_READ_FOR_WORDS = 1 << 16  # bytes of an error's body that are searched for the server's words

_UNTRUSTED = (
    "the server's certificate is not trusted ({}): trust its authority with SSL_CERT_FILE=FILE, or mend the certificate"
)
_NO_BUNDLE = "the file that SSL_CERT_FILE names holds no certificates ({}): it has to be in the form PEM"
_HOPELESS = {
    "CERTIFICATE_VERIFY_FAILED": _UNTRUSTED,
    "WRONG_VERSION_NUMBER": "what listens there does not speak https ({}): write http:// in --model, or mend the port",
    "NO_CERTIFICATE_OR_CRL_FOUND": _NO_BUNDLE,
    "PEM lib": _NO_BUNDLE,
}  # part of OpenSSL's words -> what to say where trying again is of no use


class Answer(NamedTuple):
    """A complete answer: status, headers (names in lower case), body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Requests to one server. Safe to use from several threads.

    notify gets a line where somebody waits for long. should_stop: looked at while a request waits; a pause ends at
    once when it is true, an answer under way has five seconds more, and Stopped is raised. Raises SetupError (an
    address or a key that cannot be used) and ProviderError (urllib3 is missing).
    """

    def __init__(
        self, url: str, wire: Wire, log: RequestLog, *, notify: Callable[[str], None] = lambda message: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self.wire, self.log = wire, log
        self.should_stop = should_stop
        self.notify = notify
        self._reach = Reach.of(url, wire)
        self._secrets, self._http, self._process = self._reach.secrets, self._reach.pool, os.getpid()
        try:
            self.pace = shared_pace(wire.rpm, wire.tpm, self.url, wire.key_variable, wire.headers_env)
        except ValueError as error:
            raise SetupError(f"--{error}") from error
        self._answered = 0  # requests
        self._abandoned, self._ended = threading.Event(), False
        self._jitter = random.Random()

    def get(self, path: str) -> Answer:
        """Read what the server says of itself; not written down. Any status but a passing failure comes back."""
        return self._insist("GET", path, None, {}, None, None)

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], identity: str, read: Callable[[Answer], Any],
        most: Usage | None = None,
    ) -> Any:  # fmt: skip
        """Ask, and what `read` makes of the answer. The same body whenever it is repeated.

        most: tokens that each attempt can be billed for; None: the server counts none.

        Raises ServiceError: no answer after all attempts, a status other than 200, what `read` raises as ServiceError.
        """
        return self._insist("POST", path, body, headers, identity, read, most)

    def abandon(self) -> None:
        """Wake whoever waits to try again: their question is no longer of interest."""
        self._abandoned.set()
        self._abandoned = threading.Event()

    def end(self) -> None:
        """Wake everybody at once, whoever waits for an answer too: nobody wants it any more."""
        self._ended = True
        self.abandon()

    def patience(self) -> Callable[[], bool]:
        """Whether who waits from now on should give up: five seconds after a request to stop, at once after `end`."""
        stopped_at: list[float] = []

        def over() -> bool:
            if self.should_stop() and not stopped_at:
                stopped_at.append(time.monotonic())
            return self._ended or bool(stopped_at and time.monotonic() - stopped_at[0] > _GRACE)

        return over

    def close(self) -> None:
        """Close the connections. A request that comes later opens new ones."""
        self._http.clear()

    def hide(self, text: str) -> str:
        """The text without the key, should a server repeat it in whatever form."""
        return self._secrets.hide(text)

    def _insist(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], identity: str | None,
        read: Callable[[Answer], Any] | None, most: Usage | None = None,
    ) -> Any:  # fmt: skip
        abandoned, where = self._abandoned, f"{method} {self.url}{path}"
        attempts = left = self.wire.retries + 1
        others = self._answered
        for attempt in count(1):
            answer: Answer | None = None
            due = self.pace.wait(len(body or b"") * _TOKENS_A_BYTE)
            self._pause(max(due, self.pace.held()), abandoned, where)
            if attempt > 1:
                self.log.spending.check()  # an answer that was lost may be billed, and is asked for once more
            if identity is not None:
                self.log.sending(identity, attempt, most)
            try:
                answer = self._once(method, path, body, headers)
                self._hold(pause_until_reset(answer.headers))
                if read is None and answer.status not in PASSING:
                    return answer
                if read is not None and answer.status == 200:
                    self._answered += 1
                    return read(answer)
                why, asked = f"HTTP {answer.status}", asked_pause(answer.headers)
                detail = f"{why}{self._said(answer)}"
            except _Failure as failure:
                why, asked, detail = failure.why, None, self._secrets.brief(f"{failure.why} ({failure})", 300)
                answer = None
            except Unwanted:
                if identity is not None:
                    self.log.failed(identity, "stopped", most)
                raise self._unwanted(where) from None
            except ServiceError as error:
                if identity is not None:
                    usage = usage_of(answer.body) if answer is not None and most is not None else None
                    self.log.failed(identity, "unusable answer", usage or most, usage is not None)
                said = "" if answer is None else self._said_instead(answer)
                raise ServiceError(f"{where}: {self._secrets.brief(str(error), 2000)}{said}") from None
            if identity is not None:
                self.log.failed(identity, why, most if _may_be_billed(answer, why) else None)
            if answer is not None and (answer.status not in PASSING or is_final(answer.status, answer.body)):
                if is_refusal(answer.status, answer.body):
                    raise Refused(f"{where}: {detail}")
                raise ServiceError(f"{where}: {detail}{means(answer.status)}")
            # Too many at once, and others of this run got through meanwhile: its turn comes, however often it is told.
            left = attempts if why == "HTTP 429" and self._answered > others else left - 1
            others = self._answered
            if not left:
                raise ServiceError(f"{where}: {detail}" + f"; given up after {attempt} attempts" * (attempt > 1))
            wait = self._wait(max(1, attempts - left), asked, where)
            if wait > 2:
                self.notify(f"{detail}; attempt {attempts - left + 1} of {attempts} in {wait:.0f} s")
            self._pause(wait, abandoned, where)
        raise AssertionError("unreachable")

    def _wait(self, attempt: int, asked: float | None, where: str) -> float:
        """Seconds before the next attempt: doubling, a random half of it off, and no less than the server asked for."""
        backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * self._jitter.uniform(0.5, 1.0)
        if asked is None:
            return backoff
        if asked > _LONGEST_ASKED:
            raise ServiceError(f"{where}: the server asks to come back in {asked:.0f} s: continue the run then")
        self.pace.hold(asked)
        return max(backoff, self.pace.held())

    def _hold(self, seconds: float) -> None:
        """Nothing leaves before the server has something left, as it says."""
        if self.pace.hold(min(seconds, _LONGEST_ASKED)):
            self.notify(f"the server has nothing left of its limit: the next request leaves in {seconds:.0f} s"[:200])

    def _pause(self, seconds: float, abandoned: threading.Event, where: str) -> None:
        if seconds <= 0:
            return
        try:
            wait(threading.Event(), seconds, lambda: abandoned.is_set() or self.should_stop())
        except Unwanted:
            raise self._unwanted(where) from None

    def _unwanted(self, where: str) -> ServiceError:
        if self.should_stop() or self._ended:
            return Stopped(f"{where}: stopped while it waited")
        return ServiceError(f"{where}: another request failed, this one was not repeated")

    def _said(self, answer: Answer) -> str:
        """The first words of an error's body, on one line. What may be half a key at the end of a cut is left out."""
        body = answer.body[:_READ_FOR_WORDS]
        if len(body) < len(answer.body):
            body = body[: max(0, len(body) - 16 * self._reach.longest)]
        text = self._secrets.brief(" ".join(body.decode("utf-8", "replace").split()), 300)
        return f": {text}" if text else ""

    def _said_instead(self, answer: Answer) -> str:
        """The server's words, where it answered with an error under the status 200."""
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            return ""
        told = isinstance(found, dict) and any(name in found for name in _TELLING)
        return f"; the server said{self._said(answer)}" if told else ""

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """One attempt: a whole answer before the deadline, which counts from before the connection is made.

        What may be paid for is waited for, though another request failed. After a request to stop it has five seconds.
        """
        try:
            ask = partial(self._ask, method, path, body, headers)
            answer: Answer = exchange(ask, self.wire.timeout, self.patience())
        except Late:
            raise _Failure("no answer in time", f"not whole after {self.wire.timeout:g} s") from None
        return answer

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        import urllib3

        if self._process != os.getpid():  # a fork: two processes on one connection read each other's answers
            self._http, self._process = Reach.of(self.url, self.wire).pool, os.getpid()
        sent = dict(headers) | self._reach.headers
        try:
            response = self._http.request(
                method, self._reach.url + path + self._reach.query, body=body, headers=sent, preload_content=False,
                retries=False, redirect=False,
                timeout=urllib3.Timeout(connect=min(10.0, self.wire.timeout), read=self.wire.timeout),
            )  # fmt: skip
            try:
                content = self._body(response)
            except BaseException:
                response.close()  # half an answer is left in the connection: it cannot be used again
                raise
            finally:
                response.release_conn()  # a closed one too: the pool would wait for it for ever
        except ServiceError:
            raise
        except urllib3.exceptions.NewConnectionError as error:
            refused = isinstance(error.__cause__, ConnectionRefusedError)
            nobody = "nothing listens there: start the server, or look at host and port in --model"
            raise _Failure(_UNREACHED, nobody if refused else error) from None
        except urllib3.exceptions.TimeoutError as error:
            raise _Failure("no answer in time", error) from None
        except urllib3.exceptions.SSLError as error:
            why = next((why for sign, why in _HOPELESS.items() if sign in str(error)), None)
            if why is None:
                raise _Failure("connection lost", error) from None
            raise ServiceError(why.format(error)) from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError, OverflowError) as error:
            # The last two: a chunk of 10^30 bytes is promised, a length that is no number.
            raise _Failure("connection lost", error) from None
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    def _body(self, response: Any) -> bytes:
        parts, size = [], 0
        while part := response.read1(_PART):
            parts.append(part)
            size += len(part)
            if size > self.wire.max_bytes:
                raise ServiceError(f"the answer is larger than {self.wire.max_bytes} bytes")
        promised = None if "Content-Encoding" in response.headers else response.headers.get("Content-Length")
        if promised is not None and promised.isdigit() and size < int(promised):
            raise _Failure("connection lost", f"{size} of {promised} bytes")
        return b"".join(parts)


class _Failure(Exception):
    """An attempt that may be repeated."""

    def __init__(self, why: str, detail: object) -> None:
        super().__init__(str(detail))  # whole: it is cut after the key in it is hidden
        self.why = why


def _may_be_billed(answer: Answer | None, why: str) -> bool:
    """Whether a server that failed may have done its work: the answer was lost, or filtered away."""
    return why != _UNREACHED if answer is None else may_be_billed(answer.status)
