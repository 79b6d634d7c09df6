"""What a run is worth on the test rows beside the manual prompt: result.json and the table."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.frozen.model import FrozenModel
from zopog_models.prompts.bundle import Prompt
from zopog_models.prompts.predicting import Prediction, chosen, predict
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import Task
from zopog_ref.app.report.html import readable
from zopog_ref.app.report.terminal import table as aligned
from zopog_ref.app.run.config import RunConfig
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.folder import RunFolder
from zopog_ref.app.run.predictions import READINGS, Answers, Predictions, save_predictions
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.scores.uncertainty import ensemble_metrics
from zopog_ref.app.tune.ending import Ending
from zopog_ref.app.tune.finished import Finished
from zopog_ref.app.tune.readings import BEST_TEMPLATE
from zopog_ref.objective import Ledger
from zopog_ref.search import SearchResult


def result_of(
    experiment: Experiment, config: RunConfig, prompt: Prompt, result: SearchResult, ledger: Ledger, folder: RunFolder,
    ending: Ending | None = None,
) -> dict[str, Any]:  # fmt: skip
    """result.json, of the prompt that is deployed; of a run with a test, its predictions are kept beside it."""
    preset, test, task, tuned, manual = experiment.preset, experiment.test, experiment.task, None, None
    weights, of_dev, loss = prompt.answer_weights, None, result.dev and result.dev.loss
    if ending is not None:
        of_dev, loss = ending.deployed.dev, float(ending.deployed.losses(experiment.dev.labels).mean())
    if test is not None:
        answers, plain = _answers(experiment, prompt, test, ending)
        rows = np.array(experiment.splits["test"].rows, np.int64)
        readings = {} if ending is None else _answered(ending)
        share = weights / weights.sum()
        kept = Predictions(answers.per_prompt, share, rows, test.labels, plain.probabilities, readings)
        save_predictions(folder.path, kept)
        tuned, manual = scored(answers, task, test, weights), scored(plain, task, test)
    of_dev = of_dev or predict(experiment.model, prompt, experiment.dev.texts)
    return {
        "method": config.method,
        "task": task.name,
        "model": config.model,
        "settings": config.settings,
        "seed": experiment.seed,
        "budget": preset.budget,
        "calls": ledger.calls,
        "sequences": ledger.sequences,
        "tokens": ledger.tokens,
        "seconds": round(folder.seconds, 3),
        "stop_reason": result.stop_reason,
        "manual_accuracy": manual and manual["accuracy"],
        "dev_accuracy": scored(of_dev, task, experiment.dev, weights)["accuracy"],
        "dev_loss": loss,
        "best_step": result.best_step,
        "test_accuracy": tuned and tuned["accuracy"],
        "test_metrics": tuned,
        "manual_metrics": manual,
        **({} if config.precision is None else {"precision": asdict(config.precision)}),
        **experiment.model.runner.report(),
        "prompt_tokens": _tokens(experiment, prompt),
        "n": preset.n_positions,
        "N": preset.n_candidates,
        "d": preset.dim,
        **({} if ending is None else _with_numbers(ending, experiment, config)),
    }


def _tokens(experiment: Experiment, prompt: Prompt) -> list[list[str | None]]:
    return [[experiment.model.tokenizer.id_to_token(int(i)) for i in ids] for ids in prompt.ids]


def _answered(ending: Ending) -> dict[str, Answers]:
    """What the readings beside the manual prompt answer on the test rows."""
    weights = {found.name: found.prompt.answer_weights for found in ending.readings}
    return {
        found.name: Answers(found.test.per_prompt, weights[found.name] / weights[found.name].sum())
        for found in ending.readings
        if found.name in READINGS and found.test is not None
    }


def _answers(
    experiment: Experiment, prompt: Prompt, test: Rows, ending: Ending | None
) -> tuple[Prediction, Prediction]:
    """Of the test rows: what is deployed, and the manual prompt."""
    if ending is not None and ending.deployed.test is not None and (plain := ending.named("manual")) is not None:
        assert plain.test is not None
        return ending.deployed.test, plain.test
    deployed, plain_answers = (predict(experiment.model, p, test.texts) for p in (prompt, experiment.manual()))
    return deployed, plain_answers


def _with_numbers(ending: Ending, experiment: Experiment, config: RunConfig) -> dict[str, Any]:
    """The readings' own numbers, each with its NLL and ECE on the test rows."""
    said = ending.to_json(experiment, config)
    for row, found in zip(said["answers"], ending.readings, strict=True):
        if found.test is not None and experiment.test is not None:
            metrics = scored(found.test, experiment.task, experiment.test, found.prompt.answer_weights)
            row |= {"macro_f1": metrics["macro_f1"]}
            row |= {name: metrics["uncertainty"]["mean"][name] for name in ("nll", "ece")}
    tuned = ending.named("tuned")
    return said if tuned is None else said | {"tuned_tokens": _tokens(experiment, tuned.prompt)}


