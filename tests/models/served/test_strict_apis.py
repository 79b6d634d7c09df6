"""Doubles that refuse what the real APIs refuse: nothing unknown is sent, and each refusal says what to do."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.served.test_remote_completions import question
from tests.models.service import Service
from tests.models.strict import why_not
from zopog_models.errors import ServiceError
from zopog_models.runners.rows import ModelRows
from zopog_models.served.addresses import ServedOptions, open_served
from zopog_models.served.conversation import Talk
from zopog_models.served.statuses import parameter_advice
from zopog_models.served.wire import Wire

WIRE = Wire(timeout=60.0, retries=4, concurrency=2)
LABELS = Talk(answers="labels", answer_tokens=50)


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_more_log_probabilities_than_there_are(service: Service, decoder_folder: Path, kind: str) -> None:
    service.most = 20
    options = ServedOptions(wire=Wire(timeout=60.0, concurrency=1), top=50)
    client = open_served(f"{kind}+{service.chatting}", decoder_folder, options)
    with pytest.raises(ServiceError, match=r"value <= 20, but got 50.*ask for fewer, with --top-logprobs"):
        client.logits(*question(client))
    assert service.asked == 1  # no text is blamed for it
    client = open_served(f"{kind}+{service.chatting}", decoder_folder, ServedOptions(wire=WIRE, top=20))
    assert np.isfinite(client.logits(*question(client))).all()


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_a_reasoning_model_gives_labels_and_says_so(service: Service, decoder_folder: Path, kind: str) -> None:
    service.reasoning = True
    client = open_served(f"{kind}+{service.chatting}", decoder_folder, ServedOptions(wire=WIRE))
    with pytest.raises(ServiceError, match=r"'logprobs' is not supported.*--answers labels --loss error"):
        client.logits(*question(client))
    service.answer, service.bodies[:] = (lambda text: "great"), []
    client = open_served(f"{kind}+{service.chatting}", decoder_folder, ServedOptions(wire=WIRE, talk=LABELS))
    if kind == "responses":
        return  # the double answers with log-probabilities alone
    found = client.logits(*question(client))
    assert (found[:, 0] > found[:, 1]).all()
    taken = [
        body for body in map(json.loads, service.bodies) if not why_not("/v1/chat/completions", body, reasoning=True)
    ]
    assert all(body["max_completion_tokens"] == 50 and "temperature" not in body for body in taken)
    assert len(taken) == client.runner.coverage()["rows"]


@pytest.mark.parametrize(
    ("kind", "most", "found"),
    [("chat", None, 500), ("chat", 100, 100), ("chat", 20, 20), ("responses", 20, 20), ("completions", None, 500)],
)
def test_as_many_log_probabilities_as_there_are(
    service: Service, decoder_folder: Path, kind: str, most: int | None, found: int
) -> None:
    service.most = most
    client = open_served(f"{kind}+{service.chatting}", decoder_folder, ServedOptions(wire=WIRE))
    ids, place, prompts, _, index, labels = question(client)
    rows = ModelRows(client.description, ids, place, prompts, None, index, labels)
    client.runner.ask_for_most(rows)
    assert client.runner.top == found
    asked = service.asked
    assert asked == {500: 1, 100: 2, 20: 2}[found]  # the first two were refused, or the last one is paid for
    client.runner.probe(rows)
    assert service.asked == asked + (2 if found == 20 else 1)  # the row was asked about, where it was answered
    client.logits(*question(client))
    assert client.runner.coverage()["top_logprobs"] == found
    assert "refused" not in client.runner.coverage()
    assert client.runner.report()["failures"] == ({"HTTP 400": asked - (found != 20)} if most else {})


def test_a_dead_endpoint_is_not_waited_for_again_and_again(service: Service, decoder_folder: Path) -> None:
    service.faults = lambda number: "500"
    client = open_served(f"chat+{service.chatting}", decoder_folder, ServedOptions(wire=Wire(retries=1)))
    ids, place, prompts, _, index, labels = question(client)
    client.runner.ask_for_most(ModelRows(client.description, ids, place, prompts, None, index, labels))
    assert (client.runner.top, service.asked) == (20, 2)


def test_an_unknown_parameter_is_refused_by_every_double() -> None:
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/generate"):
        assert "top_logits" in (why_not(path, {"top_logits": 5}) or "")


@pytest.mark.parametrize(
    ("refusal", "advised"),
    [
        ("HTTP 400: Unrecognized request argument supplied: logprobs", True),
        ("HTTP 400: Invalid 'top_logprobs': integer above maximum value. Expected a value <= 20, but got 50", True),
        ('HTTP 422: {"detail": [{"input": {"messages": [], "logprobs": true, "top_logprobs": 20}}]}', False),
        ("HTTP 400: The response was filtered (content_filter)", False),
    ],
)
def test_which_refusals_are_of_a_parameter(refusal: str, advised: bool) -> None:
    assert bool(parameter_advice(refusal)) is advised


def test_five_in_a_hundred_fail_and_five_are_slow_and_the_answers_are_the_same(
    service: Service, decoder_folder: Path, tmp_path: Path
) -> None:
    """429 with every kind of hint among them; each question is written down once, answered once, and charged once."""
    sound = open_served(f"chat+{service.chatting}", decoder_folder, ServedOptions(wire=WIRE))
    right = sound.logits(*question(sound))
    service.asked, service.retry_after, service.slow = 0, "0", 0.05
    service.faults = lambda number: {3: "500", 7: "429", 11: "drop", 5: "slow", 9: "slow"}.get(number % 20)
    client = open_served(f"chat+{service.chatting}", decoder_folder, ServedOptions(wire=WIRE))
    client.runner.keep(tmp_path / "requests.jsonl")
    assert np.array_equal(client.logits(*question(client)), right)
    client.close()
    events = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    answered = [event["answered"] for event in events if "answered" in event]
    assert len(answered) == len(set(answered)) == sound.runner.requests.log.sent
    assert client.runner.requests.log.retries == sum("failed" in event for event in events) > 0


def test_completions_that_give_20_are_asked_for_20(service: Service, decoder_folder: Path) -> None:
    service.refuse = lambda request: "logprobs above 20" if request["logprobs"] > 20 else None
    client = open_served(f"completions+{service.completions}", decoder_folder, ServedOptions(wire=WIRE))
    ids, place, prompts, _, index, labels = question(client)
    client.runner.ask_for_most(ModelRows(client.description, ids, place, prompts, None, index, labels))
    assert (client.runner.top, service.asked) == (20, 3)
