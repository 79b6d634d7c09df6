"""encoding: templates become rows whose mask is where it should be; texts are cut, templates never."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from zopog_models import FrozenModel, TaskError, encode, label_ids, make_task

LABELS = {"good": "great", "bad": "terrible"}


def tokens(model: FrozenModel, ids: np.ndarray) -> list[str]:
    return [model.tokenizer.id_to_token(int(i)) for i in ids]


def test_a_wordpiece_row(bert: FrozenModel) -> None:
    encoded = encode([("a Small city",)], make_task("{text} . it was {mask} .", LABELS), bert, 5)
    assert tokens(bert, encoded.ids[0]) == ["[CLS]", "a", "small", "city", ".", "it", "was", "[MASK]", ".", "[SEP]"]
    assert encoded.answer_position.tolist() == [7]
    assert encoded.lengths.tolist() == [10]
    assert encoded.truncated == 0


def test_a_byte_level_row_keeps_its_spaces(roberta: FrozenModel) -> None:
    encoded = encode([(" a small city ",)], make_task("{text} it was {mask} .", LABELS), roberta, 5)
    row = tokens(roberta, encoded.ids[0])
    assert row[:4] == ["<s>", "a", "Ġsmall", "Ġcity"]
    assert row[4:] == ["Ġit", "Ġwas", "<mask>", "Ġ.", "</s>"]
    assert "Ġ" not in row


def test_two_texts_in_either_order(bert: FrozenModel) -> None:
    for template, expected in (
        ("{text_a} ? {mask} , {text_b}", "[CLS] a city ? [MASK] , the people [SEP]"),
        ("{text_b} is a {text_a} . {mask}", "[CLS] the people is a a city . [MASK] [SEP]"),
        ("{text_a} {sep} {text_b} {mask}", "[CLS] a city [SEP] the people [MASK] [SEP]"),
    ):
        encoded = encode([("a city", "the people")], make_task(template, LABELS), bert, 0)
        assert " ".join(tokens(bert, encoded.ids[0])) == expected
        assert encoded.ids[0][encoded.answer_position[0]] == bert.mask_id


def test_special_tokens_in_a_text_are_text(model: FrozenModel) -> None:
    hostile = "a [MASK] <mask> [SEP] </s> city"
    encoded = encode([(hostile,)], make_task("{text} was {mask} .", LABELS), model, 5)
    row = encoded.ids[0]
    assert (row == model.mask_id).sum() == 1
    assert (row == model.sep_id).sum() == 1
    assert row[encoded.answer_position[0]] == model.mask_id


def test_the_twin_without_that_protection(model: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "a [MASK] <mask> [SEP] </s> city"
    task = make_task("{text} was {mask} .", LABELS)
    monkeypatch.setattr(model.tokenizer, "_tokenizer", Tokenizer.from_file(str(model.tokenizer._path)))
    row = encode([(hostile,)], task, model, 5).ids[0]
    assert (row == model.mask_id).sum() == 1  # the second protection: ids that a text may not have are left out
    monkeypatch.setattr(model.tokenizer, "_forbidden", frozenset())
    encoded = encode([(hostile,)], task, model, 5)
    assert (encoded.ids[0] == model.mask_id).sum() == 2
    assert encoded.ids[0][encoded.answer_position[0] + 1 :].tolist() == row.tolist()[-2:], "the place is the template's"


@pytest.mark.parametrize("n", [0, 5, 50])
def test_long_texts_are_cut_and_counted(model: FrozenModel, n: int) -> None:
    task = make_task("it was {text} , it was {mask} .", LABELS)
    texts = [("a large city " * 40,), ("a city",), ("people " * 200,)]
    encoded = encode(texts, task, model, n)
    assert encoded.truncated == 2
    assert encoded.lengths.max() + n == model.max_positions
    whole = encode([("a large city",)], task, model, 0)
    for ids, position in zip(encoded.ids, encoded.answer_position, strict=True):
        assert ids[position] == model.mask_id
        assert ids[-3:].tolist() == whole.ids[0][-3:].tolist()  # mask, full stop, separator
        assert ids[:3].tolist() == whole.ids[0][:3].tolist()


def test_the_longest_text_is_cut_first(bert: FrozenModel) -> None:
    task = make_task("{text_a} ? {mask} , {text_b}", LABELS)
    encoded = encode([("people " * 100, "a large city")], task, bert, 20)
    assert encoded.lengths.tolist() == [44]
    assert tokens(bert, encoded.ids[0])[-4:] == ["a", "large", "city", "[SEP]"]
    encoded = encode([("people " * 100, "city " * 100)], task, bert, 20)
    row = tokens(bert, encoded.ids[0])
    assert abs(row.count("people") - row.count("city")) <= 1


def test_cutting_is_of_the_tokens_of_the_text(roberta: FrozenModel) -> None:
    """A byte-level token starts with the space before its word: the last word before the template must be cut too."""
    task = make_task("it was {text} it was {mask} .", LABELS)
    encoded = encode([("people " * 200,)], task, roberta, 54)
    row = tokens(roberta, encoded.ids[0])
    assert len(row) == 10
    assert row[:3] + row[-5:] == ["<s>", "it", "Ġwas", "Ġit", "Ġwas", "<mask>", "Ġ.", "</s>"]
    assert row[3] == "Ġpeople"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_text_can_be_cut_away_and_nothing_else(model: FrozenModel, data: st.DataObject) -> None:
    """With room for the template alone, every text leaves the same row: its tokens were told apart exactly."""
    template = data.draw(
        st.sampled_from(["{text} it was {mask} .", "it was {text} . {mask} !", "it was {mask} {text}"])
    )
    task = make_task(template, LABELS)
    room = int(encode([("a",)], task, model, 0).lengths[0]) - 1  # "a" is one token wherever it stands
    bare = encode([("a",)], task, model, model.max_positions - room)
    assert bare.truncated == 1
    text = data.draw(st.text(min_size=1, max_size=30).filter(str.strip))
    row = encode([(text,)], task, model, model.max_positions - room)
    assert row.ids[0].tolist() == bare.ids[0].tolist()
    assert row.answer_position.tolist() == bare.answer_position.tolist()
    free = encode([(text,)], task, model, 0)
    assert (free.ids[0] == model.mask_id).sum() == 1


def test_a_template_that_does_not_fit(model: FrozenModel) -> None:
    task = make_task("it was a large city , a large city {text} it was {mask} .", LABELS)
    with pytest.raises(TaskError, match=r"alone does not fit: 55 prompt positions leave 9 of the model's"):
        encode([("city",)], task, model, 55)


def test_rows_with_the_wrong_number_of_texts(model: FrozenModel) -> None:
    with pytest.raises(TaskError, match=r"row 1 has 2 texts"):
        encode([("a",), ("a", "b")], make_task("{text} {mask}", LABELS), model, 5)


def test_an_empty_text(model: FrozenModel) -> None:
    encoded = encode([("",), ("  ",)], make_task("{text} it was {mask} .", LABELS), model, 5)
    assert encoded.ids[0].tolist() == encoded.ids[1].tolist()
    assert encoded.ids[0][encoded.answer_position[0]] == model.mask_id


def test_label_words(bert: FrozenModel, roberta: FrozenModel) -> None:
    task = make_task("{text} {mask}", LABELS)
    assert tokens(bert, label_ids(task, bert)) == ["great", "terrible"]
    assert tokens(roberta, label_ids(task, roberta)) == ["Ġgreat", "Ġterrible"]  # as they stand after a space


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"a": "great", "b": "wonderfully"},
            r"label word 'wonderfully' \(label 'b'\) is \d tokens for model 'tiny-.*: .*w",
        ),
        ({"a": "great", "b": "great"}, "labels 'a' and 'b' have the same first token"),
    ],
)
def test_label_words_that_do_not_work(model: FrozenModel, labels: dict[str, str], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        label_ids(make_task("{text} {mask}", labels), model)


def test_an_unknown_label_word(bert: FrozenModel) -> None:
    with pytest.raises(TaskError, match=r"label word '日本' .* is not in the vocabulary"):
        label_ids(make_task("{text} {mask}", {"a": "great", "b": "日本"}), bert)


def test_the_first_piece_on_request(model: FrozenModel) -> None:
    task: Any = make_task("{text} {mask}", {"a": "great", "b": "wonderfully"})
    pieces = model.tokenizer.encode(" wonderfully", add_special_tokens=False).ids
    assert label_ids(task, model, first_piece=True)[1] == pieces[0]
