"""What a run is worth on the test rows beside the manual prompt: result.json and the table."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.frozen.model import FrozenModel
from zopog_models.prompts.bundle import Prediction, Prompt, predict
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import Task
from zopog_ref.app.report.terminal import table as aligned
from zopog_ref.app.run.config import RunConfig
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.folder import RunFolder
from zopog_ref.app.run.predictions import Predictions, save_predictions
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.scores.uncertainty import ensemble_metrics
from zopog_ref.objective import Ledger
from zopog_ref.search import SearchResult


def result_of(
    experiment: Experiment, config: RunConfig, prompt: Prompt, result: SearchResult, ledger: Ledger, folder: RunFolder
) -> dict[str, Any]:
    """result.json; of a run with a test, its predictions are kept beside it."""
    preset, test, task, tuned, manual = experiment.preset, experiment.test, experiment.task, None, None
    if test is not None:
        answers, plain = (predict(experiment.model, p, test.texts) for p in (prompt, experiment.manual()))
        rows = np.array(experiment.splits["test"].rows, np.int64)
        kept = Predictions(rows, test.labels, answers.per_prompt, prompt.weights, plain.probabilities)
        save_predictions(folder.path, kept)
        tuned, manual = scored(answers, task, test, prompt.weights), scored(plain, task, test)
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
        "dev_accuracy": evaluate(experiment.model, prompt, task, experiment.dev)["accuracy"],
        "dev_loss": result.dev and result.dev.loss,
        "best_step": result.best_step,
        "test_accuracy": tuned and tuned["accuracy"],
        "test_metrics": tuned,
        "manual_metrics": manual,
        **({} if config.precision is None else {"precision": asdict(config.precision)}),
        **experiment.model.runner.report(),
        "prompt_tokens": [[experiment.model.tokenizer.id_to_token(int(i)) for i in ids] for ids in prompt.ids],
        "n": preset.n_positions,
        "N": preset.n_candidates,
        "d": preset.dim,
    }


def evaluate(model: FrozenModel, prompt: Prompt, task: Task, rows: Rows) -> dict[str, Any]:
    """Metrics of a prompt on labelled rows, exactly as `zopog predict` would answer them."""
    return scored(predict(model, prompt, rows.texts), task, rows, prompt.weights)


def scored(prediction: Prediction, task: Task, rows: Rows, weights: np.ndarray | None = None) -> dict[str, Any]:
    """Metrics of predictions on labelled rows, how sure they are (docs/uncertainty.md), how many texts were cut."""
    predicted = np.argmax(prediction.probabilities, axis=1)  # (rows,)
    metrics = classification_metrics(rows.labels, predicted, list(task.labels))
    unsure = ensemble_metrics(prediction.per_prompt, weights, rows.labels)
    return metrics | {"truncated": prediction.truncated, "uncertainty": unsure}


def table(result: dict[str, Any], folder: Path) -> str:
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
