"""A prompt after the text: rows' keys and values are computed once, and the scores are the whole forward pass's."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.graph.test_decoder_graph import FLAWS, TOLERANCE, D, case, reference
from tests.models.numpy_gpt2 import Flaws
from tests.models.tiny_decoders import BEGUN, FAMILY_NAMES, LLAMA3_SCALING, write_decoder
from zopog_models import FrozenModel, load_model
from zopog_models.runners.kept import KeptRows
from zopog_models.runners.prefix import PrefixReuse


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scaling: dict[str, Any] = {"rope_scaling": LLAMA3_SCALING} if request.param in ("llama", "qwen2") else {}
    return write_decoder(tmp_path_factory.mktemp("models") / f"tiny-{request.param}", request.param, **scaling)


@pytest.fixture(scope="module")
def decoder(folder: Path) -> FrozenModel:
    return load_model(folder, threads=1)


def after(folder: Path, n: int, prompts: int, tails: tuple[int, ...] = (2, 3, 0, 1, 2, 2, 20, 0)) -> dict[str, Any]:
    """Rows whose prompts stand before their last tokens: before none, some, or nearly all."""
    inputs = case(n, prompts)
    first = 1 if folder.name.removeprefix("tiny-") in BEGUN else 0
    lengths = np.array([len(ids) for ids in inputs["text_ids"]])
    return inputs | {"prompt_place": np.maximum(lengths - tails, first)}


@pytest.mark.parametrize(("n", "prompts"), [(0, 1), (1, 1), (5, 3), (5, 8), (20, 2)])
def test_parity_with_the_whole_forward_pass(decoder: FrozenModel, folder: Path, n: int, prompts: int) -> None:
    inputs = after(folder, n, prompts)
    expected = reference(folder, inputs)
    for _ in range(2):  # computed, then from what was kept
        assert np.abs(decoder.logits(**inputs) - expected).max() < TOLERANCE
    before = {name: value for name, value in inputs.items() if name != "prompt_place"}
    if n:  # and another place is another number
        assert np.abs(decoder.logits(**before) - expected).max() > 3 * TOLERANCE


@pytest.mark.parametrize("flaws", [f for f in FLAWS if f.prompt_shift or f.offset_shift or f.answer_shift or f.drop_offset]
                         + [Flaws(prompt_shift=-1)], ids=str)  # fmt: skip
def test_each_flaw_of_the_place_would_be_noticed(decoder: FrozenModel, folder: Path, flaws: Flaws) -> None:
    inputs = after(folder, 5, 3, (2, 3, 1, 1, 2, 1, 20, 1))
    if flaws.prompt_shift == -1 and decoder.description.first == 0:
        inputs["prompt_place"] = np.maximum(inputs["prompt_place"], 1)
    assert np.abs(decoder.logits(**inputs) - reference(folder, inputs, flaws)).max() > 3 * TOLERANCE


def test_a_row_from_its_first_token_to_its_last(decoder: FrozenModel, folder: Path) -> None:
    """The place of a prompt before the text, given as a place: the same numbers as without it."""
    inputs, first = case(5, 3), decoder.description.first
    places = np.full(8, first)
    assert np.abs(decoder.logits(**inputs, prompt_place=places) - decoder.logits(**inputs)).max() < TOLERANCE


def test_a_row_is_computed_once(folder: Path) -> None:
    model, inputs = load_model(folder, threads=2), after(folder, 4, 3)
    asked: list[int] = []
    engine, lock = model.runner.reuse.prefix_engine, threading.Lock()

    class Counted:
        def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
            with lock:
                asked.append(feeds["text_ids"].shape[1])
            return engine.run(output, feeds)

    model.runner.reuse.prefix_engine = Counted()
    model.logits(**inputs)
    first = model.description.first
    heads = {tuple(ids[: place - first]) for ids, place in zip(inputs["text_ids"], inputs["prompt_place"])}
    assert sorted(asked) == sorted(len(head) for head in heads if head)
    changed = inputs | {"prompt_ids": inputs["prompt_ids"] + 1, "prompt_offset": 2 * inputs["prompt_offset"]}
    for again in (inputs, changed):
        again_asked = len(asked)
        model.logits(**again)
        assert len(asked) == again_asked


def test_what_is_kept_changes_no_bit(folder: Path) -> None:
    """Nothing kept, one row kept, all kept; other rows asked for before; two threads: a resumed run has the same bits."""
    inputs = after(folder, 4, 3)
    expected = load_model(folder, threads=1).logits(**inputs)
    part = inputs | {
        name: inputs[name][2:5] for name in ("text_ids", "answer_position", "prompt_index", "prompt_place")
    }
    for limit, threads in ((0, 1), (5000, 2), (2**30, 2)):
        model = load_model(folder, threads=threads)
        model.runner.reuse.kept = KeptRows(limit)
        model.logits(**part)
        for _ in range(2):
            assert np.array_equal(model.logits(**inputs), expected)
        assert model.runner.reuse.kept.bytes <= limit


def test_groups_change_no_bit(folder: Path, decoder: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = after(folder, 4, 3, (2,) * 8)
    lengths = np.unique([len(ids) for ids in inputs["text_ids"]])
    one_by_one = load_model(folder, threads=1)
    monkeypatch.setattr("zopog_models.runners.prefix._PREFIX_BYTES", 1)
    assert len(lengths) > 3
    assert np.abs(one_by_one.logits(**inputs) - decoder.logits(**inputs)).max() < 4e-6


def test_the_rows_used_last_are_kept() -> None:
    kept, array = KeptRows(limit=100), np.zeros(10, np.float32)
    for name in (b"a", b"b"):
        kept.put(name, array)
    assert kept.get(b"a") is array  # now b is the older one
    kept.put(b"c", array)
    assert (kept.get(b"b"), kept.bytes) == (None, 80)
    kept.put(b"c", array)  # known already
    kept.put(b"d", np.zeros(26, np.float32))  # larger than all there is
    assert (kept.get(b"d"), kept.bytes) == (None, 80)
    assert kept.get(b"a") is array
    assert kept.get(b"c") is array


def test_a_wrong_row_would_be_noticed(decoder: FrozenModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: a row's keys and values under another row's name."""
    inputs = after(folder, 5, 3, (2, 2, 2, 1, 2, 1, 2, 1))
    expected = decoder.logits(**inputs)
    monkeypatch.setattr(KeptRows, "get", lambda self, name: list(self._arrays.values())[-1][:, :, :, : len(name) // 8])
    wrong = [np.abs(decoder.logits(**inputs) - expected).max() for _ in range(1)]
    assert max(wrong) > 3 * TOLERANCE


def test_places_that_are_none(decoder: FrozenModel, folder: Path) -> None:
    inputs = after(folder, 4, 3)
    for row, place, message in (
        (3, 5, "prompt_place of row 3 is 5; it must lie between"),
        (0, -1, "prompt_place of row 0 is -1"),
    ):
        places = inputs["prompt_place"].copy()
        places[row] = place
        with pytest.raises(ValueError, match=message):
            decoder.logits(**inputs | {"prompt_place": places})
    with pytest.raises(ValueError, match=r"prompt_place must have shape \(8,\)"):
        decoder.logits(**inputs | {"prompt_place": np.ones(3, int)})


def test_encoders_cannot() -> None:
    model = load_model()
    assert "it is an encoder" in model.why_not_after
    row = np.array([model.cls_id, 7, model.mask_id, model.sep_id])
    with pytest.raises(ValueError, match="cannot read a prompt after the text: it is an encoder"):
        model.logits([row], [2], np.ones((1, 2), int), None, [0], [5, 6], prompt_place=np.array([2]))


def test_offsets_per_row(decoder: FrozenModel, folder: Path) -> None:
    """A direction for every example: as many prompts as rows."""
    inputs = after(folder, 3, 8) | {"prompt_index": np.arange(8)}
    assert inputs["prompt_offset"].shape == (8, 3, D)
    assert np.abs(decoder.logits(**inputs) - reference(folder, inputs)).max() < TOLERANCE
    assert PrefixReuse.pays(decoder.runner.reuse, _rows(decoder, inputs), decoder.runner.rule)


def _rows(model: FrozenModel, inputs: dict[str, Any]) -> Any:
    from zopog_models.runners.rows import ModelRows

    return ModelRows(model.description, **inputs)
