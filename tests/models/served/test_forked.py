"""A process that forks after it asked, and what was given where no key belongs."""

import os
import signal
import time

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.service import Service
from zopog_models.errors import SetupError
from zopog_models.served.reach import Reach
from zopog_models.served.request_log import RequestLog
from zopog_models.served.statuses import is_final
from zopog_models.served.transport import Transport
from zopog_models.served.wire import Wire

KEY = "sk-live17-0123456789abcdef"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(service: Service) -> None:
    transport = Transport(service.url, Wire(), RequestLog())
    assert transport.get("/v2").status == 200
    before = transport._http
    child = os.fork()
    if not child:
        same = transport.get("/v2").status == 200 and transport._http is not before
        os._exit(0 if same else 1)
    end, status = time.monotonic() + 20, None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        status = code if done else None
        time.sleep(0.02)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert status == 0
    assert transport.get("/v2").status == 200
    assert transport._http is before
    transport.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"https://user:{KEY}@host:99999/v1", {}),
        (f"https://user:{KEY}@[::1/v1", {}),
        (f"user:{KEY}@host/v1", {}),
        (f"https://host:99999/v1?api-key={KEY}", {}),
        ("https://host/v1", {"headers_env": (f"Authorization: Bearer {KEY}",)}),
        ("https://host/v1", {"headers_env": (KEY,)}),
        ("https://host/v1", {"key_variable": "PATH", "key_header": f"Bearer {KEY}"}),
        ("https://host/v1", {"query": (KEY,)}),
        ("https://host/v1", {"query": (f"api-key:{KEY}",)}),
    ],
)
def test_a_key_in_a_wrong_place_is_not_shown(url: str, options: dict[str, object]) -> None:
    with pytest.raises((SetupError, ValueError)) as error:
        Reach.of(url, Wire(**options))  # type: ignore[arg-type]
    assert KEY[:8] not in str(error.value)


@pytest.mark.parametrize(
    "body", [b'{"code": "insufficient_quota"}', rb'{"m": "{\"type\": \"insufficient_quota\"}"}', b"{'type': 'insufficient_quota'}"]
)  # fmt: skip
def test_an_empty_account_is_known_in_a_gateway_s_words_too(body: bytes) -> None:
    assert is_final(429, body)
    assert not is_final(429, b'{"code": "rate_limit"}')
