"""close: what a runner started ends, twice does nothing, and a model that is asked again goes on."""

import threading
from pathlib import Path

import numpy as np
import pytest

from tests.models.frozen.test_runtime import many_rows
from tests.models.prompts.test_bundle import prompt_for
from tests.models.runners.test_example import bag as bag  # a fixture
from zopog_models import FrozenModel, load_model
from zopog_models.errors import BakeError
from zopog_models.prompts.baking import bake
from zopog_models.runners.threads import Threads


def own_threads() -> int:
    return sum(thread.name.startswith("frozen-model") for thread in threading.enumerate())


def test_a_model_s_threads_end(bert_folder: Path) -> None:
    before = own_threads()
    with load_model(bert_folder, threads=3) as model:
        expected = model.logits(**many_rows())
        assert own_threads() > before  # the twin: there is something to end
    assert own_threads() == before
    model.close()
    assert np.array_equal(model.logits(**many_rows()), expected)
    model.close()


def test_copies_share_the_threads(bert_folder: Path) -> None:
    model = load_model(bert_folder, threads=2)
    thinned = model.thinned(np.ones(model.hidden_units))
    assert thinned.runner.pool is model.runner.pool
    assert (thinned.description, thinned.threads) == (model.description, 2)
    model.close()


def test_the_first_exception_of_a_job_is_raised() -> None:
    def job(number: int) -> None:
        if number >= 2:
            raise ValueError(f"job {number}")

    for count in (1, 2):
        pool = Threads(count)
        with pytest.raises(ValueError, match="job 2"):
            pool.run_all(job, range(5))
        pool.close()


def test_what_is_computed_elsewhere_cannot_be_baked(bag: FrozenModel, tmp_path: Path) -> None:
    with pytest.raises(BakeError, match="'here' is computed elsewhere; its weights have to be here to be baked"):
        bake(bag, prompt_for(bag), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
