"""The pictures of a comparison's report and what its tables are filled with: strips, curves, pairs, calibration."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zopog_ref.app.compare.paired import Estimate
from zopog_ref.app.compare.plan import MANUAL, READ
from zopog_ref.app.compare.results import Bins, Method, Run, TaskResult
from zopog_ref.app.report.plots import strip, strip_axis
from zopog_ref.app.report.svg import Axes, Dots, Line, Svg, padded, panel

Curve = list[tuple[float, float]]
Curves = dict[str, dict[int, Curve]]  # method -> seed -> curve
Row = tuple[str, list[tuple[str, Estimate | None, float]]]  # a method minus each, and how large that is
Panel = tuple[str, str, Svg]  # a method, its number, the picture
LEAST_COVERAGE = 0.1  # below it a rejection curve jumps with single rows
SCORES = ("nll", "brier", "ece", "auroc_errors", "rejection_area")


class Closer(NamedTuple):
    """Some rows looked at more closely: every pair, calibration; what they confuse is in `methods`."""

    methods: Sequence[Method]
    pairs: Sequence[Row]
    reliability: Sequence[Panel]
    rejection: Sequence[Panel]
    uncertainty: Sequence[tuple[str, list[float | None]]]


class Pictures(NamedTuple):
    """Of one task; without test rows there are the curves alone.

    closer: the baselines and the searches, with readouts where there are any; plain: the searches' own answers beside
    the manual prompt's, where they are not among those.
    """

    curves: Sequence[Panel]
    scale: Svg = Svg()
    strips: Sequence[tuple[Method, Svg]] = ()
    closer: Closer | None = None
    plain: Closer | None = None


def pictures(task: TaskResult, budget: int) -> Pictures:
    """Everything that is drawn of a task; the methods in the order of their accuracy."""
    curves = _curves(task, budget)
    if task.statistics is None:
        return Pictures(curves)
    methods = [m for m in task.ranked if m.name in task.accuracy.methods]
    final = [m.name for m in task.searched]
    own = [m for m in methods if m.reading == "tuned" and m.name not in final]
    closer = _closer(task, [m for m in methods if m.baseline or m.name in final])
    plain = _closer(task, [m for m in methods if m in own or m.name == MANUAL]) if own else None
    return Pictures(curves, *_strips(task, methods), closer, plain)


def _closer(task: TaskResult, methods: list[Method]) -> Closer:
    pairs, reliable = _pairs(task, [m.name for m in methods]), [_reliability(m) for m in methods]
    return Closer(methods, pairs, reliable, _rejections(methods), _uncertainty(methods))


def _strips(task: TaskResult, methods: list[Method]) -> tuple[Svg, list[tuple[Method, Svg]]]:
    """The scale and a strip a method. An interval of two seeds may be wider than the page: it is cut."""
    standings = task.accuracy.methods
    rows = [standings[m.name] for m in methods]
    means = [s.mean for s in rows]
    room = max(0.05, 1.5 * (max(means) - min(means)))
    values = [v for m, s in zip(methods, rows) for v in (*_each(m), s.low, s.high)]
    span = padded([min(max(v, min(means) - room), max(means) + room) for v in values])
    named = {MANUAL: "manual prompt", READ: "manual prompt with a readout"}
    levels = [(standings[m].mean, f"{name}, {standings[m].mean:.1%}") for m, name in named.items() if m in standings]
    drawn = []
    for m, s in zip(methods, rows):
        label = f"{m.name}: {s.mean:.1%}, interval {s.low:.1%} to {s.high:.1%}"
        drawn.append((m, strip(span, (s.low, s.high), s.mean, _each(m), levels, s.among_best, label)))
    return strip_axis(span), drawn


def _each(method: Method) -> list[float]:
    return [value for value in method.accuracy.each if value is not None]


def _curves(task: TaskResult, budget: int) -> list[Panel]:
    """Best dev metric so far against calls."""
    methods = [m for m in task.ranked if m.reading == "tuned" and any(run.curve for run in m.cells)]
    each = {m.name: {run.seed: _best_so_far(run, budget) for run in m.cells if run.curve} for m in methods}
    means = {name: _mean(list(runs.values())) for name, runs in each.items()}
    numbers = {name: f"{mean[-1][1]:.1%} on dev" for name, mean in means.items()}
    what = f"best {task.metric} on dev against calls"
    return _beside_others(Axes((0, budget), (0, 1), "API calls"), each, means, numbers, what, steps=True)


def _beside_others(
    axes: Axes, each: Curves, means: dict[str, Curve], numbers: dict[str, str], what: str, steps: bool = False
) -> list[Panel]:
    """A panel a method: every seed thin, their mean thick, the other methods' means grey."""
    heights, out = [y for runs in each.values() for curve in runs.values() for _, y in curve], []
    for name, mean in means.items():
        lines = [Line(curve, "other", other, steps) for other, curve in means.items() if other != name]
        lines += [Line(curve, "seed", f"seed {seed}", steps) for seed, curve in each[name].items()]
        lines.append(Line(mean, "main", name, steps))
        out.append((name, numbers[name], panel(replace(axes, y=padded(heights)), lines, f"{name}: {what}")))
    return out


