"""How a server is reached: headers and queries, proxies, sockets, and who gets a key."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from zopog_models.errors import Refused, ServiceError, SetupError
from zopog_models.served import exchange, pace, transport
from zopog_models.served.request_log import RequestLog
from zopog_models.served.transport import Transport
from zopog_models.served.wire import Wire

KEY = "sk-1234567890abcdef"


class _Echo(BaseHTTPRequestHandler):
    seen: list[tuple[str, dict[str, str]]]
    answers: list[tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, headers, body = self.answers.pop(0) if self.answers else (200, {}, b"{}")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        return


class _UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        opened, _ = super().get_request()
        return opened, ("unix", 0)


@contextmanager
def echo(path: Path | None = None) -> Iterator[tuple[str, type[_Echo]]]:
    handler = type("Handler", (_Echo,), {"seen": [], "answers": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler) if path is None else _UnixServer(str(path), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield "" if path is not None else f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.005)


def to(url: str, **wire: object) -> Transport:
    return Transport(url, Wire(**{"timeout": 10.0, "retries": 2, **wire}), RequestLog())  # type: ignore[arg-type]


def test_headers_query_and_azure_s_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("TENANT", "blue")
    wire = {"key_variable": "MY_KEY", "key_header": "api-key", "headers_env": ("X-Tenant=TENANT",)}
    with echo() as (url, server):
        to(url + "/openai/deployments/d", **wire, query=("api-version=2024-10-21", "a=b%20c")).get("/chat/completions")
        to(url, key_variable="MY_KEY").get("/x")
    (path, headers), (_, bearer) = server.seen
    assert path == "/openai/deployments/d/chat/completions?api-version=2024-10-21&a=b%20c"
    assert (headers["api-key"], headers["x-tenant"], headers.get("authorization")) == (KEY, "blue", None)
    assert bearer["authorization"] == f"Bearer {KEY}"


def test_every_header_s_secret_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("BASIC", "Basic dXNlcjpwYXNz")
    with echo() as (url, server):
        server.answers += [(401, {}, f"no {KEY} nor dXNlcjpwYXNz nor Basic dXNlcjpwYXNz".encode())]
        sent = to(url, key_variable="MY_KEY", key_header="x-api-key", headers_env=("Authorization=BASIC",))
        with pytest.raises(ServiceError) as caught:
            sent.post("/x", b"{}", {}, "id", lambda answer: answer)
    assert server.seen[0][1]["authorization"] == "Basic dXNlcjpwYXNz"
    assert "401: no *** nor *** nor ***" in str(caught.value)


@pytest.mark.parametrize("headers", [("X-Tenant=TENANT", "X-Tenant=OTHER"), ("authorization=TENANT",)])
def test_a_header_twice_is_named(monkeypatch: pytest.MonkeyPatch, headers: tuple[str, ...]) -> None:
    """The last one was sent; a key and another header of the same name in other letters were sent both."""
    for name, value in (("TENANT", "blue"), ("OTHER", "red"), ("MY_KEY", KEY)):
        monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=r"the header '(X-Tenant|Authorization)' is given twice"):
        to("http://127.0.0.1:9", headers_env=headers, key_variable="MY_KEY")


@pytest.mark.parametrize("header", ["X Tenant=TENANT", "X\r\nEvil=TENANT", "=TENANT", "X-Tenant="])
def test_headers_that_are_none(monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    monkeypatch.setenv("TENANT", "blue")
    with pytest.raises(SetupError, match="expected HEADER=VARIABLE"):
        to("http://127.0.0.1:9", headers_env=(header,))


@pytest.mark.parametrize("query", ["api-version", "a=b c", "a=b&c=d", "=x", "a=b#c"])
def test_queries_that_are_none(query: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=VALUE"):
        Wire(query=(query,))


def test_a_key_over_http_has_to_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with pytest.raises(SetupError, match="--allow-http"):
        to("http://model.cluster.local/v1", key_variable="MY_KEY")
    with pytest.raises(SetupError, match="--allow-http"):
        to("http://model.cluster.local/v1", headers_env=("X-Key=MY_KEY",))
    to("http://model.cluster.local/v1", key_variable="MY_KEY", allow_http=True)


def test_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    path = tmp_path / "Model.sock"
    address = "http+unix://" + str(path).replace("/", "%2F") + "/v1"
    with echo(path) as (_, server):
        answer = to(address, key_variable="MY_KEY").get("/models")
    assert (answer.status, server.seen[0][0]) == (200, "/v1/models")
    with pytest.raises(ServiceError, match="given up after 3 attempts"):
        to(address).get("/models")


def test_a_connection_that_nobody_waits_for_any_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange was ended while it connected: the socket is not left to the garbage collector."""
    here, there = socket.socketpair()
    used: list[object] = []

    def ended(connection: object) -> None:
        used.append(connection)
        if len(used) == 2:  # for the request, then for the connection
            raise OSError("this exchange was ended")

    monkeypatch.setattr(exchange, "_through", lambda path: here)
    monkeypatch.setattr(exchange, "use", ended)
    with there, pytest.raises(ServiceError, match="this exchange was ended"):
        to("http+unix://nothing/v1", retries=0).get("/models")
    assert here.fileno() == -1


