"""long_texts: the rows are those of the whole text, whatever the tokenizer; what is read of a text is bounded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.tasks.test_text_is_data import LABELS, RANDOM, descriptions, opened
from zopog_models import FrozenModel, encode, make_task
from zopog_models.tasks import encoding, long_texts
from zopog_models.tasks.long_texts import shortened

PATTERNS = ("ab c. ", "abcM ", "a", "ab", "  ", "a b\n", "[MASK] ", "ü", "zz a", "a" * 90 + " ",
            "😀", "😀😃", "e\u0301", "\u0301", "\0", "\u200d", "\xad", "\x85", "\ufffd")  # fmt: skip
TEMPLATES = (
    "{text} was {mask} .",
    "a{text}b {mask}",
    "{mask} {text}",
    "{text_a} {mask} {text_b}",
    "{text_a}{sep}{text_b}{mask}",
)


def small(monkeypatch: pytest.MonkeyPatch, margin: int = 200) -> None:
    """The same rule at a twentieth of its size, so that a test can afford many texts. A word has at most 100 letters."""
    for module in (encoding, long_texts):
        monkeypatch.setattr(module, "MARGIN", margin)


def rows(model: Any, template: str, texts: tuple[str, ...], n: int) -> tuple[list[int], int, int]:
    encoded = encode([texts], make_task(template, LABELS), model, n)
    return encoded.ids[0].tolist(), int(encoded.answer_position[0]), encoded.truncated


@RANDOM
@given(
    description=descriptions(),
    template=st.sampled_from(TEMPLATES),
    parts=st.lists(st.tuples(st.sampled_from(PATTERNS), st.integers(1, 900)), min_size=1, max_size=5),
    other=st.sampled_from(["", "a b", "ab c. " * 300]),
    n=st.integers(340, 385),
)
def test_a_shortened_text_has_the_rows_of_the_whole(
    description: dict[str, Any], template: str, parts: list[tuple[str, int]], other: str, n: int
) -> None:
    model = opened(description)
    text = "".join(pattern * count for pattern, count in parts)
    texts = (text, other)[: template.count("{text")]
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        found = rows(model, template, texts, n)
        patch.setattr(model.tokenizer, "can_leave_out", "")
        patch.setattr(model.tokenizer, "has_unknown_words", False)
        whole = rows(model, template, texts, n)
    assert found == whole


def test_what_is_read_of_five_megabytes(
    bert: FrozenModel, roberta: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (bert, roberta):
        read: list[int] = []
        original = model.tokenizer.encode_batch

        def watched(texts: list[str], original: Any = original, read: list[int] = read, **options: Any) -> Any:
            read += map(len, texts)
            return original(texts, **options)

        monkeypatch.setattr(model.tokenizer, "encode_batch", watched)
        task = make_task("{text} it was {mask} .", LABELS)
        for text in ("a large city " * 400_000, "a large city " * 3000, "city" * 1_250_000):
            encoded = encode([(text,)], task, model, 5)
            if model is bert and " " not in text:  # WordPiece has one unknown word
                assert encoded.lengths.tolist() == [7]
                continue
            assert encoded.truncated == 1
            assert encoded.lengths.tolist() == [model.max_positions - 5]
        assert max(read) < 60_000


def test_spaces_without_end_hold_no_token(bert: FrozenModel) -> None:
    """More is read until there are tokens enough: here those of the last words."""
    task = make_task("{text} it was {mask} .", LABELS)
    text = "a city" + " " * 500_000 + "with many people " * 30
    assert (
        encode([(text,)], task, bert, 5).ids[0].tolist()
        == encode([("a city " + "with many people " * 30,)], task, bert, 5).ids[0].tolist()
    )


def test_endless_words(bert: FrozenModel) -> None:
    task = make_task("{text}ed it was {mask} .", LABELS)
    marked = "cafe\u0301" * 5000
    for word in (
        "city" * 10_000, "ü" * 20_000, "city" * 10_000 + "." + "a" * 20_000, "日本" * 20_000, "a_" * 20_000,
        marked, "a" + "\u0301" * 30_000 + "city", "\u0301" * 20_000, "😀😃" * 10_000, "😀" * 20_000 + "ed", "\0" * 20_000,
        "a\u200d" * 20_000, "\u200d" * 20_000 + "s", "\ufffd" * 20_000, "city" + "\n" * 20_000, "\xad" * 20_000 + "city" * 3000,
    ):  # fmt: skip
        for text in (word, f"a {word} city", f"{word} {word}"):
            found = rows(bert, task.template, (text,), 5)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bert.tokenizer, "has_unknown_words", False)
                patch.setattr(bert.tokenizer, "can_leave_out", "")
                assert rows(bert, task.template, (text,), 5) == found


@pytest.mark.parametrize("run", ["city", "😀😃", "e\u0301", "\0", "\u200d", "\u0301", "\x85"])
def test_what_is_read_of_a_run_without_end(bert: FrozenModel, monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    """Twenty megabytes of pictures cost 1.4 GB: they hold no token, so more and more was read, at last all."""
    read: list[int] = []
    original = bert.tokenizer.encode_batch

    def watched(texts: list[str], **options: Any) -> Any:
        read.extend(map(len, texts))
        return original(texts, **options)

    monkeypatch.setattr(bert.tokenizer, "encode_batch", watched)
    encode([("a large " + run * 1_000_000 + " city",)], make_task("{text} it was {mask} .", LABELS), bert, 5)
    assert max(read) < 60_000


def test_where_the_middle_goes() -> None:
    text = "word " * 20_000
    found = shortened(text, 1000, "at spaces")
    assert found.head is not None
    assert found.text == text[: found.head] + text[len(text) - (len(found.text) - found.head) :]
    assert found.text[found.head - 1 : found.head + 2] == "d w"  # between two words, as everywhere else
    assert shortened(text, 1000, "").head is None
    assert shortened("a" * 100_000, 1000, "at spaces").head is None
    assert len(shortened("a" * 100_000, 1000, "anywhere").text) < 50_000
    assert shortened("word " * 4000, 1000, "anywhere").head is None  # not long
    assert shortened(text, 90_000, "anywhere").text == text


def test_the_twin_without_a_margin(bert: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of more than 100 letters is unknown as a whole: cut inside it, it would be read in pieces."""
    task, text = make_task("{text} it was {mask} .", LABELS), "city" * 20 + "s" * 5000
    whole = rows(bert, task.template, (text,), 5)
    monkeypatch.setattr(encoding, "MARGIN", 0)
    monkeypatch.setattr(encoding, "PER_POSITION", 1)
    monkeypatch.setattr(
        encoding, "shortened", lambda text, characters, where: long_texts.Shortened(text[:90] + text[-9:], 90)
    )
    assert rows(bert, task.template, (text,), 5) != whole
