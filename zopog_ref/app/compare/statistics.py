"""Which differences between methods are more than chance: every pair, the best, the manual prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from zopog_ref.app.compare.paired import Estimate, best_p_values, crossed, fixed_seeds, holm, nested, sign_test
from zopog_ref.app.compare.results import Gain, Metric, SignTest, Standing, Statistics
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.typed_json import ABSENT

LEVEL = 0.95
HIGHER_IS_BETTER = {"accuracy": True, "nll": False, "brier": False}
_MOST = {"accuracy": 1.0, "nll": inf, "brier": 2.0}  # a score is 0 at least
FEW_SEEDS = 4  # so many are too few for intervals to trust


@dataclass(frozen=True)
class Scores:
    """Of one run on its test rows: which rows, and by metric a score a row."""

    rows: NDArray[np.int64]
    of: dict[str, NDArray[np.float64]]


def statistics(scores: Mapping[str, Mapping[int, Scores]], manual: str, readout: str | None = None) -> Statistics:
    """scores: method -> seed -> scores. By metric: means with intervals, the best method and those tied with it,
    differences to the best, to the manual prompt and to it with a readout, and of every pair. All intervals are at
    LEVEL.

    Seeds that one of two methods lacks (a failed run) are left out of that pair alone.
    """
    same = _same_rows(scores)
    metrics = {metric: _metric(scores, manual, readout, metric, same) for metric in HIGHER_IS_BETTER}
    return Statistics(level=LEVEL, methods=list(scores), same_test_rows=same, metrics=metrics)


def _metric(
    scores: Mapping[str, Mapping[int, Scores]], manual: str, readout: str | None, metric: str, same: bool
) -> Metric:
    names, higher = list(scores), HIGHER_IS_BETTER[metric]
    most = _MOST[metric]
    own = {name: _clipped(_mean([s.of[metric] for s in scores[name].values()], same), 0.0, most) for name in names}
    pairs = {(a, b): difference(scores[a], scores[b], metric, same) for a in names for b in names if a != b}
    below = np.ones((len(names), len(names)))  # of "row is at least as good as column"
    for (a, b), pair in pairs.items():
        if pair is not None:
            below[names.index(a), names.index(b)] = pair.p_below if higher else pair.p_above
    p_best = dict(zip(names, best_p_values(below).tolist()))
    best = max(names, key=lambda name: own[name].mean if higher else -own[name].mean)

    def against(base: str | None) -> dict[str, Gain]:
        found = {name: pair for name in names if base is not None and (pair := pairs.get((name, base)))}
        adjusted = dict(zip(found, holm([pair.p for pair in found.values()]).tolist()))
        return {
            name: _gain(pair, adjusted[name], _gaps(scores[name], scores[str(base)], metric), metric, same)
            for name, pair in found.items()
        }

    to_manual, to_readout = against(manual), against(readout)
    standings = {
        name: Standing(
            **vars(own[name]),
            p_best=p_best[name],
            among_best=p_best[name] > 1 - LEVEL,
            against_best=pairs.get((name, best)),
            against_manual=to_manual.get(name, ABSENT),
            against_readout=to_readout.get(name, ABSENT),
        )
        for name in names
    }
    differences = [[pairs.get((a, b)) for b in names] for a in names]
    return Metric(higher_is_better=higher, best=best, methods=standings, differences=differences)


def _clipped(estimate: Estimate, least: float, most: float) -> Estimate:
    """Its interval without what cannot be: an accuracy above 1, a loss below 0, a difference of accuracies above 1."""
    low, high = (min(max(end, least), most) for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


def _gain(estimate: Estimate, p_holm: float, gaps: list[NDArray[np.float64]], metric: str, same: bool) -> Gain:
    """A difference to a baseline; p_holm has Holm's correction over the methods."""
    tests = ABSENT
    if metric == "accuracy":
        counts = [(int((gap > 0).sum()), int((gap < 0).sum())) for gap in gaps]
        tests = [SignTest(wins=w, losses=k, p=sign_test(w, k)) for w, k in counts]
    most = _MOST[metric]
    these = _clipped(fixed_seeds(np.stack(gaps), LEVEL), -most, most) if same else ABSENT
    return Gain(**vars(estimate), p_holm=p_holm, these_runs=these, each_seed=tests)


def difference(a: Mapping[int, Scores], b: Mapping[int, Scores], metric: str, same: bool) -> Estimate | None:
    """Mean of a's scores minus b's over the seeds both have; None when they have none in common.

    Errors: InputError when a seed's test rows differ between the two.
    """
    gaps, most = _gaps(a, b, metric), _MOST[metric]
    return _clipped(_mean(gaps, same), -most, most) if gaps else None


def _gaps(a: Mapping[int, Scores], b: Mapping[int, Scores], metric: str) -> list[NDArray[np.float64]]:
    common = sorted(a.keys() & b.keys())
    for seed in common:
        if not np.array_equal(a[seed].rows, b[seed].rows):
            raise InputError(f"the runs with seed {seed} were tested on different rows: they cannot be compared")
    return [a[seed].of[metric] - b[seed].of[metric] for seed in common]


def _mean(values: list[NDArray[np.float64]], same: bool) -> Estimate:
    return crossed(np.stack(values), LEVEL) if same else nested(list(values), LEVEL)


def _same_rows(scores: Mapping[str, Mapping[int, Scores]]) -> bool:
    rows = [s.rows for runs in scores.values() for s in runs.values()]
    return all(np.array_equal(rows[0], other) for other in rows)
