"""Where a row's last text ends, and which tokens a label word is scored by."""

from pathlib import Path

import numpy as np
import pytest

from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import write_model
from zopog_models import FrozenModel, TaskError, encode, label_ids, load_model, make_task
from zopog_models.tasks.label_words import words_said

LABELS = {"good": "great", "bad": "terrible"}
TEXTS = ["a small city", "", "the food was terrible , and so were the people", " x "]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrozenModel:
    folder = write_decoder(tmp_path_factory.mktemp("models") / request.param, request.param)
    return load_model(folder, threads=1)


@pytest.mark.parametrize(
    ("template", "tail"),
    [
        ("{text} it was {mask}", "it was"),
        ("Review: {text}\nAnswer:\n{mask}", "\nAnswer:\n"),
        ("a {text} {mask}", ""),
        ("It was {text}{mask}", ""),
    ],
)
def test_what_stands_behind_the_text(model: FrozenModel, template: str, tail: str) -> None:
    encoded = encode([(text,) for text in TEXTS], make_task(template, LABELS), model, 3)
    before = template.split("{text}")[0]
    for text, ids, end in zip(TEXTS, encoded.ids, encoded.text_end):
        head, rest = (model.tokenizer.decode(list(map(int, part))) for part in (ids[:end], ids[end:]))
        assert head.replace("<s>", "").strip() == (before + text.strip()).strip()
        assert rest.strip(" ") == tail.strip(" ")
    assert np.array_equal(encoded.places("after"), encoded.text_end)
    assert encoded.places("before") is None


def test_of_two_texts_the_second(model: FrozenModel) -> None:
    encoded = encode([("a city", "the sea")], make_task("{text_b} ? {text_a} it was {mask}", LABELS), model, 0)
    [ids], [end] = encoded.ids, encoded.text_end
    assert model.tokenizer.decode(list(map(int, ids[:end]))).replace("<s>", "").strip() == "the sea ? a city"


def test_behind_a_special_token(model: FrozenModel) -> None:
    special = "</s>" if model.cls_id is not None else "<|endoftext|>"
    task = make_task(f"say {{text}} now{special} it was{{mask}}", LABELS)
    [ids], [end] = (lambda e: (e.ids, e.text_end))(encode([("a city",)], task, model, 0))
    assert model.tokenizer.decode(list(map(int, ids[:end]))).replace("<s>", "").strip() == "say a city"


def test_texts_that_are_cut(model: FrozenModel) -> None:
    """The template stays whole, so as much stands behind the text as in a short row."""
    task = make_task("{text} it was {mask}", LABELS)
    encoded = encode([("city " * 200,), ("city",)], task, model, 5)
    assert encoded.truncated == 1
    assert encoded.lengths[0] == model.max_positions - 5
    assert encoded.lengths[0] - encoded.text_end[0] == encoded.lengths[1] - encoded.text_end[1] > 0


def test_words_of_several_tokens(model: FrozenModel) -> None:
    words = {"0": "great", "1": "great food", "2": "terrible people of the city"}
    task = make_task("{text} it was {mask}", words, summed_pieces=True)
    ids = label_ids(task, model)
    assert ids.ndim == 2
    for row, word in zip(ids, words.values()):
        tokens = [int(i) for i in row if i >= 0]
        assert model.tokenizer.encode(model.space + word, add_special_tokens=False).ids == tokens
        assert (row[len(tokens) :] == -1).all()
    said = words_said(task, model)
    assert said.startswith("label words with the space before them: great = ")
    assert " + " in said
    first = words_said(make_task("{text} it was {mask}", words, first_pieces=True), model)
    assert " + " not in first
    assert "(of 2)" in first
    bare = make_task("{text} it was\n{mask}", words, summed_pieces=True)
    assert words_said(bare, model).startswith("label words as they go on without a space: great = ")
    assert not np.array_equal(label_ids(bare, model)[:, :1], ids[:, :1])


def test_what_a_sum_cannot_be(model: FrozenModel) -> None:
    same = make_task("{text} it was {mask}", {"0": "great food", "1": " great food "}, summed_pieces=True)
    with pytest.raises(TaskError, match=r"labels '0' and '1' have the same tokens"):
        label_ids(same, model)
    with pytest.raises(TaskError, match="scored by their first token, or by the sum over all"):
        make_task("{text} {mask}", LABELS, first_pieces=True, summed_pieces=True)
    with pytest.raises(TaskError, match="unknown position 'behind'; known: before, after"):
        make_task("{text} {mask}", LABELS, position="behind")
    one = make_task("{text} it was {mask}", LABELS, summed_pieces=True)  # nothing to sum: as ever
    assert label_ids(one, model).shape == (2,)


def test_encoders_fill_in_one_token() -> None:
    task = make_task("{text} it was {mask} .", LABELS, summed_pieces=True)
    with pytest.raises(TaskError, match="is a masked language model"):
        label_ids(task, load_model())


def test_a_masked_model_s_plain_words_are_not_worth_a_line(tmp_path: Path) -> None:
    bert = load_model(write_model(tmp_path, "bert"))
    task = make_task("{text} it was {mask}", LABELS)
    assert words_said(task, bert) == ""
