"""PromptClassifier with an address: the same as with the model here, its options the command line's, no silent class."""

import json
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="PromptClassifier needs scikit-learn (extra sklearn)")
pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from sklearn.base import clone

from tests.models.service import Service, serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model
from zopog_models.errors import ServiceError, SetupError
from zopog_models.served import transport
from zopog_ref import PromptClassifier
from zopog_ref.app.classifier.classifier import AnswersMissing, NothingLearned

TEXTS = [f"{a} {b} the people" for a in ("great", "terrible") for b in ("it", "was", "the", "people", "great", "a")]
Y = ["good"] * 6 + ["bad"] * 6
LABELS = {"good": "great", "bad": "terrible"}
EVERYTHING = {"top_logprobs": 1000, "refused_share": 0.5}
KEY = "sk-live17-0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture
def service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.005)
    warnings.simplefilter("ignore", NothingLearned)  # the weights are random
    with serve(load_model(folder, threads=1)) as running:
        yield running


def classifier(model: Any, **options: Any) -> PromptClassifier:
    settings = {"method": "bdpl", "budget": 40, "method_options": {"n_positions": 2, "n_candidates": 5, "samples": 2}}
    return PromptClassifier(model, template="{text} it was {mask}", labels=LABELS, **(settings | options))


def test_it_is_the_model_that_is_here(service: Service, folder: Path) -> None:
    """Scores by token id: the same prompt, calls and probabilities as with the folder itself."""
    here = classifier(folder, threads=1, readout="labels").fit(TEXTS, Y)
    there = classifier(
        f"vllm+{service.url}/exact/v1#frozen", readout="labels", served={"tokenizer": folder, "concurrency": 2}
    ).fit(TEXTS, Y)
    assert there.prompt_tokens_ == here.prompt_tokens_
    assert (there.calls_, there.deployed_, there.stop_reason_) == (here.calls_, here.deployed_, here.stop_reason_)
    assert np.abs(there.predict_proba(TEXTS) - here.predict_proba(TEXTS)).max() < 1e-4
    assert there.predict(TEXTS).tolist() == here.predict(TEXTS).tolist()
    assert there.requests_["requests"] <= service.asked
    assert here.requests_ == {}


@pytest.mark.filterwarnings("ignore::zopog_ref.app.classifier.classifier.AnswersMissing")
def test_the_options_are_the_command_line_s(service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    served = {
        "tokenizer": folder, "key_env": "MY_KEY", "key_header": "api-key", "query": ["api-version=1"], "top_logprobs": 7,
        "system": "Answer with one word.", "prompt_in": "system",
    }  # fmt: skip
    clf = clone(classifier(f"chat+{service.chatting}", method="none", method_options=None, served=served)).fit(TEXTS, Y)
    body, headers = json.loads(service.bodies[0]), service.headers[0]
    assert body["top_logprobs"] == 7
    assert body["messages"][0] == {"role": "system", "content": "Answer with one word."}
    assert headers["api-key"] == KEY
    assert clf.calls_ == 1
    for served, said in (
        ({}, "needs --tokenizer"),
        ({"tokenizer": folder, "top_k": 3}, "--top-k.*no option of a served model"),
        ({"tokenizer": folder, "top_logprobs": "many"}, "invalid int value"),
        ({"tokenizer": folder, "answers": "both"}, "invalid choice"),
        ({"tokenizer": folder, "budget_usd": 1}, "needs price-in"),
    ):
        asked = service.asked
        with pytest.raises(ValueError, match=said):
            classifier(f"chat+{service.chatting}", method="none", method_options=None, served=served).fit(TEXTS, Y)
        assert service.asked == asked
    with pytest.raises(ValueError, match="add --zeroth-order off"):
        PromptClassifier(f"chat+{service.chatting}", labels=LABELS, served={"tokenizer": folder}).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="is for a served model"):
        classifier("embedded", served={"tokenizer": folder}).fit(TEXTS, Y)


