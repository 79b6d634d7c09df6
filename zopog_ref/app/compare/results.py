"""compare.json: every number of a comparison, from the finished run folders alone.

The only numbers that differ between two runs of the same comparison stand under the name `seconds`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.tensor_file import read_tensors
from zopog_models.tasks.template import Task
from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.compare.plan import MANUAL, Plan, about
from zopog_ref.app.compare.statistics import Scores, statistics
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import versions
from zopog_ref.app.run.curve import read_record
from zopog_ref.app.run.predictions import Predictions, load_predictions
from zopog_ref.app.run.saved_run import read_configuration, read_result
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.scores.uncertainty import brier, ensemble_metrics, negative_log_likelihood, uncertainty_metrics
from zopog_ref.distribution import probabilities

Tokens = Callable[[int], str | None]
MOST_LIKELY = 5  # candidates of a position that are shown with their probabilities
PROMPTS = 3  # prompts of a distribution that are shown as text


def document(plan: Plan, errors: dict[Cell, str], tokens: Tokens) -> dict[str, Any]:
    """What compare.json holds. tokens: token id -> text. Errors: InputError for a run folder that cannot be read."""
    cells = plan.cells()
    return {
        "format": 1,
        "budget": plan.budget,
        "shots": plan.shots,
        "seeds": plan.seeds,
        "model": plan.model,
        "precision": plan.precision.get("precision", "fp32"),
        "precision_scope": plan.precision.get("precision_scope"),
        "methods": [
            {
                "name": v.name, "method": v.method, "settings": v.settings, "about": about(v),
                "own": vars(v.preset.method), "n": v.preset.n_positions, "N": v.preset.n_candidates,
                "d": v.preset.dim, **{k: getattr(v.preset, k) for k in ("scale", "batch_size", "loss")},
            }
            for v in plan.variants
        ],
        "tasks": [
            _task(task, [c for c in cells if c.task == name and c.finished], tokens)
            for name, (_, task) in plan.tasks.items()
        ],
        "failed": [{"task": c.task, "method": c.method, "seed": c.seed, "error": e} for c, e in errors.items()],
        "versions": versions(),
    }  # fmt: skip


def _task(task: Task, cells: list[Cell], tokens: Tokens) -> dict[str, Any]:
    classes = list(task.labels)
    found: dict[str, Any] = {
        "name": task.name, "description": task.description, "template": task.template, "metric": task.metric,
        "labels": dict(task.labels), "rows": 0, "majority": None, "truncated": 0, "methods": [], "statistics": None,
    }  # fmt: skip
    predicted = {cell: _predictions(cell, len(classes)) for cell in cells if _tested(cell)}
    scores: dict[str, dict[int, Scores]] = {}
    for name in dict.fromkeys(cell.method for cell in cells):
        own = [cell for cell in cells if cell.method == name]
        rows = [_cell(cell, predicted.get(cell), classes, tokens) for cell in own]
        found["methods"].append(_method(name, rows))
        for cell in own:
            if cell in predicted:
                p = predicted[cell]
                scores.setdefault(name, {})[cell.seed] = _scores(p, p.mean)
    if predicted:
        manual = {cell.seed: p for cell, p in predicted.items()}  # any method's: all have the same test rows
        scores[MANUAL] = {seed: _scores(p, p.manual) for seed, p in manual.items()}
        found["methods"].append(_method(MANUAL, [_manual(seed, p, classes) for seed, p in manual.items()]))
        any_result = read_result(next(iter(predicted)).folder)
        found |= {name: any_result["test_metrics"][name] for name in ("rows", "majority", "truncated")}
        found["statistics"] = statistics(scores, MANUAL)
    return found


def _tested(cell: Cell) -> bool:
    return read_result(cell.folder)["test_metrics"] is not None


def _predictions(cell: Cell, classes: int) -> Predictions:
    """Errors: InputError for those of another task, or of a single row, on which nothing can be compared."""
    found = load_predictions(cell.folder)
    rows, columns = found.manual.shape
    if rows < 2 or columns != classes:
        raise InputError(
            f"{cell.folder} has predictions of {rows} rows and {columns} classes, expected at least 2 rows and "
            f"{classes} classes"
        )
    return found


def _scores(p: Predictions, mean: np.ndarray) -> Scores:
    right = (mean.argmax(axis=1) == p.labels).astype(np.float64)
    return Scores(p.rows, {"accuracy": right, "nll": negative_log_likelihood(mean, p.labels),
                           "brier": brier(mean, p.labels)})  # fmt: skip


def _cell(cell: Cell, p: Predictions | None, classes: list[str], tokens: Tokens) -> dict[str, Any]:
    result, config = read_result(cell.folder), read_configuration(cell.folder)
    path = cell.folder / "curve.jsonl"
    *lines, _ = path.read_bytes().split(b"\n")
    curve = [read_record(path, step, line) for step, line in enumerate(lines, start=1)]
    row: dict[str, Any] = {
        "seed": cell.seed, "folder": f"runs/{cell.folder.parent.parent.name}/{cell.folder.parent.name}/{cell.seed}",
        **{name: result[name] for name in ("calls", "sequences", "tokens", "stop_reason", "best_step", "seconds")},
        "dev_accuracy": result["dev_accuracy"], "dev_loss": result["dev_loss"],
        "curve": [[r.calls, r.dev_metric, r.dev_loss] for r in curve if r.dev_metric is not None],
        "prompts": len(result["prompt_tokens"]),
        "prompt": _prompt(cell.folder, result, config, p, tokens),
    }  # fmt: skip
    if p is not None:
        row |= _test(p.mean, p, classes) | {"uncertainty": ensemble_metrics(p.per_prompt, p.weights, p.labels)}
    return row


def _manual(seed: int, p: Predictions, classes: list[str]) -> dict[str, Any]:
    zero = dict.fromkeys(("calls", "sequences", "tokens", "seconds", "prompts"), 0)
    uncertainty = {"mean": uncertainty_metrics(p.manual, p.labels)}
    return {"seed": seed} | zero | {"curve": []} | _test(p.manual, p, classes) | {"uncertainty": uncertainty}


def _test(mean: np.ndarray, p: Predictions, classes: list[str]) -> dict[str, Any]:
    return {"test": classification_metrics(p.labels, mean.argmax(axis=1), classes)}


def _method(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Its cells, and what is the mean over them."""
    rows = sorted(rows, key=lambda row: row["seed"])
    found: dict[str, Any] = {"name": name, "cells": rows}
    for what in ("calls", "sequences", "tokens", "seconds"):
        found[what] = float(np.mean([row[what] for row in rows]))
    tested = [row for row in rows if "test" in row]
    if tested:
        found["confusion"] = np.sum([row["test"]["confusion"] for row in tested], axis=0).tolist()
        for what in ("accuracy", "macro_f1", "matthews"):
            found[what] = _spread([row["test"][what] for row in tested])
        for what in ("ece", "nll", "brier", "auroc_errors", "rejection_area", "entropy"):
            found[what] = _spread([row["uncertainty"]["mean"][what] for row in tested])
    return found