def test_a_proxy_is_asked_and_this_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with echo() as (proxy, seen_by_proxy), echo() as (url, server):
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://user:geheimnis@"))
        to("http://model.example:8000/v1").get("/models")
        to(url).get("/x")
        monkeypatch.setenv("NO_PROXY", "model.example")
        with pytest.raises(ServiceError):
            to("http://model.example:1/v1", timeout=0.5, retries=0).get("/models")
    path, headers = seen_by_proxy.seen[0]
    assert path == "http://model.example:8000/v1/models"
    assert headers["proxy-authorization"] == "Basic dXNlcjpnZWhlaW1uaXM="
    assert len(seen_by_proxy.seen) == len(server.seen) == 1


def test_a_proxy_s_password_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with echo() as (proxy, seen):
        seen.answers += [(407, {}, b"wrong password geheimnis")]
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://user:geheimnis@"))
        with pytest.raises(ServiceError) as caught:
            to("http://model.example/v1").post("/x", b"{}", {}, "id", lambda answer: answer)
    assert "407: wrong password ***" in str(caught.value)


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(SetupError, match=r"/nowhere/ca\.pem"):
        to("https://model.example/v1")


def test_an_empty_account_is_not_asked_again() -> None:
    with echo() as (url, server):
        server.answers += [(429, {}, b'{"error": {"code": "insufficient_quota", "message": "You exceeded"}}')] * 3
        with pytest.raises(ServiceError, match="You exceeded"):
            to(url).post("/x", b"{}", {}, "id", lambda answer: answer)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after-ms": "250"},
        {"Retry-After": "9", "retry-after-ms": "250"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "250ms"},
    ],
)
def test_a_pause_is_as_long_as_the_server_says(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> None:
    paused: list[float] = []
    monkeypatch.setattr(pace, "SPREAD", 0.0)
    with echo() as (url, server):
        server.answers += [(429, headers, b"{}")]
        sent = to(url)
        monkeypatch.setattr(sent, "_pause", lambda seconds, *rest: paused.append(seconds))
        sent.post("/x", b"{}", {}, "id", lambda answer: answer)
    assert max(paused) == pytest.approx(0.25, abs=0.02)


def test_many_processes_that_were_told_to_wait_do_not_come_back_at_once() -> None:
    """Each has a pace of its own. All wait as long as they were told, and up to a quarter longer; 15 seconds at most."""
    now = [50.0]
    for seconds, most in ((40.0, 50.0), (600.0, 615.0)):
        crowd = [pace.Pace(None, None, lambda: now[0]) for _ in range(200)]
        for one in crowd:
            assert one.hold(seconds)
        waits = sorted(one.held() for one in crowd)
        assert seconds <= waits[0] < waits[-1] <= most
        gaps = [b - a for a, b in pairwise(waits)]
        assert max(gaps) < (most - seconds) / 10  # evenly spread: 200 draws leave no tenth empty
        now[0] += seconds
        assert all(one.held() == 0 for one in crowd)


def test_all_of_one_process_keep_the_pause_that_one_of_them_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", KEY)
    with echo() as (url, server):
        server.answers += [(429, {"retry-after": "700"}, b"{}")]
        first, second, other = to(url), to(url), to(url, key_variable="OTHER")
        monkeypatch.setattr(first, "_pause", lambda seconds, *rest: None)
        first.post("/x", b"{}", {}, "id", lambda answer: answer)
    assert second.pace.held() > 690
    assert other.pace.held() == 0  # another account
    assert to("http://127.0.0.1:9").pace.held() == 0  # another server


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"error": {"message": "Incorrect API key provided: sk-1234567890abcdef"}}', "provided: .*--key-env"),
        (402, b'{"error": {"message": "Insufficient Balance"}}', "Insufficient Balance.*nothing left"),
        (
            403,
            b'{"error": {"message": "You are not allowed to request logprobs from this model"}}',
            "does not allow it",
        ),
        (403, b"", "HTTP 403.*does not allow it"),
        (404, b'{"error": "no such deployment"}', "no such deployment.*--model"),
    ],
)
def test_what_no_other_attempt_changes(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, said: str) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with echo() as (url, server):
        server.answers += [(status, {}, body)] * 3
        with pytest.raises(ServiceError, match=said) as caught:
            to(url, key_variable="MY_KEY").post("/x", b"{}", {}, "id", lambda answer: answer)
    assert len(server.seen) == 1
    assert not isinstance(caught.value, Refused)
    assert KEY not in str(caught.value)


def test_a_gateway_that_has_texts_looked_at_refuses_this_one_alone() -> None:
    with echo() as (url, server):
        server.answers += [
            (403, {}, b'{"error": {"message": "Your input was flagged", "metadata": {"reasons": ["x"]}}}')
        ]
        with pytest.raises(Refused, match="flagged"):
            to(url).post("/x", b"{}", {}, "id", lambda answer: answer)


def test_a_request_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 bytes are 1,200 tokens: of 600 a minute, 60 are there at the beginning, and the rest takes 114 s."""
    paused: list[float] = []
    with echo() as (url, _):
        sent = to(url, tpm=600.0)
        monkeypatch.setattr(sent, "_pause", lambda seconds, *rest: paused.append(seconds))
        sent.post("/x", b" " * 4000, {}, "id", lambda answer: answer)
    assert paused[0] == pytest.approx(114, abs=1)


def test_whoever_has_nothing_left_waits_before_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(pace, "SPREAD", 0.0)
    with echo() as (url, server):
        server.answers += [(200, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"}, b"{}")]
        sent = to(url)
        monkeypatch.setattr(sent, "_pause", lambda seconds, *rest: paused.append(seconds))
        for identity in ("a", "b"):
            sent.post("/x", b"{}", {}, identity, lambda answer: answer)
    assert paused[0] <= 0
    assert paused[1] == pytest.approx(90, abs=2)
