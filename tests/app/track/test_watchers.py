"""Callbacks of a run: called with every step, and never able to cost a call that is paid for."""

import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="zopog tune writes a page")

from tests.app.conftest import SMALL, Run
from zopog_ref.app.track.watchers import TRACKERS, Watchers, metrics_of, numbers_of
from zopog_ref.search import Record

PLAIN = [*SMALL[: SMALL.index("--readout")], "--readout", "labels", "--threads", "1"]


def record(step: int) -> Record:
    return Record(step, 8 * step, 0, 0, None, 0.5, {"loss": float("nan"), "alpha_gradient_norm": 2.0})


def test_what_a_tracker_draws_is_finite_and_known() -> None:
    assert metrics_of(record(3)) == {"calls": 24.0, "dev_loss": 0.5, "alpha_gradient_norm": 2.0}
    assert numbers_of({"test_accuracy": 0.5, "calls": 7, "learned": True, "task": "x", "n": None}) == {
        "test_accuracy": 0.5,
        "calls": 7.0,
    }
    assert numbers_of(None) == {}


def test_one_that_raises_is_dropped_and_said_and_the_others_go_on() -> None:
    seen: list[int] = []
    said: list[str] = []

    def breaks(record: Record) -> None:
        if record.step == 2:
            raise OSError("no network")

    watchers = Watchers([breaks, lambda record: seen.append(record.step)], said.append)
    for step in (1, 2, 3):
        watchers(record(step))
    watchers.close(None)
    assert seen == [1, 2, 3]
    assert len(said) == 1
    assert "breaks raised OSError: no network; the run goes on without it" in said[0]


def test_a_request_to_stop_is_not_swallowed() -> None:
    def stops(record: Record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Watchers([stops], print)(record(1))


class Kept:
    """A tracker that keeps what it gets, and breaks where it is told to."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.settings, self.steps, self.results = dict(settings), [], []
        MADE.append(self)
        if BREAK == "start":
            raise ConnectionError("no server there")

    def __call__(self, record: Record) -> None:
        self.steps.append(record.step)
        if BREAK == "step":
            raise ConnectionError("gone")

    def close(self, result: Mapping[str, Any] | None) -> None:
        self.results.append(result)
        if BREAK == "close":
            raise ConnectionError("gone")


MADE: list[Any] = []
BREAK = ""


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[Any]:
    """`--track wandb` is Kept here."""
    module = types.ModuleType("zopog_ref.app.track.wandb")
    module.open_tracker = Kept  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zopog_ref.app.track.wandb", module)
    stand_in = types.ModuleType("wandb")
    stand_in.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]  # what find_spec looks for
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.setattr(sys.modules[__name__], "BREAK", getattr(request, "param", ""))
    MADE.clear()
    return MADE


@pytest.mark.parametrize("tracker", ["", "step", "close"], indirect=True)
def test_a_tracked_run_is_the_run_without_one(zopog: Run, small_task: Path, tmp_path: Path, tracker: list[Any]) -> None:
    code, _, error = zopog("tune", "--task", small_task, *PLAIN, "--out", tmp_path / "run", "--track", "WandB")
    assert code == 0, error
    assert zopog("tune", "--task", small_task, *PLAIN, "--out", tmp_path / "plain")[0] == 0
    for name in ("curve.jsonl", "predictions.safetensors", "prompt/prompt.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    [kept] = tracker
    steps = len((tmp_path / "run" / "curve.jsonl").read_text().splitlines())
    assert kept.settings["method"] == "zo-pog"
    assert kept.settings["policy_samples"] == 4
    if BREAK == "step":
        assert (kept.steps, kept.results) == ([1], [])
        assert "the callback Kept raised ConnectionError: gone; the run goes on without it" in error
    else:
        assert kept.steps == list(range(1, steps + 1))
        assert kept.results[0]["test_accuracy"] == result["test_accuracy"]
    assert ("goes on without it" in error) is (BREAK != "")


@pytest.mark.parametrize("tracker", ["start"], indirect=True)
def test_one_that_does_not_start_ends_the_run_before_a_call_is_paid_for(
    zopog: Run, small_task: Path, tmp_path: Path, tracker: list[Any]
) -> None:
    code, _, error = zopog("tune", "--task", small_task, *PLAIN, "--out", tmp_path / "run", "--track", "wandb")
    assert code == 2
    assert "--track wandb does not start: ConnectionError: no server there" in error
    assert not (tmp_path / "run" / "curve.jsonl").exists()
    code, _, error = zopog("tune", "--resume", tmp_path / "run", "--threads", 1)  # without it, it does
    assert code == 0, error


def test_a_missing_package_is_named_before_the_model_is_opened(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in TRACKERS:
        code, _, error = zopog("tune", "--task", small_task, *PLAIN, "--out", tmp_path / "run", "--track", name)
        assert code == 2
        assert f"--track {name} needs the package '{name}': pip install" in error
        assert not (tmp_path / "run").exists()


def test_the_classifier_calls_back_and_a_callback_that_raises_costs_nothing() -> None:
    pytest.importorskip("sklearn", reason="PromptClassifier needs it")
    from sklearn.base import clone

    from zopog_ref import PromptClassifier

    texts, y = ["a small cat", "a dog", "a sweet cake", "a soup"], ["animal", "animal", "food", "food"]
    seen: list[Record] = []

    def breaks(record: Record) -> None:
        raise ValueError("not a number")

    options = {"n_positions": 2, "n_candidates": 5, "dim": 3, "policy_samples": 2, "direction_pairs": 1}
    plain = PromptClassifier(budget=40, threads=1, method_options=options, readout="none")
    watched = clone(plain).set_params(on_step=[breaks, seen.append])
    with pytest.warns(UserWarning, match="breaks raised ValueError: not a number"):
        watched.fit(texts, y)
    assert seen == watched.curve_
    assert len(seen) == 10
    assert np.array_equal(watched.prompt_.offsets, plain.fit(texts, y).prompt_.offsets)
    again = clone(plain).set_params(on_step=breaks)
    with pytest.raises(UserWarning):  # the suite makes warnings errors: what was paid for is there all the same
        again.fit(texts, y)
    assert np.array_equal(again.prompt_.offsets, plain.prompt_.offsets)


def test_a_watched_classifier_goes_to_disk_without_its_callbacks(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="PromptClassifier needs it")
    from zopog_ref import PromptClassifier

    texts, y = ["a small cat", "a dog", "a sweet cake", "a soup"], ["animal", "animal", "food", "food"]
    options = {"n_positions": 2, "n_candidates": 5, "dim": 3, "policy_samples": 2, "direction_pairs": 1}
    clf = PromptClassifier(budget=8, threads=1, method_options=options, readout="none", on_step=lambda record: None)
    clf.fit(texts, y)
    clf.save(tmp_path / "kept")
    assert PromptClassifier.load(tmp_path / "kept").on_step is None
