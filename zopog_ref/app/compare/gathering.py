"""A comparison gathered: every number of compare.json, from the finished run folders alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.tensor_file import read_tensors
from zopog_models.files.untrusted import check_regular
from zopog_models.prompts.predicting import chosen
from zopog_models.tasks.template import Task
from zopog_ref.app.compare import results as of
from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.compare.plan import MANUAL, READ, Plan, Variant
from zopog_ref.app.compare.results import Comparison, Learned, Method, Run, Spread, TaskResult
from zopog_ref.app.compare.statistics import Scores, statistics
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import RunConfig, read_run, versions
from zopog_ref.app.run.curve import read_curve, read_record
from zopog_ref.app.run.evidence import Evidence
from zopog_ref.app.run.predictions import Answers, Predictions, load_predictions
from zopog_ref.app.run.presets import SEARCHLESS, TEMPLATE_ALONE
from zopog_ref.app.run.saved_run import Answered, Result
from zopog_ref.app.run.typed_json import ABSENT
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.scores.uncertainty import brier, ensemble_metrics, negative_log_likelihood
from zopog_ref.distribution import probabilities
from zopog_ref.methods import entry_of

Tokens = Callable[[int], str | None]
MOST_LIKELY = 5  # candidates of a position that are shown with their probabilities
TUNED: dict[of.Reading, str] = {"tuned": "", "tuned + readout": " + readout"}  # and what their rows are called by
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
        readout=plan.readout,
        methods=[chosen_of(variant) for variant in plan.variants],
        tasks=[
            _task(task, [c for c in cells if c.task == name and c.finished], tokens)
            for name, (_, task) in plan.tasks.items()
        ],
        failed=[of.Failed(task=c.task, method=c.method, seed=c.seed, error=e) for c, e in errors.items()],
        versions=versions(),
    )


def chosen_of(variant: Variant) -> of.Chosen:
    preset = variant.preset
    return of.Chosen(
        name=variant.name,
        method=variant.method,
        settings=variant.settings,
        about=preset.about if variant.method in SEARCHLESS else entry_of(variant.method).about,
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
    predicted = {cell: predictions_of(cell, len(classes)) for cell in cells if results[cell].test_metrics}
    scores: dict[str, dict[int, Scores]] = {}
    methods = []
    for name in dict.fromkeys(cell.method for cell in cells if cell.config.method != TEMPLATE_ALONE):
        for reading, suffix in TUNED.items():
            runs: list[Run] = []
            for cell in (cell for cell in cells if cell.method == name):
                p = predicted.get(cell)
                answers = p and (p.readings.get(reading) if p.readings else p if reading == "tuned" else None)
                if answers is not None or (p is None and reading == "tuned"):
                    runs.append(_run(cell, results[cell], reading, p, answers, classes, tokens))
                if p is not None and answers is not None:
                    scores.setdefault(name + suffix, {})[cell.seed] = scores_of(p, answers)
            if runs:
                methods.append(_method(name + suffix, name, reading, runs))
    for reading in of.BASELINES:  # any run's: all have the same rows
        found: dict[int, Run] = {}
        for cell, p in predicted.items():
            answers = Answers(p.manual[None], np.ones(1)) if reading == MANUAL else p.readings.get(reading)
            if answers is not None and cell.seed not in found:
                found[cell.seed] = _baseline(cell.seed, said_of(results[cell], reading), p, answers, classes)
                scores.setdefault(reading, {})[cell.seed] = scores_of(p, answers)
        if found:
            methods.append(_method(reading, MANUAL, reading, list(found.values())))
    test = next((result.test_metrics for result in results.values() if result.test_metrics), None)
    return TaskResult(
        name=task.name,
        description=task.description,
        template=task.template,
        templates=list(task.templates) if len(task.templates) > 1 else ABSENT,
        metric=task.metric,
        labels=dict(task.labels),
        rows=test.rows if test else 0,
        majority=test.majority if test else None,
        truncated=test.truncated if test else 0,
        methods=methods,
        statistics=statistics(scores, MANUAL, READ if READ in scores else None) if predicted else None,
    )


def predictions_of(cell: Cell, classes: int) -> Predictions:
    """Errors: InputError for those of another task, or of a single row, on which nothing can be compared."""
    found = load_predictions(cell.folder)
    rows, columns = found.manual.shape
    if rows < 2 or columns != classes:
        raise InputError(
            f"{cell.folder} has predictions of {rows} rows and {columns} classes, expected at least 2 rows and "
            f"{classes} classes"
        )
    return found


def scores_of(p: Predictions, answers: Answers) -> Scores:
    mean = answers.mean
    right = (chosen(mean, answers.per_prompt) == p.labels).astype(np.float64)
    losses = {"nll": negative_log_likelihood(mean, p.labels), "brier": brier(mean, p.labels)}
    return Scores(p.rows, {"accuracy": right, **losses})


def said_of(result: Result, reading: str) -> Answered | None:
    """What the run says of one of its readings; None where it has none."""
    return next((answer for answer in result.answers or [] if answer.name == reading), None)


def _run(
    cell: Cell, result: Result, reading: str, p: Predictions | None, answers: Answers | None, classes: list[str],
    tokens: Tokens,
) -> Run:  # fmt: skip
    config, found = read_run(cell.folder)
    path = cell.folder / "curve.jsonl"
    curve = [read_record(path, step, line) for step, line in enumerate(read_curve(path), start=1)]
    same = ("calls", "sequences", "tokens", "stop_reason", "best_step", "seconds", "dev_accuracy", "dev_loss")
    values = {name: getattr(result, name) for name in same}
    if said := said_of(result, reading):
        values |= {"calls": said.calls, "dev_loss": said.dev_nll, "deployed": result.deployed == reading}
        values |= {} if values["deployed"] else {"dev_accuracy": ABSENT}  # the file has that of what is deployed
        values |= {"sequences": curve[-1].sequences, "tokens": curve[-1].tokens} if reading == "tuned" and curve else {}
    texts = result.tuned_tokens or result.prompt_tokens
    return Run(
        seed=cell.seed,
        folder=f"runs/{cell.folder.parent.parent.name}/{cell.folder.parent.name}/{cell.seed}",
        readout=said.readout if said else ABSENT,
        curve=[(r.calls, r.dev_metric, r.dev_loss) for r in curve if r.dev_metric is not None],
        prompts=len(texts),
        prompt=_learned(cell.folder, texts, config, found, answers, tokens) if reading == "tuned" else ABSENT,
        test=ABSENT if p is None or answers is None else _test(answers, p, classes),
        uncertainty=ABSENT if p is None or answers is None else _unsure(answers, p),
        **values,
    )


def _baseline(seed: int, said: Answered | None, p: Predictions, answers: Answers, classes: list[str]) -> Run:
    """Of the manual prompt as it is, which costs nothing, and of its readouts, of which the calls are known."""
    zero = dict.fromkeys(("calls", "sequences", "tokens", "seconds"), 0)
    known: dict[str, Any] = {"calls": said.calls, "readout": said.readout} if said and said.name != MANUAL else zero
    test = _test(answers, p, classes)
    return Run(seed=seed, curve=[], prompts=0, test=test, uncertainty=_unsure(answers, p), **known)


def _unsure(answers: Answers, p: Predictions) -> of.Predictives:
    return of.Predictives.from_json(ensemble_metrics(answers.per_prompt, answers.weights, p.labels), "uncertainty")


def _test(answers: Answers, p: Predictions, classes: list[str]) -> of.Test:
    return of.Test(**classification_metrics(p.labels, chosen(answers.mean, answers.per_prompt), classes))


def _method(name: str, method: str, reading: of.Reading, runs: list[Run]) -> Method:
    """Its runs, and what is the mean over them."""
    runs = sorted(runs, key=lambda run: run.seed)
    tested = [run for run in runs if run.test]
    found: dict[str, Any] = {}
    for what in ("calls", "sequences", "tokens", "seconds"):
        values = [getattr(run, what) for run in runs]
        found[what] = ABSENT if ABSENT in values else float(np.mean(values))
    if tested:
        found["confusion"] = np.sum([run.test.confusion for run in tested], axis=0).tolist()
        for what in ("accuracy", "macro_f1", "matthews"):
            found[what] = _spread([getattr(run.test, what) for run in tested])
        for what in ("ece", "nll", "brier", "auroc_errors", "rejection_area", "entropy"):
            found[what] = _spread([getattr(run.uncertainty.mean, what) for run in tested])
    return Method(name=name, of=method, reading=reading, cells=runs, **found)


def _spread(values: list[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    std = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(mean=float(np.mean(known)) if known else None, std=std, each=values)


def _learned(
    folder: Path, tuned: list[list[str]], config: RunConfig, found: Evidence, p: Answers | None, tokens: Tokens
) -> Learned:
    """The heaviest prompts as text and, where the method learned a distribution over tokens, its probabilities."""
    texts = [tuple(text) for text in tuned]
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
    if config.method in SEARCHLESS:  # it has no steps
        return None
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
