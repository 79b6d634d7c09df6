"""fp16, which only a GPU reads fast: its graphs start and compute here, where ONNX Runtime reads them slowly."""

from pathlib import Path

import numpy as np
import pytest

from tests.models.prompts.test_export import FAMILIES, inputs_for, write
from zopog_models import load_model
from zopog_models.runners import local


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_s_graph_is_sound_and_near_the_full_one(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder's keys and values of the prompt come in float32 and meet the row's own in fp16."""
    folder = write(tmp_path / "model", family)
    model, inputs = load_model(folder, threads=1), inputs_for(folder, family)
    monkeypatch.setitem(local.REDUCED, "fp16", "cpu")
    full, found = model.logits(**inputs), model.reduced("fp16").logits(**inputs)
    assert np.corrcoef(found.ravel(), full.ravel())[0, 1] > 0.999
    assert not np.array_equal(found, full)
