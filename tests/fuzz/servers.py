"""Targets: what servers answer: a KServe v2 server of itself and of a question, a completions endpoint.

The whole of HTTP is read by the client that is shipped, urllib3 underneath; only its connection is one of ours, which
has the bytes of the answer at once.
"""

import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import urllib3

from tests.fuzz.model_files import CONFIGS, TOKENIZERS
from tests.fuzz.mutation import http_answer, mutated_http, mutated_inference, mutated_json, mutated_lines
from tests.fuzz.target import Target, as_json
from zopog_models.checkpoints.checkpoint import CheckpointError
from zopog_models.errors import ServiceError
from zopog_models.served.completions import open_completions
from zopog_models.served.inference_protocol import encode_request
from zopog_models.served.kserve import open_remote
from zopog_models.served.pace import Pace
from zopog_models.served.request_log import RequestLog
from zopog_models.served.transport import Transport
from zopog_models.served.wire import Wire
from zopog_ref.app.errors import InputError
from zopog_ref.app.tune.models import keep_requests

URL = "http://localhost/v2/models/m"
_TENSORS = {"text_ids": "INT64", "attention_mask": "INT64", "answer_position": "INT64", "prompt_ids": "INT64",
            "prompt_offset": "FP32", "prompt_index": "INT64", "label_ids": "INT64"}  # fmt: skip
METADATA = {"name": "m", "versions": ["1"], "platform": "onnxruntime",
            "inputs": [{"name": n, "datatype": t, "shape": [-1, -1, 8] if n == "prompt_offset" else [-1, -1]} for n, t in _TENSORS.items()],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, -1]}],
            "parameters": {"sha256": "0" * 64, "embedding_std": 0.2, "injection": "word_embedding"}}  # fmt: skip
LOGITS = {
    "model_name": "m",
    "id": "",
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [2, 2], "data": [0.5, -1.0, 2.0, 3.0]}],
}
_RAW = {"id": None, "outputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
        {"name": "logits", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}]}  # fmt: skip
CHOICES = {"choices": [
    {"index": 0, "text": " a", "logprobs": {"tokens": [" a"], "top_logprobs": [{" a": -0.5, "good": -1.0, "text": -2.5}]}},
    {"index": 1, "text": "a", "logprobs": {"content": [{"token": "a", "top_logprobs": [{"token": "a", "logprob": -0.1}]}]}},
]}  # fmt: skip
_EVENTS = [{"sent": "q", "attempt": 1}, {"failed": "q", "why": "HTTP 503"}, {"sent": "q", "attempt": 2},
           {"answered": "q", "shape": [2, 1], "scores": "AACAPwAAAEA="}]  # fmt: skip


def servers(scratch: Path) -> list[Target]:
    folder = {"config.json": as_json(CONFIGS["bert"]), "tokenizer.json": as_json(TOKENIZERS["WordPiece"])}
    described = {"ready.http": http_answer(b"{}"), "metadata.http": http_answer(as_json(METADATA)),
                 "server.http": http_answer(as_json({"name": "s", "extensions": ["binary_tensor_data"]}))}  # fmt: skip
    raw = as_json(_RAW)
    binary = http_answer(raw + np.zeros(5, "<f4").tobytes(), b"Inference-Header-Content-Length: %d" % len(raw))
    as_body, wrong = mutated_http(mutated_json), (CheckpointError, ServiceError)
    return [
        Target("kserve metadata", folder | described, dict.fromkeys(described, as_body), _read_metadata, wrong, 0.5),
        Target("kserve answer, JSON", {"infer.http": http_answer(as_json(LOGITS))}, {"infer.http": as_body}, _ask(False), wrong),
        Target("kserve answer, binary", {"infer.http": binary}, {"infer.http": mutated_http(mutated_inference)}, _ask(True), wrong),
        Target("completions", {"completions.http": http_answer(as_json(CHOICES))}, {"completions.http": as_body}, _complete, wrong),
        Target("request log", {"requests.jsonl": b"".join(as_json(event) + b"\n" for event in _EVENTS)},
               {"requests.jsonl": mutated_lines}, _read_log, (InputError,), writes=True),
    ]  # fmt: skip


