"""Waits for Ray are said, bounded, and end with a request to stop; nothing is left behind. A double stands for Ray."""

import os
import socket
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from zopog_models.cluster import ray_connection
from zopog_models.cluster.ray_connection import RayConnection
from zopog_models.cluster.replicas import Replicas
from zopog_models.errors import ClusterError, Stopped


class GetTimeoutError(Exception):
    pass


class Double:
    """A Ray whose start takes as long as somebody lets it, and whose answers never come."""

    __version__ = "0"

    def __init__(self, starts: bool = True) -> None:
        self.let_start = threading.Event()
        if starts:
            self.let_start.set()
        self.running, self.folder = False, ""
        self.util = types.SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
        self.exceptions = types.SimpleNamespace(GetTimeoutError=GetTimeoutError)
        self.alive = [{"Alive": True}]

    def is_initialized(self) -> bool:
        return self.running

    def init(self, address: str, _temp_dir: str = "", **settings: Any) -> None:
        self.folder = _temp_dir
        if _temp_dir:
            Path(_temp_dir, "session_1").mkdir()
        self.let_start.wait(60)
        self.running = True

    def shutdown(self) -> None:
        self.running = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def nodes(self) -> list[dict[str, bool]]:
        return self.alive

    def get(self, answer: Any, timeout: float) -> Any:
        raise GetTimeoutError


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Double:
    double = Double()
    monkeypatch.setattr(ray_connection, "require_ray", lambda: double)
    monkeypatch.setattr(ray_connection, "_listen_to_this_machine_alone", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return double


def test_the_session_folder_goes_with_the_cluster(ray: Double) -> None:
    with RayConnection(2):
        assert os.path.isdir(ray.folder)
    assert not os.path.exists(ray.folder)
    assert not ray.running


def test_a_join_that_takes_too_long_is_said_and_ends(ray: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.let_start.clear()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray_connection, "_START_SECONDS", 0.4)
    monkeypatch.setattr(ray_connection, "_SAY_AFTER", 0.1)
    said: list[str] = []
    with pytest.raises(ClusterError, match=r"waited 0 s for the Ray cluster at auto \(RAY_ADDRESS\), in vain"):
        RayConnection(2, notify=said.append)
    assert said == ["waiting for the Ray cluster at auto (RAY_ADDRESS), for 0 s at most"]
    ray.let_start.set()


def test_a_request_to_stop_ends_a_join(ray: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.let_start.clear()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    asked = threading.Event()
    threading.Timer(0.2, asked.set).start()
    with pytest.raises(Stopped, match=r"stopped while it waited for the Ray cluster at auto"):
        RayConnection(2, should_stop=asked.is_set)
    ray.let_start.set()


def test_nothing_is_started_after_a_request_to_stop(ray: Double) -> None:
    with pytest.raises(Stopped, match=r"stopped while it waited for Ray \(local\) to start"):
        RayConnection(2, should_stop=lambda: True)
    assert not ray.running


def test_nobody_listens_at_the_address(ray: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself is not asked: it would try for minutes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ClusterError, match=r"did not start: nobody listens there .* or unset RAY_ADDRESS"):
            RayConnection(2)
    assert not ray.running


def test_who_is_dead_is_not_waited_for(ray: Double) -> None:
    connection = RayConnection(2)
    connection.check_alive()
    ray.alive = [{"Alive": False}]
    with pytest.raises(ClusterError, match="no node of the Ray cluster is alive"):
        connection.check_alive()


def test_an_answer_that_never_comes(ray: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    from zopog_models.cluster import replicas

    waiting = Replicas.__new__(Replicas)
    waiting._connection, waiting._ray, waiting._closed = RayConnection(2), ray, False
    with pytest.raises(Stopped):
        waiting._get(None, lambda: True, 60)
    with pytest.raises(GetTimeoutError):
        waiting._get(None, seconds=0)
    monkeypatch.setattr(replicas, "_CHECK_EVERY", 0.0)
    ray.alive = []
    with pytest.raises(ClusterError, match="no node"):
        waiting._get(None)
    waiting._closed = True
    with pytest.raises(ClusterError, match="closed"):
        waiting._get(None)