def evaluate(model: FrozenModel, prompt: Prompt, task: Task, rows: Rows) -> dict[str, Any]:
    """Metrics of a prompt on labelled rows, exactly as `zopog predict` would answer them."""
    return scored(predict(model, prompt, rows.texts), task, rows, prompt.answer_weights)


def scored(prediction: Prediction, task: Task, rows: Rows, weights: np.ndarray | None = None) -> dict[str, Any]:
    """Metrics of predictions on labelled rows, how sure they are (docs/uncertainty.md), how many texts were cut."""
    predicted = chosen(prediction.probabilities, prediction.per_prompt)  # (rows,)
    metrics = classification_metrics(rows.labels, predicted, list(task.labels))
    unsure = ensemble_metrics(prediction.per_prompt, weights, rows.labels)
    return metrics | {"truncated": prediction.truncated, "uncertainty": unsure}


def table(result: dict[str, Any], folder: Path) -> str:
    if "answers" in result:
        return _readings_table(result, folder)
    rows = [("prompt", "test accuracy", "macro F1", "API calls")]
    for name, metrics, calls in (
        ("manual (template alone)", result["manual_metrics"], 0),
        (f"tuned ({result['method']})", result["test_metrics"], result["calls"]),
    ):
        if metrics is not None:
            rows.append((name, f"{metrics['accuracy']:.1%}", f"{metrics['macro_f1']:.3f}", str(calls)))
    if result["test_metrics"] is None:
        lines = [f"dev accuracy {result['dev_accuracy']:.1%}; no rows are left for a test"]
    else:
        lines = [aligned(rows[0], rows[1:], "lrrr", (26, 13, 13, 13))]
        metrics = result["test_metrics"]
        most = f"always answering the most frequent class: {metrics['majority']:.1%}"
        cut = f" ({metrics['truncated']} cut to the model's positions)" if metrics["truncated"] else ""
        lines.append(f"{metrics['rows']} test rows{cut}; {most}")
    spent = f"{result['seconds']:.0f} s, {result['sequences']} sequences"
    return "\n".join([*lines, f"{spent}; the prompt to deploy: {folder / 'prompt'}"])


def _readings_table(result: dict[str, Any], folder: Path) -> str:
    """Every way to read the prompts, with what it cost and what it gives; then which one is deployed, and why."""
    head = ("prompt", "accuracy", "95%", "NLL", "ECE", "calls")  # 80 columns hold it
    rows = []
    for row in result["answers"]:
        name = {"manual": "manual (template alone)", "tuned": f"tuned ({result['method']})"}.get(
            row["name"], row["name"]
        )
        name += f" ({row['readout']})" if row["name"].endswith("readout") else ""
        if "accuracy" in row:
            low, high = row["interval"]
            shown = (f"{row['accuracy']:.1%}", f"{low:.1%}-{high:.1%}", f"{row['nll']:.3f}", f"{row['ece']:.3f}")
            rows.append((name, *shown, str(row["calls"])))
    lines = [aligned(head, rows, "lrrrrr", (29, 8, 11, 5, 5, 5))] if rows else []
    if result["test_metrics"] is None:
        lines.append(f"dev accuracy {result['dev_accuracy']:.1%}; no rows are left for a test")
    else:
        metrics = result["test_metrics"]
        cut = f" ({metrics['truncated']} cut to the model's positions)" if metrics["truncated"] else ""
        most = f"always answering the most frequent class: {metrics['majority']:.1%}"
        lines.append(f"accuracy on {metrics['rows']} test rows{cut}; {most}")
    tried = [row["template"] for row in result["answers"] if row["name"] == BEST_TEMPLATE]
    lines += [f"the best template, by the labelled rows: {template}" for template in tried]
    lines.append(_deployed_said(result))
    if not result["learned"]:
        lines.append("nothing was learned: these scores do not tell the labels better than chance does")
    about = result["readout"]
    if about["coverage"] is not None:
        share = f"{1 - about['alpha']:.0%}"
        lines.append(
            f"prediction sets meant to hold the class of {share} of rows hold it of {about['coverage']:.1%}, "
            f"{about['set_size']:.2f} classes each"
        )
    spent = f"{result['seconds']:.0f} s, {result['sequences']} sequences"
    return "\n".join([*lines, f"{spent}; the prompt to deploy: {folder / 'prompt'}"])


