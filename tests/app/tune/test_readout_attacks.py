"""`zopog tune --method none` on data that is odd or made to deceive, and on a service that shows its top 20 alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.conftest import Run
from zopog_models import load_model, load_task, read_rows
from zopog_models.frozen.model import FrozenModel

WORDS = ["animal", "plant", "person", "city", "food", "group", "act",
         "time", "water", "house", "music", "color", "metal", "book"]  # fmt: skip
ALONE = ["--method", "none", "--threads", "1", "--json"]


def rows_of(count: int) -> tuple[list[str], np.ndarray]:
    """Texts of supersense, and which of its six classes they are."""
    task = load_task("supersense")
    assert task.train is not None
    rows = read_rows(task.train, task)
    kept = np.concatenate([np.flatnonzero(rows.labels == c)[:count] for c in range(6)])
    return [rows.texts[i][0] for i in kept], rows.labels[kept]


def told(zopog: Run, place: Path, texts: list[str], labels: Any, words: list[str], *more: object) -> tuple[Any, str]:
    """result.json of a run on these rows, or None, and what was said."""
    lines = [f"{text}\t{label}" for text, label in zip(texts, labels)]
    (place / "rows.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    named = ",".join(f"{i}={word}" for i, word in enumerate(words))
    code, said, error = zopog(
        "tune", "--train", place / "rows.tsv", "--template", "{text} . it is a kind of {mask} .", "--labels", named,
        *ALONE, "--out", place / "run", *more,
    )  # fmt: skip
    assert "Traceback" not in error
    return (json.loads(said) if code == 0 else None), error


@pytest.mark.parametrize("kind", ["auto", "vocabulary", "labels"])
def test_shuffled_labels_are_chance_and_said_so(zopog: Run, tmp_path: Path, kind: str) -> None:
    texts, labels = rows_of(40)
    shuffled = np.random.default_rng(3).permutation(labels)
    result, _ = told(zopog, tmp_path, texts, shuffled, WORDS[:6], "--shots", 10, "--readout", kind)
    low, high = result["answers"][2]["interval"]
    assert low < 1 / 6 < high
    assert not result["learned"]
    assert result["answers"][2]["nll"] < 2.1  # log 6 is 1.79: not sure of what it does not know


def test_copies_are_left_out_together(zopog: Run, tmp_path: Path) -> None:
    """Every text four times, with shuffled labels: row by row each would be told by its copy."""
    texts, labels = rows_of(8)
    shuffled = np.random.default_rng(4).permutation(labels)
    result, _ = told(zopog, tmp_path, texts * 4, np.tile(shuffled, 4), WORDS[:6], "--shots", 12)
    assert not result["learned"]
    assert result["readout"]["left_out_accuracy"] < 0.45


@pytest.mark.parametrize("kind", ["auto", "none", "centred", "labels", "vocabulary"])
def test_one_row_a_class(zopog: Run, tmp_path: Path, kind: str) -> None:
    texts, labels = rows_of(6)
    result, _ = told(zopog, tmp_path, texts, labels, WORDS[:6], "--shots", 1, "--readout", kind)
    assert result["calls"] == 1
    if kind == "auto":
        assert result["readout"]["kind"] in ("none", "centred")
    assert result["test_metrics"]["uncertainty"]["mean"]["nll"] < 5


@pytest.mark.parametrize("kind", ["auto", "labels", "vocabulary"])
def test_texts_that_are_all_one(zopog: Run, tmp_path: Path, kind: str) -> None:
    result, error = told(
        zopog, tmp_path, ["the same text"] * 60, np.arange(60) % 2, WORDS[:2], "--shots", 8, "--readout", kind
    )
    assert result is None
    assert "all training rows are one text" in error


def test_a_class_without_rows_and_one_class_alone_are_refused(zopog: Run, tmp_path: Path) -> None:
    texts, labels = rows_of(6)
    result, error = told(zopog, tmp_path, texts, labels, WORDS[:7], "--shots", 2)
    assert result is None
    assert WORDS[6] in error or "'6'" in error
    result, error = told(zopog, tmp_path, texts, np.zeros(36, int), WORDS[:1], "--shots", 2)
    assert result is None
    assert "two" in error or "at least 2" in error


def test_fourteen_classes(zopog: Run, tmp_path: Path) -> None:
    texts, _ = rows_of(28)
    labels = np.arange(len(texts)) % 14
    result, _ = told(zopog, tmp_path, texts, labels, WORDS, "--shots", 4)
    assert not result["learned"]
    (tmp_path / "wide").mkdir()
    given = ["--shots", 4, "--readout", "vocabulary"]
    result, _ = told(zopog, tmp_path / "wide", texts, labels, WORDS, *given)
    assert result["readout"]["kind"] == "vocabulary"


def test_scores_that_are_not_finite_are_named(zopog: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FrozenModel.logits

    def damaged(self: FrozenModel, *given: Any) -> np.ndarray:
        found = whole(self, *given)
        found[0, 0] = np.nan
        return found

    monkeypatch.setattr(FrozenModel, "logits", damaged)
    texts, labels = rows_of(6)
    result, error = told(zopog, tmp_path, texts, labels, WORDS[:6], "--shots", 2)
    assert result is None
    assert "not finite" in error


def test_a_service_that_shows_its_top_20_alone(zopog: Run, tmp_path: Path) -> None:
    """Label words that are missing in some rows stand at their floor, are counted, and the readout copes."""
    pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")
    from tests.models.service import serve
    from tests.models.tiny_decoders import write_decoder

    folder = write_decoder(tmp_path / "llama", "llama")
    texts, labels = rows_of(16)
    lines = [f"{text[:40]}\t{label % 2}" for text, label in zip(texts, labels)]
    (tmp_path / "mine.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    task = ["--train", tmp_path / "mine.tsv", "--template", "{text} it was {mask}", "--labels", "0=great,1=terrible"]
    with serve(load_model(folder, threads=1)) as service:
        service.top = 20
        served = [
            *task, "--model", f"completions+{service.completions}", "--tokenizer", folder, "--top-logprobs", 20,
            "--method", "none", "--shots", 12, "--json",
        ]  # fmt: skip
        code, said, error = zopog("tune", *served, "--readout", "auto", "--out", tmp_path / "run")
        assert code == 0, error
        result = json.loads(said)
        missing, rows = result["label_words"]["not_returned"], result["label_words"]["rows"]
        assert 0 < sum(missing.values()) < 2 * rows
        assert result["calls"] == 1  # 24 rows, once
        assert result["readout"]["kind"] in ("none", "centred", "labels")
        assert "vocabulary" not in result["readout"]["choices"]["manual + readout"]["losses"]
        assert np.isfinite(result["answers"][2]["nll"])
        assert result["readout"]["coverage"] is not None
        code, _, error = zopog("tune", *served, "--readout", "vocabulary", "--out", tmp_path / "wide")
        assert code == 2
        assert "most probable" in error
