"""chat: label words by the log-probabilities of a conversation's first answer token."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.served.test_remote_completions import WIRE, question
from tests.models.service import Service, next_token
from tests.models.tiny_models import SENTENCES
from zopog_models import FrozenModel
from zopog_models.errors import CapReached, ServiceError, SetupError
from zopog_models.runners.rows import ModelRows
from zopog_models.served.addresses import ServedOptions, default_top, open_served
from zopog_models.served.answer_cache import AnswerCache
from zopog_models.served.answer_words import score_answers, word_of
from zopog_models.served.chat import open_chat
from zopog_models.served.conversation import Talk, label_in
from zopog_models.served.wire import Wire

EVERYTHING = 1000


@pytest.mark.parametrize("place", ["user", "system"])
def test_with_all_log_probabilities_it_is_the_model(service: Service, decoder_folder: Path, place: str) -> None:
    client = open_chat(service.chatting, decoder_folder, wire=WIRE, top=EVERYTHING, talk=Talk(place, "Say one."))
    asked = question(client)
    there = client.logits(*asked)
    vocabulary = [service.model.tokenizer.id_to_token(i).replace("▁", " ") for i in range(service.model.vocab_size)]
    words = [[i for i, token in enumerate(vocabulary) if word_of(token, ["great", "terrible"]) == c] for c in (0, 1)]
    for row in range(8):
        told = f"{'the people' if row % 2 == 0 else 'people the'} {SENTENCES[row]} it was"
        after = next_token(service.model, f"Say one. {told}")
        assert there[row] == pytest.approx([np.logaddexp.reduce(after[c]) for c in words], abs=1e-5)
    assert client.runner.coverage()["not_returned"] == {"great": 0, "terrible": 0}


def test_the_prompt_stands_where_it_was_told_to(service: Service, decoder_folder: Path) -> None:
    for place, system in (("user", ""), ("system", ""), ("system", "Be brief.")):
        service.bodies.clear()
        client = open_chat(service.chatting, decoder_folder, wire=WIRE, talk=Talk(place, system))
        client.logits(*question(client))
        sent = [json.loads(body)["messages"] for body in service.bodies]
        text = f"{SENTENCES[0]} it was"
        if place == "user":
            assert [{"role": "user", "content": f"the people {text}"}] in sent
        else:
            told = f"{system} the people".strip()
            assert [{"role": "system", "content": told}, {"role": "user", "content": text}] in sent


def test_faults_change_nothing_but_the_count(service: Service, decoder_folder: Path) -> None:
    sound = open_chat(service.chatting, decoder_folder, wire=WIRE).logits(*question(service.model))
    service.asked, service.retry_after = 0, "0"
    service.faults = {1: "drop", 3: "500", 4: "429", 5: "half"}.get
    client = open_chat(service.chatting, decoder_folder, wire=WIRE)
    assert np.array_equal(client.logits(*question(client)), sound)
    assert (client.runner.requests.log.sent, client.runner.requests.log.retries) == (12, 4)


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("great", 0), (" Great", 0), ("**GREAT", 0), ('"great"', 0), ("ter", 1), ("Terr", 1), ("terrible.", 1),
        ("", None), ("**", None), ("g", 0), ("greatest", None), ("t", None), ("true", 2), ("\n", None), ("ok", None),
    ],
)  # fmt: skip
def test_the_first_token_of_an_answer(token: str, word: int | None) -> None:
    assert word_of(token, ["great", "terrible", "true"]) == word


def test_how_many_are_asked_for_if_nobody_says_it() -> None:
    said = {kind: default_top(f"{kind}+http://h/v1#m") for kind in ("completions", "chat", "vllm", "kserve")}
    assert said == {"completions": 5, "chat": 20, "vllm": None, "kserve": None}


def test_words_that_differ_by_their_case_alone() -> None:
    assert word_of("US", ["us", "US"]) == 1
    assert word_of("Us", ["us", "US"]) is None


def test_tokens_of_one_answer_add_up_and_missing_words_have_a_floor() -> None:
    scores = score_answers({"Great": math.log(0.5), " gre": math.log(0.25), "so": math.log(0.125)}, ["great", "bad"])
    assert scores[0] == pytest.approx([math.log(0.75), math.log(0.125) - 1])
    assert scores[1].tolist() == [0, 1]


def test_what_a_conversation_cannot_be(service: Service, decoder_folder: Path) -> None:
    with pytest.raises(SetupError, match="prompt_in is 'tail'; choose one of user, system"):
        Talk("tail")
    with pytest.raises(SetupError, match="one conversation a request"):
        open_served(f"chat+{service.chatting}", decoder_folder, ServedOptions(rows=4))
    assert open_served(f"chat+{service.chatting}", decoder_folder).runner.top == 20
    assert service.asked == 0


def positive(text: str) -> str:
    return "I would say: Great!" if len(text) % 2 else "Terrible."


@pytest.mark.parametrize("kind", ["chat", "anthropic"])
def test_labels_alone(service: Service, decoder_folder: Path, kind: str) -> None:
    service.answer = positive
    talk = Talk(system="Be brief.", answers="labels", answer_tokens=5)
    client = open_chat(service.chatting, decoder_folder, kind=kind, wire=WIRE, talk=talk)
    scores = client.logits(*question(client))
    told = [json.loads(body) for body in service.bodies]
    asked = {(one.get("system") or one["messages"][0]["content"]) for one in told}
    assert asked == {"Be brief."}
    assert {one["max_tokens"] for one in told} == {5}
    assert client.scores == "labels"
    assert np.exp(scores).sum(axis=1) == pytest.approx(1)
    users = {one["messages"][-1]["content"] for one in told}
    assert sorted({positive(text)[0] for text in users}) == ["I", "T"]
    assert sorted(scores.argmax(axis=1)) == sorted(0 if positive(text)[0] == "I" else 1 for text in users)


def test_an_answer_without_a_label_is_counted(service: Service, decoder_folder: Path) -> None:
    service.answer = lambda text: "I cannot say."
    client = open_chat(service.chatting, decoder_folder, wire=WIRE, talk=Talk(answers="labels"))
    assert client.logits(*question(client)) == pytest.approx(math.log(0.5))
    assert client.runner.coverage()["not_returned"] == {"great": 8, "terrible": 8}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("great", 0), ("The answer is Great, not terrible", 0), ("<think>great? no</think> Terrible", 1),
        ("greatly", None), ("", None), ("very great indeed", 2),
    ],
)  # fmt: skip
def test_the_label_of_an_answer(text: str, label: int | None) -> None:
    assert label_in(text, ["great", "terrible", "very great"]) == label


def test_labels_that_differ_by_their_case() -> None:
    assert label_in("it is US", ["us", "US"]) == 1


def test_the_responses_form_gives_the_same_scores(service: Service, decoder_folder: Path) -> None:
    chat, responses = (
        open_chat(service.chatting, decoder_folder, kind=kind, wire=WIRE, top=EVERYTHING)
        for kind in ("chat", "responses")
    )
    assert np.array_equal(chat.logits(*question(chat)), responses.logits(*question(responses)))


def test_who_gives_no_scores_is_refused_before_anything_is_asked(service: Service, decoder_folder: Path) -> None:
    with pytest.raises(SetupError, match=r"anthropic gives no log-probabilities: .* --answers labels"):
        open_chat(service.chatting, decoder_folder, kind="anthropic")
    assert service.asked == 0


def test_a_server_that_calls_it_otherwise(service: Service, decoder_folder: Path) -> None:
    """As OpenAI's newer models: another name of the limit, and no temperature."""
    sound = open_chat(service.chatting, decoder_folder, wire=WIRE).logits(*question(service.model))

    def refuse(request: dict[str, Any]) -> str | None:
        if "max_tokens" in request:
            return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return "Unsupported value: 'temperature' does not support 0." if "temperature" in request else None

    service.refuse = refuse
    client = open_chat(service.chatting, decoder_folder, wire=Wire(concurrency=1))
    assert np.array_equal(client.logits(*question(client)), sound)
    assert client.runner.requests.log.sent == 8 + 2  # it is told each once
    assert client.runner.coverage().get("refused", 0) == 0


