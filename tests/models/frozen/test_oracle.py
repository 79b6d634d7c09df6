"""oracle: K prompts on B rows, equal prompts once, offsets A z, against the plain forward pass."""

from typing import Any

import numpy as np
import pytest

from tests.models import numpy_bert
from tests.models.tiny_models import SENTENCES
from zopog_models import FrozenModel, FrozenModelOracle, encode, label_ids, load_checkpoint, make_task
from zopog_models.frozen import oracle

N_POSITIONS, DIM = 4, 7
TASK = make_task("{text} it was {mask} .", {"good": "great", "bad": "terrible"})


@pytest.fixture
def setting(model: FrozenModel) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return {
        "model": model,
        "encoded": encode([(text,) for text in SENTENCES], TASK, model, N_POSITIONS),
        "label_ids": label_ids(TASK, model),
        "candidates": np.arange(20, 50),
        "projection": rng.normal(0, 0.3, (N_POSITIONS * 32, DIM)).astype(np.float32),
        "n_positions": N_POSITIONS,
    }


def query(count: int, size: int, per_example: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 30, (count, N_POSITIONS))
    z = rng.normal(size=(count, size, DIM) if per_example else (count, DIM))
    return tokens, z, rng.integers(0, len(SENTENCES), size)


@pytest.mark.parametrize("per_example", [False, True])
def test_against_the_plain_forward_pass(setting: dict[str, Any], folder: Any, per_example: bool) -> None:
    tokens, z, examples = query(3, 5, per_example)
    logits = FrozenModelOracle(**setting).logits(tokens, z, examples)
    assert logits.shape == (3, 5, 2)
    assert logits.dtype == np.float32
    checkpoint = load_checkpoint(folder)
    encoded, matrix = setting["encoded"], setting["projection"].astype(np.float64)
    for k in range(3):
        for b in range(5):
            offset = matrix @ (z[k, b] if per_example else z[k])
            expected = numpy_bert.label_logits(
                checkpoint.config,
                checkpoint.tensors,
                [encoded.ids[examples[b]]],
                [encoded.answer_position[examples[b]]],
                setting["candidates"][tokens[k]][None],
                offset.reshape(1, N_POSITIONS, 32),
                [0],
                setting["label_ids"],
            )
            assert np.abs(logits[k, b] - expected[0]).max() < 1e-5


def test_the_axes_of_the_offset(setting: dict[str, Any]) -> None:
    """The twin: A z laid out as (D, n) instead of (n, D) is another answer."""
    tokens, z, examples = query(2, 3, False)
    right = FrozenModelOracle(**setting).logits(tokens, z, examples)
    projection = setting["projection"].reshape(N_POSITIONS, 32, DIM).transpose(1, 0, 2).reshape(-1, DIM)
    wrong = FrozenModelOracle(**(setting | {"projection": projection})).logits(tokens, z, examples)
    assert np.abs(right - wrong).max() > 1e-3


def test_one_point_for_all_rows_is_the_same_point_on_every_row(setting: dict[str, Any]) -> None:
    tokens, z, examples = query(3, 5, False)
    box = FrozenModelOracle(**setting)
    spread = np.repeat(z[:, None], 5, axis=1)
    assert np.abs(box.logits(tokens, z, examples) - box.logits(tokens, spread, examples)).max() < 2e-6


def test_equal_prompts_are_evaluated_once(setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, z, examples = query(6, 5, False)
    tokens[[2, 4]], z[[2, 4]] = tokens[0], z[0]  # three times the same
    tokens[3] = tokens[1]  # the same tokens elsewhere in the subspace: not the same prompt
    rows = []
    box, model = FrozenModelOracle(**setting), setting["model"]
    sound = model.logits
    monkeypatch.setattr(model, "logits", lambda *args: rows.append(len(args[0])) or sound(*args))
    together = box.logits(tokens, z, examples)
    assert rows == [4 * 5]
    for k in range(6):
        alone = box.logits(tokens[k : k + 1], z[k : k + 1], examples)[0]
        assert np.abs(together[k] - alone).max() < 2e-6
    assert np.array_equal(together[0], together[2])
    assert np.array_equal(together[0], together[4])
    assert np.abs(together[1] - together[3]).max() > 1e-3


def test_bounded_memory_gives_the_same_numbers(setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, z, examples = query(4, 6, True)
    box = FrozenModelOracle(**setting)
    whole = box.logits(tokens, z, examples)
    for rows in (1, 7):
        monkeypatch.setattr(oracle, "_OFFSET_BYTES", rows * 4 * N_POSITIONS * 32)
        assert np.abs(box.logits(tokens, z, examples) - whole).max() < 2e-6


def test_the_same_question_has_the_same_bits(setting: dict[str, Any]) -> None:
    for per_example in (False, True):
        asked = query(8, 8, per_example)
        first = FrozenModelOracle(**setting).logits(*asked)
        assert np.array_equal(FrozenModelOracle(**setting).logits(*asked), first)


def test_what_the_methods_see(setting: dict[str, Any]) -> None:
    box = FrozenModelOracle(**setting)
    assert (box.n_positions, box.n_candidates, box.dim, box.n_classes) == (N_POSITIONS, 30, DIM, 2)
    assert box.lengths.tolist() == [len(ids) + N_POSITIONS for ids in setting["encoded"].ids]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": np.zeros((2, 3), int)}, r"tokens must have shape \(K, 4\), got \(2, 3\)"),
        ({"tokens": np.full((2, 4), 30)}, "tokens must lie between 0 and 29, got 30"),
        ({"tokens": np.zeros((2, 4))}, "tokens must be whole numbers, got dtype float64"),
        ({"z": np.zeros((2, 6))}, r"z must have shape \(2, 7\) or \(2, 3, 7\), got \(2, 6\)"),
        ({"z": np.zeros((3, 7))}, "z must have shape"),
        ({"examples": np.array([0, 1, -1])}, "examples must lie between 0 and 7, got -1 to 1"),
        ({"examples": np.array([[0]])}, r"examples must have shape \(B,\)"),
    ],
)
def test_questions_that_do_not_fit(setting: dict[str, Any], change: dict[str, Any], message: str) -> None:
    asked = {"tokens": np.zeros((2, 4), int), "z": np.zeros((2, 7)), "examples": np.array([0, 1, 2])}
    with pytest.raises(ValueError, match=message):
        FrozenModelOracle(**setting).logits(**(asked | change))


def test_a_projection_of_the_wrong_size(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"projection must have shape \(128, d\), .* got \(7, 128\)"):
        FrozenModelOracle(**(setting | {"projection": setting["projection"].T}))
