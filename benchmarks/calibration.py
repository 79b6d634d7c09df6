"""Is the predictive of a distribution over prompts better calibrated than a single prompt? Paired over seeds.

    python benchmarks/calibration.py --task supersense --budget 4000 --out comparison

Takes the runs of `zopog compare --readout none --out comparison` where they are finished, and makes or resumes those
that are not: each method and the baseline with the same budget, seeds and test rows. Then compares each method's
predictive, the mean and the votes of its prompts, with

    baseline   the single prompt that BBT ends with;
    best one   the method's own prompt that is best on the run's dev rows (accuracy, then loss), by itself.

Differences are predictive minus single prompt, so below zero is better, except for accuracy. NLL, Brier and accuracy
are means over rows: 95% intervals over seeds and rows (zopog_ref.app.compare.paired.crossed). ECE is no mean over
rows: the t interval over the seeds' differences. Detection: how well entropy tells the test rows from those of
--outside.
Writes calibration.json and calibration.html.
"""

import argparse
import contextlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.prompts.bundle import Prompt, load_prompt
from zopog_models.prompts.predicting import predict
from zopog_models.tasks.task_files import load_task, read_rows
from zopog_ref.app.command_line import main as zopog
from zopog_ref.app.compare.paired import crossed, nested
from zopog_ref.app.report.html import environment
from zopog_ref.app.report.plots import Chart, described
from zopog_ref.app.report.svg import LARGE, Axes, Dots, Line, panel
from zopog_ref.app.run.config import read_run
from zopog_ref.app.run.experiment import Experiment, prepare
from zopog_ref.app.run.predictions import load_predictions
from zopog_ref.app.scores.uncertainty import (
    RejectionCurve,
    Reliability,
    auroc,
    brier,
    entropy,
    negative_log_likelihood,
    predictive,
    rejection_curve,
    reliability,
    uncertainty_metrics,
)

