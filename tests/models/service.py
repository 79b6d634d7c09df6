"""Servers of our own for the tests, on loopback: the Open Inference Protocol and a completions endpoint, with faults.

POST /v2/models/NAME/infer      our graph in ONNX Runtime; JSON, and the binary tensor extension where it is offered
POST /v1/completions            a decoder of ours: log-probabilities of the next token over its whole vocabulary
POST /v1/chat/completions       the same, after all that was said in the conversation; so /v1/responses and /v1/messages

`faults` decides for each request, by its number, what goes wrong; see `FAULTS`.
"""

import base64
import io
import json
import math
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.models.strict import why_not
from zopog_models import FrozenModel
from zopog_models.runners.local import LocalRunner
from zopog_models.served.inference_protocol import DATATYPES

NUMPY = {name: np.dtype(kind) for name, kind in DATATYPES.items()}
FAULTS = (
    "drop",
    "half",
    "slow",
    "500",
    "503",
    "429",
    "400",
    "nan",
    "null",
    "shape",
    "short",
    "name",
    "id",
    "html",
    "drip",
    "mute",
)
Faults = Callable[[int], str | None]


def never(number: int) -> str | None:
    return None


@dataclass
class Service:
    """model; faults: number of the request (from 0) -> one of FAULTS or None; slow: seconds of a slow answer, and of 160
    bytes that drip."""

    model: FrozenModel
    faults: Faults = never
    binary: bool = False
    slow: float = 0.4
    extra: dict[str, Any] = field(default_factory=dict)  # of the model's metadata
    top: int | None = None  # at most so many log-probabilities
    chat: bool = False  # the list form of log-probabilities
    retry_after: str = "1"
    words: np.ndarray | None = None  # the word embeddings (V, E)
    answer: Callable[[str], str] | None = None  # what is answered to the last words of a conversation
    usage: bool = True  # whether a conversation's tokens are said
    around: int = 0  # tokens that are put around a conversation
    refuse: Callable[[dict[str, Any]], str | None] = lambda request: None  # why a request is refused with 400
    most: int | None = None  # log-probabilities: more are refused
    reasoning: bool = False  # refuses what reasoning models refuse
    asked: int = 0
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    lock: Any = field(default_factory=threading.Lock)

    def why_not(self, path: str, request: dict[str, Any]) -> str | None:
        return why_not(path, request, most=self.most, reasoning=self.reasoning) or self.refuse(request)

    @property
    def kserve(self) -> str:
        return f"{self.url}/v2/models/frozen"

    @property
    def completions(self) -> str:
        return f"{self.url}/v1#frozen"

    chatting = completions


@contextmanager
def serve(model: FrozenModel, **options: Any) -> Iterator[Service]:
    """A running server on a port of this machine."""
    service = Service(model, **options)
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        service = self.service
        if self.path == "/v2":
            extensions = ["binary_tensor_data"] if service.binary else []
            self._json(200, {"name": "test", "version": "1", "extensions": extensions})
        elif self.path == "/v2/models/frozen/ready":
            self._json(200, {})
        elif self.path == "/v2/models/frozen":
            self._json(200, metadata(service.model) | service.extra)
        else:
            self._json(404, {"error": "no such model"})

    def do_POST(self) -> None:
        service = self.service
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with service.lock:
            number, service.asked = service.asked, service.asked + 1
            service.bodies.append(body)
            service.headers.append(dict(self.headers))
        fault = service.faults(number)
        if fault == "drop":
            self.close_connection = True
            return
        if fault in ("500", "503", "400"):
            self._json(int(fault), {"error": f"trouble with {self.headers.get('Authorization')}"})
            return
        if fault == "429":
            self._json(429, {"error": "too many"}, {"Retry-After": service.retry_after})
            return
        if fault == "slow":
            time.sleep(service.slow)
        path = self.path.partition("?")[0]
        if path in TEXT_PATHS and (why := service.why_not(path, json.loads(body))):
            self._json(400, {"error": {"message": why}})
            return
        answer = TEXT_PATHS[path](service, json.loads(body)) if path in TEXT_PATHS else None
        if fault == "mute" and answer is not None:
            answer["choices"][0]["logprobs"] = None
        if answer is not None:
            self._json(200, answer, fault=fault)
            return
        length = self.headers.get("Inference-Header-Content-Length")
        request, raw = (
            (json.loads(body), b"") if length is None else (json.loads(body[: int(length)]), body[int(length) :])
        )
        logits = infer(service.model, request, raw)
        content, raw, headers = _described(logits, request, fault)
        self._send(200, content + raw, headers, fault)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None, fault: str | None = None) -> None:
        self._send(status, json.dumps(value).encode(), headers or {}, fault)

    def _send(self, status: int, content: bytes, headers: dict[str, str], fault: str | None = None) -> None:
        if fault == "html":
            content = b"<html>a proxy's page</html>"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "half":
            content, self.close_connection = content[: len(content) // 2], True
        if fault == "drip":
            for start in range(0, len(content), 16):
                self.wfile.write(content[start : start + 16])
                self.wfile.flush()
                time.sleep(self.service.slow / 10)
            return
        self.wfile.write(content)

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):  # the client gave up waiting
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return


