"""completions: label words by their log-probabilities in a text endpoint's answers, missing ones floored and counted."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.real_servers import llama_cpp
from tests.models.service import Service, next_token
from tests.models.tiny_models import SENTENCES
from zopog_models import FrozenModel, encode, label_ids, load_model, make_task
from zopog_models.errors import ServiceError, SetupError
from zopog_models.runners.rows import ModelRows
from zopog_models.served.completions import open_completions
from zopog_models.served.log_probabilities import read_scores, score_words
from zopog_models.served.transport import Answer
from zopog_models.served.wire import Wire

TASK = make_task("{text} it was {mask}", {"good": "great", "bad": "terrible"})
WIRE = Wire(timeout=60.0, retries=4, concurrency=2)
EVERYTHING = 1000


def question(model: FrozenModel) -> tuple[Any, ...]:
    encoded = encode([(text,) for text in SENTENCES], TASK, model, 2)
    the, people = (model.tokenizer.encode(word, add_special_tokens=False).ids[0] for word in ("the", "people"))
    prompts = np.array([[the, people], [people, the]])
    return encoded.ids, encoded.answer_position, prompts, None, np.arange(8) % 2, label_ids(TASK, model)


def of_the_text_that_was_sent(client: FrozenModel, local: FrozenModel) -> np.ndarray:
    """log p itself, of all tokens that are the word but for a space; (8, 2)."""
    vocabulary = [local.tokenizer.id_to_token(i).replace("▁", " ").strip() for i in range(local.vocab_size)]
    same_word = [[i for i, text in enumerate(vocabulary) if text == word] for word in ("great", "terrible")]
    assert all(label in tokens for label, tokens in zip(label_ids(TASK, local), same_word))
    ids, _, prompts, _, index, _ = question(local)
    after = [next_token(local, client.runner.text(ids[row], prompts[index[row]])) for row in range(8)]
    return np.array([[np.logaddexp.reduce(row[tokens]) for tokens in same_word] for row in after])


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_with_all_log_probabilities_it_is_the_model(
    service: Service, decoder_folder: Path, chat: bool, rows: int
) -> None:
    service.chat = chat
    client = open_completions(service.completions, decoder_folder, wire=WIRE, top=EVERYTHING, rows=rows)
    local = service.model
    there = client.logits(*question(client))
    assert np.abs(there - of_the_text_that_was_sent(client, local)).max() < 1e-5
    assert client.runner.coverage() == {
        "rows": 8,
        "top_logprobs": EVERYTHING,
        "not_returned": {"great": 0, "terrible": 0},
    }
    assert client.runner.requests.log.sent == math.ceil(8 / rows)


@pytest.mark.parametrize("rows", [1, 3])
def test_sent_as_ids_it_is_the_model_s_own_row(service: Service, decoder_folder: Path, rows: int) -> None:
    client = open_completions(service.completions, decoder_folder, wire=WIRE, top=EVERYTHING, rows=rows, send="ids")
    local, asked = service.model, question(service.model)
    everything = local.logits(*asked[:5], np.arange(local.vocab_size)).astype(np.float64)
    everything -= np.logaddexp.reduce(everything, axis=1, keepdims=True)
    vocabulary = [local.tokenizer.id_to_token(i).replace("▁", " ").strip() for i in range(local.vocab_size)]
    same = [[i for i, text in enumerate(vocabulary) if text == word] for word in ("great", "terrible")]
    expected = np.stack([np.logaddexp.reduce(everything[:, tokens], axis=1) for tokens in same], axis=1)
    assert np.abs(client.logits(*asked) - expected).max() < 1e-5
    assert all(isinstance(json.loads(body)["prompt"], list) for body in service.bodies)
    assert json.loads(service.bodies[0])["prompt"][0] == local.cls_id or rows == 3


def test_the_text_is_prompt_and_template(service: Service, decoder_folder: Path) -> None:
    client = open_completions(service.completions, decoder_folder, wire=WIRE)
    client.logits(*question(client))
    sent = {json.loads(body)["prompt"].strip() for body in service.bodies}
    assert f"the people {SENTENCES[0]} it was" in sent
    assert all("<s>" not in text for text in sent)


def test_a_word_that_is_not_returned_is_below_all_that_are(service: Service, decoder_folder: Path) -> None:
    exact = open_completions(service.completions, decoder_folder, wire=WIRE, top=EVERYTHING).logits(
        *question(service.model)
    )
    service.top = 3  # the endpoint's own limit
    client = open_completions(service.completions, decoder_folder, wire=WIRE, top=20)
    capped = client.logits(*question(client))
    missing = client.runner.coverage()["not_returned"]
    assert 0 < sum(missing.values()) <= 16
    floored = capped != exact
    assert floored.sum(axis=0).tolist() == [missing["great"], missing["terrible"]]
    for row, word in np.argwhere(floored):
        ids, _, prompts, _, index, _ = question(client)
        best = np.sort(next_token(service.model, client.runner.text(ids[row], prompts[index[row]])))[::-1][:3]
        left = math.log(1 - np.exp(best).sum())
        assert capped[row, word] == pytest.approx(min(best[-1], left) - 1.0, abs=1e-4)


def test_spaces_in_front_are_one_word_and_add_up() -> None:
    top = {" great": math.log(0.5), "great": math.log(0.25), " so": math.log(0.125)}
    scores = score_words(top, ["great", "terrible"])
    assert scores[0, 0] == pytest.approx(math.log(0.75))
    assert scores[0, 1] == pytest.approx(math.log(0.125) - 1)
    assert scores[1].tolist() == [0, 1]
    assert score_words({" great": math.log(0.999)}, ["bad"])[0, 0] == pytest.approx(math.log(0.001) - 1, rel=1e-4)


def choice(**logprobs: Any) -> dict[str, Any]:
    return {"index": 0, "logprobs": logprobs}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (None, "has no choices, 1 were asked"),
        ([choice(), choice()], "has 2 choices"),
        ([{"index": 1}], "index 1, expected 0 to 0"),
        ([choice(top_logprobs=[{"a": 0.5}])], "cannot be above 0"),
        ([choice(top_logprobs=[{"a": float("nan")}])], "log p of 'a' is nan"),
        ([choice(top_logprobs=[{"a": "x"}])], "log-probability of the answer is 'x'"),
        (["text"], "index None"),
    ],
)
def test_answers_that_cannot_be_used(choices: Any, message: str) -> None:
    answer = Answer(200, {}, json.dumps({"choices": choices}).encode())
    with pytest.raises(ServiceError, match=message):
        read_scores(answer, 1, ["great"])


@pytest.mark.parametrize("rows", [1, 3])
def test_a_silent_answer_is_asked_for_otherwise(service: Service, decoder_folder: Path, rows: int) -> None:
    """At the temperature that leaves the distribution alone; what was said of other rows stays."""
    sound = open_completions(service.completions, decoder_folder, wire=WIRE, rows=rows).logits(*question(service.model))
    service.asked, service.faults = 0, {0: "mute", 1: "mute"}.get
    service.bodies.clear()
    client = open_completions(service.completions, decoder_folder, wire=WIRE, rows=rows)
    assert np.array_equal(client.logits(*question(client)), sound)
    drawn = [json.loads(body)["temperature"] for body in service.bodies]
    assert drawn.count(1) >= 2
    assert drawn.count(0) == math.ceil(8 / rows)
    assert client.runner.requests.log.retries == 0
    before = service.asked
    assert np.array_equal(client.logits(*question(client)), sound)  # what was answered, silence too, is not asked again
    assert service.asked == before


@pytest.mark.parametrize("logprobs", [None, {}, {"top_logprobs": [{}]}, {"top_logprobs": [{"a": None}]}])
def test_an_endpoint_that_never_says(
    service: Service, decoder_folder: Path, monkeypatch: pytest.MonkeyPatch, logprobs: Any
) -> None:
    answer = {"choices": [{"index": 0, "logprobs": logprobs}]}
    assert read_scores(Answer(200, {}, json.dumps(answer).encode()), 1, ["great"])[0, 1] == -1
    service.faults = lambda number: "mute"
    client = open_completions(service.completions, decoder_folder, wire=Wire(timeout=60.0, retries=4, concurrency=1))
    with pytest.raises(ServiceError, match="has no log-probabilities of the next token: the endpoint does not offer"):
        client.logits(*question(client))
    assert service.asked == 18  # of two texts: one alone may be refused; then nothing more is sent


def test_faults_change_nothing_but_the_count(service: Service, decoder_folder: Path) -> None:
    sound = open_completions(service.completions, decoder_folder, wire=WIRE).logits(*question(service.model))
    service.asked, service.retry_after = 0, "0"
    service.faults = {1: "drop", 3: "500", 4: "429", 5: "half"}.get
    client = open_completions(service.completions, decoder_folder, wire=WIRE)
    assert np.array_equal(client.logits(*question(client)), sound)
    assert (client.runner.requests.log.sent, client.runner.requests.log.retries) == (12, 4)


def test_what_a_text_cannot_hold(service: Service, decoder_folder: Path, bert_folder: Path) -> None:
    client = open_completions(service.completions, decoder_folder, wire=WIRE)
    ids, place, prompts, _, index, labels = question(client)
    with pytest.raises(ValueError, match="no continuous prompt"):
        client.logits(ids, place, prompts, np.full((2, 2, 1), 0.1, np.float32), index, labels)
    with pytest.raises(SetupError, match="encoder"):
        open_completions(service.completions, bert_folder)
    with pytest.raises(SetupError, match="names no model"):
        open_completions(service.url + "/v1", decoder_folder)
    with pytest.raises(SetupError, match="top_logprobs is 0"):
        open_completions(service.completions, decoder_folder, top=0)
    assert service.asked == 0


def test_llama_cpp_s_server_is_read_as_ours(decoder_folder: Path) -> None:
    """The same weights in llama.cpp, its own tokenizer, its own answer's form: the same log p of both words."""
    local = load_model(decoder_folder, threads=1)
    with llama_cpp(decoder_folder) as address:
        client = open_completions(address, decoder_folder, wire=WIRE, top=EVERYTHING)
        scores = client.logits(*question(client))
        capped = open_completions(address, decoder_folder, wire=WIRE, top=5)
        capped.logits(*question(capped))
    assert np.abs(scores - of_the_text_that_was_sent(client, local)).max() < 1e-4
    assert client.runner.coverage()["not_returned"] == {"great": 0, "terrible": 0}
    assert (client.runner.requests.log.sent, client.runner.requests.log.retries) == (8, 0)
    assert sum(capped.runner.coverage()["not_returned"].values()) > 0