def rows_of(model: FrozenModel) -> ModelRows:
    return ModelRows(model.description, *question(model))


def test_a_probe_says_what_is_returned(service: Service, decoder_folder: Path) -> None:
    client = open_chat(service.chatting, decoder_folder, wire=WIRE, top=EVERYTHING)
    assert client.runner.probe(rows_of(client)) == {"returned": ["great", "terrible"], "missing": [], "differs": 0.0}
    assert service.asked == 2
    before = client.runner.coverage()["rows"]
    client.logits(*question(client))
    assert (before, client.runner.coverage()["rows"], service.asked) == (1, 8, 9)  # its answer is not asked again
    service.top = 1
    client = open_chat(service.chatting, decoder_folder, wire=WIRE)
    assert len(client.runner.probe(rows_of(client))["missing"]) >= 1


def test_a_probe_notices_that_equal_requests_are_answered_otherwise(service: Service, decoder_folder: Path) -> None:
    def fewer_from_the_second_on(request: dict[str, Any]) -> None:
        service.top = 2 if service.asked > 1 else None

    service.refuse = fewer_from_the_second_on
    client = open_chat(service.chatting, decoder_folder, wire=WIRE, top=EVERYTHING)
    exact, capped = client.runner.probe(rows_of(client))["differs"], client.runner.requests.log.sent
    assert (exact > 0.1, capped) == (True, 2)


