"""A comparison gathered: every number of compare.json, from the finished run folders alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.tensor_file import read_tensors
from zopog_models.files.untrusted import check_regular
from zopog_models.tasks.template import Task
from zopog_ref.app.compare import results as of
from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.compare.plan import MANUAL, Plan, Variant
from zopog_ref.app.compare.results import Comparison, Learned, Method, Run, Spread, TaskResult
from zopog_ref.app.compare.statistics import Scores, statistics
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import Evidence, RunConfig, read_run, versions
from zopog_ref.app.run.curve import read_curve, read_record
from zopog_ref.app.run.predictions import Predictions, load_predictions
from zopog_ref.app.run.saved_run import Result
from zopog_ref.app.run.typed_json import ABSENT
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.scores.uncertainty import brier, ensemble_metrics, negative_log_likelihood, uncertainty_metrics
from zopog_ref.distribution import probabilities
from zopog_ref.methods import entry_of

Tokens = Callable[[int], str | None]
MOST_LIKELY = 5  # candidates of a position that are shown with their probabilities
PROMPTS = 3  # prompts of a distribution that are shown as text


def document(plan: Plan, errors: dict[Cell, str], tokens: Tokens) -> Comparison:
    """What compare.json holds. tokens: token id -> text. Errors: InputError for a run folder that cannot be read."""
    cells = plan.cells()
    return Comparison(
        format=1,
        budget=plan.budget,
        shots=plan.shots,
        seeds=plan.seeds,
        model=plan.model,
        precision=plan.fewer.precision if plan.fewer else "fp32",
        precision_scope=plan.fewer.scope if plan.fewer else None,
        methods=[_chosen(variant) for variant in plan.variants],
        tasks=[
            _task(task, [c for c in cells if c.task == name and c.finished], tokens)
            for name, (_, task) in plan.tasks.items()
        ],
        failed=[of.Failed(task=c.task, method=c.method, seed=c.seed, error=e) for c, e in errors.items()],
        versions=versions(),
    )


def _chosen(variant: Variant) -> of.Chosen:
    preset = variant.preset
    return of.Chosen(
        name=variant.name,
        method=variant.method,
        settings=variant.settings,
        about=entry_of(variant.method).about,
        own=dict(vars(preset.method)),
        n=preset.n_positions,
        N=preset.n_candidates,
        d=preset.dim,
        scale=preset.scale,
        batch_size=preset.batch_size,
        loss=preset.loss,
    )


def _task(task: Task, cells: list[Cell], tokens: Tokens) -> TaskResult:
    classes = list(task.labels)
    results = {cell: Result.read(cell.folder) for cell in cells}
    predicted = {cell: _predictions(cell, len(classes)) for cell in cells if results[cell].test_metrics}
    scores: dict[str, dict[int, Scores]] = {}
    methods = []
    for name in dict.fromkeys(cell.method for cell in cells):
        own = [cell for cell in cells if cell.method == name]
        methods.append(_method(name, [_run(cell, results[cell], predicted.get(cell), classes, tokens) for cell in own]))
        if tested := {cell.seed: _scores(predicted[cell], predicted[cell].mean) for cell in own if cell in predicted}:
            scores[name] = tested
    if predicted:
        manual = {cell.seed: p for cell, p in predicted.items()}  # any method's: all have the same test rows
        scores[MANUAL] = {seed: _scores(p, p.manual) for seed, p in manual.items()}
        methods.append(_method(MANUAL, [_manual(seed, p, classes) for seed, p in manual.items()]))
    test = next((result.test_metrics for result in results.values() if result.test_metrics), None)
    return TaskResult(
        name=task.name,
        description=task.description,
        template=task.template,
        metric=task.metric,
        labels=dict(task.labels),
        rows=test.rows if test else 0,
        majority=test.majority if test else None,
        truncated=test.truncated if test else 0,
        methods=methods,
        statistics=statistics(scores, MANUAL) if predicted else None,
    )


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
    losses = {"nll": negative_log_likelihood(mean, p.labels), "brier": brier(mean, p.labels)}
    return Scores(p.rows, {"accuracy": right, **losses})


def _run(cell: Cell, result: Result, p: Predictions | None, classes: list[str], tokens: Tokens) -> Run:
    config, found = read_run(cell.folder)
    path = cell.folder / "curve.jsonl"
    curve = [read_record(path, step, line) for step, line in enumerate(read_curve(path), start=1)]
    same = ("calls", "sequences", "tokens", "stop_reason", "best_step", "seconds", "dev_accuracy", "dev_loss")
    unsure = None if p is None else ensemble_metrics(p.per_prompt, p.weights, p.labels)
    return Run(
        seed=cell.seed,
        folder=f"runs/{cell.folder.parent.parent.name}/{cell.folder.parent.name}/{cell.seed}",
        curve=[(r.calls, r.dev_metric, r.dev_loss) for r in curve if r.dev_metric is not None],
        prompts=len(result.prompt_tokens),
        prompt=_learned(cell.folder, result, config, found, p, tokens),
        test=ABSENT if p is None else _test(p.mean, p, classes),
        uncertainty=ABSENT if unsure is None else of.Predictives.from_json(unsure, "uncertainty"),
        **{name: getattr(result, name) for name in same},
    )


def _manual(seed: int, p: Predictions, classes: list[str]) -> Run:
    unsure = of.Predictives.from_json({"mean": uncertainty_metrics(p.manual, p.labels)}, "uncertainty")
    zero = dict.fromkeys(("calls", "sequences", "tokens", "seconds", "prompts"), 0)
    return Run(seed=seed, curve=[], test=_test(p.manual, p, classes), uncertainty=unsure, **zero)  # type: ignore[arg-type]


def _test(mean: np.ndarray, p: Predictions, classes: list[str]) -> of.Test:
    return of.Test(**classification_metrics(p.labels, mean.argmax(axis=1), classes))


def _method(name: str, runs: list[Run]) -> Method:
    """Its runs, and what is the mean over them."""
    runs = sorted(runs, key=lambda run: run.seed)
    tested = [run for run in runs if run.test]
    found: dict[str, Any] = {}
    for what in ("calls", "sequences", "tokens", "seconds"):
        found[what] = float(np.mean([getattr(run, what) for run in runs]))
    if tested:
        found["confusion"] = np.sum([run.test.confusion for run in tested], axis=0).tolist()
        for what in ("accuracy", "macro_f1", "matthews"):
            found[what] = _spread([getattr(run.test, what) for run in tested])
        for what in ("ece", "nll", "brier", "auroc_errors", "rejection_area", "entropy"):
            found[what] = _spread([getattr(run.uncertainty.mean, what) for run in tested])
    return Method(name=name, cells=runs, **found)


def _spread(values: list[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    std = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(mean=float(np.mean(known)) if known else None, std=std, each=values)


def _learned(
    folder: Path, result: Result, config: RunConfig, found: Evidence, p: Predictions | None, tokens: Tokens
) -> Learned:
    """The heaviest prompts as text and, where the method learned a distribution over tokens, its probabilities."""
    texts = [tuple(text) for text in result.prompt_tokens]
    weights = np.full(len(texts), 1 / len(texts)) if p is None else p.weights
    together: dict[tuple[str, ...], float] = {}
    for text, weight in zip(texts, weights):  # prompts that differ in z alone are one text
        together[text] = together.get(text, 0.0) + float(weight)
    heaviest = sorted(together.items(), key=lambda item: -item[1])[:PROMPTS]
    table = _token_probabilities(folder, config, found, texts)
    if table is None:
        plain = [of.Text(tokens=list(text), weight=weight) for text, weight in heaviest]
        return Learned(texts=plain, distinct=len(together), positions=None)
    words = [tokens(i) or "" for i in found.candidates]
    if not set().union(*texts) <= set(words):
        raise InputError(f"{folder} has prompts of tokens that are no candidates: it was edited or damaged")
    place = {word: j for j, word in enumerate(words)}
    chances = [[float(row[place[word]]) for row, word in zip(table, text)] for text, _ in heaviest]
    return Learned(
        texts=[of.Text(tokens=list(t), weight=w, probabilities=c) for (t, w), c in zip(heaviest, chances)],
        distinct=len(together),
        positions=[[(words[j], float(row[j])) for j in np.argsort(-row, kind="stable")[:MOST_LIKELY]] for row in table],
    )


def _token_probabilities(
    folder: Path, config: RunConfig, found: Evidence, texts: list[tuple[str, ...]]
) -> np.ndarray | None:
    """p (n, N) at the end of the run, of a method that learns one: softmax(log alpha / tau), or BDPL's p.

    Errors: InputError for what is none, or not of the run's prompts and candidates.
    """
    path = folder / "checkpoint.safetensors"
    check_regular(path)
    state = read_tensors(path)
    try:
        alpha = state.get("state.alpha")
        p = state.get("state.p") if alpha is None else probabilities(alpha, config.preset.method.tau)
        if p is None:
            return None
        n = len(p)
        if p.shape != (n, len(found.candidates)) or any(len(text) != n for text in texts) or not (p >= 0).all():
            raise ValueError(f"it has shape {p.shape}")
        return p
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no distribution over the run's candidates ({error})") from None
