"""Decoders' rows and label words: BOS where the tokenizer has one, the answer at the end, words with their spaces."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.tiny_decoders import write_decoder
from zopog_models import CheckpointError, FrozenModel, TaskError, encode, label_ids, load_model, make_task
from zopog_models.tasks.encoding import row_recipe
from zopog_models.tasks.template import replace_template
from zopog_models.tasks.vocabulary import pmi_candidates

LABELS = {"good": "great", "bad": "terrible"}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> FrozenModel:
    return load_model(write_decoder(tmp_path_factory.mktemp("models") / "tiny-gpt2", "gpt2"), threads=1)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> FrozenModel:
    return load_model(write_decoder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama"), threads=1)


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> FrozenModel:
    return request.getfixturevalue(request.param)


def tokens(model: FrozenModel, ids: np.ndarray) -> list[str]:
    return [model.tokenizer.id_to_token(int(i)) for i in ids]


def test_a_row_without_bos(gpt2: FrozenModel) -> None:
    encoded = encode([(" a small city ",)], make_task("{text} it was {mask}", LABELS), gpt2, 5)
    assert tokens(gpt2, encoded.ids[0]) == ["a", "Ġsmall", "Ġcity", "Ġit", "Ġwas"]
    assert encoded.answer_position.tolist() == [4]
    assert gpt2.cls_id is None


def test_a_row_with_bos(llama: FrozenModel) -> None:
    encoded = encode([(" a small city ",)], make_task("{text} it was {mask}", LABELS), llama, 5)
    assert tokens(llama, encoded.ids[0]) == ["<s>", "▁a", "▁small", "▁city", "▁it", "▁was"]
    assert encoded.answer_position.tolist() == [5]


def test_label_words_stand_after_a_space(gpt2: FrozenModel, llama: FrozenModel) -> None:
    task = make_task("{text} it was {mask}", LABELS)
    assert tokens(gpt2, label_ids(task, gpt2)) == ["Ġgreat", "Ġterrible"]
    assert tokens(llama, label_ids(task, llama)) == ["▁great", "▁terrible"]
    # Llama's tokenizer puts the space there by itself: with one more, the first token would be a space alone.
    assert (gpt2.space, llama.space) == (" ", "")
    assert llama.tokenizer.encode(" great", add_special_tokens=False).tokens[0] == "▁"


def test_label_words_without_a_space(gpt2: FrozenModel, llama: FrozenModel) -> None:
    """A word goes on from what stands before {mask}."""
    task = make_task("{text}\n{mask}", {"a": "a", "b": "b"})
    assert tokens(gpt2, label_ids(task, gpt2)) == ["a", "b"]
    assert tokens(llama, label_ids(task, llama)) == ["a", "b"]
    encoded = encode([("city",)], task, gpt2, 0)
    assert tokens(gpt2, encoded.ids[0])[-1] == "Ċ"  # the line break stays
    with pytest.raises(TaskError, match=r"'reat' runs into what stands before \{mask\}.*put a space before"):
        label_ids(make_task("{text} it was g{mask}", {"a": "reat", "b": "b"}), gpt2)


def test_a_word_that_begins_a_line_is_read_by_itself(gpt2: FrozenModel) -> None:
    """What the row ends with and the word would be other tokens in one string: the model reads the one, writes the other."""
    task = make_task("{text}\n\n{mask}", {"a": "a", "b": "b"})
    assert tokens(gpt2, label_ids(task, gpt2)) == ["a", "b"]


def test_a_template_that_begins_with_the_first_token_does_not_repeat_it(llama: FrozenModel) -> None:
    plain, begun = (make_task(template, LABELS) for template in ("{text} it was {mask}", "<s>{text} it was {mask}"))
    rows = [encode([("city",)], task, llama, 5).ids[0] for task in (plain, begun)]
    assert [row.tolist().count(llama.cls_id) for row in rows] == [1, 1]
    assert rows[1][0] == llama.cls_id
    assert row_recipe(begun, llama)[0] == llama.cls_id
    assert (
        encode([("city",)], make_task("a <s>{text} {mask}", LABELS), llama, 5).ids[0].tolist().count(llama.cls_id) == 2
    )


def test_label_words_of_several_tokens(model: FrozenModel) -> None:
    task = make_task("{text} {mask}", {"a": "great", "b": "wonderfully"})
    with pytest.raises(TaskError, match=r"label word 'wonderfully' \(label 'b'\) is \d+ tokens for model 'tiny-"):
        label_ids(task, model)
    assert len(label_ids(task, model, first_piece=True)) == 2
    first = replace_template(replace(task, first_pieces=True), "{text} it was {mask}")
    assert label_ids(first, model).tolist() == label_ids(task, model, first_piece=True).tolist()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{text} it was {mask} .",
            r"goes on after \{mask\}, but 'tiny-\w+' is a decoder \(\w+\), which answers at the end: "
            r"let the template end with \{mask\}, as in '\{text\} it was \{mask\}'",
        ),
        ("it was {mask} , {text}", r"goes on after \{mask\}.* let the template end with \{mask\}$"),
        ("{text} {sep} it was {mask}", r"has \{sep\}, but a decoder \(\w+\) has no separator"),
    ],
)
def test_templates_of_encoders(model: FrozenModel, template: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        encode([("a city",)], make_task(template, LABELS), model, 5)


def test_nothing_to_answer_to(gpt2: FrozenModel, llama: FrozenModel) -> None:
    task = make_task("{text} {mask}", LABELS)
    with pytest.raises(TaskError, match="row 1 is empty and so is the template"):
        encode([("a",), ("  ",)], task, gpt2, 5)
    encoded = encode([("a",), ("  ",)], task, llama, 5)  # here BOS and the prompt can be answered to
    ids = label_ids(task, llama)
    prompt = np.arange(20, 25)[None]
    one = llama.logits(encoded.ids, encoded.answer_position, prompt, None, np.zeros(2, int), ids)
    # The same tokens as text instead of prompt.
    bare = np.array([llama.cls_id, *prompt[0]])
    other = llama.logits([bare], np.array([5]), np.zeros((1, 0), int), None, np.zeros(1, int), ids)
    assert np.abs(one[1] - other[0]).max() < 2e-6


@pytest.mark.parametrize("n", [0, 5, 50])
def test_long_texts_are_cut_and_counted(model: FrozenModel, n: int) -> None:
    task = make_task("it was {text} , it was {mask}", LABELS)
    texts = [("a large city " * 40,), ("a city",), ("people " * 200,)]
    encoded = encode(texts, task, model, n)
    assert encoded.truncated == 2
    assert encoded.lengths.max() + n == model.max_positions
    whole = encode([("a large city",)], task, model, 0)
    for ids, position in zip(encoded.ids, encoded.answer_position, strict=True):
        assert position == len(ids) - 1
        assert ids[-3:].tolist() == whole.ids[0][-3:].tolist()
        head = 2 if model.cls_id is None else 3  # "it was"
        assert ids[:head].tolist() == whole.ids[0][:head].tolist()


def test_special_tokens_in_a_text_are_text(model: FrozenModel) -> None:
    task = make_task("{text} it was {mask}", LABELS)
    encoded = encode([("a <s> </s> <|endoftext|> city",)], task, model, 5)
    after = encoded.ids[0][0 if model.cls_id is None else 1 :]
    assert not set(after.tolist()) & model.special_ids


def test_candidates_are_words_after_a_space(llama: FrozenModel) -> None:
    found = pmi_candidates(["great city people"] * 9, llama, 3)
    assert set(tokens(llama, found)) == {"▁great", "▁city", "▁people"}


@pytest.mark.parametrize(
    ("family", "settings", "beginning"),
    [
        ("llama", None, 1),  # tokenizer.json puts it there
        ("llama", {"add_bos_token": False}, None),
        ("llama", {"add_bos_token": True}, 1),
        ("gpt2", None, None),
        ("gpt2", {"add_bos_token": True}, 0),  # which one: config.json
        ("gpt2", {"add_bos_token": True, "bos_token": {"content": "Ġcity"}}, "Ġcity"),
        ("gpt2", {"add_bos_token": None, "bos_token": "<|endoftext|>"}, None),
        ("qwen2", {"add_bos_token": False, "bos_token": None}, None),
    ],
)
def test_what_stands_before_a_text(tmp_path: Path, family: str, settings: Any, beginning: Any) -> None:
    folder = write_decoder(tmp_path / "model", family)
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = load_model(folder, threads=1)
    if isinstance(beginning, str):
        beginning = model.tokenizer.token_to_id(beginning)
    assert model.cls_id == beginning


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "tokenizer_config.json is not JSON"),
        ("[]", "tokenizer_config.json must hold a JSON object"),
        ('{"add_bos_token": true, "bos_token": "<none>"}', "asks for a BOS token .* but there is none: .*'<none>'"),
    ],
)
def test_a_damaged_tokenizer_config(tmp_path: Path, content: str, message: str) -> None:
    folder = write_decoder(tmp_path / "model", "llama")
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)
