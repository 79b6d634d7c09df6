"""report.html of a run: one file that needs nothing else; what it says is in templates/run.html."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.atomic import write_atomically
from zopog_ref.app.report.html import elsewhere, render
from zopog_ref.app.report.plots import strip, strip_axis
from zopog_ref.app.report.svg import Axes, Dots, Line, Svg, padded, panel
from zopog_ref.app.run.config import versions
from zopog_ref.app.run.presets import PRESET_FIELDS
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.scores.uncertainty import reliability
from zopog_ref.app.tune.finished import Finished
from zopog_ref.app.tune.meanings import meaning_of, symbol_of
from zopog_ref.app.tune.next_steps import deploying
from zopog_ref.app.tune.options import option

MOST_ERRORS = 20


def page(run: Finished) -> str:
    """The whole page."""
    measured = [row for row in run.answers if "accuracy" in row]
    span = padded([end for row in measured for end in row["interval"]]) if measured else (0.0, 1.0)
    levels = [(row["accuracy"], f"{row['name']}, {row['accuracy']:.1%}") for row in measured if row["name"] == "manual"]
    return render(
        "run.html",
        run=run,
        result=run.result,
        task=run.config.task,
        axis=strip_axis(span),
        strips=[(row, _strip(row, span, levels, run.name)) for row in measured],
        curves=_curves(run),
        reliable=[_reliable(name, p, run) for name, p in run.probabilities().items()],
        confusions=_confusions(run),
        errors=_errors(run),
        settings=_settings(run),
        deploying=deploying(Path(elsewhere(run.folder)), run.config),
        folder=shlex.quote(elsewhere(run.folder)),
        versions=versions(),
    )


def write_page(run: Finished) -> Path:
    """Into the run's folder."""
    path = run.folder / "report.html"
    write_atomically(path, [page(run).encode("utf-8")])  # a link there is replaced, not followed
    return path


def _strip(row: dict[str, Any], span: tuple[float, float], levels: list[tuple[float, str]], deployed: str) -> Svg:
    low, high = row["interval"]
    label = f"{row['name']}: {row['accuracy']:.1%}, interval {low:.1%} to {high:.1%}"
    return strip(span, (low, high), row["accuracy"], [], levels, row["name"] == deployed, label)


def _curves(run: Finished) -> list[tuple[str, str, Svg]]:
    """The dev metric, the best so far as a staircase; and the training loss."""
    if not run.curve:
        return []
    budget = float(max(run.config.preset.budget, run.curve[-1].calls))
    dev = [(float(r.calls), r.dev_metric) for r in run.curve if r.dev_metric is not None]
    drawn = []
    if dev:
        calls, best = [x for x, _ in dev], np.maximum.accumulate([y for _, y in dev]).tolist()
        axes = Axes((0, budget), padded([y for _, y in dev]), "API calls")
        marks: list[Line | Dots] = [Line(dev, "seed", "dev score"), Line([*zip(calls, best)], "main", "best", True)]
        drawn.append((f"dev {run.config.task.metric}", f"best {best[-1]:.1%}", panel(axes, marks, "dev score")))
    loss = [(float(r.calls), r.diagnostics["loss"]) for r in run.curve if "loss" in r.diagnostics]
    loss = [(x, y) for x, y in loss if np.isfinite(y)]
    if loss:
        axes = Axes((0, budget), padded([y for _, y in loss], high=np.inf), "API calls", percent_y=False)
        drawn.append(("training loss", f"last {loss[-1][1]:.3f}", panel(axes, [Line(loss, "main")], "training loss")))
    return drawn


def _reliable(name: str, p: np.ndarray, run: Finished) -> tuple[str, str, Svg]:
    assert run.predictions is not None
    found = reliability(p, run.predictions.labels)
    filled = found.rows > 0
    points = list(zip(found.confidence[filled].tolist(), found.accuracy[filled].tolist()))
    radius = (1.5 + 12 * np.sqrt(found.rows[filled] / found.rows.sum())).tolist()
    marks: list[Line | Dots] = [Line([(0, 0), (1, 1)], "level"), Line(points, "seed"), Dots(points, "c1", radius)]
    axes = Axes((0, 1), (0, 1), "confidence", percent_x=True)
    return name, f"ECE {found.ece:.3f}", panel(axes, marks, f"{name}: accuracy against confidence")


def _confusions(run: Finished) -> list[dict[str, Any]]:
    wanted = dict.fromkeys(("manual", run.name))
    found, classes = run.probabilities(), list(run.config.task.labels)
    rows = []
    for name in wanted:
        if name in found and run.predictions is not None:
            metrics = classification_metrics(run.predictions.labels, found[name].argmax(axis=1), classes)
            rows.append({"name": name, "macro_f1": {"mean": metrics["macro_f1"]}, "confusion": metrics["confusion"]})
    return rows


def _errors(run: Finished) -> list[tuple[str, str, str, float]]:
    """(text, true class, answer, confidence) of the surest wrong answers."""
    p, texts = run.probabilities().get(run.name), run.texts
    if p is None or texts is None or run.predictions is None:
        return []
    labels, classes, answers, sure = run.predictions.labels, list(run.config.task.labels), p.argmax(1), p.max(1)
    wrong = [i for i in np.argsort(-sure, kind="stable") if answers[i] != labels[i]][:MOST_ERRORS]
    return [(" | ".join(texts[i]), classes[labels[i]], classes[answers[i]], float(sure[i])) for i in wrong]


def _settings(run: Finished) -> list[tuple[str, str, Any, str]]:
    """(option, symbol, value, meaning)."""
    preset, method = run.config.preset, run.config.method
    values = {name: getattr(preset, name) for name in PRESET_FIELDS}
    values |= {field.name: getattr(preset.method, field.name) for field in dataclasses.fields(preset.method)}
    return [(option(name), symbol_of(name, method), v, meaning_of(name, method)) for name, v in values.items()]
