"""PromptClassifier as scikit-learn's users meet it: conventions, inputs, keeping, resuming, every method, errors."""

import copy
import json
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="PromptClassifier needs scikit-learn (extra sklearn)")
pytest.importorskip("onnxruntime", reason="the embedded model needs onnxruntime (extra cpu)")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from tests.app.conftest import SMALL as SMALL_OPTIONS
from tests.app.conftest import Run
from zopog_models.frozen.oracle import FrozenModelOracle
from zopog_models.tasks.task_files import load_task, read_rows
from zopog_ref import PromptClassifier
from zopog_ref.app.classifier.classifier import TextsCut
from zopog_ref.app.classifier.data import few_of_each, texts_of
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.methods import METHODS, MissingPackage, method_class
from zopog_ref.search import step_price

pytestmark = pytest.mark.filterwarnings("ignore:nothing was learned")  # of so few rows; test_classifier_readout.py
ROOT = Path(__file__).parents[3]
SIZES = {"n_positions": 3, "dim": 8, "n_candidates": 12}
OPTIONS = {**SIZES, "policy_samples": 4, "direction_pairs": 2}
SMALL = {"budget": 30, "shots": 3, "batch_size": 4, "threads": 1, "method_options": OPTIONS}
PAIRS = "{text_a} ? {mask} , {text_b}"


def rows_of(task: str, classes: int, each: int) -> tuple[list, list[str]]:
    """The first `each` rows of the first classes of an embedded task's train file, as given by its labels."""
    described = load_task(task)
    names = list(described.labels)
    rows = read_rows(described.train, described)
    kept = [i for c in range(classes) for i in np.flatnonzero(rows.labels == c)[:each]]
    texts = [rows.texts[i] if len(rows.texts[i]) > 1 else rows.texts[i][0] for i in kept]
    return texts, [names[rows.labels[i]] for i in kept]


@pytest.fixture(scope="module")
def data() -> tuple[list[str], list[str]]:
    return rows_of("supersense", 3, 10)


@pytest.fixture(scope="module")
def fitted(data) -> PromptClassifier:
    return PromptClassifier(**SMALL).fit(*data)


# -- scikit-learn's own checks -------------------------------------------------------------------------------------

NUMBERS = "fits rows of numbers, and this classifier takes texts; below, the same is asked of texts"
WORDING = "wants an error's wording for numbers (NaN, complex, no columns); this one says that X must hold texts"
FAILING = dict.fromkeys(
    ["check_classifier_data_not_an_array", "check_classifiers_classes", "check_classifiers_one_label", "check_classifiers_train", "check_classifiers_regression_target", "check_dict_unchanged", "check_dont_overwrite_parameters", "check_dtype_object", "check_estimator_sparse_array", "check_estimators_dtypes", "check_estimators_fit_returns_self", "check_estimators_pickle", "check_estimators_overwrite_params", "check_f_contiguous_array_estimator", "check_fit2d_1feature", "check_fit2d_1sample", "check_fit2d_predict1d", "check_fit_check_is_fitted", "check_fit_idempotent", "check_fit_score_takes_y", "check_n_features_in", "check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_n_features_in_after_fitting", "check_pipeline_consistency", "check_positive_only_tag_during_fit", "check_readonly_memmap_input", "check_supervised_y_2d"], NUMBERS,
) | dict.fromkeys(
    ["check_complex_data", "check_estimators_nan_inf", "check_estimators_empty_data_messages"], WORDING,
)  # fmt: skip


@parametrize_with_checks(
    [PromptClassifier(**SMALL)], expected_failed_checks=lambda estimator: FAILING, xfail_strict=True
)
def test_conventions_of_scikit_learn(estimator, check) -> None:
    check(estimator)


def test_tags_say_that_it_takes_texts() -> None:
    tags = get_tags(PromptClassifier())
    assert (tags.estimator_type, tags.input_tags.string, tags.target_tags.required) == ("classifier", True, True)
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.sparse


# -- what those checks say of numbers, on texts --------------------------------------------------------------------


