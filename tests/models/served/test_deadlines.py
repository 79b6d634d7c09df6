"""Servers that dawdle, and users who do not want to wait: every wait has an end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from zopog_models.errors import ServiceError, Stopped
from zopog_models.runners.waiting import Late, Unwanted, exchange, wait
from zopog_models.served.request_log import RequestLog
from zopog_models.served.transport import Answer, Transport
from zopog_models.served.wire import Wire

LIMIT = 0.5  # seconds of a whole answer
PATIENCE = 20.0  # a test that waits so long has failed; nothing is measured more finely on a busy machine


@contextmanager
def raw_server(*parts: bytes, every: float = 0.05, first: bytes = b"") -> Iterator[str]:
    """Sends `first`, then the parts again and again, one every so many seconds, to whoever connects."""
    listening, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def dawdle(client: socket.socket) -> None:
        with client:
            try:
                client.sendall(first)
                while not ended.is_set():
                    for part in parts:
                        client.sendall(part)
                        if ended.wait(every):
                            return
                    if not parts:
                        ended.wait()
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=dawdle, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def transport(
    url: str, *, retries: int = 0, timeout: float = LIMIT, stop: Callable[[], bool] = lambda: False
) -> Transport:
    return Transport(url, Wire(timeout=timeout, retries=retries), RequestLog(), should_stop=stop)


HEAD = b"HTTP/1.1 200 OK\r\n"
SLOW = {
    "status line, a byte at a time": (b"", [b"H"]),
    "headers, a byte at a time": (HEAD, [b"x"]),
    "one short header after another": (HEAD, [b"a: b\r\n"]),
    "endless 100 Continue": (b"", [b"HTTP/1.1 100 Continue\r\n\r\n"]),
    "endless 103 Early Hints": (b"", [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]),
    "body without an end": (HEAD + b"\r\n", [b"x"]),
    "chunks of one byte": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", [b"1\r\nx\r\n"]),
    "chunk sizes, a digit at a time": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", [b"0"]),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", [b"a: b\r\n"]),
    "nothing at all": (b"", []),
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_has_one_deadline(name: str, method: str) -> None:
    first, parts = SLOW[name]
    with raw_server(*parts, first=first) as url:
        client, began = transport(url), time.monotonic()
        with pytest.raises(ServiceError, match="no answer in time"):
            _ = client.get("/ready") if method == "GET" else client.post("/infer", b"{}", {}, "id", lambda answer: 0)
        assert time.monotonic() - began < PATIENCE


def test_a_tls_handshake_has_the_same_deadline() -> None:
    with (
        raw_server(b"\x16", first=b"\x16\x03\x03\x40\x00") as url,
        pytest.raises(ServiceError, match=r"no answer in time|connection lost"),
    ):
        transport(url.replace("http:", "https:")).get("/ready")


def test_the_connection_is_shut_and_the_pool_goes_on() -> None:
    """Given up exchanges hold no place of the pool: more of them than it has places are answered one after another."""
    with raw_server(b"H") as url:
        slow = Transport(url, Wire(timeout=0.2, retries=0, concurrency=2), RequestLog())
        for _ in range(5):
            with pytest.raises(ServiceError, match="no answer in time"):
                slow.get("/ready")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(t.name == "exchange" for t in threading.enumerate()):
            time.sleep(0.02)
        assert not any(t.name == "exchange" for t in threading.enumerate())


PAUSES = {
    "Retry-After": b"HTTP/1.1 429 Too Many\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n",
    "back-off": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", PAUSES)
def test_a_request_to_stop_ends_a_pause(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "zopog_models.served.transport._GRACE", 0.3
    )  # the second request on the connection is not answered
    asked = threading.Event()
    with raw_server(first=PAUSES[name]) as url:
        waiting = transport(url, retries=40, timeout=30, stop=asked.is_set)
        threading.Timer(0.5, asked.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            waiting.get("/ready")
        assert time.monotonic() - began < PATIENCE


def test_a_request_to_stop_ends_a_wait_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zopog_models.served.transport._GRACE", 0.3)
    asked = threading.Event()
    with raw_server(b"H") as url:
        waiting = transport(url, timeout=600, stop=asked.is_set)
        threading.Timer(0.3, asked.set).start()
        with pytest.raises(Stopped):
            waiting.post("/infer", b"{}", {}, "id", lambda answer: answer)
        assert waiting.log.failures == {"stopped": 1}


def test_an_answer_under_way_is_still_taken() -> None:
    """It may be paid for: five seconds are left for it after the request to stop."""
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    with raw_server(b"d", b"o", b"n", b"e", b"", every=0.1, first=body) as url:
        found = transport(url, timeout=60, stop=lambda: True).post("/infer", b"", {}, "id", lambda answer: answer.body)
    assert found == b"done"


@pytest.mark.parametrize("early", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Whatever"])
def test_what_comes_before_the_answer_is_no_answer(early: bytes) -> None:
    """103 was taken for the answer: "HTTP 103", and what followed for that of the next request."""
    before = b"HTTP/1.1 " + early + b"\r\nLink: </style.css>; rel=preload\r\n\r\n"
    with raw_server(first=2 * before + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone") as url:
        found = transport(url, timeout=30).get("/ready")
    assert (found.status, found.body, "link" in found.headers) == (200, b"done", False)


def test_a_switch_to_another_protocol_is_no_answer_either() -> None:
    with raw_server(first=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n") as url:
        assert transport(url, timeout=30).get("/ready").status == 101


def test_wait_and_exchange_by_themselves() -> None:
    done = threading.Event()
    assert not wait(done, 0.01, lambda: False)
    with pytest.raises(Unwanted):
        wait(done, 60, lambda: True)
    done.set()
    assert wait(done, 60, lambda: True)  # what is there is taken
    assert exchange(lambda: 3, 60, lambda: False) == 3
    with pytest.raises(ZeroDivisionError):
        exchange(lambda: 1 // 0, 60, lambda: False)
    with pytest.raises(Late):
        exchange(lambda: time.sleep(0.5), 0.01, lambda: False)


def test_a_certificate_that_is_not_trusted_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib3.exceptions import SSLError

    refusing, tried = transport("https://localhost:1", retries=8), []

    def refuse(*given: object, **options: object) -> None:
        tried.append(given)
        raise SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")

    monkeypatch.setattr(refusing._http, "request", refuse)
    with pytest.raises(ServiceError, match=r"not trusted.*SSL_CERT_FILE"):
        refusing.get("/ready")
    assert len(tried) == 1


def test_a_port_without_tls_and_a_bundle_without_certificates_are_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were tried again as a lost connection, for a minute."""
    with raw_server(first=b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(ServiceError, match=r"does not speak https.*write http://") as caught:
            transport(url.replace("http:", "https:"), retries=8, timeout=PATIENCE).get("/ready")
        assert "attempts" not in str(caught.value)
        for content in ("no certificate", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
            (tmp_path / "bundle").write_text(content)
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle"))
            with pytest.raises(ServiceError, match=r"SSL_CERT_FILE names holds no certificates"):
                transport(url.replace("http:", "https:"), retries=8, timeout=PATIENCE).get("/ready")


@pytest.mark.parametrize(
    "error",
    ['{"error": {"message": "model is still loading"}}', '{"code": 503, "msg": "model is still loading"}',
     '{"fault": "model is still loading"}', '{"title": "model is still loading", "status": 503}'],
)  # fmt: skip
def test_an_error_under_status_200_shows_the_words_of_the_server(error: str) -> None:
    body = error.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)

    def read(answer: Answer) -> None:
        raise ServiceError("the answer has no choices")

    with raw_server(first=head + body) as url, pytest.raises(ServiceError, match=r"no choices.*model is still loading"):
        transport(url, timeout=30).post("/infer", b"", {}, "id", read)
