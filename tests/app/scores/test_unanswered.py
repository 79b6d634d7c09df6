"""Rows without an answer in the metrics, by hand and against scikit-learn with a class of its own for them."""

import numpy as np
import pytest

from zopog_models.prompts.predicting import chosen, votes
from zopog_models.prompts.readout import PromptReadout
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.scores.uncertainty import ensemble_metrics


def test_a_row_without_an_answer_is_wrong_for_every_class() -> None:
    for label in (0, 1):
        found = classification_metrics([label, 0, 1], [-1, 0, 1], ["a", "b"])
        assert found["accuracy"] == pytest.approx(2 / 3)
        assert found["majority"] == pytest.approx(2 / 3)
        assert found["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
        assert (found["confusion"], found["rows"], found["unanswered"]) == ([[1, 0], [0, 1]], 3, 1)
    assert "unanswered" not in classification_metrics([0, 1], [0, 1], ["a", "b"])
    assert classification_metrics([0, 1], [-1, -1], ["a", "b"])["matthews"] == 0


def test_matthews_as_scikit_learn_with_a_class_for_no_answer() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 50), rng.integers(-1, 3, 50)
    found = classification_metrics(labels, predicted, ["a", "b", "c"])
    assert found["matthews"] == pytest.approx(metrics.matthews_corrcoef(labels, predicted), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(labels, predicted, labels=[0, 1, 2], average="macro"), abs=1e-12
    )


def test_silence_is_no_vote_and_a_tie_of_votes_is_no_silence() -> None:
    scores = np.array([[[0.0, 0.0], [2.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 2.0], [5.0, 5.0]]])  # (M, R, C)
    each = votes(scores)
    assert each.tolist() == [[[0.5, 0.5], [1, 0], [0.5, 0.5]], [[0, 1], [0, 1], [0.5, 0.5]]]
    assert chosen(each.mean(axis=0), each).tolist() == [1, 0, -1]


def test_it_costs_log_c_and_is_no_right_answer() -> None:
    each = np.array([[[0.5, 0.5], [0.9, 0.1]]])
    found = ensemble_metrics(each, None, [0, 0])["mean"]
    assert found["nll"] == pytest.approx((np.log(2) - np.log(0.9)) / 2)
    assert found["rejection"]["accuracy"][-1] == 0.5
    assert found["auroc_errors"] == 1.0


def test_a_kept_readout_gives_no_label_to_silence() -> None:
    readout = PromptReadout("labels", (np.eye(2),) * 2, np.array([3.0, 0.0]), (np.array([4, 9]),) * 2)
    found = readout.probabilities(np.array([[[-1.0, -1.0], [-1.0, -1.0]], [[-2.0, -2.0], [-2.0, -1.0]]]))
    assert found[0].tolist() == [0.5, 0.5]
    assert found[1, 0] > 0.9