def metadata(model: FrozenModel) -> dict[str, Any]:
    kinds = {
        "text_ids": 2,
        "attention_mask": 2,
        "answer_position": 1,
        "prompt_ids": 2,
        "prompt_index": 1,
        "label_ids": 1,
    }
    inputs = [{"name": name, "datatype": "INT64", "shape": [-1] * rank} for name, rank in kinds.items()]
    inputs.append({"name": "prompt_offset", "datatype": "FP32", "shape": [-1, -1, model.embedding_size]})
    about = {"sha256": model.sha256, "embedding_std": model.embedding_std, "injection": model.injection}
    return {
        "name": "frozen", "platform": "test", "versions": [], "parameters": about, "inputs": inputs,
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, -1]}],
    }  # fmt: skip


def infer(model: FrozenModel, request: dict[str, Any], raw: bytes) -> np.ndarray:
    feeds, start = {}, 0
    for tensor in request["inputs"]:
        kind = NUMPY[tensor["datatype"]]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(tensor["data"], kind)
        else:
            values, start = np.frombuffer(raw[start : start + size], kind), start + size
        feeds[tensor["name"]] = values.reshape(tensor["shape"])
    assert isinstance(model.runner, LocalRunner)
    return model.runner.run_chunk("logits", feeds)


def _described(logits: np.ndarray, request: dict[str, Any], fault: str | None) -> tuple[bytes, bytes, dict[str, str]]:
    if fault in ("nan", "null"):
        logits = logits.copy()
        logits[-1, 0] = np.nan
    shape = [len(logits), logits.shape[1] + 1] if fault == "shape" else list(logits.shape)
    values = logits.ravel()[:-1] if fault == "short" else logits.ravel()
    entry: dict[str, Any] = {"name": "scores" if fault == "name" else "logits", "shape": shape, "datatype": "FP32"}
    answer = {"model_name": "frozen", "id": "another" if fault == "id" else request["id"], "outputs": [entry]}
    if request["outputs"][0].get("parameters", {}).get("binary_data"):
        raw = values.astype("<f4").tobytes()
        entry["parameters"] = {"binary_data_size": len(raw)}
        content = json.dumps(answer).encode()
        return content, raw, {"Inference-Header-Content-Length": str(len(content))}
    entry["data"] = [None if fault == "null" and math.isnan(value) else value for value in values.tolist()]
    return json.dumps(answer).encode(), b"", {}


