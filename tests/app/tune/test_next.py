"""What zopog tune says last: the commands that come next."""

from dataclasses import replace
from pathlib import Path

from zopog_models.tasks.task_files import load_task
from zopog_ref.app.run.config import RunConfig
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.app.tune.command import next_said

HERE = RunConfig(load_task("supersense"), "supersense", "embedded", PRESETS["zo-pog", "embedded"], "embedded", 42, 16)


def test_a_model_here_can_be_baked() -> None:
    assert "zopog bake 'my run' --out tuned.onnx" in next_said(Path("my run"), HERE)


def test_a_served_model_is_named_again_and_cannot_be_baked() -> None:
    served = replace(HERE, model="chat+http://127.0.0.1:8080/v1#name", remote={})  # type: ignore[arg-type]
    said = next_said(Path("run"), served)
    assert "zopog predict run --model 'chat+http://127.0.0.1:8080/v1#name' --text" in said
    assert "bake" not in said
