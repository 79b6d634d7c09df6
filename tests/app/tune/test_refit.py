"""--refit: the deployed readout is one of the training and dev rows together, and what is said of it is left out."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.app.conftest import Run, asked
from zopog_models import load_model, load_prompt
from zopog_models.tasks.task_files import Rows
from zopog_ref import readout
from zopog_ref.app.run.experiment import Experiment, prepare
from zopog_ref.app.tune import ending, readings
from zopog_ref.app.tune.refit import dev_price, refitted
from zopog_ref.app.tune.result import taught_said
from zopog_ref.conformal import conformal_threshold
from zopog_ref.objective import Ledger

FEW = ["--shots", "8", "--threads", "1"]  # 48 training and 48 dev rows: two calls a prompt each


@pytest.fixture(scope="module")
def experiment(small_task: Path) -> Experiment:
    config, _ = asked(["--task", str(small_task), "--method", "none", *FEW])
    return prepare(load_model(threads=1), config.task, config.preset, 42, 8)


def _whole(experiment: Experiment, kind: str, ledger: Ledger) -> tuple[readings.Scored, readings.Reading]:
    prompt = readings.template_prompt(experiment, [experiment.task.template])
    scored = readings.ask(experiment, prompt, ledger, 200)
    choice = readings.fitted(scored, experiment.train, kind)
    return scored, readings.reading("manual + readout", scored, choice.fit, experiment.dev, scored.calls, choice)


@pytest.mark.parametrize("kind", ["vocabulary", "labels", "centred"])
def test_it_is_the_readout_of_both_splits(experiment: Experiment, kind: str, capsys: Any) -> None:
    ledger, (train, dev) = experiment.ledger(), (experiment.train, experiment.dev)
    scored, before = _whole(experiment, kind, ledger)
    spent = ledger.calls
    after = refitted(experiment, before, scored, train, ledger, kind, searched=False)
    assert ledger.calls == spent + dev_price(experiment, 1) == spent + 2 == after.calls
    assert ledger.sequences == 96
    labels = np.concatenate([train.labels, dev.labels])
    groups = readings.groups_of(Rows([*train.texts, *dev.texts], labels))
    both = np.concatenate([scored.train[0], scored.dev[0]])
    exact = readout.choose(both, labels, 6, groups=groups, kinds=(kind,), columns=scored.columns).fit  # type: ignore
    kept = after.prompt.readout
    assert kept is not None
    assert np.allclose(kept.matrices[0], exact.readout.matrices[0], atol=1e-9)
    assert np.allclose(kept.bias, exact.readout.bias, atol=1e-9)
    assert not np.allclose(kept.bias, before.prompt.readout.bias)  # type: ignore[union-attr]
    assert kept.about["rows"] == 96
    # What is said of the dev rows and of the sets is of fits that have not seen the row.
    assert np.allclose(after.dev.probabilities, exact.left_out[48:], atol=1e-9)
    assert kept.threshold == pytest.approx(
        conformal_threshold(exact.left_out, labels, readings.ALPHA, groups), abs=1e-9
    )
    assert after.test is not None
    given = scored.test if kind == "vocabulary" else scored.words(scored.test)  # type: ignore[arg-type]
    assert np.allclose(after.test.probabilities, exact.readout.predict(given), atol=1e-9)
    # The twin: the fit's own answers on rows it has seen look surer than they are.
    seen = exact.readout.predict(scored.dev if kind == "vocabulary" else scored.words(scored.dev))
    if kind != "centred":
        assert _loss(seen, dev.labels) < _loss(after.dev.probabilities, dev.labels) - 0.01


def _loss(p: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(p[np.arange(len(labels)), labels]).mean())


def test_the_tokens_of_a_prompt_are_counted(experiment: Experiment) -> None:
    """Four tokens in front of each of the 48 dev rows are 192 more than without."""
    scored, before = _whole(experiment, "centred", experiment.ledger())
    plain, prompt = experiment.ledger(), before.prompt
    refitted(experiment, before, scored, experiment.train, plain, "centred", searched=False)
    size = prompt.offsets.shape[2]
    longer = replace(before, prompt=replace(prompt, ids=np.full((1, 4), 7), offsets=np.zeros((1, 4, size))))
    more = experiment.ledger()
    refitted(experiment, longer, scored, experiment.train, more, "centred", searched=False)
    assert more.tokens == plain.tokens + 48 * 4


def test_a_dev_row_s_own_label_does_not_help_it(experiment: Experiment) -> None:
    """By definition: with another label on dev row 5, the row itself is answered as before, but for the temperature."""
    scored, before = _whole(experiment, "vocabulary", experiment.ledger())
    dev = experiment.dev
    answers = []
    for label in (0, 1, 2):
        labels = dev.labels.copy()
        labels[5] = label
        object.__setattr__(experiment, "dev", Rows(dev.texts, labels))
        try:
            found = refitted(experiment, before, scored, experiment.train, experiment.ledger(), "vocabulary", False)
        finally:
            object.__setattr__(experiment, "dev", dev)
        logits = np.log(found.dev.probabilities[5]) * found.prompt.readout.about["temperature"]  # type: ignore
        answers.append(logits - logits.mean())
    assert np.allclose(answers[0], answers[1], atol=1e-6)
    assert np.allclose(answers[0], answers[2], atol=1e-6)


def test_sets_of_a_prompt_that_the_training_rows_chose_are_of_the_dev_rows_alone(experiment: Experiment) -> None:
    """A search makes its training rows easier than others: their left-out answers too. A text that the service refused
    counts for the sets as it does without --refit, even where its copy was answered."""
    scored, _ = _whole(experiment, "labels", experiment.ledger())
    dev, texts = experiment.dev, list(experiment.train.texts)
    texts[3] = dev.texts[5]
    train = Rows(texts, experiment.train.labels)
    scored.dev[0][5] = 0.0  # no answer
    easy = scored.train[0] + 9 * np.eye(6, scored.train[0].shape[1])[train.labels]
    found = {}
    for name, given in (("plain", scored), ("searched", replace(scored, train=[easy]))):
        fit = readings.fitted(given, train, "labels").fit
        one = readings.reading("tuned + readout", given, fit, dev, 2)
        after = refitted(experiment, one, given, train, experiment.ledger(), "labels", searched=True)
        kept, groups = after.prompt.readout, readings.groups_of(dev)
        assert kept is not None
        assert kept.about["rows"] == 95
        assert np.array_equal(kept.threshold, conformal_threshold(after.dev.probabilities, dev.labels, 0.1, groups))
        said = kept.probabilities(np.stack(given.words(given.dev)))
        assert np.allclose(after.dev.probabilities[5], said[5])  # it told no fit, so nothing is left out
        assert np.abs(after.dev.probabilities - said).max(axis=1)[np.arange(48) != 5].min() > 0
        both = refitted(experiment, one, given, train, experiment.ledger(), "labels", searched=False)
        found[name] = float(kept.threshold[0] - both.prompt.readout.threshold[0])  # type: ignore[union-attr, index]
    assert found["searched"] > 0.04 > found["plain"], found  # the twin: rows that were searched on make sets too small


@pytest.mark.parametrize(
    ("method", "searched"), [("zo-pog", {"tuned + readout"}), ("auto", {"tuned + readout"}), ("none", set())]
)
def test_which_prompts_the_training_rows_have_chosen(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, searched: set[str]
) -> None:
    asked_of: dict[str, bool] = {}

    def noted(experiment: Experiment, one: readings.Reading, *rest: Any, searched: bool) -> readings.Reading:
        asked_of[one.name] = searched
        return refitted(experiment, one, *rest, searched)

    monkeypatch.setattr(ending, "refitted", noted)
    small = ["--n-positions", "3", "--dim", "8", "--n-candidates", "12"] * (method == "zo-pog")
    code, said, error = zopog(
        "tune", "--task", small_task, "--method", method, *FEW, *small, "--budget", "200", "--refit", "--out",
        tmp_path / "run", "--json",
    )  # fmt: skip
    assert code == 0, error
    assert {name for name, value in asked_of.items() if value} == searched
    assert "manual + readout" in asked_of
    # What is reported as learned is what its p-value says, or the dev rows.
    answer = json.loads(said)
    told = answer["readout"]["choices"]["tuned + readout" if method == "auto" else "manual + readout"]
    assert answer["learned"] or told["p_value"] > 0.05


def test_without_calls_for_it_the_reading_stays(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    scored, before = _whole(experiment, "vocabulary", experiment.ledger())
    ledger = Ledger(batch_size=32, budget=1)
    assert refitted(experiment, before, scored, experiment.train, ledger, "vocabulary", False) is before
    assert ledger.calls == 0
    assert "is not fitted on the dev rows too: that costs 2 calls, and 1 are left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "budget", "fits"),
    [
        ("none", 400, 96),
        ("auto", 3, 48),
        ("auto", 9, 96),
        ("auto", 22, 96),
        ("auto", 60, 96),
        ("zo-pog", 60, 96),
        ("bbt", 68, 96),
    ],
)
def test_runs_spend_what_their_budget_has(
    zopog: Run, small_task: Path, tmp_path: Path, method: str, budget: int, fits: int
) -> None:
    small = ["--n-positions", "3", "--dim", "8", "--n-candidates", "12"]
    if method == "bbt":
        pytest.importorskip("cma")
        small += ["--popsize", "4"]
    more = [] if method in ("none", "auto") else [*small, "--policy-samples", "2"][: None if method == "zo-pog" else -2]
    code, said, error = zopog(
        "tune", "--task", small_task, "--method", method, "--budget", budget, *FEW, *more, "--refit", "--readout",
        "vocabulary", "--json", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, error
    result = json.loads(said)
    assert result["calls"] <= budget
    assert result["readout"]["rows"] == fits
    assert ("is not fitted on the dev rows too" in error) == (fits == 48)  # a search keeps that back
    assert result["answers"][-1]["name"] == ("manual" if method == "none" else "tuned") + " + readout"
    if method == "auto":
        kept = sum(arm["kept"] for arm in result["auto"]["arms"])
        asked_for = sum(-(-arm["rows"] // 32) for arm in result["auto"]["arms"])
        assert result["calls"] == asked_for + (2 * kept if fits == 96 else 0)
        assert result["auto"]["unspent"] == budget - result["calls"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["refit"] is True
    prompt = load_prompt(tmp_path / "run" / "prompt")
    assert prompt.readout is not None
    assert prompt.readout.about["rows"] == fits
    card = (tmp_path / "run" / "prompt" / "README.md").read_text("utf-8")
    told = "rows, those of training and of dev" if fits == 96 else "rows: no calls were left to ask the dev rows"
    assert f"the readout learned from {fits} {told}" in card


def test_centred_scores_are_not_said_to_have_learned() -> None:
    about = {"kind": "centred", "rows": 16}
    finished: Any = SimpleNamespace(
        result={"readout": about}, name="manual + centred", config=SimpleNamespace(refit=True)
    )
    assert taught_said(finished) == ["no label taught what is deployed: scores less their mean over 16 rows"]


def test_it_needs_a_readout_and_stays_as_it_was_started(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, _, error = zopog("tune", "--task", small_task, "--readout", "none", "--refit", "--out", tmp_path / "a")
    assert (code, "--refit fits a readout on the dev rows too, and --readout is none" in error) == (2, True)
    plain = ["tune", "--task", small_task, "--method", "none", *FEW, "--out", tmp_path / "b", "--json"]
    assert zopog(*plain)[0] == 0
    card = (tmp_path / "b" / "prompt" / "README.md").read_text("utf-8")
    assert "the readout learned from 48 rows; with --refit the dev rows teach it too, in the end" in card
    assert "refit" not in json.loads((tmp_path / "b" / "config.json").read_text())
    code, _, error = zopog("tune", "--resume", tmp_path / "b", "--refit")
    assert (code, "--refit" in error) == (2, True)


def test_compare_refits_every_row_with_a_readout(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, said, error = zopog(
        "compare", "--tasks", small_task, "--methods", "none,auto", "--budget", "40", "--shots", "8", "--seeds", "1,2",
        "--refit", "--json", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, error
    calls = {row["name"]: row["calls"] for row in json.loads(said)["tasks"][0]["methods"]}
    assert calls["manual + readout"] == 4
    assert calls["auto + readout"] > calls["auto"]


@pytest.mark.parametrize("command", [["tune", "--method", "none"], ["tune"], ["compare", "--methods", "none"]])
def test_labels_alone_have_no_readout_to_fit(zopog: Run, tmp_path: Path, command: list[str]) -> None:
    where = ["--model", "chat+http://127.0.0.1:1/v1", "--tokenizer", tmp_path, "--answers", "labels"]
    code, _, error = zopog(*command, *where, "--refit", "--out", tmp_path / "run")
    assert (code, "--refit fits a readout, which reads scores, and --answers labels gives none" in error) == (2, True)


def test_a_comparison_does_not_go_on_with_runs_that_were_refitted(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """Neither way round: the rows of one table are of one kind."""
    for name, first, then in (("a", ["--refit"], []), ("b", [], ["--refit"])):
        plan = [
            "compare",
            "--tasks",
            small_task,
            "--methods",
            "none",
            "--shots",
            4,
            "--seeds",
            1,
            "--out",
            tmp_path / name,
        ]
        assert zopog(*plan, *first)[0] == 0
        code, _, error = zopog(*plan, *then)
        assert (code, "was started with refit" in error) == (2, True), error
        assert zopog(*plan, *first)[0] == 0


def test_a_curve_reads_as_many_templates_as_it_can_refit(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """A template costs two calls and its dev rows two: of four calls it is one template, refitted, and not two that
    are not, which larger budgets would take over."""
    task = small_task.with_name("two.toml")
    several = 'templates = ["{text} . it is a kind of {mask} .", "{text} {mask}"]\n\n[labels]'
    task.write_text(small_task.read_text("utf-8").replace("[labels]", several))
    code, said, error = zopog(
        "compare", "--curve", "--tasks", task, "--methods", "none", "--budgets", "4,8", "--shots", 8, "--seeds", 1,
        "--refit", "--json", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, error
    [read] = [row for row in json.loads(said)["tasks"][0]["rows"] if row["name"] == "manual + readout"]
    assert [(point["templates"], point["calls"]) for point in read["at"]] == [(1, 4), (2, 8)]
    for budget in (4, 8):
        [result] = (tmp_path / f"calls-{budget}").glob("runs/*/*/1/result.json")
        assert json.loads(result.read_text())["readout"]["rows"] == 96