def _deployed_said(result: dict[str, Any]) -> str:
    if result["method"] == "none":
        return f"deployed: {result['deployed']} ({result['readout']['kind']})"
    if "auto" in result:
        said = [
            f"{arm['kind']}, " * (arm["kind"] != "template") + repr(arm["template"])
            for arm in result["auto"]["arms"]
            if arm["kept"]
        ]
        shown = [one if len(one) <= 100 else one[:99] + "…" for one in said]
        unspent = f"{result['auto']['unspent']} calls of {result['budget']} are unspent ({result['stop_reason']})"
        return "\n".join([f"deployed: {len(said)} prompts, read together; {unspent}", *(f"  {one}" for one in shown)])
    if not result["deployed"].startswith("tuned"):
        instead = "not the tuned prompt, which is not clearly better on the dev rows (--deploy-tuned insists)"
        return f"deployed: {result['deployed']}, {instead}"
    if result["best"] != result["deployed"]:
        return f"deployed: {result['deployed']}, as --deploy-tuned asks; on the dev rows {result['best']} is as good"
    return f"deployed: {result['deployed']}, clearly the best on the dev rows"


def model_said(run: Finished) -> str:
    """What was asked, and never changed."""
    about = ": a small BERT that has read a dictionary, a demonstration" if run.config.model == "embedded" else ""
    return f"the frozen model: {run.config.model}{about} (sha256 {run.found.model_sha256[:12]})"


def learned_said(run: Finished) -> list[str]:
    """The learned tokens in words, and how large the part without words is."""
    if not run.tokens:
        return []
    words = " ".join(readable(word) for word, _ in run.tokens)
    norm = f", and a continuous offset that has no words (length {run.z_norm:.3g})" if run.z_norm else ""
    return [f"learned tokens: {words}{norm}"]


def taught_said(run: Finished) -> list[str]:
    """What the deployed readout learned from, and what it could have."""
    about = run.result.get("readout", {})
    if about.get("kind", "none") == "none" or "rows" not in about:
        return []
    if run.name == "manual + centred":  # which --refit leaves as it is
        return [f"no label taught what is deployed: scores less their mean over {about['rows']} rows"]
    if about["rows"] > len(run.found.splits["train"].rows):
        return [f"the readout learned from {about['rows']} rows, those of training and of dev"]
    if run.config.refit:
        return [f"the readout learned from {about['rows']} rows: no calls were left to ask the dev rows"]
    return [f"the readout learned from {about['rows']} rows; with --refit the dev rows teach it too, in the end"]


def _cut(text: str, letters: int) -> str:
    """The text on one line, at most so long."""
    line = " ".join(text.split())
    return line if len(line) <= letters else line[: letters - 1] + "…"


def examples_said(run: Finished, count: int = 3) -> list[str]:
    """The first test rows whose answer changes: the manual prompt's, and that of what is deployed."""
    p, texts, kept = run.probabilities(), run.texts, run.predictions
    if texts is None or kept is None or not kept.manual.size:
        return []
    classes = [_cut(name, 24) for name in run.config.task.labels]
    before, after = kept.manual.argmax(1), p[run.name].argmax(1)
    rows = np.flatnonzero(before != after)[:count]
    lines = ["test texts, before (manual) and after:"] if len(rows) else []
    for i in rows:
        text = _cut(" | ".join(texts[i]), 60)
        lines.append(f"  {text}: {classes[before[i]]} -> {classes[after[i]]} (true: {classes[kept.labels[i]]})")
    return lines
