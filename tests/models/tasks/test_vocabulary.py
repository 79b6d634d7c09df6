"""vocabulary: which words stay together is computed by hand; the list of ids has its order and its limits."""

import math

import numpy as np
import pytest

from tests.models.tiny_models import SENTENCES
from zopog_models import FrozenModel, VocabularyError, pmi_candidates
from zopog_models.tasks.vocabulary import pmi_ngrams


def test_words_that_belong_together_stay_together() -> None:
    # 12 pairs in all. new york: 8 of them, PMI = log(12·8 / (8·8)) = log 1.5; in new: log(12·4 / (12·8)) = log 0.5.
    texts = ["in new york"] * 4 + ["new york"] * 4 + ["in"] * 8
    assert pmi_ngrams(texts, min_count=3, threshold=math.log(1.5) - 1e-9) == ["in", "new york"]
    assert pmi_ngrams(texts, min_count=3, threshold=math.log(1.5) + 1e-9) == ["in", "york", "new"]
    assert pmi_ngrams(texts, min_count=3, threshold=math.log(0.5) - 1e-9) == ["in", "new york", "in new york"]


def test_counts_must_exceed_min_count() -> None:
    texts = ["a b"] * 5 + ["c d"] * 6
    assert pmi_ngrams(texts, min_count=5, threshold=0.0) == ["c d"]
    assert pmi_ngrams(texts, min_count=6, threshold=0.0) == []


def test_pieces_are_recounted_inside_longer_ones() -> None:
    # "a b c d e f" is one piece of six words: too long to be kept. "a b" stands alone 4 times and is found 10 times.
    texts = ["a b c d e f"] * 6 + ["a b"] * 6
    assert pmi_ngrams(texts, min_count=5, threshold=0.0) == ["a b"]
    assert pmi_ngrams(texts, min_count=5, threshold=0.0, max_words=6) == ["a b", "a b c d e f"]


def test_the_twin_without_recounting() -> None:
    texts = ["x y"] * 7 + ["a b c d e f"] * 6 + ["a b"] * 6
    # Counted as pieces, x y (7) would come before a b (6); counted wherever it stands, a b (12) is first.
    assert pmi_ngrams(texts, min_count=5, threshold=0.0) == ["a b", "x y"]


def test_tails_are_stripped_and_repeats_dropped() -> None:
    assert pmi_ngrams(["so ..."] * 7 + ["so"] * 8 + ["--"] * 9, min_count=5, threshold=0.0) == ["so"]


def test_candidates_in_order_once_and_never_special(model: FrozenModel) -> None:
    texts = SENTENCES * 6 + ["[MASK] <mask> [SEP] </s> [UNK] <pad>"] * 20
    ids = pmi_candidates(texts, model, 40)
    assert ids.dtype == np.int64
    assert len(set(ids.tolist())) == 40
    assert not set(ids.tolist()) & model.special_ids
    assert np.array_equal(pmi_candidates(texts, model, 10), ids[:10])


def test_few_texts_are_filled_from_their_tokens(bert: FrozenModel) -> None:
    ids = pmi_candidates(["a city", "a city", "a plant"], bert, 3)
    assert [bert.tokenizer.id_to_token(int(i)) for i in ids] == ["a", "city", "plant"]


def test_texts_that_cannot_give_enough(model: FrozenModel) -> None:
    with pytest.raises(VocabularyError, match="100 candidate tokens were asked for, the 1 texts hold 2 different"):
        pmi_candidates(["a city"], model, 100)
    with pytest.raises(VocabularyError, match="the 0 texts hold 0"):
        pmi_candidates([], model, 1)