def _best_so_far(run: Run, budget: int) -> Curve:
    best = np.maximum.accumulate([metric for _, metric, _ in run.curve]).tolist()
    curve = [(float(calls), float(y)) for (calls, _, _), y in zip(run.curve, best)]
    return [*curve, (float(budget), curve[-1][1])] if curve[-1][0] < budget else curve


def _mean(runs: list[Curve]) -> Curve:
    """Mean of staircases, from where all have a value."""
    places = sorted({x for run in runs for x, _ in run})
    start = max(run[0][0] for run in runs)
    values = []
    for run in runs:
        x, y = np.array(run).T
        values.append(y[np.maximum(np.searchsorted(x, places, side="right") - 1, 0)])
    return [(x, float(y)) for x, y in zip(places, np.mean(values, axis=0)) if x >= start]


def _pairs(task: TaskResult, order: list[str]) -> list[Row]:
    """Row minus column, and the size of the difference as a share of the largest."""
    at = {name: i for i, name in enumerate(task.accuracy.methods)}
    table = task.accuracy.differences
    most = max((abs(pair.mean) for row in table for pair in row if pair), default=0.0) or 1.0
    found = {(a, b): table[at[a]][at[b]] for a in order for b in order}
    return [
        (a, [(b, pair, abs(pair.mean) / most if pair else 0.0) for b in order for pair in [found[a, b]]]) for a in order
    ]


def _reliability(method: Method) -> Panel:
    """Accuracy against confidence, all seeds together."""
    tables = [run.uncertainty.mean.reliability for run in method.cells if run.uncertainty]
    rows = np.sum([t.rows for t in tables], axis=0)
    filled = rows > 0
    x, y = (
        np.sum([_sums(t, what) for t in tables], axis=0)[filled] / rows[filled] for what in ("confidence", "accuracy")
    )
    radius = (1.5 + 12 * np.sqrt(rows[filled] / rows.sum())).tolist()
    titles = [f"{n:,} answers with confidence {a:.0%}: {b:.0%} right" for n, a, b in zip(rows[filled], x, y)]
    points = list(zip(x.tolist(), y.tolist()))
    marks: list[Line | Dots] = [
        Line([(0, 0), (1, 1)], "level", "honest"),
        Line(points, "seed"),
        Dots(points, "c1", radius, titles),
    ]
    axes = Axes((0, 1), (0, 1), "confidence", percent_x=True)
    drawn = panel(axes, marks, f"{method.name}: accuracy against confidence")
    return method.name, f"ECE {method.ece.mean:.3f}", drawn


def _sums(table: Bins, what: str) -> np.ndarray:
    """Sums of a bin's values; an empty bin (None) has none."""
    return np.array([(value or 0.0) * n for value, n in zip(getattr(table, what), table.rows)])


def _rejections(methods: list[Method]) -> list[Panel]:
    """Accuracy of the surest rows, from where these are enough to mean something."""
    kept = {m.name: {run.seed: run.uncertainty.mean.rejection for run in m.cells if run.uncertainty} for m in methods}
    each = {
        name: {
            seed: [(x, y) for x, y in zip(r.coverage, r.accuracy) if x >= LEAST_COVERAGE] for seed, r in runs.items()
        }
        for name, runs in kept.items()
        if len({tuple(r.coverage) for r in runs.values()}) == 1
    }
    means = {name: [(x, float(y)) for x, y in np.mean(list(runs.values()), axis=0)] for name, runs in each.items()}
    numbers = {m.name: f"area {m.rejection_area.mean:.3f}" for m in methods}
    axes = Axes((0, 1), (0, 1), "share of rows answered", percent_x=True)
    return _beside_others(axes, each, means, numbers, "accuracy against the share of rows answered")


def _uncertainty(methods: list[Method]) -> list[tuple[str, list[float | None]]]:
    """Calibration and scoring, of the mean prediction and of the votes of several prompts; means over the seeds."""
    rows = []
    for m in methods:
        for kind, name in (("mean", m.name), ("votes", f"{m.name}, votes of its prompts")):
            found = [
                getattr(run.uncertainty, kind) for run in m.cells if run.uncertainty and getattr(run.uncertainty, kind)
            ]
            known = [[getattr(f, key) for f in found if getattr(f, key) is not None] for key in SCORES]
            if found:
                rows.append((name, [float(np.mean(values)) if values else None for values in known]))
    return rows
