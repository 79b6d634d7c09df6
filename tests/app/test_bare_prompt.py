"""A prompt folder without its run: the prompt itself says how its model is opened, and where it is, if anywhere."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.app.conftest import SMALL, Run
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import PromptMismatch, load_model, load_prompt, predict, save_prompt
from zopog_models.checkpoints import hub
from zopog_models.frozen import model as runtime
from zopog_models.prompts.bundle import shared_source

TEXT = "the food was great"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a head that is read without it: nothing in the folder says so."""
    return write_model(tmp_path_factory.mktemp("sentence") / "both", "bert")


@pytest.fixture
def pooling() -> str:
    return "cls"


@pytest.fixture
def tuned(zopog: Run, folder: Path, tmp_path: Path, pooling: str) -> Path:
    rows = [f"{SENTENCES[i % 8]} {SENTENCES[(3 * i + 1) % 8]}\t{i % 2}" for i in range(40)]
    (tmp_path / "mine.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    labels = "0=the food was terrible,1=it was a great city"
    data = ["--train", tmp_path / "mine.tsv", "--template", "{text}", "--labels", labels]
    given = [*data, *SMALL, "--model", folder, "--pooling", pooling, "--temperature", 7]
    assert zopog("tune", *given, "--out", tmp_path / "run")[0] == 0
    return tmp_path / "run"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_prompt_knows_the_pooling(zopog: Run, folder: Path, tuned: Path, tmp_path: Path, pooling: str) -> None:
    expected = zopog("predict", tuned, "--text", TEXT)
    assert expected[0] == 0, expected
    bare = shutil.copytree(tuned / "prompt", tmp_path / "elsewhere" / "mine")
    assert (load_prompt(bare).pooling, load_prompt(bare).source) == (pooling, "")
    assert zopog("predict", bare, "--model", folder, "--text", TEXT) == expected
    code, out, error = zopog("bake", bare, "--model", folder, "--out", tmp_path / "mine.onnx", "--threads", 1, "--json")
    assert code == 0, error
    assert json.loads(out)["difference"] < 1e-6
    code, _, error = zopog("predict", bare, "--text", TEXT)
    assert code == 2
    assert "was tuned for 'both': say where its folder is with --model" in error
    # The twin: a file of before the pooling was kept is read, but its model cannot be opened as it was.
    save_prompt(bare, replace(load_prompt(bare), pooling=""))
    assert "pooling" not in json.loads((bare / "prompt.json").read_text())
    code, _, error = zopog("predict", bare, "--model", folder, "--text", TEXT)
    assert code == 2
    assert "was loaded as a model with a head: see pooling" in error


def test_another_pooling_is_another_model(folder: Path, tuned: Path) -> None:
    prompt, other = load_prompt(tuned / "prompt"), load_model(folder, threads=1, pooling="mean")
    with pytest.raises(PromptMismatch, match="was tuned with pooling 'cls', 'both' was loaded with 'mean'"):
        predict(other, prompt, [(TEXT,)])
    predict(other, replace(prompt, pooling=""), [(TEXT,)])  # the twin: that is what went through before


def test_the_embedded_model_is_found(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    assert zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "run")[0] == 0
    bare = shutil.copytree(tmp_path / "run" / "prompt", tmp_path / "elsewhere" / "mine")
    assert load_prompt(bare).source == "embedded"
    assert zopog("predict", bare, "--text", TEXT) == zopog("predict", tmp_path / "run", "--text", TEXT)


def test_a_model_of_the_hub_is_found_at_its_commit(
    zopog: Run, folder: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "c0ffee" * 6 + "c0ff"
    asked: list[str] = []

    def fetched(source: str) -> hub.HubModel:
        asked.append(source)
        return hub.HubModel(folder, "org/both", commit)

    monkeypatch.setattr(runtime, "fetch", fetched)
    bare = tmp_path / "mine"
    save_prompt(bare, replace(load_prompt(tuned / "prompt"), source=f"org/both@{commit}"))
    expected = zopog("predict", tuned, "--text", TEXT)
    assert zopog("predict", bare, "--text", TEXT) == expected
    assert asked == [f"org/both@{commit}"]


@pytest.mark.parametrize("source", ["/etc", "a/b/c", "../x", "kserve+http://127.0.0.1:9/v2/models/x", "x" * 99, ""])
def test_a_stranger_s_prompt_names_no_folder_and_no_address(
    zopog: Run, tuned: Path, tmp_path: Path, source: str
) -> None:
    assert shared_source(source) == ""
    save_prompt(tmp_path / "mine", replace(load_prompt(tuned / "prompt"), source=source))
    code, _, error = zopog("predict", tmp_path / "mine", "--text", TEXT)
    assert (code, "say where its folder is with --model" in error) == (2, True), error
