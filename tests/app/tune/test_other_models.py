"""zopog tune and predict on a sentence-embedding model, and on models named org/name."""

import json
from pathlib import Path

import pytest

from tests.app.conftest import SMALL, Run, same_run
from tests.models.families.test_sentence import as_sentence_transformers
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import load_prompt
from zopog_models.checkpoints import hub
from zopog_models.frozen import model as runtime


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_sentence_transformers(write_model(tmp_path_factory.mktemp("sentence") / "tiny", "bert"))


@pytest.fixture
def data(tmp_path: Path) -> list[object]:
    path = tmp_path / "mine.tsv"
    rows = [f"{SENTENCES[i % 8]} {SENTENCES[(3 * i + 1) % 8]}\t{i % 2}" for i in range(40)]
    path.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    labels = "0=the food was terrible,1=it was a great city"
    return ["--train", path, "--template", "{text}", "--labels", labels]


def test_a_sentence_embedding_model(zopog: Run, sentence_folder: Path, data: list[object], tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, text, error = zopog(
        "tune", *data, *SMALL, "--model", sentence_folder, "--out", out, "--temperature", 12, "--json"
    )
    assert code == 0, error
    result, config = json.loads(text), json.loads((out / "config.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1
    assert (config["pooling"], config["temperature"]) == ("mean", 12)
    assert "label_ids" not in config
    assert load_prompt(out / "prompt").label_ids.shape == (2, 32)
    code, text, error = zopog("predict", out, "--text", "the food was great")
    assert code == 0, error
    assert json.loads(text)["label"] in ("0", "1")
    again = tmp_path / "again"
    assert zopog("tune", *data, *SMALL, "--model", sentence_folder, "--out", again, "--temperature", 12)[0] == 0
    assert same_run(out, again)
    assert zopog("tune", *data, *SMALL, "--model", sentence_folder, "--out", tmp_path / "warm")[0] == 0
    assert not same_run(out, tmp_path / "warm")


def test_what_a_sentence_embedding_model_refuses(
    zopog: Run, sentence_folder: Path, data: list[object], tmp_path: Path
) -> None:
    base = ["tune", *SMALL, "--model", sentence_folder, "--out", tmp_path / "run"]
    masked = [value if value != "{text}" else "{text} . {mask} ." for value in data]
    for arguments, words in (
        (masked, "sentence-embedding model"),
        ([*data, "--temperature", 0], "--temperature is 0.0"),
        ([*data, "--pooling", "max"], "invalid choice"),
    ):
        code, _, error = zopog(*base, *arguments)
        assert code == 2
        assert words in error
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_model_on_the_hub_is_pinned(
    zopog: Run, sentence_folder: Path, data: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(source: str) -> hub.HubModel:
        asked.append(source)
        return hub.HubModel(sentence_folder, "someone/tiny", "0123abc")

    monkeypatch.setattr(runtime, "fetch", fetch)
    out = tmp_path / "run"
    code, _, error = zopog("tune", *data, *SMALL, "--model", "someone/tiny@v1", "--out", out)
    assert code == 0, error
    assert json.loads((out / "config.json").read_text())["model"] == "someone/tiny@0123abc"
    assert load_prompt(out / "prompt").model == "someone/tiny"
    assert zopog("predict", out, "--text", "a large city")[0] == 0
    assert zopog("tune", "--resume", out)[0] == 0
    assert asked == ["someone/tiny@v1", "someone/tiny@0123abc", "someone/tiny@0123abc"]
