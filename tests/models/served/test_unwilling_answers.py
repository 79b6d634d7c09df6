"""completions: tokens of one text, answers that contradict themselves, texts that are refused; KServe: what is no number."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.served.test_remote_completions import question
from tests.models.service import Service
from tests.models.tiny_models import SENTENCES
from zopog_models import FrozenModel
from zopog_models.errors import ServiceError
from zopog_models.served.completions import open_completions
from zopog_models.served.coverage import CONTRADICTION, FLOOR, REFUSED, SILENT, Coverage, refused_rows
from zopog_models.served.inference_protocol import read_tensor
from zopog_models.served.log_probabilities import read_scores
from zopog_models.served.transport import Answer
from zopog_models.served.wire import Wire

WORDS = ["true", "false"]


def scores(text: str) -> np.ndarray:
    """(2, C) of one choice's log-probabilities, which are given as JSON text."""
    return read_scores(Answer(200, {}, b'{"choices": [{"index": 0, "logprobs": %s}]}' % text.encode()), 1, WORDS)[0]


def added(*values: float) -> float:
    return float(np.logaddexp.reduce(values))


# -- tokens of one text --------------------------------------------------------------------------------------------

ONE_TEXT = {
    "the chosen token lost its place": (
        '{"tokens": ["true"], "token_logprobs": [-0.2], "top_logprobs": [{"true": -6.0, "false": -2.0}]}',
        [added(-0.2, -6.0), -2.0], CONTRADICTION,
    ),
    "the same in the form of entries": (
        '{"content": [{"token": "true", "logprob": -0.2, "top_logprobs": [{"token": "true", "logprob": -6.0}, '
        '{"token": "false", "logprob": -2.0}]}]}',
        [added(-0.2, -6.0), -2.0], CONTRADICTION,
    ),
    "the chosen token is not listed": (
        '{"tokens": [" true"], "token_logprobs": [-0.2], "top_logprobs": [{"x": -4.0, "false": -2.0}]}',
        [-0.2, -2.0], 0,
    ),
    "it is listed, as it should be": (
        '{"tokens": ["true"], "token_logprobs": [-0.2], "top_logprobs": [{"true": -0.2, "false": -2.0}]}',
        [-0.2, -2.0], 0,
    ),
    "entries of one text": (
        '{"content": [{"token": "false", "logprob": -1.0, "top_logprobs": [{"token": "false", "logprob": -1.0}, '
        '{"token": "true", "logprob": -1.5}, {"token": "true", "logprob": -2.5}]}]}',
        [added(-1.5, -2.5), -1.0], 0,
    ),
    "entries of one text, the chosen token among them": (
        '{"content": [{"token": "true", "logprob": -0.2, "top_logprobs": [{"token": "true", "logprob": -0.2}, '
        '{"token": "true", "logprob": -6.0}, {"token": "false", "logprob": -2.0}]}]}',
        [added(-0.2, -6.0), -2.0], 0,
    ),
    "a key twice, the chosen token's": (
        '{"tokens": ["true"], "token_logprobs": [-1.0], "top_logprobs": [{"true": -1.0, "true": -2.0, "false": -1.5}]}',
        [added(-1.0, -2.0), -1.5], 0,
    ),
    "a key twice, and the chosen token is a third": (
        '{"tokens": ["true"], "token_logprobs": [-0.2], "top_logprobs": [{"true": -6.0, "true": -7.0, "false": -2.0}]}',
        [added(-0.2, -6.0, -7.0), -2.0], CONTRADICTION,
    ),
    "one entry twice is one token": (
        '{"content": [{"token": "true", "logprob": -1.0, "top_logprobs": [{"token": "true", "logprob": -1.0}, '
        '{"token": "true", "logprob": -1.0}, {"token": "false", "logprob": -1.5}]}]}',
        [-1.0, -1.5], 0,
    ),
    "a key twice in the JSON": (
        '{"tokens": ["false"], "top_logprobs": [{"true": -6.0, "false": -1.2, "true": -0.9}]}',
        [added(-0.9, -6.0), -1.2], 0,
    ),
    "a number that cannot be beside the others": (
        '{"tokens": ["true"], "token_logprobs": [0.0], "top_logprobs": [{"true": -0.7, "false": -0.8}]}',
        [-0.7, -0.8], CONTRADICTION,
    ),
    "no number of its own": (
        '{"tokens": ["true"], "token_logprobs": [null], "top_logprobs": [{"true": -0.7, "false": -0.8}]}',
        [-0.7, -0.8], 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_TEXT)
def test_tokens_of_one_text(name: str) -> None:
    answer, right, flag = ONE_TEXT[name]
    found = scores(answer)
    assert found[0] == pytest.approx(right, abs=1e-6)
    assert found[1].tolist() == [flag, flag]


def test_a_contradiction_and_a_floor_are_two_bits() -> None:
    found = scores('{"tokens": ["x"], "token_logprobs": [-0.5], "top_logprobs": [{"x": -5.0, "true": -2.0}]}')
    assert found[1].tolist() == [CONTRADICTION, CONTRADICTION + FLOOR]


def test_another_key_twice_is_unclear() -> None:
    with pytest.raises(ServiceError, match=r"unclear: the key 'tokens' is there twice"):
        scores('{"tokens": ["a"], "tokens": ["b"]}')


# -- texts that are refused --------------------------------------------------------------------------------------------


def filtered(service: Service, kind: str, *parts: str) -> None:
    """The service refuses texts that contain one of the parts, each time they are asked about."""

    def fault(number: int) -> str | None:
        prompt = json.loads(service.bodies[number])["prompt"]
        asked = prompt if isinstance(prompt, list) else [prompt]
        return kind if any(part in text for part in parts for text in asked) else None

    service.faults = fault
    service.asked = 0
    service.bodies.clear()


def opened(service: Service, folder: Path, *, rows: int = 1, share: float = 0.2) -> FrozenModel:
    wire = Wire(timeout=60.0, retries=1, concurrency=1, refused_share=share)
    return open_completions(service.completions, folder, wire=wire, rows=rows, top=1000)


@pytest.mark.parametrize(("kind", "rows"), [("400", 1), ("400", 3), ("mute", 1), ("mute", 3)])
def test_a_refused_text_has_no_answer_and_the_others_have_theirs(
    service: Service, decoder_folder: Path, tmp_path: Path, kind: str, rows: int
) -> None:
    right = opened(service, decoder_folder).logits(*question(service.model))
    filtered(service, kind, SENTENCES[2])
    client = opened(service, decoder_folder, rows=rows)
    client.runner.keep(tmp_path / "requests.jsonl")
    found = client.logits(*question(client))
    assert found[2].tolist() == pytest.approx([-math.log(2)] * 2)
    others = [row for row in range(8) if row != 2]
    assert np.array_equal(found[others], right[others])
    about = client.runner.coverage()
    assert (about["rows"], about["refused"]) == (8, 1)
    asked = service.asked
    assert np.array_equal(client.logits(*question(client)), found)
    assert service.asked == asked  # a refusal is an answer: it is not asked for again
    client.close()
    again = opened(service, decoder_folder, rows=rows)  # another process, after an interruption
    again.runner.keep(tmp_path / "requests.jsonl")
    assert np.array_equal(again.logits(*question(again)), found)
    assert service.asked == asked
    assert again.runner.coverage() == about
    again.close()


@pytest.mark.parametrize("kind", ["400", "mute"])
def test_too_many_refusals_are_an_error(service: Service, decoder_folder: Path, kind: str) -> None:
    filtered(service, kind, *SENTENCES[:3])
    client = opened(service, decoder_folder, share=0.05)
    with pytest.raises(ServiceError, match=r"refused 2 of \d texts, more than 5%: .*--refused-share"):
        client.logits(*question(client))


def test_a_wrong_request_is_named_by_the_server(service: Service, decoder_folder: Path) -> None:
    service.faults = lambda number: "400"
    with pytest.raises(ServiceError, match=r"HTTP 400: .*trouble.*refused 2 of 2 texts"):
        opened(service, decoder_folder).logits(*question(service.model))
    assert service.asked == 2


def test_coverage_counts_a_text_once() -> None:
    coverage = Coverage(0.05)
    coverage.labels([7, 3])
    coverage.take("a", np.array([[0, FLOOR], [SILENT, SILENT]]))
    assert coverage.report(str) == {"rows": 1, "not_returned": {"3": 1, "7": 0}}
    coverage.take("a-1", np.array([[FLOOR, FLOOR], [CONTRADICTION, CONTRADICTION + FLOOR]]))
    coverage.take("a", np.array([[0, FLOOR], [SILENT, SILENT]]))  # from the log, once more
    assert coverage.report(str) == {"rows": 2, "not_returned": {"3": 2, "7": 0}, "contradictions": 1}
    coverage.take("b", refused_rows(1, 2)[:, 1])
    assert coverage.report(str)["refused"] == 1
    coverage.check("one is always allowed")
    coverage.take("c", np.full((1, 2), REFUSED))
    with pytest.raises(ServiceError, match=r"why\. The endpoint refused 2 of 4 texts"):
        coverage.check("why")


def test_the_counts_of_an_interrupted_run_are_those_of_an_undisturbed_one(
    service: Service, decoder_folder: Path, tmp_path: Path
) -> None:
    service.top = 3
    whole = opened(service, decoder_folder)
    whole.logits(*question(whole))
    ids, place, prompts, _, index, labels = question(whole)
    for rows in (slice(0, 3), slice(2, 8)):  # in two processes, the second of which asks nothing of the first's
        part = opened(service, decoder_folder)
        part.runner.keep(tmp_path / "requests.jsonl")
        part.logits(ids[rows], place[rows], prompts, None, index[rows], labels)
        part.close()
    last = opened(service, decoder_folder)  # has all in its log, and asks nothing
    last.runner.keep(tmp_path / "requests.jsonl")
    last.logits(ids[:1], place[:1], prompts, None, index[:1], labels)
    assert last.runner.coverage() == part.runner.coverage() == whole.runner.coverage()
    last.close()


# -- KServe ----------------------------------------------------------------------------------------------------------


def tensor(data: Any) -> np.ndarray:
    output = {"name": "logits", "shape": [2, 2], "datatype": "FP32", "data": data}
    return read_tensor(Answer(200, {}, json.dumps({"outputs": [output]}).encode()), "logits", (2, 2), "id")


@pytest.mark.parametrize("wrong", [True, "0.5", "NaN", {"a": 1}, [True, 1.0]])
def test_what_is_no_number_is_refused(wrong: Any) -> None:
    assert tensor([[1, 2.5], [3.0, 4]]).tolist() == [[1, 2.5], [3, 4]]
    assert tensor([1, 2.5, 3.0, 4]).tolist() == [[1, 2.5], [3, 4]]
    with pytest.raises(ServiceError, match="no number"):
        tensor([1.0, 2.0, wrong, 3.0])
    with pytest.raises(ServiceError, match="no number"):
        tensor(wrong)


def test_a_null_is_not_finite() -> None:
    with pytest.raises(ServiceError, match=r"1 values of 4 that are not finite, the first in row 1"):
        tensor([1.0, 2.0, None, 3.0])


def test_a_key_twice_in_an_answer_is_unclear() -> None:
    body = b'{"outputs": [], "outputs": []}'
    with pytest.raises(ServiceError, match="unclear: the key 'outputs' is there twice"):
        read_tensor(Answer(200, {}, body), "logits", (1, 2), "id")


@pytest.mark.filterwarnings("error")
def test_more_than_float32_holds_is_not_finite_and_nothing_else_is_said() -> None:
    with pytest.raises(ServiceError, match="1 values of 4 that are not finite, the first in row 1"):
        tensor([1.0, 2.0, 3.0, 1e39])


def test_an_output_twice_is_unclear() -> None:
    output = {"name": "logits", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
    answer = Answer(200, {}, json.dumps({"outputs": [output, output | {"data": [2.0, 1.0]}]}).encode())
    with pytest.raises(ServiceError, match="the output 'logits' is there twice"):
        read_tensor(answer, "logits", (1, 2), "id")
