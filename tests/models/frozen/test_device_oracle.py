"""device_oracle: the model bound by address, on CPU memory, bit for bit what FrozenModelOracle answers."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.families.test_sentence import as_sentence_transformers
from tests.models.frozen.test_oracle import N_POSITIONS, query, setting  # noqa: F401  a fixture
from tests.models.numpy_memory import NumPyMemory
from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import (
    DeviceOracle,
    FrozenModel,
    FrozenModelOracle,
    encode,
    label_targets,
    load_model,
    make_task,
)
from zopog_models.frozen import oracle
from zopog_models.runners import cutting
from zopog_models.runners.bound import part
from zopog_models.runners.cutting import Cut
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.runner import Runner
from zopog_models.runners.session import _on_stream


def both(setting: dict[str, Any], **changes: Any) -> tuple[FrozenModelOracle, DeviceOracle, NumPyMemory]:
    memory = NumPyMemory()
    return FrozenModelOracle(**setting), DeviceOracle(**setting, memory=memory, **changes), memory


def in_order(tokens: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prompts in the order in which FrozenModelOracle reads different ones, so that both read the same chunks."""
    return tokens[np.argsort(z[:, 0])], z[np.argsort(z[:, 0])]


def same_bits(given: np.ndarray, expected: np.ndarray) -> None:
    assert given.shape == expected.shape
    assert given.dtype == expected.dtype == np.float32
    assert given.tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [1, 5, 7])  # one chunk, whole chunks, a rest
@pytest.mark.parametrize("per_example", [False, True])
def test_bit_for_bit(setting: dict[str, Any], per_example: bool, size: int) -> None:
    host, device, _ = both(setting)
    tokens, z, examples = query(8, size, per_example)
    if not per_example:
        tokens, z = in_order(tokens, z)
    same_bits(device.logits(tokens, z, examples), host.logits(tokens, z, examples))


def test_bit_for_bit_with_one_point_for_all_prompts(setting: dict[str, Any]) -> None:
    host, device, _ = both(setting)
    tokens, z, examples = query(6, 5, False)
    tokens = tokens[np.lexsort(tokens.T[::-1])]  # the order in which FrozenModelOracle reads them
    z = np.broadcast_to(z[0], z.shape)
    same_bits(device.logits(tokens, z, examples), host.logits(tokens, z, examples))


@pytest.mark.parametrize("per_example", [False, True])
def test_equal_prompts(setting: dict[str, Any], per_example: bool) -> None:
    """Read again, in other chunks than where each is read once: the bits where all rows are of one length."""
    host, device, _ = both(setting)
    tokens, z, examples = query(6, 5, per_example)
    tokens[[2, 4]], z[[2, 4]] = tokens[0], z[0]
    given, expected = device.logits(tokens, z, examples), host.logits(tokens, z, examples)
    assert np.abs(given - expected).max() < 2e-6
    examples[:] = examples[0]
    same_bits(device.logits(tokens, z, examples), host.logits(tokens, z, examples))


