"""How rows are cut into chunks where their number decides, or the turns that a GPU takes."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import write_model
from zopog_models import load_model
from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.checkpoints.description import TEMPERATURE, describe
from zopog_models.runners import cutting, local
from zopog_models.runners.cutting import Cut
from zopog_models.runners.rows import ModelRows


def sizes(cut: Cut, lengths: np.ndarray) -> list[int]:
    spans = cut.spans(lengths)
    assert [i for span in spans for i in range(*span)] == list(range(len(lengths)))
    return [stop - start for start, stop in spans]


@pytest.mark.parametrize(("count", "expected"), [(20, [8, 8, 4]), (16, [8, 8]), (1, [1]), (0, [])])
def test_rows_of_each_chunk(count: int, expected: list[int]) -> None:
    assert sizes(Cut(8), np.arange(count)) == expected


def test_equal_rows_fill_the_turns_of_a_gpu() -> None:
    """640 rows of 116 tokens and width 1,024 on 132 multiprocessors: 18 turns, where chunks of 256 took 20."""
    turn = local.turn_tokens(1024)
    assert turn == 4224
    assert local.turn_tokens(2**20) == 256  # one tile, be it cut into as many columns as it may
    found = sizes(Cut(256, turn=turn), np.full(640, 116))
    assert sum(-(-rows * 116 // turn) for rows in found) == 18
    assert len(found) == 3
    assert sum(-(-rows * 116 // turn) for rows in sizes(Cut(256), np.full(640, 116))) == 20
    # 114 tokens are padded to 116.
    assert sizes(Cut(256, turn=turn, multiple=4), np.full(640, 114)) == found
    assert sizes(Cut(256, turn=turn), np.full(0, 116)) == []
    assert sizes(Cut(256, turn=turn), np.full(3, 116)) == [3]


@pytest.mark.parametrize("ascending", [True, False])  # rows behind kept beginnings come in the order of these
@pytest.mark.parametrize("seed", range(6))
def test_nothing_takes_fewer_turns(seed: int, ascending: bool) -> None:
    """Against every way to cut 12 rows into chunks of at most 7."""
    rng = np.random.default_rng(seed)
    lengths, turn = rng.integers(3, 40, 12), int(rng.integers(20, 90))
    lengths = np.sort(lengths) if ascending else lengths

    def cost(ends: tuple[int, ...]) -> float:
        pairs = list(zip((0, *ends), (*ends, 12)))
        if max(stop - start for start, stop in pairs) > 7:
            return float("inf")
        return sum(-(-(stop - start) * lengths[start:stop].max() // turn) + cutting.LAUNCH for start, stop in pairs)

    best = min(cost(ends) for chunks in range(12) for ends in combinations(range(1, 12), chunks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "STEP", 1)
        found = Cut(7, turn=turn).spans(lengths)
    assert cost(tuple(stop for _, stop in found[:-1])) == best


@pytest.mark.parametrize("most", [1, 3, 7, 8, 9, 23, 24])  # fewer than STEP, and no multiple of it
def test_no_chunk_has_more_rows_than_it_may(most: int) -> None:
    rng = np.random.default_rng(most)
    for count in (1, 7, 8, 9, 50, 64):
        found = sizes(Cut(most, turn=int(rng.integers(1, 300)), multiple=4), rng.integers(1, 60, count))
        assert 0 < min(found) <= max(found) <= most


def test_tokens_that_are_read_elsewhere_take_no_turns(tmp_path: Path) -> None:
    """A decoder's first token and prompt are computed apart: what is cut is what is left of its rows."""
    about = load_model(write_decoder(tmp_path, "llama"), threads=1).description
    lengths, index = np.repeat([2, 4, 5, 11], 8), np.zeros(32, np.int64)
    texts = [np.ones(length, np.int64) for length in lengths]
    rows = ModelRows(about, texts, lengths - 1, np.zeros((1, 20), np.int64), None, index, np.array([3]))
    for before, read, expected in ((1, -1, [24, 8]), (0, 0, [16, 16]), (None, 20, [32])):
        assert sizes(Cut(32, turn=111), lengths + read) == expected
        assert [len(chunk) for chunk in rows.alike(np.arange(32), Cut(32, turn=111), before)] == expected


def test_turns_are_counted_on_a_gpu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a step's results stay those of chunks of 8."""
    monkeypatch.setattr(local, "require_device", lambda device: None)
    monkeypatch.setattr(local, "Session", lambda *rest, **more: type("Session", (), {"providers": ()})())
    checkpoint = load_checkpoint(write_model(tmp_path, "bert"))
    about = describe(checkpoint, name="tiny", source="", injection=None, temperature=TEMPERATURE)
    turn = local.turn_tokens(about.hidden_size)
    for device, rule in (("cpu", Cut(8)), ("cuda", Cut(256, turn=turn, multiple=4))):
        assert local.LocalRunner(checkpoint, about, device=device).rule == rule