def test_fitted_it_has_what_classifiers_have(fitted, data) -> None:
    texts, y = data
    p = fitted.predict_proba(texts)
    assert p.shape == (30, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert fitted.classes_.tolist() == sorted(set(y))
    assert fitted.n_features_in_ == 1
    assert (fitted.predict(texts) == fitted.classes_[p.argmax(axis=1)]).all()
    assert fitted.score(texts, y) == np.mean(fitted.predict(texts) == y)
    assert (fitted.calls_, fitted.stop_reason_, len(fitted.curve_)) == (
        30,
        "budget",
        3,
    )  # three steps of eight, and two readouts of nine rows, four a call
    assert (fitted.deployed_, fitted.prompt_tokens_) == ("manual + readout", [[]])
    plain = clone(fitted).set_params(readout="none").fit(texts, y)
    assert (plain.deployed_, plain.calls_, [len(tokens) for tokens in plain.prompt_tokens_]) == ("tuned", 24, [3])


def test_texts_of_few_tokens_have_as_many_candidates() -> None:
    texts, y = ["a large cat", "a man who writes", "a tiger", "a doctor"] * 4, ["animal", "person"] * 8
    clf = PromptClassifier(**SMALL | {"method_options": OPTIONS | {"n_candidates": 100}})
    with pytest.warns(UserWarning, match="100 candidate tokens were asked for, the texts hold 10: N is 10"):
        clf.fit(texts, y)
    assert clf.curve_[-1].calls > 0


def test_fit_changes_no_parameter_and_can_be_repeated(fitted, data) -> None:
    again = clone(fitted)
    before = json.dumps(again.get_params())
    first = again.fit(*data).predict_proba(data[0])
    second = again.fit(*data).predict_proba(data[0])
    assert json.dumps(again.get_params()) == before
    assert (first == second).all()
    assert (first == fitted.predict_proba(data[0])).all()


def test_fitting_adds_underscored_names_and_predicting_nothing(fitted, data) -> None:
    fresh = PromptClassifier(**SMALL)
    before = set(vars(fresh))
    fresh.fit(np.array(data[0]), np.array(data[1]))
    assert all(name.endswith("_") and not name.startswith("_") for name in set(vars(fresh)) - before)
    after = dict(vars(fresh))
    fresh.predict(data[0])
    fresh.predict_uncertainty(data[0])
    assert vars(fresh) == after


def test_fit_leaves_texts_and_classes_alone(data) -> None:
    texts, y = np.array(data[0]), np.array(data[1])
    texts.flags.writeable = y.flags.writeable = False
    PromptClassifier(**SMALL).fit(texts, y)
    with pytest.warns(UserWarning, match="column-vector y"):
        PromptClassifier(**SMALL).fit(texts, y[:, None])


def test_random_state_decides_split_and_draws(fitted, data) -> None:
    def other(state: Any) -> np.ndarray:
        return PromptClassifier(**SMALL, random_state=state).fit(*data).predict_proba(data[0])

    assert not np.allclose(other(7), fitted.predict_proba(data[0]))
    assert (other(np.random.RandomState(3)) == other(np.random.RandomState(3))).all()
    assert (other(None) != other(None)).any()


def test_rows_are_predicted_one_by_one(fitted, data) -> None:
    whole = fitted.predict_proba(data[0])
    np.testing.assert_allclose(fitted.predict_proba(data[0][::-1])[::-1], whole, atol=1e-5)
    np.testing.assert_allclose([fitted.predict_proba([text])[0] for text in data[0][:4]], whole[:4], atol=1e-5)


def test_labels_are_words_for_any_kind_of_class(fitted, data) -> None:
    """The classes' own names by default; with words for them, numbers give the same prompt and probabilities."""
    names = fitted.classes_.tolist()
    numbers = [10 * names.index(value) for value in data[1]]
    by_number = PromptClassifier(**SMALL, labels={10 * i: name for i, name in enumerate(names)})
    by_number.fit(data[0], np.array(numbers))
    assert by_number.classes_.tolist() == [0, 10, 20]
    assert (by_number.predict_proba(data[0]) == fitted.predict_proba(data[0])).all()
    assert set(by_number.predict(data[0])) <= {0, 10, 20}
    by_text = PromptClassifier(**SMALL, labels={str(10 * i): name for i, name in enumerate(names)})
    assert (by_text.fit(data[0], numbers).predict_proba(data[0]) == fitted.predict_proba(data[0])).all()
    truth = PromptClassifier(**SMALL, labels={True: "person", False: "animal"}).fit(data[0], np.arange(30) < 15)
    assert truth.predict(data[0]).dtype == bool


def test_every_container_of_texts_is_the_same(fitted, data) -> None:
    pandas = pytest.importorskip("pandas", reason="Series and DataFrame need pandas")
    texts, y = data
    expected = fitted.predict_proba(texts)
    containers = [
        tuple(texts), np.array(texts), np.array(texts, dtype=object), np.array(texts)[:, None], pandas.Series(texts),
        pandas.Series(texts, dtype="string", index=range(100, 130)), pandas.DataFrame({"text": texts}),
    ]  # fmt: skip
    for X in containers:
        assert (fitted.predict_proba(X) == expected).all()
    series = clone(fitted).fit(pandas.Series(texts, index=range(30)[::-1]), pandas.Series(y))
    assert (series.predict_proba(texts) == expected).all()


def test_pairs_are_two_columns() -> None:
    pandas = pytest.importorskip("pandas", reason="DataFrame needs pandas")
    pairs, y = rows_of("hyponym", 2, 8)
    words = dict(load_task("hyponym").labels)
    clf = PromptClassifier(**SMALL, template=PAIRS, labels=words).fit(np.array(pairs), y)
    assert clf.n_features_in_ == 2
    expected = clf.predict_proba(pairs)
    frame = pandas.DataFrame(pairs, columns=["a", "b"])
    assert (clone(clf).fit(frame, y).predict_proba(frame) == expected).all()
    swapped = np.array(pairs)[:, ::-1]
    assert not np.allclose(clf.predict_proba(swapped), expected)
    with pytest.raises(ValueError, match=r"takes 2 text\(s\)"):
        clf.predict(["one text"])


def test_columns_are_taken_by_their_names(tmp_path: Path) -> None:
    """Columns in another order gave other probabilities, and no error."""
    pandas = pytest.importorskip("pandas", reason="DataFrame needs pandas")
    pairs, y = rows_of("hyponym", 2, 8)
    words = dict(load_task("hyponym").labels)
    named = pandas.DataFrame(pairs, columns=["text_a", "text_b"])
    clf = PromptClassifier(**SMALL, template=PAIRS, labels=words).fit(named[["text_b", "text_a"]], y)
    assert clf.feature_names_in_.tolist() == ["text_a", "text_b"]
    plain = PromptClassifier(**SMALL, template=PAIRS, labels=words).fit(np.array(pairs), y)
    for X in (named, named[["text_b", "text_a"]]):  # the template's own names: in any order
        assert (clf.predict_proba(X) == plain.predict_proba(pairs)).all()
        assert (plain.predict_proba(X) == plain.predict_proba(pairs)).all()
    clf.save(tmp_path / "kept")
    kept = PromptClassifier.load(tmp_path / "kept", threads=1)
    assert (kept.predict_proba(named[["text_b", "text_a"]]) == plain.predict_proba(pairs)).all()
    other = named.rename(columns={"text_a": "noun", "text_b": "definition"})
    with pytest.raises(ValueError, match="feature names"):  # scikit-learn's rule for all other names
        clf.predict_proba(other)
    clf = PromptClassifier(**SMALL, template=PAIRS, labels=words).fit(other, y)
    assert (clf.predict_proba(other) == plain.predict_proba(pairs)).all()
    with pytest.raises(ValueError, match="same order"):
        clf.predict_proba(other[["definition", "noun"]])


@pytest.mark.parametrize("labels", [["animal", "food"], "animal", 3])
def test_labels_that_are_no_map_are_named(labels: Any) -> None:
    """A list of words ended in an AttributeError."""
    texts, y = rows_of("supersense", 2, 4)
    with pytest.raises(ValueError, match="it must map each class to its label word"):
        PromptClassifier(**SMALL, labels=labels).fit(texts, y)


def test_a_class_that_has_two_words_is_named() -> None:
    """The last of 1 and "1" was taken."""
    texts, _ = rows_of("supersense", 2, 4)
    with pytest.raises(ValueError, match="labels: the key '1' is there twice"):
        PromptClassifier(**SMALL, labels={0: "animal", 1: "food", "1": "city"}).fit(texts, [0, 1] * 4)


def test_uncertainty_of_one_prompt(fitted, data) -> None:
    found = fitted.predict_uncertainty(data[0])
    p = fitted.predict_proba(data[0])
    np.testing.assert_allclose(found["entropy"], -(p * np.log(p)).sum(axis=1))
    np.testing.assert_allclose(found["mutual_information"], 0, atol=1e-12)
    assert (found["agreement"] == 1).all()


# -- inside scikit-learn -------------------------------------------------------------------------------------------


def test_cross_validation_and_grid_search(data) -> None:
    scores = cross_val_score(PromptClassifier(**SMALL), *data, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    grid = {"method_options": [OPTIONS, OPTIONS | {"eta_z": 0.01}], "template": ["{text} is a {mask} ."]}
    search = GridSearchCV(PromptClassifier(**SMALL), grid, cv=2).fit(*data)
    assert search.best_params_["method_options"] in grid["method_options"]
    assert search.predict(data[0][:2]).shape == (2,)
    assert search.n_features_in_ == 1


def test_pipeline(fitted, data) -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda texts: [text.strip() for text in texts]), clone(fitted))
    pipeline.set_params(promptclassifier__budget=24)
    padded = [f"  {text} " for text in data[0]]
    assert (pipeline.fit(padded, data[1]).predict_proba(padded) == fitted.predict_proba(data[0])).all()


