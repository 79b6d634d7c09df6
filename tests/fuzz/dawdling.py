"""Target: a server that answers slowly, in pieces, without an end or not at all, over a real connection.

What it sends is cut anywhere, and goes on in one of `KINDS`. Whatever it does, the client has an answer or a named error
in the time that its time-out allows; the connection is one end of a pair of sockets, which the shipped pool can shut.
"""

import contextlib
import json
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.model_files import CONFIGS, TOKENIZERS
from tests.fuzz.mutation import http_answer
from tests.fuzz.servers import CHOICES
from tests.fuzz.target import Target, as_json
from zopog_models.errors import ServiceError
from zopog_models.served import exchange, transport
from zopog_models.served.completions import open_completions
from zopog_models.served.wire import Wire

# How an answer goes on where it was cut: nothing more; silence; a hundred forms of "wait"; a header, a body without end
KINDS = {
    "close": b"",
    "wait": b"",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "headers": b"X-More: 1\r\n",
    "body": b" ",
}
TIMEOUT = 0.15
_SLACK = 3.0  # seconds: the machine may be busy


def dawdling(scratch: Path) -> list[Target]:
    plan = as_json({"piece": 4096, "pause": 0, "cut": 1.0, "then": "close"})
    files = {
        "config.json": as_json(CONFIGS["llama"]), "tokenizer.json": as_json(TOKENIZERS["WordPiece"]),
        "answer.http": http_answer(as_json({"choices": CHOICES["choices"][:1]})), "plan.json": plan,
    }  # fmt: skip
    return [Target("a dawdling server", files, {"plan.json": _other_plan}, _ask, (ServiceError,), 0.02)]


def _other_plan(rng: random.Random, content: bytes) -> bytes:
    pieces, pauses = (1, 7, 64, 4096), (0.0, 0.001, 0.02)
    cut = rng.choice((0.0, 1.0, rng.random()))
    return as_json(
        {"piece": rng.choice(pieces), "pause": rng.choice(pauses), "cut": cut, "then": rng.choice(list(KINDS))}
    )


def _serve(end: socket.socket, answer: bytes, plan: dict[str, Any]) -> None:
    """Send as planned, until it is done or the other end is shut."""
    whole = answer[: int(plan["cut"] * len(answer))]
    with end, contextlib.suppress(OSError):
        for start in range(0, len(whole), plan["piece"]):
            end.sendall(whole[start : start + plan["piece"]])
            time.sleep(plan["pause"])
        if plan["then"] == "wait":
            while end.recv(4096):  # the question, then what tells that nobody waits any more
                pass
        while more := KINDS[plan["then"]]:
            end.sendall(more)
            time.sleep(0.001)


def _ask(folder: Path) -> None:
    answer, plan = (folder / "answer.http").read_bytes(), json.loads((folder / "plan.json").read_bytes())
    asked = 0

    def connected(path: str) -> socket.socket:
        nonlocal asked
        asked += 1
        here, there = socket.socketpair()
        threading.Thread(target=_serve, args=(there, answer, plan), daemon=True).start()
        return here

    before = exchange._through, transport._FIRST_WAIT
    exchange._through, transport._FIRST_WAIT = connected, 0.001
    start = time.monotonic()
    try:
        wire = Wire(timeout=TIMEOUT, retries=1, concurrency=1, max_bytes=1 << 20)
        model = open_completions("http+unix://dawdling/v1#m", folder, wire=wire)
        question = ([np.array([1, 5])], np.array([1]), np.array([[8]]), None, np.array([0]), np.array([5, 8]))
        try:
            assert np.isfinite(model.logits(*question)).all()
        finally:
            model.close()
    finally:
        exchange._through, transport._FIRST_WAIT = before
        took = time.monotonic() - start
        if took > asked * TIMEOUT + _SLACK:
            raise AssertionError(f"{took:.1f} s for {asked} requests of {TIMEOUT} s")
