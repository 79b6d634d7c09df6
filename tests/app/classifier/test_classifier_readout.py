"""PromptClassifier with readouts: the template alone for a few calls, sets, saving, and what it warns of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="PromptClassifier needs scikit-learn")

from zopog_models import load_model, load_task, predict, read_rows
from zopog_ref import PromptClassifier
from zopog_ref.app.classifier.classifier import NothingLearned

SIZES = {"n_positions": 2, "n_candidates": 5, "dim": 3, "policy_samples": 2, "direction_pairs": 1}


@pytest.fixture(scope="module")
def data() -> tuple[list[str], np.ndarray, dict[str, str]]:
    task = load_task("supersense")
    assert task.train is not None
    rows, names = read_rows(task.train, task), list(task.labels)
    few = [i for c in range(6) for i in np.flatnonzero(rows.labels == c)[:16]]
    return [rows.texts[i][0] for i in few], np.array([names[rows.labels[i]] for i in few]), dict(task.labels)


def fitted(data: tuple[list[str], np.ndarray, dict[str, str]], **given: object) -> PromptClassifier:
    texts, y, words = data
    template = load_task("supersense").template
    return PromptClassifier(template=template, labels=words, shots=8, threads=1, **given).fit(texts, y)


def test_the_template_alone_costs_two_calls_and_comes_back_from_disk(
    data: tuple[list[str], np.ndarray, dict[str, str]], tmp_path: Path
) -> None:
    texts, _, _ = data
    clf = fitted(data, method="none", readout="vocabulary")
    assert (clf.calls_, clf.deployed_, clf.curve_) == (2, "manual + readout", [])
    p, sets = clf.predict_proba(texts[:5]), clf.predict_set(texts[:5])
    assert clf.prompt_.readout is not None
    assert np.array_equal(sets, 1 - p <= clf.prompt_.readout.threshold)
    assert set(clf.predict_uncertainty(texts[:5])["agreement"]) == {1.0}  # one answer, not several
    clf.save(tmp_path / "kept")
    again = PromptClassifier.load(tmp_path / "kept", threads=1)
    assert np.array_equal(again.predict_proba(texts[:5]), p)
    assert (again.deployed_, again.method) == ("manual + readout", "none")


def test_the_default_is_what_tune_does(data: tuple[list[str], np.ndarray, dict[str, str]]) -> None:
    """The readout that leave-one-out chooses; predict_proba is its answer, not the label words' softmax."""
    clf = fitted(data, budget=12, method_options=SIZES)
    asked = fitted(data, budget=12, method_options=SIZES, readout="auto")
    assert clf.readout == "auto"
    assert clf.deployed_ != "tuned"
    p = clf.predict_proba(data[0])
    assert np.array_equal(p, asked.predict_proba(data[0]))
    assert clf.prompt_.readout is not None
    plain = predict(load_model("embedded"), replace(clf.prompt_, readout=None), [(text,) for text in data[0]])
    assert np.abs(p - plain.probabilities).max() > 0.1
    assert clf.score(*data[:2]) > np.mean(clf.classes_[plain.probabilities.argmax(axis=1)] == data[1]) + 0.2


def test_a_search_with_a_readout_keeps_to_its_budget(data: tuple[list[str], np.ndarray, dict[str, str]]) -> None:
    clf = fitted(data, readout="labels", budget=12, method_options=SIZES)
    assert clf.calls_ is not None
    assert clf.calls_ <= 12
    assert clf.curve_[-1].calls == clf.calls_ - 4  # 48 rows, 32 a call, at the tuned prompt and at the manual one
    assert clf.deployed_ in {"manual", "manual + centred", "manual + readout", "tuned", "tuned + readout"}
    with pytest.raises(ValueError, match="the readouts 4"):
        fitted(data, readout="labels", budget=5, method_options=SIZES)


def test_shuffled_classes_are_warned_of(data: tuple[list[str], np.ndarray, dict[str, str]]) -> None:
    texts, y, words = data
    shuffled = np.random.default_rng(0).permutation(y)
    with pytest.warns(NothingLearned):
        fitted((texts, shuffled, words), method="none", readout="auto")


def test_what_cannot_be(data: tuple[list[str], np.ndarray, dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="readout is 'wide'"):
        fitted(data, readout="wide")
    plain = fitted(data, budget=12, method_options=SIZES, readout="none")
    with pytest.raises(ValueError, match="come with a readout"):
        plain.predict_set(data[0][:1])


def test_refit_learns_from_the_validation_rows_too(data: tuple[list[str], np.ndarray, dict[str, str]]) -> None:
    plain, clf = (fitted(data, method="none", readout="vocabulary", refit=refit) for refit in (False, True))
    rows = [one.prompt_.readout.about["rows"] for one in (plain, clf)]
    assert (rows[1], clf.calls_) == (2 * rows[0], 2 * plain.calls_)
    assert not np.allclose(clf.predict_proba(data[0]), plain.predict_proba(data[0]))
    with pytest.raises(ValueError, match="refit fits a readout on the validation rows too, and readout is 'none'"):
        fitted(data, readout="none", refit=True)
