"""`zopog tune` with readouts: what they cost, what they give, which prompt is deployed, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.conftest import SMALL, Run, asked
from zopog_models import load_model, load_prompt, load_task, predict, read_rows
from zopog_models.frozen.model import FrozenModel
from zopog_models.prompts.predicting import Prediction
from zopog_models.runners.runner import Scores
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import read_run
from zopog_ref.app.run.experiment import Experiment, prepare
from zopog_ref.app.tune import ending, readings, worth
from zopog_ref.objective import BudgetExhausted, Ledger

ALONE = ["--method", "none", "--shots", "8", "--threads", "1"]
SEARCH = [*SMALL[:-4], *SMALL[-2:]]  # with the readout that is chosen by itself
SECOND = "a {mask} is {text} ."


@pytest.fixture(scope="module")
def model() -> FrozenModel:
    return load_model(threads=1)


def tuned(zopog: Run, task: Path, out: Path, *more: object) -> dict[str, Any]:
    code, said, error = zopog("tune", "--task", task, "--out", out, "--json", *more)
    assert code == 0, error
    found: dict[str, Any] = json.loads(said)
    return found


def experiment_of(model: FrozenModel, task: Path, *more: str) -> Experiment:
    config, _ = asked(["--task", str(task), *ALONE, *more])
    assert config.shots is not None
    return prepare(model, config.task, config.preset, config.seed, config.shots)


def test_the_template_alone_costs_what_its_training_rows_cost(
    zopog: Run, small_task: Path, tmp_path: Path, model: FrozenModel
) -> None:
    result = tuned(zopog, small_task, tmp_path / "run", *ALONE, "--readout", "vocabulary")
    assert (result["calls"], result["sequences"], result["method"]) == (2, 48, "none")  # 48 rows, 32 a call
    assert [row["calls"] for row in result["answers"]] == [0, 2, 2]
    assert (result["deployed"], result["readout"]["kind"], result["baseline_calls"]) == (
        "manual + readout", "vocabulary", 0,
    )  # fmt: skip
    assert result["test_accuracy"] == result["manual_readout_accuracy"] == result["test_metrics"]["accuracy"]
    assert result["manual_accuracy"] == result["manual_metrics"]["accuracy"] < result["test_accuracy"]
    low, high = result["answers"][2]["interval"]
    assert low < result["test_accuracy"] < high
    # What is deployed is what was measured: the prompt, read again, answers the test rows alike.
    task, prompt = load_task(small_task), load_prompt(tmp_path / "run" / "prompt")
    assert task.test is not None
    rows = read_rows(task.test, task)
    p = predict(model, prompt, rows.texts).probabilities
    assert (p.argmax(axis=1) == rows.labels).mean() == result["test_accuracy"]
    assert prompt.readout is not None
    assert len(prompt.readout.columns[0]) == result["readout"]["tokens"][0] > 200
    sets = prompt.readout.sets(p)
    assert sets is not None
    assert sets[np.arange(len(p)), rows.labels].mean() == pytest.approx(result["readout"]["coverage"])


def test_several_templates_are_several_prompts_with_one_readout(
    zopog: Run, small_task: Path, tmp_path: Path, model: FrozenModel
) -> None:
    first = load_task(small_task).template
    given = ["--template", first, "--template", SECOND]
    result = tuned(zopog, small_task, tmp_path / "run", *ALONE, *given, "--readout", "vocabulary")
    assert (result["calls"], result["sequences"]) == (4, 96)
    prompt = load_prompt(tmp_path / "run" / "prompt")
    assert prompt.templates == (first, SECOND)
    assert prompt.readout is not None
    assert len(prompt.readout.matrices) == 2
    one = tuned(zopog, small_task, tmp_path / "one", *ALONE, "--readout", "vocabulary")
    assert result["manual_accuracy"] == one["manual_accuracy"]  # the first template's own
    # The same from a task file that names them.
    (small_task.parent / "two.toml").write_text(
        small_task.read_text().replace(f'template = "{first}"', f'templates = ["{first}", "{SECOND}"]')
    )
    again = tuned(zopog, small_task.parent / "two.toml", tmp_path / "again", *ALONE, "--readout", "vocabulary")
    assert again["answers"] == result["answers"]
    code, out, error = zopog("predict", tmp_path / "run", "--text", "a large wild cat with stripes", "--threads", 1)
    assert code == 0, error
    line = json.loads(out)
    p = predict(model, prompt, [("a large wild cat with stripes",)]).probabilities[0]
    assert list(line["probabilities"].values()) == pytest.approx(p.tolist(), abs=1e-6)
    held = [label for label, value, q in zip(prompt.labels, p, prompt.readout.threshold) if 1 - value <= q]  # type: ignore[arg-type]
    assert line["set"] == held
    code, _, error = zopog("bake", tmp_path / "run", "--out", tmp_path / "baked.onnx", "--threads", 1)
    assert code == 0, error  # compared with predict to 1e-6 before it takes its name


def test_a_search_ends_with_its_baselines_and_keeps_to_its_budget(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    result = tuned(zopog, small_task, tmp_path / "run", *SEARCH)
    names = ["manual", "manual + centred", "manual + readout", "tuned", "tuned + readout"]
    assert [row["name"] for row in result["answers"]] == names
    # 18 rows in calls of 4: twice 5 calls kept back of 120, 13 steps of 8 calls.
    assert [row["calls"] for row in result["answers"]] == [0, 5, 5, 104, 109]
    assert (result["calls"], result["baseline_calls"]) == (114, 5)
    curve = [json.loads(line) for line in (tmp_path / "run" / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["calls"] == 104
    plain = tuned(zopog, small_task, tmp_path / "plain", *SMALL, "--budget", 110)
    assert plain["test_accuracy"] == pytest.approx(result["tuned_accuracy"])
    assert "answers" not in plain
    assert (tmp_path / "plain" / "curve.jsonl").read_bytes() == (tmp_path / "run" / "curve.jsonl").read_bytes()
    assert result["deployed"] in names
    assert result["test_accuracy"] == next(r for r in result["answers"] if r["name"] == result["deployed"])["accuracy"]
    again = tuned(zopog, small_task, tmp_path / "run2", *SEARCH, "--deploy-tuned")
    assert again["deployed"].startswith("tuned")
    assert [row["dev_nll"] for row in again["answers"]] == [row["dev_nll"] for row in result["answers"]]


def test_the_table_says_what_is_deployed_and_why(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, out, error = zopog("tune", "--task", small_task, *SEARCH, "--out", tmp_path / "run")
    assert code == 0
    for said in ("manual (template alone)", "manual + centred", "tuned (zo-pog)", "NLL", "ECE", "deployed: "):
        assert said in out
    assert "most probable tokens" in error


def test_a_budget_that_leaves_no_step_beside_the_readout_is_refused(
    zopog: Run, small_task: Path, tmp_path: Path
) -> None:
    code, _, error = zopog("tune", "--task", small_task, *SEARCH, "--budget", 12, "--out", tmp_path / "run")
    assert code != 0
    assert "one step costs 8 and the readouts 10" in error


def test_scores_that_the_search_has_paid_for_are_not_asked_again(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random search deploys what it has evaluated on all training rows; with `vocabulary` other tokens cost calls."""
    given = ["--task", small_task, "--method", "random-search", "--samples", "2", "--shots", "3", "--batch-size", "4",
             "--budget", "60", "--n-positions", "2", "--n-candidates", "8", "--dim", "4", "--threads", "1", "--json"]  # fmt: skip
    found = {}
    for kind in ("labels", "vocabulary"):
        code, said, error = zopog("tune", *given, "--readout", kind, "--out", tmp_path / kind)
        assert code == 0, error
        found[kind] = json.loads(said)
    # A step is 2 prompts on 18 rows, 10 calls; 10 of 60 are kept back for the two prompts' scores.
    assert [found[kind]["calls"] for kind in found] == [55, 60]
    assert [row["calls"] for row in found["labels"]["answers"]] == [0, 5, 5, 50, 50]
    assert [row["calls"] for row in found["vocabulary"]["answers"]] == [0, 5, 5, 50, 55]
    # The same readout as from scores that are asked for again.
    monkeypatch.setattr(ending, "_tuned", lambda *a, kept=ending._tuned: kept(*a[:-1], None))
    code, said, error = zopog("tune", *given, "--readout", "labels", "--out", tmp_path / "asked")
    assert code == 0, error
    again = json.loads(said)
    assert again["calls"] == 60
    assert again["answers"][-1]["nll"] == pytest.approx(found["labels"]["answers"][-1]["nll"], abs=1e-4)


