"""Money whose answer is lost, servers that all threads ask at once, answers kept for several models: found by attack."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.served.test_remote_completions import question
from tests.models.service import TEXT_PATHS, Service, serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model
from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.errors import CapReached, ServiceError, SetupError
from zopog_models.served import pace, transport
from zopog_models.served.answer_cache import AnswerCache
from zopog_models.served.answer_words import word_of
from zopog_models.served.chat import open_chat
from zopog_models.served.conversation import Talk, label_in
from zopog_models.served.coverage import REFUSED
from zopog_models.served.exact import open_exact
from zopog_models.served.kserve import open_remote
from zopog_models.served.log_probabilities import read_scores
from zopog_models.served.pace import asked_pause, pause_until_reset
from zopog_models.served.reach import Reach
from zopog_models.served.request_log import RequestLog
from zopog_models.served.spending import Usage
from zopog_models.served.transport import Answer
from zopog_models.served.wire import Wire

PRICED = {"price_in": 1.0, "price_out": 1.0}


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture
def service(decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)
    with serve(load_model(decoder_folder, threads=1)) as running:
        yield running


def read(service: Service) -> int:
    """Tokens that the server says it read."""
    messages = [message for body in service.bodies for message in json.loads(body)["messages"]]
    return sum(len(message["content"]) // 4 for message in messages)


# -- money -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "billed"), [("drop", True), ("half", True), ("html", True), ("503", False)])
def test_what_may_have_been_billed_counts(service: Service, decoder_folder: Path, fault: str, billed: bool) -> None:
    service.faults = {0: fault}.get
    client = open_chat(service.chatting, decoder_folder, wire=Wire(concurrency=1, **PRICED))
    if fault == "html":  # an answer that cannot be read is not asked for again
        with pytest.raises(ServiceError, match="not JSON"):
            client.logits(*question(client))
        assert client.runner.report()["spending"]["tokens_read"] == len(service.bodies[0])
        return
    client.logits(*question(client))
    asked, first = read(service), len(service.bodies[0])
    once = asked - sum(len(message["content"]) // 4 for message in json.loads(service.bodies[0])["messages"])
    found = client.runner.report()["spending"]
    assert found["tokens_read"] == once + (first if billed else 0)
    assert found.get("answers_without_usage", 0) == billed


def test_an_unreadable_answer_costs_what_it_says(
    service: Service, decoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"choices": [], "usage": {"prompt_tokens": 17, "completion_tokens": 3}}
    monkeypatch.setitem(TEXT_PATHS, "/v1/chat/completions", lambda service, request: answer)
    client = open_chat(service.chatting, decoder_folder, wire=Wire(concurrency=1, **PRICED))
    with pytest.raises(ServiceError, match="0 choices"):
        client.logits(*question(client))
    found = client.runner.report()["spending"]
    assert (found["tokens_read"], found["tokens_written"]) == (17, 3)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_cap_holds_where_answers_are_lost(service: Service, decoder_folder: Path, concurrency: int) -> None:
    """A server that bills and never answers: it is not asked for more than the cap pays, whatever --retries says."""
    service.faults = lambda number: "drop"
    wire = Wire(concurrency=concurrency, retries=50, budget_usd=1e-3, **PRICED)
    client = open_chat(service.chatting, decoder_folder, wire=wire)
    with pytest.raises(CapReached, match="raise --budget-usd"):
        client.logits(*question(client))
    billed = sum(len(body) + 1 for body in service.bodies) / 1e6
    assert 0.5e-3 < billed <= 1e-3
    assert client.runner.report()["spending"]["usd"] == pytest.approx(billed)


def test_a_request_that_a_kill_ended_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"

    def resumed(*events: Callable[[RequestLog], None]) -> Usage:
        log = RequestLog()
        log.keep(path)
        for event in events:
            event(log)
        log.close()
        return log.spending.usage

    def send(log: RequestLog) -> None:
        log.sending("a", 1, Usage(100, 2))

    assert resumed(send) == Usage(0, 0)  # under way
    assert resumed() == resumed() == Usage(100, 2)  # killed, and killed again before anything was sent
    scores = np.zeros(2, np.float32)
    assert resumed(send, lambda log: log.answered("a", scores, usage=Usage(30, 1))) == Usage(130, 3)
    assert resumed() == Usage(130, 3)
    path.write_text('{"failed": "a", "why": "x", "usage": [-1000, 0]}\n')
    with pytest.raises(ValueError, match="no event of a request"):
        resumed()


def test_responses_may_write_sixteen_tokens(service: Service, decoder_folder: Path) -> None:
    client = open_chat(
        service.chatting, decoder_folder, kind="responses", wire=Wire(budget_usd=16, price_in=0, price_out=1e6)
    )
    with pytest.raises(CapReached):  # two at once cannot be paid for
        client.logits(*question(client))
    assert service.asked <= 1


# -- who is asked, and when -------------------------------------------------------------------------------------------


def test_all_threads_learn_what_a_parameter_is_called(service: Service, decoder_folder: Path) -> None:
    """A continued run has no probe: the first requests of all threads are told at once."""
    sound = open_chat(service.chatting, decoder_folder).logits(*question(service.model))
    service.refuse = lambda request: "Use 'max_completion_tokens' instead." if "max_tokens" in request else None
    service.faults = lambda number: "slow"
    client = open_chat(service.chatting, decoder_folder, wire=Wire(concurrency=8))
    assert np.array_equal(client.logits(*question(client)), sound)
    assert client.runner.coverage().get("refused", 0) == 0


def test_who_is_told_to_wait_gets_a_turn_while_others_are_answered(service: Service, decoder_folder: Path) -> None:
    sound = open_chat(service.chatting, decoder_folder).logits(*question(service.model))
    service.retry_after, service.asked = "0", 0
    service.faults = lambda number: None if number % 8 == 7 else "429"
    client = open_chat(service.chatting, decoder_folder, wire=Wire(concurrency=8, retries=7))
    assert np.array_equal(client.logits(*question(client)), sound)


def test_a_reset_that_is_a_date() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": str(2**31)}
    assert pause_until_reset(headers) == pytest.approx(2**31 - time.time(), abs=5)
    assert pause_until_reset(headers | {"x-ratelimit-reset-requests": "1500000000"}) == 0
    assert asked_pause({"retry-after": "1.5"}) == 1.5


def test_a_reset_far_away_is_waited_for_no_longer_than_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    sent = transport.Transport("http://127.0.0.1:9", Wire(), RequestLog(), notify=said.append)
    monkeypatch.setattr(pace, "SPREAD", 0.0)
    for _ in range(3):
        sent._hold(1e12)
    assert sent.pace.held() == pytest.approx(900, abs=2)
    assert len(said) == 1


def test_a_proxy_whose_password_has_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    for password in ("geheim#nis", "geheim/nis", "geheim?nis"):
        monkeypatch.setenv("HTTP_PROXY", f"http://user:{password}@proxy.example:3128")
        with pytest.raises(SetupError, match="quoted") as caught:
            Reach.of("http://model.example/v1", Wire())
        assert "geheim" not in str(caught.value)
    monkeypatch.setenv("HTTP_PROXY", "http://user:geheim%23nis@proxy.example:3128")
    assert Reach.of("http://model.example/v1", Wire()).secrets.hide("geheim#nis geheim%23nis") == "*** ***"


# -- answers kept -----------------------------------------------------------------------------------------------------


def test_two_models_of_one_server_share_no_answers(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    wire, asked = Wire(cache=tmp_path / "answers"), []
    for extra in ({}, {"platform": "another"}, {}):
        model = load_model("embedded", threads=1)
        about = {"parameters": {"sha256": extra.get("platform", model.sha256), "embedding_std": 1.0}}
        with serve(model, extra=about) as service:
            service.url = service.url  # another port each: the address is part of the key too
            client = open_remote(
                service.kserve, Path(model.source) if Path(model.source).is_dir() else _embedded(), wire=wire
            )
            assert client.runner.requests.cache is not None
            client.runner.requests.cache._url = "http://one"
            ids, place = [np.array([2, 5, 4, 3])], np.array([2])
            client.logits(ids, place, np.zeros((1, 0), np.int64), None, np.zeros(1, np.int64), np.array([5, 6]))
            asked.append(service.asked)
    assert asked == [1, 1, 0]


def _embedded() -> Path:
    from zopog_models.frozen.model import EMBEDDED_MODEL

    return Path(EMBEDDED_MODEL)


def test_another_name_at_one_address_is_another_model(service: Service, decoder_folder: Path, tmp_path: Path) -> None:
    """SGLang's requests do not hold the model's name."""
    service.words = load_checkpoint(decoder_folder).word_embeddings
    for name, asked in (("one", 8), ("two", 16), ("one", 16)):
        client = open_exact(f"{service.url}#{name}", decoder_folder, kind="sglang", wire=Wire(cache=tmp_path / "kept"))
        client.logits(*question(client))
        assert service.asked == asked


@pytest.mark.parametrize(
    "content",
    [
        '{"shape": [2], "scores": [1e999, 0]}',
        '{"shape": [2], "scores": [1' + "0" * 400 + ", 0]}",
        '{"shape": [1' + "0" * 30 + '], "scores": [0, 0]}',
        '{"shape": [2], "scores": [null, 0]}',
        "[]",
        "",
    ],
)
def test_a_poisoned_file_is_no_answer(tmp_path: Path, content: str) -> None:
    cache = AnswerCache(tmp_path, "http://one")
    cache.put("a", np.zeros(2, np.float32))
    assert cache.get("a", (2,)) is not None
    next(tmp_path.rglob("*.json")).write_text(content)
    assert cache.get("a", (2,)) is None


def test_a_folder_that_cannot_be_written_to_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    cache = AnswerCache(tmp_path, "http://one", said.append)
    for identity in "abc":
        (tmp_path / cache._file(identity).parent.name).write_text("in the way")
        cache.put(identity, np.zeros(2, np.float32))
    assert len(said) == 1
    assert str(tmp_path) in said[0]


# -- what answers say -------------------------------------------------------------------------------------------------


def filtered(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": {"content": ""}, "logprobs": None, "finish_reason": "content_filter"}
    return {"choices": [choice], "usage": {"prompt_tokens": 4, "completion_tokens": 0}}


FILTERED: dict[str, Callable[..., dict[str, Any]]] = {
    "chat": filtered,
    "responses": lambda service, request: {
        "status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []
    },
    "anthropic": lambda service, request: {"content": [], "stop_reason": "refusal"},
}  # fmt: skip
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}


@pytest.mark.parametrize("kind", FILTERED)
def test_a_filtered_answer_is_asked_for_once_and_counted(
    service: Service, decoder_folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEXT_PATHS, PATHS[kind], FILTERED[kind])
    talk = Talk(answers="labels" if kind == "anthropic" else "scores")
    client = open_chat(service.chatting, decoder_folder, kind=kind, wire=Wire(refused_share=1), talk=talk)
    assert client.logits(*question(client)) == pytest.approx(math.log(0.5))
    assert service.asked == client.runner.coverage()["refused"] == 8
    strict = open_chat(service.chatting, decoder_folder, kind=kind, wire=Wire(concurrency=1), talk=talk)
    with pytest.raises(ServiceError, match=r"filtered or refused.* refused 2 of 2 texts"):
        strict.logits(*question(strict))


def test_thinking_is_not_the_answer(service: Service, decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"type": "thinking", "thinking": "great?"}, {"type": "redacted_thinking", "data": "great"}]
    answer = {"content": [*parts, {"type": "text", "text": "Terrible"}], "stop_reason": "end_turn"}
    monkeypatch.setitem(TEXT_PATHS, "/v1/messages", lambda service, request: answer)
    service.refuse = lambda request: "`temperature` is deprecated for this model." if "temperature" in request else None
    client = open_chat(service.chatting, decoder_folder, kind="anthropic", talk=Talk(answers="labels"))
    assert (client.logits(*question(client)).argmax(axis=1) == 1).all()


def test_a_log_probability_of_minus_9999_is_none() -> None:
    listed = '[{"token": "true", "logprob": -0.1}, {"token": "so", "logprob": -3.0}, {"token": "false", "logprob": %s}]'
    found = []
    for least in ("-9999.0", "null", "-Infinity", "-1e400"):
        entry = '{"token": "true", "logprob": -0.1, "top_logprobs": %s}' % (listed % least)
        body = '{"choices": [{"logprobs": {"content": [' + entry + "]}}]}"
        found.append(read_scores(Answer(200, {}, body.encode()), 1, ["true", "false"])[0])
    assert all(np.array_equal(scores, found[0]) for scores in found)
    assert found[0][0, 1] == pytest.approx(math.log(1 - math.exp(-0.1) - math.exp(-3)) - 1)
    assert found[0][1].tolist() == [0, 1]


def test_label_words_of_other_scripts_and_signs() -> None:
    assert label_in("答案是好的。", ["好", "坏"]) == 0
    assert label_in("不好", ["好", "不好"]) == 1
    assert label_in("cafe\u0301!", ["caf\u00e9", "bar"]) == 0  # an accent of its own
    assert label_in("ответ: ХОРОШО", ["плохо", "хорошо"]) == 1
    assert word_of(" C#", ["C", "C#"]) == 1
    assert word_of("C", ["C", "C#"]) == 0
    assert word_of("A", ["(A)", "(B)"]) == 0
    assert word_of(":)", [":)", ":("]) == 0


def test_refused_rows_stay_apart_from_others_of_one_request() -> None:
    choices = [{"index": 0, "finish_reason": "content_filter", "logprobs": None}]
    choices.append({"index": 1, "logprobs": {"tokens": ["true"], "top_logprobs": [{"true": -0.1}]}})
    scores = read_scores(Answer(200, {}, json.dumps({"choices": choices}).encode()), 2, ["true", "false"])
    assert scores[0, 1].tolist() == [REFUSED, REFUSED]
    assert scores[1, 0, 0] == pytest.approx(-0.1)