# -- every method --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_saves_and_is_sure_of_what_it_says(method: str, data, tmp_path: Path) -> None:
    preset = PRESETS[method, "embedded"]
    try:
        made = method_class(method)(3, 12, 8, preset.method)
    except MissingPackage as error:
        pytest.skip(str(error))
    ledger = type("Prices", (), {"price": staticmethod(lambda prompts, rows: prompts * -(-rows // 16))})
    budget = 2 * step_price(made, ledger, rows=9, batch_size=16)
    clf = PromptClassifier(method=method, budget=budget, shots=3, batch_size=16, method_options=SIZES).fit(*data)
    assert 0 < clf.calls_ <= budget
    p, unsure = clf.predict_proba(data[0]), clf.predict_uncertainty(data[0])
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (unsure["entropy"] >= unsure["mutual_information"] - 1e-12).all()
    assert ((unsure["agreement"] > 0) & (unsure["agreement"] < 1 + 1e-9)).all() or len(clf.prompt_.ids) > 1
    clf.save(tmp_path)
    assert (PromptClassifier.load(tmp_path).predict_proba(data[0]) == p).all()


# -- keeping -------------------------------------------------------------------------------------------------------


def test_a_pickle_of_it_predicts_the_same(fitted, data) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(data[0]) == fitted.predict_proba(data[0])).all()
    assert again.get_params() == fitted.get_params()
    assert len(pickle.dumps(fitted)) < 100_000  # the model is not in it


@pytest.mark.parametrize("kind", ["text", "number", "truth", "object"])
def test_save_and_load(fitted, data, tmp_path: Path, kind: str) -> None:
    values = {"text": fitted.classes_, "number": np.array([3, 1, 2]), "truth": np.array([False, True]),
              "object": np.array(["b", "a", "c"], dtype=object)}[kind]  # fmt: skip
    y = values[np.unique(data[1], return_inverse=True)[1] % len(values)]
    words = {value: fitted.classes_[i] for i, value in enumerate(values.tolist())}
    clf = PromptClassifier(**SMALL, labels=words, random_state=np.int64(5)).fit(data[0], y)
    clf.save(tmp_path / "kept")
    again = PromptClassifier.load(tmp_path / "kept", threads=1)
    assert (again.predict_proba(data[0]) == clf.predict_proba(data[0])).all()
    assert (again.predict(data[0]) == clf.predict(data[0])).all()
    assert again.classes_.dtype == clf.classes_.dtype
    assert again.validation_score_ == clf.validation_score_
    assert again.get_params() == clf.get_params() | {
        "random_state": 5,
        "labels": dict(zip(clf.classes_.tolist(), clf.prompt_.labels.values())),
    }
    assert (again.fit(data[0], y).predict_proba(data[0]) == clf.predict_proba(data[0])).all()


def test_the_command_line_reads_what_it_saved_and_the_other_way_round(
    fitted, data, zopog: Run, small_task: Path, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "kept")
    texts = data[0][:3]
    code, out, _ = zopog("predict", tmp_path / "kept", "--text", *texts)
    assert code == 0
    assert [json.loads(line)["label"] for line in out.splitlines()] == fitted.predict(texts).tolist()
    assert zopog("tune", "--task", small_task, *SMALL_OPTIONS, "--out", tmp_path / "run", "--json")[0] == 0
    code, out, _ = zopog("predict", tmp_path / "run", "--text", *texts)
    answers = [json.loads(line)["label"] for line in out.splitlines()]
    for folder in ("run", "run/prompt"):
        assert PromptClassifier.load(tmp_path / folder).predict(texts).tolist() == answers


def test_classes_that_json_does_not_know_are_refused(fitted, tmp_path: Path) -> None:
    dated = clone(fitted)
    dated.__dict__ |= fitted.__dict__ | {"classes_": np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")}
    with pytest.raises(ValueError, match="cannot be saved"):
        dated.save(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


# -- interruption --------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts questions to the model on training mini-batches, and interrupts at asked["stop"]."""
    counts, real = Counter(), FrozenModelOracle.logits

    def counted(self, tokens, z, examples):
        if len(examples) <= SMALL["batch_size"]:
            if counts["training"] + 1 == counts["stop"]:
                raise KeyboardInterrupt
            counts["training"] += 1
        return real(self, tokens, z, examples)

    monkeypatch.setattr(FrozenModelOracle, "logits", counted)
    return counts


@pytest.mark.parametrize("stop", [1, 2, 4, 6])
def test_an_interrupted_fit_goes_on(fitted, data, tmp_path: Path, asked: Counter, stop: int) -> None:
    asked["stop"] = stop
    clf = PromptClassifier(**SMALL, run_folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*data)
    asked["stop"] = 0
    clf.fit(*data)
    assert asked["training"] == 6  # three steps of two questions: nothing was asked twice
    assert (clf.predict_proba(data[0]) == fitted.predict_proba(data[0])).all()
    assert clf.curve_ == fitted.curve_
    clone(clf).fit(*data)
    assert asked["training"] == 6  # finished: fitting it again costs nothing


def test_without_a_folder_it_begins_again(data, asked: Counter) -> None:
    asked["stop"] = 4
    with pytest.raises(KeyboardInterrupt):
        PromptClassifier(**SMALL).fit(*data)
    asked["stop"] = 0
    PromptClassifier(**SMALL).fit(*data)
    assert asked["training"] == 3 + 6


def test_other_data_or_settings_have_a_folder_of_their_own(data, tmp_path: Path, asked: Counter, zopog: Run) -> None:
    texts, y = data
    clf = PromptClassifier(**SMALL, run_folder=tmp_path).fit(texts, y)
    for changed in (clone(clf).set_params(budget=16), clone(clf).set_params(random_state=1), clone(clf)):
        other = texts if changed.get_params() != clf.get_params() else [text + " indeed" for text in texts]
        assert changed.fit(other, y).run_folder_ != clf.run_folder_
    cross_val_score(PromptClassifier(**SMALL, run_folder=tmp_path), texts, y, cv=2)
    assert len(list(tmp_path.iterdir())) == 4 + 2
    before = asked["training"]
    cross_val_score(PromptClassifier(**SMALL, run_folder=tmp_path), texts, y, cv=2)
    assert asked["training"] == before
    assert zopog("predict", clf.run_folder_, "--text", "a cat")[0] == 0
    assert (PromptClassifier.load(clf.run_folder_).predict(texts) == clf.predict(texts)).all()


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"method": "sgd"}, "unknown method 'sgd'"),
        ({"settings": "best"}, "choose one of embedded, paper"),
        ({"budget": 7}, "one step costs"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": 1.5}, "budget is 1.5"),
        ({"shots": 0}, "shots is 0"),
        ({"validation_fraction": 1.0}, "between 0 and 1"),
        ({"template": "{text} ."}, "exactly once"),
        ({"labels": {"animal": "animal"}}, "no word for the class"),
        ({"labels": {"animal": "animal", "person": "", "food": "food"}}, "needs a label word"),
        ({"method_options": {"popsie": 3}}, "has no setting 'popsie'"),
        ({"method_options": {"budget": 3}}, "a parameter of its own"),
        ({"method_options": {"n_positions": 0}}, "n_positions is 0"),
        ({"method_options": {"loss": "square"}}, "loss is 'square'"),
        ({"method_options": {3: 4}}, "is no name"),
        ({"random_state": -1}, "Seed must be"),
        ({"random_state": "x"}, "cannot be used to seed"),
        ({"model": "/no/such/folder"}, "/no/such/folder"),
        ({"device": "tpu"}, "device must be one of"),
    ],
)
def test_unusable_parameters_are_named_when_fitting(data, params: dict, words: str) -> None:
    clf = PromptClassifier(**{**SMALL, **params})  # never when they are set
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        clf.fit(*data)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        ("a text", ["a"], "one string"),
        ([], [], "0 samples"),
        ([1.5, 2.5], ["a", "b"], "row 0 holds 1.5"),
        (["a", None], ["a", "b"], "row 1 holds None"),
        (["a", float("nan")], ["a", "b"], "row 1 holds nan"),
        ([["a", "b"], ["c", "d"]], ["a", "b"], r"takes 1 text"),
        (np.array("a text"), ["a"], r"got \(\)"),
        (["a", "b"], ["a"], "inconsistent numbers of samples"),
        (["a", "b"], ["a", "a"], "one class only"),
        (["a", "b"], ["a", "b"], "two are needed"),
        (["a", "b"], [0.5, 1.5], "Unknown label type"),
        (["a", "b"], None, "requires y"),
        (["a", "b", "c", "d"], [["a", "b"]] * 4, "1d array"),
    ],
)
def test_unusable_rows_are_named(X: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PromptClassifier(**SMALL).fit(X, y)


def test_not_fitted() -> None:
    with pytest.raises(NotFittedError):
        PromptClassifier().predict(["a text"])
    with pytest.raises(NotFittedError):
        PromptClassifier().save("nowhere")
    assert not Path("nowhere").exists()


def test_after_a_fit_that_failed_nothing_is_fitted(fitted, data) -> None:
    """The earlier prompt answered for the columns of the later data; a first fit that failed left an AttributeError."""
    pandas = pytest.importorskip("pandas", reason="DataFrame needs pandas")
    table = pandas.DataFrame({"words": data[0]})
    for clf in (copy.copy(fitted), PromptClassifier(**SMALL)):
        with pytest.raises(ValueError, match="labels has no word"):
            clf.set_params(labels={"x": "animal"}).fit(table, data[1])
        with pytest.raises(NotFittedError):
            clf.predict(table)
    assert fitted.predict(data[0][:1]).shape == (1,)


def test_texts_that_are_cut_are_counted(fitted, data) -> None:
    with pytest.warns(TextsCut, match="2 texts did not fit"):
        fitted.predict(["cat " * 1000, "a cat", "dog " * 1000])
    long = [text + " and so on" * 200 for text in data[0]]
    with pytest.warns(TextsCut, match="18 texts did not fit"):
        clone(fitted).fit(long, data[1])


def test_a_damaged_folder_is_refused(fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    file = tmp_path / "prompt.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"prompt\.safetensors"):
        PromptClassifier.load(tmp_path)


# -- the split -----------------------------------------------------------------------------------------------------


def test_split_sizes_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [2, 10, 100])
    order = np.random.default_rng(0).permutation(112)
    for shots, fraction, trained, selected in (
        (16, 0.5, [1, 5, 16], [1, 5, 16]),
        (None, 0.5, [1, 5, 50], [1, 5, 50]),
        (16, 0.2, [1, 8, 16], [1, 2, 16]),
        (3, 0.01, [1, 3, 3], [1, 1, 1]),
        (None, 0.99, [1, 1, 1], [1, 9, 99]),
    ):
        train, validation = few_of_each(labels, ["a", "b", "c"], shots, fraction, order)
        assert np.bincount(labels[train]).tolist() == trained
        assert np.bincount(labels[validation]).tolist() == selected
        assert not set(train.tolist()) & set(validation.tolist())
    with pytest.raises(ValueError, match=r"class 'b' has 1 row"):
        few_of_each(np.array([0, 0, 1]), ["a", "b"], 16, 0.5, np.arange(3))


def test_texts_stay_as_they_are() -> None:
    assert texts_of(["", " a ", "\u2028"], 1) == [("",), (" a ",), ("\u2028",)]
    assert texts_of([("a", "b")], 2) == [("a", "b")]


# -- imports -------------------------------------------------------------------------------------------------------


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_without_scikit_learn_the_extra_is_named_and_the_rest_works() -> None:
    hidden = "import sys; sys.modules['sklearn'] = None\nimport zopog_ref\nassert zopog_ref.ZOPoG\n"
    done = run_python(hidden + "from zopog_ref import PromptClassifier")
    assert done.returncode == 1
    assert "pip install scikit-learn;" in done.stderr.splitlines()[-1]
    done = run_python(hidden + "import zopog_ref.app.command_line\nfrom zopog_ref import *\nprint(ZOPoG.__name__)")
    assert done.stdout == "ZOPoG\n", done.stderr


def test_other_names_are_missing_as_ever() -> None:
    done = run_python("import zopog_ref; zopog_ref.PromptClasifier")
    assert "has no attribute 'PromptClasifier'" in done.stderr


# -- documentation -------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation_runs() -> None:
    page = (ROOT / "docs" / "scikit-learn.md").read_text("utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    assert len(code.strip().splitlines()) <= 12
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(code, "docs/scikit-learn.md", "exec"), names)
    assert names["probabilities"].shape == (2, 3)
