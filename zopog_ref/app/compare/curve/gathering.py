"""A curve gathered: every number of curve.json, from the finished run folders alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zopog_ref.app.compare.curve.frontier import on_frontier
from zopog_ref.app.compare.curve.plan import CurvePlan, Point
from zopog_ref.app.compare.curve.results import METRICS, At, Curve, CurveTask, Gain, Mean, Row
from zopog_ref.app.compare.gathering import TUNED, chosen_of, predictions_of, said_of, scores_of
from zopog_ref.app.compare.paired import Estimate
from zopog_ref.app.compare.plan import MANUAL, READ
from zopog_ref.app.compare.results import BASELINES, Failed, Reading, Standing, Statistics
from zopog_ref.app.compare.schedule import Errors
from zopog_ref.app.compare.statistics import LEVEL, Scores, statistics
from zopog_ref.app.run.config import versions
from zopog_ref.app.run.predictions import Answers
from zopog_ref.app.run.presets import TEMPLATE_ALONE
from zopog_ref.app.run.saved_run import Result
from zopog_ref.app.run.typed_json import ABSENT

Name = tuple[str, str, Reading]  # of the row, of the method, and how it is read


@dataclass
class Found:
    """A row on one budget: of which budget the run is, and by seed what was spent and what it scored."""

    point: Point
    calls: dict[int, int] = field(default_factory=dict)
    scores: dict[int, Scores] = field(default_factory=dict)


def document(plan: CurvePlan, errors: Errors) -> Curve:
    """What curve.json holds. Errors: InputError for a run folder that cannot be read."""
    each, points = plan.each, plan.points()
    return Curve(
        format=1,
        budgets=list(plan.budgets),
        level=LEVEL,
        shots=each.shots,
        seeds=each.seeds,
        model=each.model,
        precision=each.fewer.precision if each.fewer else "fp32",
        readout=each.readout,
        methods=[chosen_of(variant) for variant in each.variants if variant.method != TEMPLATE_ALONE],
        tasks=[_task(plan, task, [p for p in points if p.cell.task == task]) for task in each.tasks],
        failed=[Failed(task=c.task, method=c.method, seed=c.seed, error=e) for c, e in errors.items()],
        versions=versions(),
    )


def _task(plan: CurvePlan, name: str, points: Sequence[Point]) -> CurveTask:
    task = plan.each.tasks[name][1]
    done = [point for point in points if point.cell.finished]
    by_budget = _with_what_is_kept(plan.budgets, _found(done, len(task.labels)))
    at: dict[Name, list[At]] = {}
    for budget, there in by_budget.items():
        if there:
            standings = statistics({row[0]: found.scores for row, found in there.items()}, MANUAL, READ)
            for row, found in there.items():
                at.setdefault(row, []).append(_at(budget, row[0], found, standings))
    test = next((Result.read(point.cell.folder).test_metrics for point in done), None)
    missing = {str(b): sum(p.budget == b and not p.cell.finished for p in points) for b in plan.budgets}
    least = {**{method: plan.least[name, method] for _, method, _ in at if method != MANUAL}, MANUAL: 0}
    rows = [
        Row(name=row, of=method, reading=reading, least=least[method], at=found)
        for (row, method, reading), found in at.items()
    ]
    return CurveTask(
        name=task.name,
        description=task.description,
        templates=list(task.templates) or [task.template],
        labels=dict(task.labels),
        test_rows=test.rows if test else 0,
        majority=test.majority if test else 0.0,
        unfinished={budget: count for budget, count in missing.items() if count},
        rows=_with_frontier(rows),
    )


def _found(points: Iterable[Point], classes: int) -> dict[int, dict[Name, Found]]:
    """What the finished runs have to show: budget -> row -> by seed."""
    rows: dict[int, dict[Name, Found]] = {}
    for point in points:
        cell, alone = point.cell, point.cell.config.method == TEMPLATE_ALONE
        result, p = Result.read(cell.folder), predictions_of(cell, classes)
        for reading in BASELINES if alone else TUNED:
            answers = Answers(p.manual[None], np.ones(1)) if reading == MANUAL else p.readings.get(reading)
            if answers is None and reading == "tuned":  # of a run without a readout: what it deploys
                answers = p
            if answers is None:
                continue
            said = said_of(result, reading)
            name: Name = (reading, MANUAL, reading) if alone else (cell.method + TUNED[reading], cell.method, reading)
            found = rows.setdefault(point.budget, {}).setdefault(name, Found(point))
            found.calls[cell.seed] = said.calls if said else result.calls
            found.scores[cell.seed] = scores_of(p, answers)
    return rows


def _with_what_is_kept(budgets: Sequence[int], found: dict[int, dict[Name, Found]]) -> dict[int, dict[Name, Found]]:
    """Baselines stand on every larger budget too: no call more would change them."""
    kept: dict[Name, Found] = {}
    for budget in budgets:
        new = {name: one for name, one in found.get(budget, {}).items() if name[2] != MANUAL or name not in kept}
        kept |= {name: one for name, one in new.items() if name[2] in BASELINES}
        found[budget] = new | kept
    return {budget: found[budget] for budget in budgets}


def _at(budget: int, name: str, found: Found, standings: Statistics) -> At:
    over = standings.metrics["accuracy"].methods[name].against_readout
    return At(
        budget=budget,
        run=found.point.budget,
        calls=float(np.mean(list(found.calls.values()))),
        templates=found.point.templates,
        seeds=sorted(found.scores),
        **{metric: _mean(metric, standings.metrics[metric].methods[name], found) for metric in METRICS},
        against_readout=Gain(mean=over.mean, low=over.low, high=over.high, p=over.p) if over else ABSENT,
    )


def _mean(metric: str, standing: Standing, found: Found) -> Mean:
    most = 1.0 if metric == "accuracy" else np.inf
    each = [float(found.scores[seed].of[metric].mean()) for seed in sorted(found.scores)]
    return Mean(
        mean=standing.mean,
        low=max(0.0, standing.low),
        high=min(most, standing.high),
        each=each,
        tied=_tied(standing.against_best, METRICS[metric]),
        frontier=False,
    )


def _tied(to_the_best: Estimate | None, higher: bool) -> bool:
    return to_the_best is None or (to_the_best.high >= 0 if higher else to_the_best.low <= 0)


def _with_frontier(rows: list[Row]) -> list[Row]:
    """The rows with the points marked that nothing beats for as few calls; a run stands for itself once."""
    for metric, higher in METRICS.items():
        own = [(row, at) for row in rows for at in row.at if at.run == at.budget]
        marks = on_frontier([(at.calls, getattr(at, metric).mean) for _, at in own], higher)
        marked = {(row.name, at.budget) for (row, at), good in zip(own, marks) if good}
        rows = [
            replace(row, at=[_marked(at, metric, (row.name, at.budget) in marked) for at in row.at]) for row in rows
        ]
    return rows


def _marked(at: At, metric: str, good: bool) -> At:
    return replace(at, **{metric: replace(getattr(at, metric), frontier=good)})
