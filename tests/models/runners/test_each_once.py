"""Tokens that rows begin with in common are read once: which ones they are, by definition, and that the scores stay."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.graph.test_decoder_graph import TOLERANCE, D, reference
from tests.models.tiny_decoders import BEGUN, FAMILY_NAMES, write_decoder
from zopog_models import load_model
from zopog_models.checkpoints.description import Description
from zopog_models.runners.cutting import CELLS, Cut
from zopog_models.runners.each_once import EachOnce
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.session import Session


def drawn(rng: np.random.Generator, first: int, prefixes: int) -> dict[str, np.ndarray]:
    """Rows of very few tokens, so that many begin alike, with holes in them and two prompts of equal ids."""
    rows, length, n = 7, 6, int(rng.integers(0, 3))
    mask = (rng.random((rows, length)) < 0.8).astype(np.int64)
    mask[:, : first + 1] = 1
    feeds = {
        "text_ids": rng.integers(0, 2, (rows, length)),
        "attention_mask": mask,
        "prompt_ids": np.ones((2, n), np.int64),
        "prompt_index": rng.integers(0, 2, rows),
    }
    if prefixes:
        feeds["prefix_length"] = rng.integers(0, 2, prefixes) * 3
        feeds["prefix_index"] = rng.integers(0, prefixes, rows)
    return feeds


def seen_by(feeds: dict[str, np.ndarray], first: int) -> dict[tuple[int, int], Any]:
    """By definition: what a visible position of (R, S) sees, itself included."""
    n, found = feeds["prompt_ids"].shape[1], {}
    for r, text in enumerate(feeds["text_ids"]):
        prompt = [("prompt", int(feeds["prompt_index"][r]), j) for j in range(n)]
        row = [("text", int(t)) for t in text[:first]] + prompt + [("text", int(t)) for t in text[first:]]
        shown = np.insert(feeds["attention_mask"][r], [first] * n, 1)
        history: tuple[Any, ...] = ()
        if "prefix_index" in feeds and feeds["prefix_length"][feeds["prefix_index"][r]]:
            history = (("prefix", int(feeds["prefix_index"][r])),)
        for p, token in enumerate(row):
            if shown[p]:
                history += (token,)
                found[r, p] = history
    return found


def faults(feeds: dict[str, np.ndarray], first: int, given: dict[str, np.ndarray]) -> int:
    """Pairs of positions that are one token and see different things, or are two and see the same; misplaced tokens."""
    seen, tokens, places = seen_by(feeds, first), given["tokens"], given["places"]
    wrong = sum((tokens[a] == tokens[b]) != (seen[a] == seen[b]) for a in seen for b in seen)
    for place, token in seen.items():
        r, p = divmod(int(places[tokens[place]]), tokens.shape[1])
        wrong += seen.get((r, p)) != token
    return wrong


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("prefixes", [0, 2])
def test_tokens_are_equal_where_all_before_them_is(first: int, prefixes: int) -> None:
    rng, shared = np.random.default_rng(0), 0
    for _ in range(50):
        feeds = drawn(rng, first, prefixes)
        given = EachOnce(first)(feeds)
        assert faults(feeds, first, given) == 0
        assert len(given["places"]) == given["tokens"].max() + 1 == len(set(given["places"].tolist()))
        shared += len(seen_by(feeds, first)) - len(given["places"])
    assert shared > 400


@pytest.mark.parametrize("blind", ["prompt_index", "prefix_index", "attention_mask", "first"])
def test_what_is_not_looked_at_would_be_noticed(blind: str) -> None:
    """The twins: prompts of equal ids taken for one, prefixes too, padding for tokens, the prompt in another place."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(20):
        feeds = drawn(rng, 1, 2)
        others = (
            feeds
            | {
                "prompt_index": {"prompt_index": np.zeros(7, np.int64)},
                "prefix_index": {"prefix_index": np.zeros(7, np.int64)},
                "attention_mask": {"attention_mask": np.ones((7, 6), np.int64)},
                "first": {},
            }[blind]
        )
        wrong += faults(feeds, 1, EachOnce(0 if blind == "first" else 1)(others)) > 0
    assert wrong > 5


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_scores_of_rows_that_begin_alike(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Demonstrations in front of every text, two prompts, a text that is there twice: the scores of the plain forward
    pass, and far fewer tokens. The twin: rows that take each other's tokens."""
    folder = write_decoder(tmp_path / family, family)
    model, rng = load_model(folder, threads=1), np.random.default_rng(3)
    shown = rng.integers(5, 60, 12)
    texts = [np.concatenate([shown, rng.integers(5, 60, length)]) for length in (3, 5, 2, 7, 4, 6)]
    texts[4] = texts[1]
    inputs: dict[str, Any] = {
        "text_ids": texts,
        "answer_position": np.array([len(text) - 1 for text in texts]),
        "prompt_ids": rng.integers(5, 60, (2, 3)),
        "prompt_offset": rng.normal(0, 1, (2, 3, D)).astype(np.float32),
        "prompt_index": np.array([0, 0, 0, 0, 0, 1]),
        "label_ids": np.array([7, 9, 30]),
    }
    counted, run = [], Session.run

    def noted(self: Session, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        assert self._each_once is not None
        counted.append(len(self._each_once(feeds)["places"]))
        return run(self, output, feeds)

    monkeypatch.setattr(Session, "run", noted)
    expected = reference(folder, inputs)
    assert np.abs(model.logits(**inputs) - expected).max() < TOLERANCE
    first = 1 if family in BEGUN else 0
    # Prompt 0: the 12 shown ones and 3 of its own, and of four texts what is theirs. Prompt 1: 12 + 3 + 6, but `first`.
    assert counted == [15 + (3 + 5 + 2 + 7) + 15 + 6 - first]
    assert np.array_equal(model.logits(**inputs)[4], model.logits(**inputs)[1])

    class Mixed(EachOnce):
        def __call__(self, feeds: Any) -> dict[str, np.ndarray]:
            given = super().__call__(feeds)
            return given | {"tokens": np.roll(given["tokens"], 1, axis=0)}

    monkeypatch.setattr(model.runner.engine, "_each_once", Mixed(first))
    assert np.abs(model.logits(**inputs) - expected).max() > 3 * TOLERANCE


def test_chunks_have_like_rows_and_about_as_many_tokens(tmp_path: Path) -> None:
    about: Description = load_model(write_decoder(tmp_path, "llama"), threads=1).description
    rng = np.random.default_rng(4)
    for count in (0, 1, 7, 8, 9, 100):
        lengths = rng.integers(1, 30, count)
        rows = ModelRows(
            about, [np.ones(length, np.int64) for length in lengths], lengths - 1, np.zeros((1, 0), np.int64), None,
            np.zeros(count, np.int64), np.array([3]),
        )  # fmt: skip
        chunks = rows.alike(np.arange(count), Cut(8, 64))
        # The rows are ones alone, so what the shortest has is in all of them.
        own = lengths - lengths.min(initial=30) * (count > 1)
        expected = -(-own.sum() // 64)
        assert len(chunks) == min(count, expected + expected % 2 * (expected > 1))
        assert sorted(np.concatenate([np.zeros(0, int), *chunks])) == list(range(count))
        ordered = [lengths[chunk] for chunk in chunks]
        assert all(a.max() <= b.min() for a, b in itertools.pairwise(ordered))
        for chunk in ordered:
            own = chunk - lengths.min() * (count > 1)
            assert abs(own.sum() - (lengths - lengths.min() * (count > 1)).sum() / len(chunks)) <= lengths.max()


def test_a_row_longer_than_all_others_together_leaves_no_chunk_empty(tmp_path: Path) -> None:
    about = load_model(write_decoder(tmp_path, "llama"), threads=1).description
    lengths = np.array([30, *[1] * 20])
    rows = ModelRows(
        about, [np.ones(length, np.int64) for length in lengths], lengths - 1, np.zeros((1, 0), np.int64), None,
        np.zeros(21, np.int64), np.array([3]),
    )  # fmt: skip
    chunks = rows.alike(np.arange(21), Cut(8, 5))
    assert all(len(chunk) for chunk in chunks)
    assert chunks[-1].tolist() == [0]


def cut_by(about: Description, texts: list[np.ndarray], index: np.ndarray, n: int, **words: Any) -> list[np.ndarray]:
    rows = ModelRows(
        about, texts, np.array([len(text) - 1 for text in texts]), np.zeros((int(index.max()) + 1, n), np.int64), None,
        index, words.get("label_ids", np.array([3])),
    )  # fmt: skip
    return rows.alike(np.arange(len(texts)), Cut(8, 256))


def test_rows_of_one_prompt_share_a_chunk(tmp_path: Path) -> None:
    """Twenty prompts on sixteen short rows, and ten behind long demonstrations: hardly a token is read in two chunks.
    In order of their lengths alone, each chunk reads nearly all prompts: 1.4 and 2.5 times the tokens there are."""
    about = load_model(write_decoder(tmp_path, "llama", max_position_embeddings=256), threads=1).description
    rng = np.random.default_rng(5)
    for prompts, count, shown in ((20, 16, 0), (10, 32, 138)):
        begin = np.concatenate([[1], rng.integers(5, 60, shown)])
        own = [np.concatenate([begin, rng.integers(5, 60, length)]) for length in rng.integers(6, 14, count)]
        index = np.repeat(np.arange(prompts), count)
        chunks = cut_by(about, own * prompts, index, 10)
        texts = own * prompts
        read = 0
        for chunk in chunks:
            width = max(len(texts[row]) for row in chunk)
            used, prompt_index = np.unique(index[chunk], return_inverse=True)
            padded = np.array([np.pad(texts[row], (0, width - len(texts[row]))) for row in chunk])
            mask = np.array([np.arange(width) < len(texts[row]) for row in chunk]).astype(np.int64)
            feeds = {
                "text_ids": padded, "attention_mask": mask, "prompt_ids": np.zeros((len(used), 10), np.int64),
                "prompt_index": prompt_index,
            }  # fmt: skip
            read += len(EachOnce(1)(feeds)["places"])
        least = 1 + prompts * (10 + shown + sum(len(text) - len(begin) for text in own))
        again = len(chunks) * (10 + shown + 1)  # that a chunk's first prompt was read in the chunk before it, too
        assert least <= read <= least + again
        assert [len(chunk) for chunk in chunks] == [len(chunk) for chunk in cut_by(about, texts, index, 10)]


def test_a_row_with_a_prompt_of_its_own_stands_by_its_length(tmp_path: Path) -> None:
    about = load_model(write_decoder(tmp_path, "llama"), threads=1).description
    lengths = np.random.default_rng(6).integers(2, 30, 40)
    chunks = cut_by(about, [np.arange(5, 5 + length) for length in lengths], np.arange(40)[::-1].copy(), 6)
    ordered = [lengths[chunk] for chunk in chunks]
    assert all(a.max() <= b.min() for a, b in itertools.pairwise(ordered))
    assert all((part + 6).sum() <= 256 + 36 for part in ordered)  # their prompts count


def test_rows_of_few_own_tokens_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Attention has its rows back: 300 equal rows of 500 tokens are 500 tokens, and 75 million cells in every head."""
    about = load_model(write_decoder(tmp_path, "llama", max_position_embeddings=600), threads=1).description
    text = np.random.default_rng(7).integers(5, 60, 500)
    chunks = cut_by(about, [text] * 300, np.zeros(300, np.int64), 3)
    assert all(len(chunk) * 503**2 <= CELLS for chunk in chunks)
    assert sorted(np.concatenate(chunks)) == list(range(300))
    assert len(chunks) == 38
    assert [len(chunk) for chunk in cut_by(about, [text[:20]] * 300, np.zeros(300, np.int64), 3)] == [300]
    # Of words of several tokens, a chunk has the scores of the whole vocabulary behind each beginning of a word.
    words = np.array([[3, 4], [3, 5]])
    summed = cut_by(about, [text[:20]] * 300, np.zeros(300, np.int64), 3, label_ids=words)
    assert max(map(len, summed)) == 8


def test_what_all_rows_have_in_common_makes_chunks_larger() -> None:
    rows, tokens, cut = np.arange(100), np.full(100, 10), Cut(8, 50)
    small = np.ones(100, np.int64)
    assert [len(chunk) for chunk in cut(rows, tokens, small)] == [5] * 20
    assert [len(chunk) for chunk in cut(rows, tokens, small, common=50)] == [10] * 10
    assert len(cut(rows, tokens, small, common=10**6)) == 4  # not fewer: several threads want them
    assert len(cut(rows[:15], tokens[:15], small[:15], common=10**6)) == 4
    assert len(cut(rows[:9], tokens[:9], small[:9], common=10**6)) == 2
    assert len(cut(rows[:5], tokens[:5], small[:5], common=10**6)) == 1


def test_in_fewer_bits_prompts_stay_apart_and_chunks_are_larger_in_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt's keys and values stay float32, which is what `zopog tune` accepts fewer bits for."""
    monkeypatch.setattr("zopog_models.runners.local.OpenVINOSession", lambda *rest: None)
    runner = load_model(write_decoder(tmp_path, "llama"), threads=1).runner
    assert runner.reuse.each_once
    assert runner.rule == Cut(8, 256)
    for precision, tokens in (("int8", 256), ("bf16", 512)):
        fewer = runner.reduced(precision)
        assert not fewer.reuse.each_once
        assert fewer.rule == Cut(8, tokens)
    assert runner.reuse.each_once