def _spread(values: list[float | None]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds (None for one seed), and each."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "each": values,
    }


def _prompt(
    folder: Path, result: dict[str, Any], config: dict[str, Any], p: Predictions | None, tokens: Tokens
) -> dict[str, Any]:
    """The heaviest prompts as text and, where the method learned a distribution over tokens, its probabilities."""
    texts = [tuple(text) for text in result["prompt_tokens"]]
    weights = np.full(len(texts), 1 / len(texts)) if p is None else p.weights
    together: dict[tuple[str, ...], float] = {}
    for text, weight in zip(texts, weights):  # prompts that differ in z alone are one text
        together[text] = together.get(text, 0.0) + float(weight)
    heaviest = sorted(together.items(), key=lambda item: -item[1])[:PROMPTS]
    table = _token_probabilities(folder, config, texts)
    found: dict[str, Any] = {
        "texts": [{"tokens": list(text), "weight": weight} for text, weight in heaviest],
        "distinct": len(together),
        "positions": None,
    }
    if table is not None:
        words = [tokens(i) or "" for i in config["candidates"]]
        if not set().union(*texts) <= set(words):
            raise InputError(f"{folder} has prompts of tokens that are no candidates: it was edited or damaged")
        found["positions"] = [
            [[words[j], float(row[j])] for j in np.argsort(-row, kind="stable")[:MOST_LIKELY]] for row in table
        ]
        place = {word: j for j, word in enumerate(words)}
        for text in found["texts"]:
            text["probabilities"] = [float(row[place[word]]) for row, word in zip(table, text["tokens"])]
    return found


def _token_probabilities(folder: Path, config: dict[str, Any], texts: list[tuple[str, ...]]) -> np.ndarray | None:
    """p (n, N) at the end of the run, of a method that learns one: softmax(log alpha / tau), or BDPL's p.

    Errors: InputError for what is none, or not of the run's prompts and candidates.
    """
    path = folder / "checkpoint.safetensors"
    state = read_tensors(path)
    try:
        alpha = state.get("state.alpha")
        p = state.get("state.p") if alpha is None else probabilities(alpha, config["preset"]["method"]["tau"])
        if p is None:
            return None
        n = len(p)
        if p.shape != (n, len(config["candidates"])) or any(len(text) != n for text in texts) or not (p >= 0).all():
            raise ValueError(f"it has shape {p.shape}")
        return p
    except (ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path} holds no distribution over the run's candidates ({error})") from None
