"""What zopog tune says last: the commands that come next."""

from dataclasses import replace
from html import unescape
from pathlib import Path

from tests.app.conftest import Run
from zopog_models.tasks.task_files import load_task
from zopog_ref.app.run.config import RunConfig, Served
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.app.tune.finished import read_finished
from zopog_ref.app.tune.next_steps import deploying, next_said

HERE = RunConfig(load_task("supersense"), "supersense", "embedded", PRESETS["zo-pog", "embedded"], "embedded", 42, 16)


def test_a_model_here_can_be_baked() -> None:
    assert next_said(Path("my run"), HERE).split("\n")[1:] == [
        "        zopog show 'my run'",
        "        zopog bake 'my run' --out tuned.onnx",
    ]


def test_a_served_model_is_named_again_and_cannot_be_baked() -> None:
    address, keys = "chat+http://127.0.0.1:8080/v1#name", {"key_variable": "MY_KEY", "headers_env": ("X-T=TENANT",)}
    served = replace(HERE, model=address, remote=Served("folder"))
    said = next_said(Path("run"), served)
    assert f"zopog predict run --model '{address}' --text" in said
    assert "bake" not in said
    served = replace(HERE, model=address, remote=Served("folder", **keys))  # without it predict asks for it
    assert f"--model '{address}' --key-env MY_KEY --header-env X-T=TENANT --text" in next_said(Path("run"), served)


def test_what_bake_refuses_is_not_suggested() -> None:
    for changes in ({"position": "after"}, {"summed_pieces": True}):
        config = replace(HERE, task=replace(HERE.task, **changes))
        assert not [one for one in deploying(Path("run"), config) if "bake" in one]
        assert "bake" not in next_said(Path("run"), config)


def test_the_report_s_commands_are_these(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    out = tmp_path / "my run"
    code, said, error = zopog("tune", "--task", small_task, "--method", "none", "--batch-size", 4, "--out", out)
    assert code == 0, error
    page = unescape((out / "report.html").read_text("utf-8"))
    config = read_finished(out).config
    assert "\n".join(deploying(Path("my run"), config)) in page  # of the folder that holds it
    assert "zopog report 'my run'" in page
    assert "\nsettings" not in error  # where nothing is searched there are none
    assert "the template alone" in error
    assert next_said(out, config) in said
