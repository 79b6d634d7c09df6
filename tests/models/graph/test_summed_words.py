"""Label words of several tokens: summed log-probabilities, against a loop over whole forward passes in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.graph.test_decoder_graph import TOLERANCE, case, reference
from tests.models.tiny_decoders import BEGUN, FAMILY_NAMES, write_decoder
from zopog_models import FrozenModel, load_model
from zopog_models.runners import words as words_module
from zopog_models.runners.prefix import PrefixReuse
from zopog_models.tasks.label_words import beginnings, forwards, padded

# One token; two; three, the first two of which are another word's; two words that begin alike.
WORDS = [[7], [9, 30], [9, 30, 11], [12, 7], [12, 8]]


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / f"tiny-{request.param}", request.param)


@pytest.fixture(scope="module")
def decoder(folder: Path) -> FrozenModel:
    return load_model(folder, threads=1)


def by_loop(folder: Path, inputs: dict[str, Any], words: list[list[int]], vocab: int) -> np.ndarray:
    """(R, C): for each token of each word the whole row is read again, with the word's tokens so far at its end."""
    scores = np.zeros((len(inputs["text_ids"]), len(words)))
    for c, word in enumerate(words):
        for t, token in enumerate(word):
            longer = inputs | {
                "text_ids": [np.array([*ids, *word[:t]]) for ids in inputs["text_ids"]],
                "answer_position": np.asarray(inputs["answer_position"]) + t,
                "label_ids": np.arange(vocab),
            }
            logits = reference(folder, longer)
            scores[:, c] += logits[:, token] - np.log(np.exp(logits).sum(axis=1))
    return scores


@pytest.mark.parametrize(("n", "prompts", "after"), [(0, 1, False), (5, 3, False), (5, 8, False), (5, 3, True)])
def test_the_sum_over_all_tokens(decoder: FrozenModel, folder: Path, n: int, prompts: int, after: bool) -> None:
    inputs = case(n, prompts)
    if after:
        first = 1 if folder.name.removeprefix("tiny-") in BEGUN else 0
        tails = (2, 3, 0, 1, 2, 2, 20, 0)
        inputs["prompt_place"] = np.maximum(np.asarray(inputs["answer_position"]) + 1 - tails, first)
    expected = by_loop(folder, inputs, WORDS, decoder.vocab_size)
    inputs["label_ids"] = padded(WORDS)
    found = decoder.logits(**inputs)
    assert found.shape == (8, 5)
    assert np.abs(found - expected).max() < TOLERANCE
    # The twins: the first tokens alone, and their sum as if each followed the row itself.
    single = decoder.logits(**inputs | {"label_ids": np.array([[word[0], -1] for word in WORDS])})
    assert np.abs(single - expected)[:, 1:].max() > 1
    assert np.allclose(single[:, 0], expected[:, 0], atol=TOLERANCE)


def test_plain_and_reused(decoder: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = case(5, 2) | {"label_ids": padded(WORDS)}
    reused = decoder.logits(**inputs)
    monkeypatch.setattr(PrefixReuse, "pays", lambda *_: False)
    assert np.abs(reused - decoder.logits(**inputs)).max() < TOLERANCE


def test_a_wrong_continuation_would_be_noticed(decoder: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twins: one token of the row forgotten; rows' keys and values exchanged."""
    inputs = case(5, 3) | {"label_ids": padded(WORDS)}
    sound, continued = decoder.logits(**inputs), words_module._continued

    def short(feeds: Any, kept: Any, own: np.ndarray, after: Any) -> Any:
        return continued(feeds, kept, own - 1, after)

    def exchanged(feeds: Any, kept: np.ndarray, own: Any, after: Any) -> Any:
        return continued(feeds, np.roll(kept, 1, axis=2), own, after)

    for twin in (short, exchanged):
        monkeypatch.setattr(words_module, "_continued", twin)
        assert np.abs(decoder.logits(**inputs) - sound).max() > 3 * TOLERANCE


def test_threads_change_no_bit(folder: Path, decoder: FrozenModel) -> None:
    inputs = case(5, 3) | {"label_ids": padded(WORDS)}
    assert np.array_equal(load_model(folder, threads=3).logits(**inputs), decoder.logits(**inputs))


def test_how_often_a_row_is_read() -> None:
    """Once, and once for every beginning of a word behind which a further token stands."""
    assert list(beginnings(padded(WORDS))) == [(9,), (9, 30), (12,)]
    assert forwards(padded(WORDS)) == 4
    assert forwards(padded([[7], [9]])) == forwards(np.ones((2, 3), np.float32)) == 1
    assert padded([[7], [9]]).shape == (2,)


def test_who_cannot() -> None:
    model = load_model()
    row = np.array([model.cls_id, 7, model.mask_id, model.sep_id])
    with pytest.raises(ValueError, match="cannot sum over a label word's tokens: 'embedded' is no decoder"):
        model.logits([row], [2], np.ones((1, 0), int), None, [0], padded(WORDS))


def test_tokens_that_are_none(decoder: FrozenModel) -> None:
    for wrong in ([[7], [9, 10**6]], [[7], [9, -2]]):
        with pytest.raises(ValueError, match="label_ids holds"):
            decoder.logits(**case(0, 1) | {"label_ids": padded(wrong)})
