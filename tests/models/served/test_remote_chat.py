"""chat: label words by the log-probabilities of a conversation's first answer token."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.served.test_remote_completions import WIRE, question
from tests.models.service import Service, next_token, serve
from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import SENTENCES
from zopog_models import load_model
from zopog_models.errors import SetupError
from zopog_models.served import transport
from zopog_models.served.addresses import ServedOptions, open_served
from zopog_models.served.answer_words import score_answers, word_of
from zopog_models.served.chat import open_chat
from zopog_models.served.conversation import Talk

EVERYTHING = 1000


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture
def service(decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.005)
    with serve(load_model(decoder_folder, threads=1)) as running:
        yield running


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