def test_a_folder_sends_no_text_and_no_key_anywhere(
    service: Service, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    served = {"tokenizer": folder, "key_env": "MY_KEY", "cache": tmp_path / "cache", "top_logprobs": 1000}
    address = f"completions+{service.completions}"
    clf = classifier(address, served=served, run_folder=tmp_path / "fits").fit(TEXTS, Y)
    expected = clf.predict_proba(TEXTS)
    clf.save(tmp_path / "saved")
    asked = service.asked
    with pytest.raises(ValueError, match=r"served by '127\.0\.0\.1:.*model='completions"):
        PromptClassifier.load(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"'MY_KEY'.*served=\{'key_env'"):
        PromptClassifier.load(tmp_path / "saved", model=address)
    again = PromptClassifier.load(tmp_path / "saved", model=address, served={"key_env": "MY_KEY"})
    assert service.asked == asked
    assert again.served == {"tokenizer": str(folder), "key_env": "MY_KEY", "top_logprobs": 1000}
    assert np.array_equal(again.predict_proba(TEXTS), expected)
    files = [path for place in ("saved", "fits", "cache") for path in (tmp_path / place).rglob("*") if path.is_file()]
    assert any(path.name == "requests.jsonl" for path in files)
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_a_repeated_fit_with_a_run_folder_asks_nothing_again(service: Service, folder: Path, tmp_path: Path) -> None:
    served, address = {"tokenizer": folder, "top_logprobs": 1000}, f"completions+{service.completions}"
    first = classifier(address, served=served, run_folder=tmp_path).fit(TEXTS, Y)
    asked = service.asked
    again = classifier(address, served=served | {"timeout": 30}, run_folder=tmp_path).fit(TEXTS, Y)
    assert service.asked == asked
    assert again.requests_["requests"] == first.requests_["requests"] == asked
    assert again.prompt_tokens_ == first.prompt_tokens_


def test_a_text_without_an_answer_has_no_class_by_accident(service: Service, folder: Path) -> None:
    def filtered(request: dict[str, Any]) -> str | None:
        return "content_filter" if "forbidden" in str(request["prompt"]) else None

    service.refuse = filtered
    options = {"method": "none", "method_options": None, "served": EVERYTHING | {"tokenizer": folder}}
    clf = classifier(f"completions+{service.completions}", **options).fit(TEXTS, Y)
    texts = [TEXTS[0], "forbidden", TEXTS[7], "forbidden too"]
    with pytest.warns(AnswersMissing, match="2 of 4 texts got no answer"):
        p = clf.predict_proba(texts)
    assert (p[[1, 3]] == 0.5).all()
    with (
        pytest.warns(AnswersMissing),
        pytest.raises(ServiceError, match=r"2 of 4 texts got no answer .*\(rows 1, 3\).*unanswered=CLASS"),
    ):
        clf.predict(texts)
    expected = clf.predict([texts[0], texts[2]])
    for stands_in in ("good", "bad"):
        clf.set_params(unanswered=stands_in)
        with pytest.warns(AnswersMissing):
            found = clf.predict(texts)
        assert found.tolist() == [expected[0], stands_in, expected[1], stands_in]
    with pytest.raises(ValueError, match="no class of y"):
        clf.set_params(unanswered="fair").fit(TEXTS, Y)


def test_an_endpoint_that_failed_is_asked_again_by_the_next_fit(service: Service, folder: Path) -> None:
    options = {"method": "none", "method_options": None, "served": EVERYTHING | {"tokenizer": folder, "retries": 0}}
    address = f"completions+{service.completions}"
    service.faults = lambda number: "500"
    for asked in (1, 2):
        with pytest.raises(ServiceError, match=r"HTTP 500: .*trouble"):
            classifier(address, **options).fit(TEXTS, Y)
        assert service.asked == asked
    service.faults = lambda number: None
    assert classifier(address, **options).fit(TEXTS, Y).predict(TEXTS).shape == (12,)


def test_a_key_in_the_place_of_its_name_is_not_shown(service: Service, folder: Path) -> None:
    for option, value in (("key_env", KEY), ("header_env", [f"X-Key={KEY}"]), ("query", [f"api_key={KEY}"])):
        served = {"tokenizer": folder, option: value}
        with pytest.raises(ValueError, match=r"it may be the key itself|kept in the run folder") as caught:
            classifier(f"completions+{service.completions}", served=served).fit(TEXTS, Y)
        shown = "".join(traceback.format_exception(caught.value))
        assert KEY not in shown
        assert KEY[:14] not in shown
    assert service.asked == 0


def test_labels_alone(service: Service, folder: Path) -> None:
    service.answer = lambda text: "It is great." if "great" in text else "terrible"
    served = {"tokenizer": folder, "answers": "labels"}
    clf = classifier(f"anthropic+{service.chatting}", method="none", method_options=None, served=served).fit(TEXTS, Y)
    assert clf.predict(["a great film", "a bad film"]).tolist() == ["good", "bad"]
    with pytest.raises(SetupError, match="no log-probabilities"):
        classifier(f"anthropic+{service.chatting}", served={"tokenizer": folder}).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="readout 'labels' reads scores"):
        classifier(f"anthropic+{service.chatting}", readout="labels", served=served).fit(TEXTS, Y)


def test_words_that_are_never_returned_are_said(service: Service, folder: Path) -> None:
    with pytest.warns(AnswersMissing, match="did not return: .* in 1[0-9] of 1"):
        classifier(
            f"completions+{service.completions}", method="none", method_options=None,
            served={"tokenizer": folder, "top_logprobs": 1},
        ).fit(TEXTS, Y)  # fmt: skip