def test_a_run_goes_on_with_the_readout_it_was_started_with(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    result = tuned(zopog, small_task, tmp_path / "run", *SEARCH, "--readout", "labels")
    config, _ = read_run(tmp_path / "run")
    assert (config.readout, config.templates, config.deploy) == ("labels", None, None)
    (tmp_path / "run" / "result.json").unlink()
    code, said, error = zopog("tune", "--resume", tmp_path / "run", "--json")
    assert code == 0, error
    again = json.loads(said)
    assert again["answers"] == result["answers"]
    code, _, error = zopog("tune", "--resume", tmp_path / "run", "--readout", "none")
    assert code != 0
    assert "--readout" in error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--method", "none", "--eta-z", "0.1"], "no setting of none"),
        (["--method", "none", "--n-positions", "3"], "searches nothing"),
        (["--method", "none", "--deploy-tuned"], "tunes nothing"),
        (["--readout", "labels", "--readout-tokens", "5"], "--readout is labels"),
        (["--readout-tokens", "0"], "at least 1"),
    ],
)
def test_options_that_contradict_each_other(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(given)


def test_centred_looks_at_no_label(model: FrozenModel, small_task: Path) -> None:
    run = experiment_of(model, small_task)
    scored = readings.ask(run, readings.template_prompt(run, (run.task.template,)), Ledger(9, batch_size=32), 0)
    fit = readings.without_labels(scored, run.train)
    other = readings.without_labels(scored, replace_labels(run, run.train.labels[::-1]).train)
    assert np.array_equal(fit.readout.bias, other.readout.bias)
    p = fit.readout.predict(scored.dev)
    mean = scored.train[0].mean(axis=0)
    exponentials = np.exp(scored.dev[0] - mean)
    assert np.abs(p - exponentials / exponentials.sum(axis=1, keepdims=True)).max() < 1e-12


def replace_labels(run: Experiment, labels: np.ndarray) -> Experiment:
    return replace(run, train=run.train._replace(labels=labels))


def test_tokens_are_chosen_without_labels_and_words_come_first(model: FrozenModel, small_task: Path) -> None:
    run = experiment_of(model, small_task)
    prompt = readings.template_prompt(run, (run.task.template,))
    scored = readings.ask(run, prompt, Ledger(9, batch_size=32), 20)
    assert scored.columns[0][:6].tolist() == list(run.labels)
    assert 20 <= len(scored.columns[0]) <= 26
    shuffled = readings.ask(replace_labels(run, run.train.labels[::-1]), prompt, Ledger(9, batch_size=32), 20)
    assert np.array_equal(scored.columns[0], shuffled.columns[0])
    with pytest.raises(BudgetExhausted):
        readings.ask(run, prompt, Ledger(1, batch_size=32), 20)


def test_shuffled_labels_are_said_to_teach_nothing(model: FrozenModel, small_task: Path) -> None:
    run = experiment_of(model, small_task)
    rng, config = np.random.default_rng(1), asked(["--task", str(small_task), *ALONE])[0]
    shuffled = replace(
        run,
        train=run.train._replace(labels=rng.permutation(run.train.labels)),
        dev=run.dev._replace(labels=rng.permutation(run.dev.labels)),
    )
    found = ending.end(shuffled, config, None, shuffled.ledger())
    assert not found.learned
    assert ending.end(run, config, None, run.ledger()).learned


def test_an_ill_tuned_prompt_is_not_deployed_unless_insisted_on(model: FrozenModel, small_task: Path) -> None:
    run = experiment_of(model, small_task)
    base = asked(["--task", str(small_task), "--shots", "8", "--threads", "1"])[0]
    rng = np.random.default_rng(0)
    plain = run.manual()
    bad = replace(
        plain, ids=rng.integers(100, 1000, (1, 5)),
        offsets=rng.normal(0, 3.0, (1, 5, model.embedding_size)).astype(np.float32),
    )  # fmt: skip
    found = ending.end(run, base, bad, Ledger(9, batch_size=32))
    assert found.deployed.name.startswith("manual")
    insisted = ending.end(run, replace(base, deploy="tuned"), bad, Ledger(9, batch_size=32))
    assert insisted.deployed.name.startswith("tuned")
    assert insisted.best.name == found.deployed.name
    poor = ending.end(run, base, bad, Ledger(1, batch_size=32))  # no calls left for its readout
    assert poor.named("tuned + readout") is None


def test_the_dear_one_has_to_be_better_by_a_standard_error() -> None:
    labels = np.zeros(4, np.int64)

    def of(*p: float) -> readings.Reading:
        given = np.column_stack([p, 1 - np.array(p)])
        prompt: Any = None
        return readings.Reading("", prompt, 0, Prediction(given, given[None], 0), None)

    cheap = of(0.5, 0.5, 0.5, 0.5)
    clearly, hardly = of(0.6, 0.6, 0.6, 0.61), of(0.9, 0.2, 0.9, 0.4)
    assert ending.better(cheap, clearly, labels) is clearly
    assert hardly.losses(labels).mean() < cheap.losses(labels).mean()  # better on average, within the noise
    assert ending.better(cheap, hardly, labels) is cheap


def test_a_service_of_probable_tokens_alone_has_no_vocabulary() -> None:
    with pytest.raises(InputError, match="most probable"):
        readings.check_scores("vocabulary", Scores.TOP_K)
    readings.check_scores("auto", Scores.TOP_K)


def test_wilson_is_the_interval_that_solves_its_equation() -> None:
    low, high = worth.wilson(30, 100)
    for bound in (low, high):  # |share - p| = z sqrt(p (1 - p) / n)
        assert abs(0.3 - bound) == pytest.approx(1.959964 * np.sqrt(bound * (1 - bound) / 100))
    assert worth.wilson(0, 10)[0] == 0