def completion(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """What a completions endpoint answers: the most probable next tokens with their log-probabilities."""
    model, prompts = service.model, request["prompt"]
    prompts = [prompts] if isinstance(prompts, str) or isinstance(prompts[0], int) else prompts
    choices: list[dict[str, Any]] = []
    for index, text in enumerate(prompts):
        scores = next_token(model, text) if isinstance(text, str) else after_ids(service, None, text)
        k = min(request["logprobs"], service.top or len(scores))
        best = np.argsort(-scores, kind="stable")[:k]
        entries = [(model.tokenizer.id_to_token(int(i)) or "", float(scores[i])) for i in best]
        if service.chat:
            listed = [{"token": token, "logprob": value} for token, value in entries]
            logprobs: dict[str, Any] = {"content": [{**listed[0], "top_logprobs": listed}]}
        else:
            logprobs = {"tokens": [entries[0][0]], "top_logprobs": [dict(entries)]}
        choices.append({"index": index, "text": entries[0][0], "logprobs": logprobs, "finish_reason": "length"})
    return {"object": "text_completion", "model": request["model"], "choices": choices[::-1]}


def conversation(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """What a chat endpoint answers: the most probable first tokens, after all that was said."""
    listed = said_next(service, request["messages"], request.get("top_logprobs", 1))
    answered = listed[0]["token"] if service.answer is None else service.answer(request["messages"][-1]["content"])
    logprobs = {"content": [{**listed[0], "top_logprobs": listed}]} if request.get("logprobs") else None
    choice = {"index": 0, "message": {"role": "assistant", "content": answered}, "logprobs": logprobs}
    limit = request.get("max_tokens", request.get("max_completion_tokens"))
    assert limit == 1 or logprobs is None
    size = sum(len(message["content"]) // 4 for message in request["messages"])
    usage = {"usage": {"prompt_tokens": size + service.around, "completion_tokens": 1}} if service.usage else {}
    return {"object": "chat.completion", "model": request["model"], "choices": [choice], **usage}


def response(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """The same in the form of OpenAI's Responses."""
    assert request["include"] == ["message.output_text.logprobs"]
    assert request["max_output_tokens"] >= 16
    listed = said_next(service, request["input"], request["top_logprobs"])
    part = {"type": "output_text", "text": listed[0]["token"], "logprobs": [{**listed[0], "top_logprobs": listed}]}
    reasoning, message = {"type": "reasoning", "summary": []}, {"type": "message", "content": [part]}
    return {"object": "response", "output": [reasoning, message], "usage": {"input_tokens": 7, "output_tokens": 1}}


def anthropic(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """A label and no scores."""
    assert "logprobs" not in request
    assert [message["role"] for message in request["messages"]] == ["user"]
    text = "" if service.answer is None else service.answer(request["messages"][0]["content"])
    return {
        "type": "message",
        "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": 9, "output_tokens": 2},
    }


def said_next(service: Service, messages: list[dict[str, str]], top: int) -> list[dict[str, Any]]:
    scores = next_token(service.model, " ".join(message["content"] for message in messages))
    best = np.argsort(-scores, kind="stable")[: min(top, service.top or len(scores))]
    token = service.model.tokenizer.id_to_token
    return [{"token": token(int(i)), "logprob": float(scores[i]), "bytes": None} for i in best]


def exactly(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """vLLM's completions: token ids, embeddings before them, and the tokens that were asked for, by their ids."""
    head = None
    if "prompt_embeds" in request:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(request["prompt_embeds"]))) as archive:
            head = np.frombuffer(archive.read("archive/data/0"), "<f4").reshape(-1, service.model.embedding_size)
    scores = after_ids(service, head, request["prompt"])
    asked = [*request["logprob_token_ids"], int(scores.argmax())]
    top = {f"token_id:{token}": float(scores[token]) for token in asked}
    assert request["return_tokens_as_token_ids"] is True
    choice = {"index": 0, "text": "", "logprobs": {"tokens": [], "token_logprobs": [], "top_logprobs": [top]}}
    return {"object": "text_completion", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}


def generate(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """SGLang's own endpoint: token ids or embeddings."""
    embedded = request.get("input_embeds")
    head = None if embedded is None else np.array(embedded, np.float32)
    scores = after_ids(service, head, request.get("input_ids", []))
    listed = [[float(scores[token]), token, None] for token in request["token_ids_logprob"]]
    assert request["return_logprob"] is True
    return {"text": "", "meta_info": {"output_token_ids_logprobs": [listed], "prompt_tokens": 5}}


def after_ids(service: Service, head: np.ndarray | None, ids: list[int]) -> np.ndarray:
    """log p of every token after embeddings (L, E) and token ids, float64."""
    model, words = service.model, service.words
    first = 0 if model.cls_id is None else 1
    if head is None:
        row, prompt, offset = ids, np.zeros((1, 0), np.int64), None
    else:
        assert words is not None
        assert not first or np.array_equal(head[0], words[model.cls_id])
        row = [*[model.cls_id] * first, *ids]
        prompt = np.zeros((1, len(head) - first), np.int64)
        offset = (head[first:] - words[0])[None]
    where = np.array([len(row) - 1])
    everything, zero = np.arange(model.vocab_size), np.zeros(1, np.int64)
    logits = model.logits([np.array(row)], where, prompt, offset, zero, everything)[0].astype(np.float64)
    return logits - np.logaddexp.reduce(logits)


TEXT_PATHS = {
    "/v1/completions": completion, "/v1/chat/completions": conversation, "/v1/responses": response,
    "/v1/messages": anthropic, "/exact/v1/completions": exactly, "/generate": generate,
}  # fmt: skip


def next_token(model: FrozenModel, text: str) -> np.ndarray:
    """log p of every token after a text, float64."""
    ids = model.tokenizer.encode(text, add_special_tokens=False).ids
    row = np.array([*([] if model.cls_id is None else [model.cls_id]), *ids], np.int64)
    nothing, zero = np.zeros((1, 0), np.int64), np.zeros(1, np.int64)
    everything = np.arange(model.vocab_size)
    logits = model.logits([row], np.array([len(row) - 1]), nothing, None, zero, everything)[0].astype(np.float64)
    largest = logits.max()
    return logits - (largest + np.log(np.exp(logits - largest).sum()))