def test_points_in_parts(setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer offsets in memory at once: the same chunks, so the same bits; and the space for them is used again."""
    tokens, z, examples = query(4, 7, True)
    whole = FrozenModelOracle(**setting).logits(tokens, z, examples)
    monkeypatch.setattr(oracle, "_OFFSET_BYTES", 16 * 4 * N_POSITIONS * 32)
    host, device, memory = both(setting)
    same_bits(device.logits(tokens, z, examples), whole)
    same_bits(host.logits(tokens, z, examples), whole)
    taken = set(memory.addresses)
    device.logits(tokens, z, examples[::-1].copy())
    assert memory.addresses == taken


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("at_once", [1, 2])  # chunks whose offsets are in memory
def test_chunks_cut_as_for_a_gpu(
    setting: dict[str, Any], per_example: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin elsewhere, for the host's oracle too; so the bits are the same."""
    monkeypatch.setattr(oracle, "_OFFSET_BYTES", at_once * 8 * 4 * N_POSITIONS * 32)
    monkeypatch.setattr(cutting, "STEP", 1)
    monkeypatch.setattr(setting["model"].runner, "turn", 50)
    host, device, _ = both(setting)
    tokens, z, examples = query(4, 5, per_example)
    if not per_example:
        tokens, z = in_order(tokens, z)
    spans = [(chunk.start, chunk.stop) for chunk in device._laid_out(examples, 4).chunks]
    assert spans != Cut(8).spans(np.arange(20))
    assert spans == setting["model"].rule.spans(np.sort(np.tile(device.lengths[examples], 4)))
    given, expected = device.logits(tokens, z, examples), host.logits(tokens, z, examples)
    assert np.abs(given - expected).max() < 2e-6
    if per_example:
        assert device._spaces["offsets"].size <= at_once * 8 * N_POSITIONS * 32
    if not per_example:  # there the host's oracle reads slices of its own
        same_bits(given, expected)


def test_padded_rows(setting: dict[str, Any]) -> None:
    """Rows padded to a multiple of 8 tokens, but never beyond the model's positions: nothing but rounding changes."""
    host, device, _ = both(setting, multiple=8)
    for per_example in (False, True):
        tokens, z, examples = query(3, 6, per_example)
        assert np.abs(device.logits(tokens, z, examples) - host.logits(tokens, z, examples)).max() < 2e-6
    _, device, _ = both(setting, multiple=1000)
    longest = setting["model"].max_positions - N_POSITIONS
    assert device._integer_inputs(np.arange(3))["text_ids"].shape == (3, longest)
    assert np.abs(device.logits(tokens, z, examples) - host.logits(tokens, z, examples)).max() < 2e-6


def test_without_a_prompt(setting: dict[str, Any]) -> None:
    changed = {"n_positions": 0, "projection": np.zeros((0, 7), np.float32)}
    host, device, _ = both(setting | changed)
    tokens, z, examples = np.zeros((1, 0), np.int64), np.zeros((1, 7)), np.array([2, 0, 1])
    same_bits(device.logits(tokens, z, examples), host.logits(tokens, z, examples))
    same_bits(device.logits(tokens, z[:, None].repeat(3, 1), examples), host.logits(tokens, z, examples))


@pytest.mark.parametrize(("count", "size"), [(0, 3), (2, 0)])
def test_nothing_at_all(setting: dict[str, Any], count: int, size: int) -> None:
    _, device, _ = both(setting)
    for per_example in (False, True):
        tokens, z, examples = query(count, size, per_example)
        assert device.logits(tokens, z, examples).shape == (count, size, 2)


def test_a_sentence_model(tmp_path: Path) -> None:
    model = load_model(as_sentence_transformers(write_model(tmp_path / "sentence", "bert")), threads=2)
    task = make_task("{text} it was .", {"good": "great", "bad": "terrible"})
    rng = np.random.default_rng(5)
    about = {
        "model": model, "encoded": encode([(text,) for text in SENTENCES], task, model, N_POSITIONS),
        "label_ids": label_targets(task, model), "candidates": np.arange(20, 50),
        "projection": rng.normal(0, 0.3, (N_POSITIONS * 32, 7)).astype(np.float32), "n_positions": N_POSITIONS,
    }  # fmt: skip
    host, device, _ = both(about)
    tokens, z, examples = query(4, 6, True)
    same_bits(device.logits(tokens, z, examples), host.logits(tokens, z, examples))


def test_reduced_where_the_host_s_is(setting: dict[str, Any]) -> None:
    """int8 reads prompts of one point, and only those; with differences, all."""
    model = setting["model"]
    tokens, z, examples = query(4, 6, False)
    tokens = tokens[np.lexsort(tokens.T[::-1])]
    one, rows = np.broadcast_to(z[0], z.shape), query(4, 6, True)[1]
    for differences in (False, True):
        given = {"reduced": model.reduced("int8"), "differences": differences}
        host, device = FrozenModelOracle(**setting, **given), DeviceOracle(**setting, **given, memory=NumPyMemory())
        for points in (one, rows):
            same_bits(device.logits(tokens, points, examples), host.logits(tokens, points, examples))
    full = FrozenModelOracle(**setting)
    assert np.abs(host.logits(tokens, one, examples) - full.logits(tokens, one, examples)).max() > 1e-4


def test_one_upload_a_mini_batch(setting: dict[str, Any]) -> None:
    """Both halves of a step share the rows that were uploaded for the first; another mini-batch is another upload."""
    _, device, memory = both(setting)
    policy, zeroth = query(4, 6, False), query(4, 6, True)
    examples = np.arange(6)
    uploads = []
    for rows in (examples, examples + 1):
        for tokens, z in (policy[:2], zeroth[:2]):
            memory.uploads.clear()
            device.logits(tokens, z, rows)
            uploads.append(memory.uploads.count("int64") - 1)  # the tokens, which are there already
    assert uploads == [1, 0, 1, 0]


def flawed(**changes: Callable[..., Any]) -> type[DeviceOracle]:
    return type("Flawed", (DeviceOracle,), changes)


@pytest.mark.parametrize("flaw", ["back", "prompt", "place", "stale"])
def test_each_flaw_would_be_noticed(setting: dict[str, Any], flaw: str) -> None:
    """The twins: rows left in the order of reading, the wrong prompt, the wrong point, the last mini-batch's rows."""

    def shifted(self: DeviceOracle, examples: np.ndarray, count: int) -> Any:
        batch = DeviceOracle._lay_out(self, examples, count)
        first, total = getattr(batch, flaw), count * len(examples)
        batch.integers[first : first + total] = batch.integers[first : first + total][::-1].copy()
        return batch

    def stale(self: DeviceOracle, examples: np.ndarray, count: int) -> Any:
        return self._batches.setdefault(count, DeviceOracle._lay_out(self, examples, count))

    broken = flawed(_laid_out=stale) if flaw == "stale" else flawed(_lay_out=shifted)
    host, device = FrozenModelOracle(**setting), broken(**setting, memory=NumPyMemory())
    tokens, z, _ = query(4, 6, True)
    worst = 0.0
    for examples in (np.array([3, 0, 2, 1, 4, 0]), np.array([1, 4, 0, 3, 2, 2])):
        worst = max(worst, np.abs(device.logits(tokens, z, examples) - host.logits(tokens, z, examples)).max())
    assert worst > 1e-3


def test_what_cannot_be_bound_is_named(setting: dict[str, Any], tmp_path: Path) -> None:
    elsewhere = NumPyMemory()
    elsewhere.kind = "cuda"
    with pytest.raises(ValueError, match="the model is on cpu device 0 and the arrays on cuda device 0"):
        DeviceOracle(**setting, memory=elsewhere)
    second = NumPyMemory()
    second.index = 1
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES"):
        DeviceOracle(**setting, memory=second)
    streamed = NumPyMemory()
    streamed.stream = 7
    with pytest.raises(ValueError, match="the model computes on stream None, the arrays' is 7"):
        DeviceOracle(**setting, memory=streamed)
    thinned = setting["model"].thinned(np.ones(setting["model"].hidden_units))
    with pytest.raises(ValueError, match="thinned network"):
        DeviceOracle(**(setting | {"model": thinned}), memory=NumPyMemory())
    _, device, _ = both(setting)
    with pytest.raises(ValueError, match="use a FrozenModelOracle"):
        device.thinned(np.ones(setting["model"].hidden_units))
    with pytest.raises(ValueError, match="reach beyond an array of 4"):
        part(NumPyMemory(), np.zeros(4), 3, (2,))
    decoder = load_model(write_decoder(tmp_path / "gpt2", "gpt2"), threads=1)
    with pytest.raises(ValueError, match="decoder, whose prompts' keys and values"):
        DeviceOracle(**(setting | {"model": decoder}), memory=NumPyMemory())


class Served(Runner):
    """A runner that can do what every runner can, and no more."""

    def logits(self, rows: ModelRows) -> np.ndarray:
        return np.zeros((len(rows.texts), len(rows.label_ids)), np.float32)


def test_a_model_on_cuda_needs_the_stream_of_the_arrays(setting: dict[str, Any]) -> None:
    runner = copy.copy(setting["model"].runner)
    model = FrozenModel(setting["model"].description, runner)
    runner.device = "cuda"
    assert "a CUDA stream of its own" in model.why_not_bound
    runner.stream = 4096
    assert model.why_not_bound == ""
    assert FrozenModel(model.description, Served()).why_not_bound == "it is served elsewhere"
    assert _on_stream("CUDAExecutionProvider", 4096) == ("CUDAExecutionProvider", {"user_compute_stream": "4096"})
    assert _on_stream("CUDAExecutionProvider", None) == "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("tokens", "z", "examples", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((2, 7)), [0], r"tokens must have shape \(K, 4\)"),
        (np.zeros((2, 4), int), np.zeros((3, 7)), [0], r"z must have shape \(2, 7\) or \(2, 1, 7\)"),
        (np.zeros((2, 4), int), np.zeros((2, 7)), [99], "examples must lie between 0 and"),
        (np.zeros((2, 4), int), np.zeros((2, 7)), [[0]], r"examples must have shape \(B,\)"),
    ],
)
def test_what_does_not_fit_is_named(setting: dict[str, Any], tokens: Any, z: Any, examples: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        both(setting)[1].logits(tokens, z, np.array(examples))


def test_rows_and_candidates_are_checked_when_it_is_made(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="prompt_ids holds 99999"):
        both(setting | {"candidates": np.array([20, 99999])})
