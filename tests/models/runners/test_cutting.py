"""How rows are cut into chunks where their number decides, or the turns that a GPU takes."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.models.tiny_models import write_model
from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.checkpoints.description import TEMPERATURE, describe
from zopog_models.runners import cutting, local
from zopog_models.runners.cutting import Cut


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
    found = sizes(Cut(256, turn=turn), np.full(640, 116))
    assert sum(-(-rows * 116 // turn) for rows in found) == 18
    assert len(found) == 3
    assert sum(-(-rows * 116 // turn) for rows in sizes(Cut(256), np.full(640, 116))) == 20
    # 114 tokens are padded to 116.
    assert sizes(Cut(256, turn=turn, multiple=4), np.full(640, 114)) == found
    assert sizes(Cut(256, turn=turn), np.full(0, 116)) == []
    assert sizes(Cut(256, turn=turn), np.full(3, 116)) == [3]


@pytest.mark.parametrize("seed", range(6))
def test_nothing_takes_fewer_turns(seed: int) -> None:
    """Against every way to cut 12 rows into chunks of at most 7."""
    rng = np.random.default_rng(seed)
    lengths, turn = np.sort(rng.integers(3, 40, 12)), int(rng.integers(20, 90))

    def cost(ends: tuple[int, ...]) -> float:
        pairs = list(zip((0, *ends), (*ends, 12)))
        if max(stop - start for start, stop in pairs) > 7:
            return float("inf")
        return sum(-(-(stop - start) * lengths[stop - 1] // turn) + cutting.LAUNCH for start, stop in pairs)

    best = min(cost(ends) for chunks in range(12) for ends in combinations(range(1, 12), chunks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "STEP", 1)
        found = Cut(7, turn=turn).spans(lengths)
    assert cost(tuple(stop for _, stop in found[:-1])) == best


def test_turns_are_counted_on_a_gpu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a step's results stay those of chunks of 8."""
    monkeypatch.setattr(local, "require_device", lambda device: None)
    monkeypatch.setattr(local, "Session", lambda *rest, **more: type("Session", (), {"providers": ()})())
    checkpoint = load_checkpoint(write_model(tmp_path, "bert"))
    about = describe(checkpoint, name="tiny", source="", injection=None, temperature=TEMPERATURE)
    turn = local.turn_tokens(about.hidden_size)
    for device, rule in (("cpu", Cut(8)), ("cuda", Cut(256, turn=turn, multiple=4))):
        assert local.LocalRunner(checkpoint, about, device=device).rule == rule