class _Socket:
    """A connection over which the whole answer has come."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._answer)

    def sendall(self, data: bytes) -> None:
        """Nobody reads it."""

    def settimeout(self, seconds: float | None) -> None:
        """It is there already."""

    def close(self) -> None:
        """There is nothing to close."""


class _Connection(urllib3.connection.HTTPConnection):
    folder: Path  # with the answers: the last part of an address, and .http

    def putrequest(self, method: str, url: str, *rest: Any, **options: Any) -> None:
        last = url.rpartition("/")[2]
        self._file = {"m": "metadata", "v2": "server"}.get(last, last) + ".http"
        super().putrequest(method, url, *rest, **options)

    def connect(self) -> None:
        self.sock: Any = _Socket((self.folder / self._file).read_bytes())


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        return self._new_conn()

    def _put_conn(self, conn: Any) -> None:
        """Each is used once."""


class _Manager(urllib3.PoolManager):
    def __init__(self) -> None:
        super().__init__()
        self.pool_classes_by_scheme = {"http": _Pool}


class _Patient(Transport):
    """Without the pauses between attempts."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._http = _Manager()

    def _pause(self, seconds: float, abandoned: Any, where: str) -> None:
        """As if it had waited."""


WIRE = Wire(retries=1, concurrency=1, max_bytes=1 << 22)


def _opened(opener: Any, url: str, folder: Path, **options: Any) -> Any:
    """A model whose server answers from a folder's files."""
    import zopog_models.served.requests as remote

    _Connection.folder, before = folder, remote.Transport
    remote.Transport = _Patient  # type: ignore[misc]
    try:
        return opener(url, folder, wire=WIRE, **options)
    finally:
        remote.Transport = before  # type: ignore[misc]


def _read_metadata(folder: Path) -> None:
    model = _opened(open_remote, URL, folder)
    assert isinstance(model.sha256, str)
    assert isinstance(model.runner.binary, bool)
    encode_request(
        {"label_ids": np.arange(2)}, model.runner.engine.datatypes, "logits", "q", binary=model.runner.binary
    )
    assert model.embedding_std > 0


@cache
def _model(opener: Any, url: str, config: str, **options: Any) -> Any:
    """Opened once, with valid answers; the questions are asked in each input's folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"config.json": as_json(CONFIGS[config]), "tokenizer.json": as_json(TOKENIZERS["WordPiece"]),
                 "ready.http": http_answer(b"{}"), "metadata.http": http_answer(as_json(METADATA))}  # fmt: skip
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return _opened(opener, url, folder, **options)


def _fresh(model: Any, folder: Path) -> None:
    requests = model.runner.requests
    requests.log = requests.transport.log = RequestLog()  # an answer that was given before is not asked for again
    requests.transport.pace = Pace(None, None)
    _Connection.folder = folder


def _ask(binary: bool) -> Any:
    def read(folder: Path) -> None:
        model = _model(open_remote, URL, "bert", encoding="binary" if binary else "json")
        _fresh(model, folder)
        texts, ones = [np.array([1, 5, 3, 2])] * 2, np.ones((1, 1), np.int64)
        found = model.logits(
            texts, np.array([2, 2]), ones, np.zeros((1, 1, 8), np.float32), np.array([0, 0]), np.array([5, 6])
        )
        assert found.shape == (2, 2)
        assert np.isfinite(found).all()

    return read


def _complete(folder: Path) -> None:
    model = _model(open_completions, "http://localhost/v1#m", "llama", rows=2)
    _fresh(model, folder)
    texts, prompts = [np.array([1, 5]), np.array([1, 6])], np.array([[8], [8]])
    found = model.logits(texts, np.array([1, 1]), prompts, None, np.array([0, 1]), np.array([5, 8]))
    assert found.shape == (2, 2)
    assert np.isfinite(found).all()
    json.dumps(model.runner.coverage(), allow_nan=False)


def _read_log(folder: Path) -> None:
    model = _model(open_remote, URL, "bert", encoding="json")
    _fresh(model, folder)
    try:
        keep_requests(model, folder)
        json.dumps(dict(model.runner.requests.log.failures), allow_nan=False)
        assert type(model.runner.requests.log.sent) is int
        assert model.runner.requests.log.sent >= model.runner.requests.log.retries >= 0
    finally:
        model.runner.requests.log.close()
