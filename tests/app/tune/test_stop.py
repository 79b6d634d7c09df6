"""SIGTERM and Ctrl-C, sent to real processes that wait for a server: they end in seconds, and nothing is paid twice."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.app.conftest import Run
from tests.app.tune.test_tune_remote import RUN, WIRE, same_numbers, tuned
from tests.models.served.test_deadlines import raw_server
from tests.models.service import Faults, Service, never, serve
from zopog_models import load_model
from zopog_models.errors import ServiceError, Stopped
from zopog_models.served.requests import Requests
from zopog_models.served.wire import Wire
from zopog_ref.app.tune.learning import stop_requests

SECONDS = 60.0  # far less than any of the waits below, far more than a busy machine needs
STOPS = {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


def started(command: list[object]) -> "subprocess.Popen[str]":
    full = [sys.executable, "-m", "zopog_ref.app.command_line", *map(str, command)]
    return subprocess.Popen(full, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def until(condition: Any, process: "subprocess.Popen[str]") -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""


def stuck(service: Service, faults: Faults) -> bool:
    return service.asked > 0 and faults(service.asked - 1) is not None


@pytest.mark.parametrize(
    ("fault", "stop"), [("429", "SIGTERM"), ("drip", "SIGTERM"), ("503", "Ctrl-C"), ("slow", "Ctrl-C")]
)
def test_one_request_to_stop_ends_every_wait_for_a_server(
    zopog: Run, small_task: Path, tmp_path: Path, fault: str, stop: str
) -> None:
    with serve(load_model("embedded", threads=1)) as service:
        service.slow = 0.02
        address = ["--model", f"kserve+{service.kserve}", *WIRE]
        whole = tuned(zopog, small_task, tmp_path / "whole", *address)
        service.asked, service.slow, service.retry_after = 0, 900.0, "600"
        service.faults = lambda number: fault if number >= 12 else None
        command = ["tune", "--task", small_task, *RUN, "--out", tmp_path / "cut", *address]
        process = started([*command, "--timeout", 900, "--retries", 50])
        until(lambda: stuck(service, service.faults), process)
        process.send_signal(STOPS[stop])
        _, error = process.communicate(timeout=SECONDS)
        assert process.returncode == 130, error
        assert f"zopog tune --resume {tmp_path / 'cut'} --model kserve+{service.kserve}" in error
        assert "Traceback" not in error
        service.faults, service.slow = never, 0.0
        assert zopog("tune", "--resume", tmp_path / "cut", *address[:2])[0] == 0
        assert same_numbers(tmp_path / "whole", tmp_path / "cut")
        cut = json.loads((tmp_path / "cut" / "result.json").read_text())
        assert cut["requests"] == service.asked
        assert cut["requests"] - sum(cut["failures"].values()) == whole["requests"]  # every question answered once
        assert cut["calls"] == whole["calls"]


@pytest.mark.parametrize("parts", [(b"H",), ()])
def test_one_request_to_stop_ends_the_wait_for_a_server_to_be_ready(
    small_task: Path, tmp_path: Path, parts: tuple[bytes, ...]
) -> None:
    with raw_server(*parts) as url:
        address = ["--model", f"kserve+{url}/v2/models/x", *WIRE, "--timeout", 900]
        process = started(["tune", "--task", small_task, *RUN, "--out", tmp_path / "run", *address])
        time.sleep(3)  # in the wait by then, or on the way to it: the handler may not be there yet
        until(lambda: ready_to_stop(process.pid), process)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, error
    assert "before anything was asked of the model" in error
    assert not (tmp_path / "run").exists()


def ready_to_stop(pid: int) -> bool:
    """Whether the process handles SIGTERM by now."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


FROM_THE_HUB = """
import time
from concurrent.futures import ThreadPoolExecutor
from zopog_ref.app.tune import models
from zopog_ref.app.command_line import main

def load_model(*_, **__):  # as the hub's client does: whoever leaves the pool waits for its threads
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(time.sleep, 900)
        print("waiting", flush=True)
        waiting.result()

models.load_model = load_model
main(["tune", "--task", "supersense", "--model", "org/slow"])
"""


@pytest.mark.parametrize("stop", STOPS)
def test_one_request_to_stop_ends_the_wait_for_the_hub(tmp_path: Path, stop: str) -> None:
    """It took three: one that was written down, one that left for the pool's threads, one that left those."""
    process = subprocess.Popen([sys.executable, "-c", FROM_THE_HUB], stdout=-1, stderr=-1, text=True, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(STOPS[stop])
    try:
        _, error = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert (process.returncode, "stopped while files came from the hub" in error) == (130, True), error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", STOPS)
def test_a_second_request_to_stop_ends_at_once_whichever_it_is(stop: str) -> None:
    with stop_requests() as should_stop:
        signal.raise_signal(signal.SIGTERM)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(STOPS[stop])


def fail_beside_another(requests: Requests, error: BaseException) -> None:
    with requests.one_call():
        while requests._idle.is_set():
            time.sleep(0.01)
        raise error


def test_leaving_at_once_waits_for_no_answer() -> None:
    """After a second Ctrl-C, an exchange of 900 s that another thread waits for is ended too."""
    with raw_server() as url:
        requests, ended = Requests(url, Wire(timeout=900, retries=0), lambda message: None), threading.Event()

        def wait_long() -> None:
            with pytest.raises(Stopped):
                requests.ask("/infer", b"", {}, "id", (1,), lambda answer: answer)
            ended.set()

        threading.Thread(target=wait_long, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            fail_beside_another(requests, KeyboardInterrupt())
        assert ended.wait(SECONDS)
        requests.close()


def test_settling_ends_on_a_request_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request failed for good, another is under way and may be paid for: it has five seconds after the request."""
    monkeypatch.setattr("zopog_models.served.transport._GRACE", 0.2)
    asked = threading.Event()
    with raw_server() as url:
        requests = Requests(url, Wire(timeout=900, retries=0), lambda message: None, asked.is_set)

        def wait_long() -> None:
            with pytest.raises(Stopped):
                requests.ask("/infer", b"", {}, "id", (1,), lambda answer: answer)

        other = threading.Thread(target=wait_long, daemon=True)
        other.start()
        threading.Timer(0.3, asked.set).start()
        with pytest.raises(ServiceError, match="this one failed"):
            fail_beside_another(requests, ServiceError("this one failed"))
        other.join(SECONDS)
        assert not other.is_alive()
        requests.close()
