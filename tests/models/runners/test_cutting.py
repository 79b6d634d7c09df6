"""How rows are cut into chunks where their number decides."""

from pathlib import Path

import pytest

from tests.models.tiny_models import write_model
from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.checkpoints.description import TEMPERATURE, describe
from zopog_models.runners import local
from zopog_models.runners.cutting import Cut


@pytest.mark.parametrize(
    ("count", "whole", "even"),
    [
        (640, [256, 256, 128], [213, 213, 214]),
        (512, [256, 256], [256, 256]),
        (257, [256, 1], [128, 129]),
        (256, [256], [256]),
        (1, [1], [1]),
        (0, [], []),
    ],
)
def test_rows_of_each_chunk(count: int, whole: list[int], even: list[int]) -> None:
    for cut, expected in ((Cut(256), whole), (Cut(256, even=True), even)):
        spans = cut.spans(count)
        assert [stop - start for start, stop in spans] == expected
        assert [i for span in spans for i in range(*span)] == list(range(count))


def test_chunks_are_even_on_a_gpu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a step's results stay those of chunks of 8."""
    monkeypatch.setattr(local, "require_device", lambda device: None)
    monkeypatch.setattr(local, "Session", lambda *rest, **more: type("Session", (), {"providers": ()})())
    checkpoint = load_checkpoint(write_model(tmp_path, "bert"))
    about = describe(checkpoint, name="tiny", source="", injection=None, temperature=TEMPERATURE)
    for device, rule in (("cpu", Cut(8)), ("cuda", Cut(256, even=True))):
        assert local.LocalRunner(checkpoint, about, device=device).rule == rule