def test_a_kept_answer_of_another_shape_is_asked_for_again(service: Service, tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers", service.url)
    cache.put("question", np.zeros((1, 2, 2), np.float32))
    assert cache.get("question", (1, 2, 2)) is not None
    assert cache.get("question", (1, 2, 3)) is None
    cache.put("question", np.full((1, 2, 2), np.nan, np.float32))
    assert cache.get("question", (1, 2, 2)) is None


def test_a_probe_of_a_model_that_refuses_log_probabilities(service: Service, decoder_folder: Path) -> None:
    service.refuse = lambda request: "logprobs are not supported by reasoning models" if "logprobs" in request else None
    client = open_chat(service.chatting, decoder_folder, wire=WIRE)
    with pytest.raises(ServiceError, match="logprobs are not supported by reasoning models"):
        client.runner.probe(rows_of(client))
    assert service.asked <= 3


def test_a_filtered_first_row_is_no_verdict(service: Service, decoder_folder: Path) -> None:
    service.refuse = lambda request: "content filter" if SENTENCES[0] in request["messages"][-1]["content"] else None
    client = open_chat(service.chatting, decoder_folder, wire=WIRE, top=EVERYTHING)
    assert client.runner.probe(rows_of(client))["missing"] == []


def test_money_is_counted_and_never_passes_the_cap(service: Service, decoder_folder: Path) -> None:
    free = open_chat(service.chatting, decoder_folder, wire=WIRE)
    free.logits(*question(free))
    took = free.runner.report()["spending"]
    assert took["tokens_written"] == 8
    sent = [json.loads(body)["messages"] for body in service.bodies]
    assert took["tokens_read"] == sum(len(message["content"]) // 4 for messages in sent for message in messages)
    whole = (3 * took["tokens_read"] + 5 * took["tokens_written"]) / 1e6
    paid = open_chat(service.chatting, decoder_folder, wire=Wire(price_in=3, price_out=5, budget_usd=1))
    paid.logits(*question(paid))
    assert paid.runner.report()["spending"]["usd"] == pytest.approx(whole)
    for concurrency in (1, 4):
        wire = Wire(price_in=3, price_out=5, budget_usd=1.2e-3, concurrency=concurrency)
        poor = open_chat(service.chatting, decoder_folder, wire=wire)

        def ask_again_and_again(poor: FrozenModel = poor) -> None:
            for _ in range(3):
                poor.logits(*question(poor))
                poor.runner.requests.log._answers.clear()

        with pytest.raises(CapReached, match="raise --budget-usd"):
            ask_again_and_again()
        assert 0 < poor.runner.report()["spending"]["usd"] <= 1.2e-3


def test_an_answer_that_does_not_say_its_tokens_costs_what_was_set_aside(
    service: Service, decoder_folder: Path
) -> None:
    service.usage = False
    client = open_chat(service.chatting, decoder_folder, wire=Wire(price_in=1, price_out=0))
    client.logits(*question(client))
    found = client.runner.report()["spending"]
    assert found["tokens_read"] == sum(map(len, service.bodies))
    assert found["answers_without_usage"] == 8


def test_money_goes_on_where_a_run_was_interrupted(service: Service, decoder_folder: Path, tmp_path: Path) -> None:
    for expected in (8, 8):
        client = open_chat(service.chatting, decoder_folder, wire=Wire(price_in=3, price_out=5))
        client.runner.keep(tmp_path / "requests.jsonl")
        client.logits(*question(client))
        assert client.runner.report()["spending"]["tokens_written"] == expected
        client.close()


def test_answers_are_kept_across_runs(service: Service, decoder_folder: Path, tmp_path: Path) -> None:
    wire = Wire(cache=tmp_path / "answers")
    first, second = (open_chat(service.chatting, decoder_folder, wire=wire) for _ in range(2))
    scores = first.logits(*question(first))
    before = service.asked
    assert np.array_equal(second.logits(*question(second)), scores)
    assert (service.asked - before, second.runner.report()["cached"], first.runner.report()["cached"]) == (0, 8, 0)
    other = open_chat(service.chatting.replace("#frozen", "#other"), decoder_folder, wire=wire)
    other.logits(*question(other))
    assert service.asked == before + 8  # of another model
    files = sorted((tmp_path / "answers").rglob("*.json"))
    assert len(files) == 16
    for path in files:
        path.write_text("{torn")
    third = open_chat(service.chatting, decoder_folder, wire=wire)
    assert np.array_equal(third.logits(*question(third)), scores)  # a torn file is asked for again
