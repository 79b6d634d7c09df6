"""remote: the same black box over the wire; what goes wrong there is repeated, or named, and counted."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.service import Service, never, serve
from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import FrozenModel, FrozenModelOracle, encode, label_ids, load_model, make_task
from zopog_models.errors import ServiceError, SetupError
from zopog_models.served import transport
from zopog_models.served.kserve import open_remote
from zopog_models.served.request_log import RequestLog
from zopog_models.served.wire import Wire

N, DIM = 3, 5
TASK = make_task("{text} it was {mask} .", {"good": "great", "bad": "terrible"})
QUICK = Wire(timeout=60.0, retries=4, concurrency=2)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.005)


@pytest.fixture
def service(bert: FrozenModel) -> Iterator[Service]:
    with serve(bert) as running:
        yield running


def question(model: FrozenModel, task: Any = TASK) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    encoded = encode([(text,) for text in SENTENCES], task, model, N)
    prompts = rng.integers(20, 50, (2, N))
    offsets = rng.normal(0, 0.3, (2, N, model.embedding_size)).astype(np.float32)
    return encoded.ids, encoded.answer_position, prompts, offsets, np.arange(8) % 2, label_ids(task, model)


@pytest.fixture
def client(service: Service, bert_folder: Path) -> FrozenModel:
    return open_remote(service.kserve, bert_folder, wire=QUICK, rows=3)


def forget(client: FrozenModel) -> None:
    """The answers that it has."""
    requests = client.runner.requests
    requests.log = requests.transport.log = RequestLog()


@pytest.mark.parametrize("binary", [False, True])
def test_the_same_scores_as_here(service: Service, bert: FrozenModel, bert_folder: Path, binary: bool) -> None:
    service.binary = binary
    client = open_remote(service.kserve, bert_folder, wire=QUICK, rows=3)
    assert client.runner.binary == binary
    assert (client.sha256, client.embedding_std, client.injection) == (bert.sha256, bert.embedding_std, bert.injection)
    assert np.abs(client.logits(*question(client)) - bert.logits(*question(bert))).max() < 1e-6
    assert (client.runner.requests.log.sent, client.runner.requests.log.retries) == (3, 0)
    assert all(("Inference-Header-Content-Length" in header) == binary for header in service.headers)


def test_a_decoder_too(tmp_path: Path) -> None:
    model = load_model(write_decoder(tmp_path / "llama", "llama"), threads=1)
    task = make_task("{text} it was {mask}", {"good": "great", "bad": "a"})
    with serve(model) as service:
        client = open_remote(service.kserve, tmp_path / "llama", wire=QUICK)
        assert np.abs(client.logits(*question(client, task)) - model.logits(*question(model, task))).max() < 1e-5


def test_the_oracle_is_the_same_one(client: FrozenModel, bert: FrozenModel) -> None:
    rng = np.random.default_rng(1)
    projection = rng.normal(0, 0.3, (N * 32, DIM)).astype(np.float32)
    answers = []
    for model in (bert, client):
        encoded = encode([(text,) for text in SENTENCES], TASK, model, N)
        oracle = FrozenModelOracle(model, encoded, label_ids(TASK, model), np.arange(20, 50), projection, N)
        draw = np.random.default_rng(2)
        tokens, rows = draw.integers(0, 30, (3, N)), np.arange(5)
        answers.append([oracle.logits(tokens, draw.normal(size=shape), rows) for shape in ((3, DIM), (3, 5, DIM))])
    for here, there in zip(*answers):
        assert np.abs(here - there).max() < 2e-6


@pytest.mark.parametrize("fault", ["drop", "half", "500", "503", "429"])
def test_what_passes_is_repeated_and_counted(service: Service, client: FrozenModel, fault: str) -> None:
    service.retry_after = "0"
    sound = client.logits(*question(client))
    service.faults = lambda number: fault if number in (3, 4, 6) else None
    forget(client)
    assert np.array_equal(client.logits(*question(client)), sound)
    assert (
        client.runner.requests.log.sent,
        client.runner.requests.log.retries,
        client.runner.requests.log.failures.total(),
    ) == (6, 3, 3)
    assert service.bodies.count(service.bodies[3]) >= 2  # a repeated request is the same request


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_an_answer_that_does_not_come_in_time(service: Service, bert_folder: Path, fault: str) -> None:
    service.slow = 5.0
    service.faults = lambda number: fault if number == 0 else None
    client = open_remote(service.kserve, bert_folder, wire=Wire(timeout=2.0, retries=8, concurrency=1))
    client.logits(*question(client))
    assert client.runner.requests.log.failures["no answer in time"] >= 1
    assert client.runner.requests.log.sent == client.runner.requests.log.retries + 1


def test_given_up_after_all_attempts(service: Service, client: FrozenModel) -> None:
    service.faults = lambda number: "503"
    with pytest.raises(ServiceError, match=r"HTTP 503: .*trouble.*; given up after 5 attempts"):
        client.logits(*question(client))
    assert service.asked < 3 * 5  # two at once; what waited then is not sent, or not to its last attempt


def test_a_pause_that_the_server_asks_for_is_kept(service: Service, client: FrozenModel) -> None:
    service.faults = lambda number: "429" if number == 0 else None
    started = time.monotonic()
    client.logits(*question(client))
    assert time.monotonic() - started >= 1.0
    service.retry_after, service.faults = "20000", lambda number: "429"
    forget(client)
    with pytest.raises(ServiceError, match="asks to come back in 20000 s"):
        client.logits(*question(client))


def test_back_off_doubles_with_jitter_and_has_an_end(client: FrozenModel) -> None:
    for attempt in range(1, 30):
        waits = [client.runner.requests.transport._wait(attempt, None, "") for _ in range(50)]
        whole = min(60.0, transport._FIRST_WAIT * 2 ** (attempt - 1))
        assert whole / 2 <= min(waits) < max(waits) <= whole
    assert sum(min(60.0, 0.5 * 2**i) / 2 for i in range(Wire().retries)) > 60  # a minute of failures is waited out


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", r"'logits' holds 1 values of \d+ that are not finite, the first in row \d"),
        ("null", "not finite"),
        ("shape", r"'logits' has shape \[\d, 3\], expected \[\d, 2\]"),
        ("short", r"holds \d+ numbers, its shape"),
        ("name", "no output 'logits', only 'scores'"),
        ("id", "to another request: id 'another'"),
        ("html", "not JSON: b.<html>a proxy"),
        ("400", "HTTP 400"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_an_unusable_answer_is_named_and_not_repeated(
    service: Service, bert_folder: Path, fault: str, message: str, binary: bool
) -> None:
    if binary and fault == "html":
        message = "Inference-Header-Content-Length|not JSON"
    service.binary, service.faults = binary, lambda number: fault
    client = open_remote(service.kserve, bert_folder, wire=Wire(concurrency=1, retries=3))
    with pytest.raises(ServiceError, match=message):
        client.logits(*question(client))
    assert service.asked == 1


def test_an_answer_too_large_is_not_read(service: Service, bert_folder: Path) -> None:
    client = open_remote(service.kserve, bert_folder, wire=Wire(max_bytes=5000, concurrency=1))
    client.runner.requests.transport.wire = Wire(max_bytes=50)
    with pytest.raises(ServiceError, match="larger than 50 bytes"):
        client.logits(*question(client))
    client.runner.requests.transport.wire = Wire(concurrency=1)
    found: list[np.ndarray] = []
    asking = threading.Thread(target=lambda: found.append(client.logits(*question(client))), daemon=True)
    asking.start()  # the only connection was left with half an answer in it
    asking.join(60)
    assert len(found) == 1


def test_answers_outlive_the_process(service: Service, client: FrozenModel, bert_folder: Path, tmp_path: Path) -> None:
    """The third request fails for good: the two before it are not asked again, and all counts go on."""
    path = tmp_path / "requests.jsonl"
    serial = Wire(concurrency=1, retries=1)
    first = open_remote(service.kserve, bert_folder, wire=serial, rows=3)
    first.runner.requests.log.keep(path)
    service.faults = lambda number: "500" if number >= 2 else None
    with pytest.raises(ServiceError):
        first.logits(*question(first))
    first.runner.requests.log.close()
    path.write_bytes(path.read_bytes() + b'{"sent": "torn')
    service.faults = never
    again = open_remote(service.kserve, bert_folder, wire=serial, rows=3)
    again.runner.requests.log.keep(path)
    assert (again.runner.requests.log.sent, again.runner.requests.log.retries) == (4, 1)
    assert np.array_equal(again.logits(*question(again)), client.logits(*question(client)))
    assert (again.runner.requests.log.sent, again.runner.requests.log.failures) == (5, {"HTTP 500": 2})
    again.runner.requests.log.close()
    path.write_text('{"sent": 1}\n')
    with pytest.raises(ValueError, match="line 1 is no event"):
        RequestLog().keep(path)


# -- keys ----------------------------------------------------------------------------------------------------------


def test_a_key_is_sent_and_written_nowhere(
    service: Service, bert_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    said: list[str] = []
    wire = Wire(key_variable="MY_KEY", retries=1, concurrency=1)
    client = open_remote(service.kserve, bert_folder, wire=wire, notify=said.append)
    client.runner.requests.log.keep(tmp_path / "log")
    service.faults = lambda number: "500"
    with pytest.raises(ServiceError, match=r"trouble with Bearer \*\*\*") as caught:  # the server repeats it
        client.logits(*question(client))
    client.runner.requests.log.close()
    assert service.headers[0]["Authorization"] == "Bearer secret-123"
    for text in (str(caught.value), (tmp_path / "log").read_text(), repr(wire), *said):
        assert "secret-123" not in text


@pytest.mark.parametrize(
    ("url", "variable", "message"),
    [
        ("http://example.org/v2/models/x", "MY_KEY", "a key is not sent to example.org over http"),
        ("http://127.0.0.1:1/v2/models/x", "NOT_SET", "NOT_SET holds no key"),
        ("http://me:pw@127.0.0.1/v2/models/x", None, "leave them out"),
        ("http://127.0.0.1/v2/models/x?key=1", None, "names no model|leave them out"),
        ("ftp://127.0.0.1/v2/models/x", None, "is no address"),
        ("http://127.0.0.1:99999/v2/models/x", None, "is no address"),
        ("http://127.0.0.1/models/x", None, "names no model"),
    ],
)
def test_addresses_and_keys_that_cannot_be_used(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, variable: str | None, message: str
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    with pytest.raises(SetupError, match=message) as caught:
        open_remote(url, bert_folder, wire=Wire(key_variable=variable))
    assert "secret" not in str(caught.value)
    assert "pw" not in str(caught.value)


# -- the model behind it -------------------------------------------------------------------------------------------


def test_another_model_is_noticed_before_anything_is_asked(
    service: Service, bert_folder: Path, tmp_path: Path, roberta_folder: Path
) -> None:
    with pytest.raises(SetupError, match="width 32, the tokenizer's folder says 16"):
        open_remote(service.kserve, write_model(tmp_path / "electra", "electra"))
    with pytest.raises(SetupError, match="not ready: HTTP 404"):
        open_remote(service.kserve + "x", bert_folder)
    service.extra = {"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [-1]}]}
    with pytest.raises(SetupError, match=r"has the inputs input_ids; expected .*serve what `zopog export` writes"):
        open_remote(service.kserve, bert_folder)
    service.extra = {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1]}]}
    with pytest.raises(SetupError, match="no output logits"):
        open_remote(service.kserve, bert_folder)
    with pytest.raises(SetupError, match=r"has no config\.json"):
        open_remote(service.kserve, tmp_path)
    assert service.asked == 0


def test_a_server_that_says_little(service: Service, bert_folder: Path) -> None:
    service.extra = {"parameters": None, "inputs": None, "outputs": None}
    client = open_remote(service.kserve, bert_folder, wire=QUICK)
    assert client.sha256.startswith("metadata:")
    with pytest.raises(SetupError, match="--embedding-std"):
        _ = client.embedding_std
    assert open_remote(service.kserve, bert_folder, embedding_std=0.2).embedding_std == 0.2
    assert client.logits(*question(client)).shape == (8, 2)
    with pytest.raises(ValueError, match="cannot be thinned"):
        client.thinned(np.ones((3, 48)))
    with pytest.raises(ValueError, match="precision is the server's"):
        client.reduced("int8")


def test_32_bit_ids_where_the_server_wants_them(service: Service, bert: FrozenModel, bert_folder: Path) -> None:
    from tests.models.service import metadata

    inputs = metadata(bert)["inputs"]
    for tensor in inputs[:-1]:
        tensor["datatype"] = "INT32"
    service.extra = {"inputs": inputs}
    client = open_remote(service.kserve, bert_folder)
    client.runner.engine.datatypes["prompt_offset"] = "FP32"
    body = json.loads(_body_of(service, client))
    assert {tensor["datatype"] for tensor in body["inputs"]} == {"INT32", "FP32"}


def _body_of(service: Service, client: FrozenModel) -> bytes:
    service.faults = lambda number: "400"
    with pytest.raises(ServiceError):
        client.logits(*question(client))
    return service.bodies[-1]
