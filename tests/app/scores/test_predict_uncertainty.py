"""A distribution over prompts, as `zopog predict` and result.json show it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import SMALL, Run
from zopog_models.frozen.model import load_model
from zopog_models.prompts.bundle import load_prompt, save_prompt
from zopog_models.prompts.predicting import predict
from zopog_ref.app.run.predictions import load_predictions
from zopog_ref.app.scores.uncertainty import entropy, mutual_information, predictive, uncertainty_metrics


@pytest.fixture(scope="module")
def tuned(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zopog_ref.app.command_line import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["tune", "--task", str(small_task), *SMALL, "--out", str(folder), "--json"]) == 0
    return folder


def test_lines_of_several_prompts_show_how_they_differ(zopog: Run, tuned: Path, tmp_path: Path) -> None:
    one, texts = load_prompt(tuned / "prompt"), ["a large wild cat", "a person who sings", "bread"]
    scales = np.array([1.0, -4.0, 9.0], np.float32)[:, None, None]
    several = replace(
        one, ids=np.repeat(one.ids, 3, axis=0), offsets=scales * one.offsets, weights=np.array([1, 2, 5.0])
    )
    save_prompt(tmp_path, several)
    code, out, _ = zopog("predict", tmp_path, "--text", *texts)
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    prediction = predict(load_model("embedded", threads=1), several, [(text,) for text in texts])
    p, each, w = prediction.probabilities, prediction.per_prompt, several.weights / 8
    votes = predictive(each, w, "votes")
    assert (mutual_information(each, w) > 1e-3).all()  # the prompts do differ
    for row, answer in enumerate(answers):
        assert answer["entropy"] == pytest.approx(entropy(p)[row], abs=1e-5)
        assert answer["mutual_information"] == pytest.approx(mutual_information(each, w)[row], abs=1e-5)
        assert answer["entropy"] == pytest.approx(answer["expected_entropy"] + answer["mutual_information"], abs=3e-6)
        assert list(answer["votes"].values()) == pytest.approx(votes[row], abs=1e-5)
        assert answer["agreement"] == answer["votes"][answer["label"]]
    save_prompt(tmp_path, one)
    line = json.loads(zopog("predict", tmp_path, "--text", texts[0])[1])
    assert line.keys() == {"label", "probabilities"}


def test_the_result_s_uncertainty_is_that_of_its_predictions(tuned: Path) -> None:
    result, kept = json.loads((tuned / "result.json").read_text()), load_predictions(tuned)
    tuned_, manual = (result[name]["uncertainty"] for name in ("test_metrics", "manual_metrics"))
    assert list(tuned_) == list(manual) == ["mean"]
    expected = uncertainty_metrics(kept.mean, kept.labels)
    assert tuned_["mean"].keys() == expected.keys()
    for name in ("ece", "nll", "brier", "auroc_errors", "rejection_area", "entropy", "confidence"):
        assert tuned_["mean"][name] == pytest.approx(expected[name])
    assert manual["mean"]["nll"] == pytest.approx(uncertainty_metrics(kept.manual, kept.labels)["nll"])
    assert manual["mean"]["nll"] != tuned_["mean"]["nll"]
