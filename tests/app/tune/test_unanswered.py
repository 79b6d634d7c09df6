"""Texts that get no answer, in whole runs: wrong whatever their class, counted, null in `predict`."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.app.conftest import Run
from tests.models.service import Service, serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model

SILENT = "food"  # what the filter does not like
ANIMALS = ["a small furry animal", "a dog that likes to sleep", "a cat near the sea", "a bird that can fly",
           "a horse with brown hair", "a fish in the water", "a sheep on a green field", "a cow that gives milk"]  # fmt: skip
CITIES = ["a large city near the sea", "a town with many people", "a place where ships come in", "a village in the hills",
          "the capital of a country", "a street with old houses", "a market for food", "a harbour with food"]  # fmt: skip


def tuned(zopog: Run, place: Path, service: Service, folder: Path, order: str, *more: object) -> tuple[int, str, str]:
    """A run whose test rows are ANIMALS and CITIES, two of them about food. order: of the classes."""
    place.mkdir()
    rows = [f"{text}\t{label}" for label, texts in (("x", ANIMALS), ("y", CITIES)) for text in texts]
    for split, kept in (
        ("train", rows + [f"{row.replace(chr(9), ' indeed' + chr(9))}" for row in rows]),
        ("test", rows),
    ):
        (place / f"{split}.tsv").write_text("text\tlabel\n" + "\n".join(kept) + "\n")
    words = {"x": "great", "y": "terrible"}
    labels = ",".join(f"{label}={words[label]}" for label in order)
    return zopog(
        "tune", "--train", place / "train.tsv", "--test", place / "test.tsv", "--template", "{text} it was {mask}",
        "--labels", labels, "--method", "bdpl", "--settings", "embedded", "--samples", 4, "--budget", 60,
        "--n-positions", 2, "--n-candidates", 8, "--batch-size", 4, "--shots", 6, "--tokenizer", folder,
        "--refused-share", 0.9, "--out", place / "run", *more,
    )  # fmt: skip


def learned(zopog: Run, place: Path, *about: object) -> dict[str, Any]:
    code, _, error = tuned(zopog, place, *about)
    assert code == 0, error
    return json.loads((place / "run" / "result.json").read_text())


def right(text: str) -> str:
    if SILENT in text:
        return "I cannot say."
    return "great" if any(animal in text for animal in ANIMALS) else "terrible"


def test_answers_without_a_label_are_wrong_for_both_classes(zopog: Run, tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "llama", "llama")
    with serve(load_model(folder, threads=1), answer=right) as service:
        where = ("--model", f"chat+{service.chatting}", "--answers", "labels", "--loss", "error", "--readout", "none")
        for order in ("xy", "yx"):
            found = learned(zopog, tmp_path / order, service, folder, order, *where)
            metrics = found["test_metrics"]
            assert (metrics["accuracy"], metrics["unanswered"]) == (14 / 16, 2), order
            assert sum(map(sum, metrics["confusion"])) == 14
            steps = (tmp_path / order / "run" / "curve.jsonl").read_text().splitlines()
            assert all(json.loads(line)["dev_metric"] in (None, 1.0, 10 / 12, 11 / 12) for line in steps)
        assert set(map(len, metrics["confusion"])) == {2}
        code, out, error = zopog(
            "predict", tmp_path / "xy" / "run", "--model", f"chat+{service.chatting}", "--text", ANIMALS[0], CITIES[-1]
        )
        assert code == 0, error
        first, second = map(json.loads, out.splitlines())
        assert (first["label"], second["label"]) == ("x", None)
        assert second["probabilities"] == {"x": 0.5, "y": 0.5}
        assert "1 texts got no answer" in error


@pytest.mark.parametrize("readout", ["none", "auto"])
def test_refused_texts_are_wrong_counted_and_fitted_by_no_readout(zopog: Run, tmp_path: Path, readout: str) -> None:
    folder = write_decoder(tmp_path / "llama", "llama")
    with serve(load_model(folder, threads=1)) as service:
        service.refuse = lambda request: "content filter" if SILENT in json.dumps(request) else None
        where = ("--model", f"completions+{service.completions}", "--top-logprobs", 1000, "--readout", readout)
        found = learned(zopog, tmp_path / "run", service, folder, "yx", *where)
    assert found["test_metrics"]["unanswered"] == 2
    assert found["label_words"]["refused"] > 0
    assert found["test_metrics"]["confusion"][0][0] <= 6  # food's texts are of y, the first class
    if readout == "auto":
        about = {answer["name"]: answer for answer in found["answers"]}
        assert set(about) >= {"manual", "manual + centred", "manual + readout"}
        assert found["readout"].get("rows", 12) < 12 or found["deployed"] == "tuned"


def test_a_filter_that_refuses_all_is_named_with_its_address_once(zopog: Run, tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "llama", "llama")
    with serve(load_model(folder, threads=1)) as service:
        service.refuse = lambda request: "content filter"
        where = ("--model", f"completions+{service.completions}", "--top-logprobs", 1000)
        code, _, error = tuned(zopog, tmp_path / "run", service, folder, "yx", *where)
    assert code == 1
    assert "content filter" in error
    assert error.count("POST ") == 1