def test_a_prompt_after_the_text_is_an_order_of_text(service: Service, decoder_folder: Path) -> None:
    """What is asked is the row with the prompt behind its text: a row of the local model's own that reads so."""
    client = open_completions(service.completions, decoder_folder, wire=WIRE, top=EVERYTHING, send="ids")
    local = service.model
    encoded = encode([(text,) for text in SENTENCES], TASK, local, 2)
    ids, answer, prompts, _, index, words = question(local)
    there = client.logits(ids, answer, prompts, None, index, words, encoded.text_end)
    every = np.arange(local.vocab_size)
    here = local.logits(ids, answer, prompts, None, index, every, encoded.text_end).astype(np.float64)
    here -= np.log(np.exp(here).sum(axis=1, keepdims=True))
    assert np.abs(there - here[:, words]).max() < 1e-5
    before = client.logits(ids, answer, prompts, None, index, words)
    assert np.abs(there - before).max() > 1e-3
    tail = len(ids[0]) - encoded.text_end[0]
    rows = ModelRows(client.description, ids, answer, prompts, None, index, words, encoded.text_end)
    assert json.loads(client.runner.asked(rows, 0)) == [*ids[0][:-tail], *prompts[0], *ids[0][-tail:]]
    offsets = np.ones((2, 2, 1), np.float32)
    with pytest.raises(ValueError, match="the offsets must be 0"):
        client.logits(ids, answer, prompts, offsets, index, words, encoded.text_end)