FLOAT64 = NDArray[np.float64]
LEAST_SHARE, POINTS = 0.02, 200
COLOURS = 6  # of the palette; a seventh curve begins it again
PAGE = """{% extends "base.html" %}{% from "parts.html" import figures %}{% block title %}calibration{% endblock %}
{% block main %}{% for cells in methods %}<section>{{ figures(cells) }}</section>{% endfor %}{% endblock %}
"""
KINDS = ("mean", "votes", "best one")
SCORES: dict[str, Callable[[FLOAT64, Any], FLOAT64]] = {
    "nll": negative_log_likelihood,
    "brier": brier,
    "accuracy": lambda p, labels: (p.argmax(axis=1) == labels).astype(np.float64),
}


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", default="supersense")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--methods", default="ensembles,cma-elbo,abc-smc", type=lambda text: text.split(","))
    parser.add_argument("--baseline", default="bbt")
    parser.add_argument("--seeds", default="42,14,81", type=lambda text: [int(seed) for seed in text.split(",")])
    parser.add_argument("--budget", type=int, default=4000)
    parser.add_argument("--outside", default="hyponym", help="a task whose texts do not belong to --task")
    parser.add_argument("--outside-rows", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("rest", nargs="*", help="more options of zopog tune, after --")
    return parser.parse_args(arguments)


def run_folder(chosen: argparse.Namespace, method: str, seed: int) -> Path:
    """A finished run, made or resumed where it is not there yet."""
    folder = chosen.out / "runs" / Path(chosen.task).stem / method / str(seed)
    if not (folder / "result.json").exists():
        what = ["--task", chosen.task, "--method", method, "--seed", str(seed), "--budget", str(chosen.budget)]
        learned = ["--readout", "none", "--deploy-tuned"]  # the methods' own prompts, as their papers read them
        fresh = [*what, "--model", chosen.model, *learned, *chosen.rest, "--out", str(folder)]
        known = (folder / "config.json").exists()
        with contextlib.redirect_stdout(io.StringIO()):
            code = zopog(["tune", "--json", *(["--resume", str(folder)] if known else fresh)])
        if code:
            raise SystemExit(code)
    return folder


def best_one(experiment: Experiment, prompt: Prompt) -> int:
    """The prompt that is best on the dev rows by itself."""
    each = predict(experiment.model, prompt, experiment.dev.texts).per_prompt  # (M, rows, C)
    labels = experiment.dev.labels
    right = (each.argmax(axis=-1) == labels).mean(axis=1)
    loss = [negative_log_likelihood(p, labels).mean() for p in each]
    return int(np.lexsort((loss, -right))[0])


def outside_rows(name: str, template_slots: int, count: int) -> list[tuple[str, ...]]:
    """Test texts of another task, put into the template of this one; the two texts of a pair are joined."""
    task = load_task(name)
    assert task.test is not None
    rows = read_rows(task.test, task).texts[:count]
    return [(" ".join(row),) if template_slots == 1 else (row[0], row[-1]) for row in rows]


def answers(chosen: argparse.Namespace, model: FrozenModel, method: str, seed: int) -> dict[str, Any]:
    """Of one run: the true classes, and the predictives on the test rows and on those outside."""
    folder = run_folder(chosen, method, seed)
    kept, prompt = load_predictions(folder), load_prompt(folder / "prompt")
    config, _ = read_run(folder)
    outside = outside_rows(chosen.outside, len(config.task.slots), chosen.outside_rows)
    other = predict(model, prompt, outside).per_prompt
    found = {"labels": kept.labels, "mean": kept.mean, "outside": {"mean": predictive(other, prompt.weights)}}
    if method != chosen.baseline:
        experiment = prepare(model, config.task, config.preset, seed, config.shots or 1)
        member = best_one(experiment, prompt)
        found |= {"votes": predictive(kept.per_prompt, kept.weights, "votes"), "best one": kept.per_prompt[member]}
        found["outside"] |= {"votes": predictive(other, prompt.weights, "votes"), "best one": other[member]}
    return found


def unsure(p: FLOAT64) -> FLOAT64:
    """Entropy, rounded so that equal votes are equally unsure in whatever order they are added."""
    return entropy(p).round(12)


def differences(runs: list[dict[str, Any]], kind: str, single: list[FLOAT64]) -> dict[str, Any]:
    """Predictive minus single prompt, over the seeds: mean, interval, p."""
    found = {}
    for name, score in SCORES.items():
        d = [score(run[kind], run["labels"]) - score(p, run["labels"]) for run, p in zip(runs, single)]
        found[name] = crossed(np.array(d))
    d = [reliability(run[kind], run["labels"]).ece - reliability(p, run["labels"]).ece for run, p in zip(runs, single)]
    found["ece"] = nested([np.array([value]) for value in d]) if len(d) > 1 else None
    shown = {name: None if e is None else asdict(e) | {"p": e.p} for name, e in found.items()}
    shown["ece"] = (shown["ece"] or {"mean": d[0]}) | {"seeds": d}
    return shown


def summary(runs: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Means over the seeds."""
    rows = [uncertainty_metrics(run[kind], run["labels"]) for run in runs]
    found = {name: float(np.mean([row[name] for row in rows])) for name in ("ece", "nll", "brier", "rejection_area")}
    found["nll_clipped"] = float(np.mean([row["nll_clipped"] for row in rows]))
    known = [row["auroc_errors"] for row in rows if row["auroc_errors"] is not None]
    found["auroc_errors"] = float(np.mean(known)) if known else 0.5  # nothing is wrong, or everything
    found["detection"] = float(np.mean([auroc(unsure(r[kind]), unsure(r["outside"][kind])) for r in runs]))
    found["accuracy"] = float(np.mean([SCORES["accuracy"](run[kind], run["labels"]).mean() for run in runs]))
    return found


def reliability_diagram(tables: Mapping[str, Reliability]) -> Chart:
    """Accuracy against confidence, a curve for each name; a dot's area is its bin's share of the rows.

    The dashed diagonal is perfect calibration: above it, answers are better than they claim to be.
    """
    marks: list[Line | Dots] = [Line([(0, 0), (1, 1)], "level")]
    keys = []
    for i, (name, found) in enumerate(tables.items()):
        colour, filled = f"c{i % COLOURS + 1}", found.rows > 0
        points = list(zip(found.confidence[filled].tolist(), found.accuracy[filled].tolist()))
        radius = (2 + 10 * np.sqrt(found.rows[filled] / found.rows.sum())).tolist()
        marks += [Line(points, colour), Dots(points, colour, radius, [f"{n} rows" for n in found.rows[filled]])]
        keys.append((colour, f"{name}, ECE {found.ece:.3f}"))
    axes = Axes((0, 1), (0, 1), "confidence", "accuracy", percent_x=True, frame=LARGE)
    return Chart(panel(axes, marks, described("confidence", "accuracy", keys)), keys)


def rejection_plot(curves: Mapping[str, RejectionCurve]) -> Chart:
    """Accuracy of the surest rows against the share of rows that are answered, a curve for each name.

    Drawn from a share of 2% on: the accuracy of a handful of rows is noise.
    """
    if not curves:
        raise ValueError("there is no curve to draw")
    drawn = {name: curve.accuracy[curve.coverage >= LEAST_SHARE] for name, curve in curves.items()}
    low, high = min(float(y.min()) for y in drawn.values()), max(float(y.max()) for y in drawn.values())
    span = max(0.0, np.floor(low * 10 - 0.5) / 10), min(1.0, np.ceil(high * 10 + 0.5) / 10)
    lines, keys = [], []
    for i, (name, curve) in enumerate(curves.items()):
        y, x = drawn[name], curve.coverage[curve.coverage >= LEAST_SHARE]
        some = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(int))
        lines.append(Line(list(zip(x[some].tolist(), y[some].tolist())), f"c{i % COLOURS + 1}"))
        keys.append((lines[-1].kind, f"{name}, area {curve.area:.3f}"))
    what = ("share of rows answered, surest first", "accuracy on them")
    axes = Axes((0, 1), span, *what, percent_x=True, frame=LARGE)
    return Chart(panel(axes, lines, described(*what, keys)), keys)


def figures(pooled: dict[str, tuple[FLOAT64, Any]], title: str) -> list[tuple[str, str, Chart]]:
    """Both plots, over the rows of all seeds together."""
    tables = {name: reliability(p, labels) for name, (p, labels) in pooled.items()}
    curves = {name: rejection_curve(unsure(p), p.argmax(axis=1) == labels) for name, (p, labels) in pooled.items()}
    return [
        (f"{title}: reliability", "", reliability_diagram(tables)),
        (f"{title}: accuracy of the surest rows", "", rejection_plot(curves)),
    ]


def main(arguments: list[str] | None = None) -> int:
    chosen = options(arguments)
    model = load_model(chosen.model)
    base = [answers(chosen, model, chosen.baseline, seed) for seed in chosen.seeds]
    report: dict[str, Any] = {"task": chosen.task, "budget": chosen.budget, "seeds": chosen.seeds, "differences": {}}
    report["predictives"] = {chosen.baseline: summary(base, "mean")}
    body = []
    for method in chosen.methods:
        runs = [answers(chosen, model, method, seed) for seed in chosen.seeds]
        singles = {chosen.baseline: [run["mean"] for run in base], "best one": [run["best one"] for run in runs]}
        report["predictives"] |= {f"{method}, {kind}": summary(runs, kind) for kind in KINDS}
        for kind in KINDS[:2]:
            for name, single in singles.items():
                report["differences"][f"{method}, {kind} − {name}"] = differences(runs, kind, single)
        pooled = {chosen.baseline: _pooled(base, "mean")} | {f"{method}, {kind}": _pooled(runs, kind) for kind in KINDS}
        body.append(figures(pooled, method))
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (chosen.out / "calibration.json").write_text(text + "\n", encoding="utf-8")
    print(table(report))
    html = environment().from_string(PAGE).render(methods=body)
    (chosen.out / "calibration.html").write_text(html, encoding="utf-8")
    return 0


def _pooled(runs: list[dict[str, Any]], kind: str) -> tuple[FLOAT64, Any]:
    return np.concatenate([run[kind] for run in runs]), np.concatenate([run["labels"] for run in runs])


def table(report: dict[str, Any]) -> str:
    """Two tables in Markdown."""
    names = ("accuracy", "ece", "nll", "brier", "auroc_errors", "rejection_area", "detection")
    lines = ["| predictive | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, row in report["predictives"].items():
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in names) + " |")
    lines += ["", "| difference | ECE | NLL | Brier | accuracy |", "|---|---|---|---|---|"]
    for name, row in report["differences"].items():
        lines.append(
            f"| {name} | " + " | ".join(_shown(row[column]) for column in ("ece", "nll", "brier", "accuracy")) + " |"
        )
    return "\n".join(lines)


def _shown(estimate: dict[str, Any]) -> str:
    if "low" not in estimate:
        return f"{estimate['mean']:+.3f}"
    return f"{estimate['mean']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


if __name__ == "__main__":
    raise SystemExit(main())
