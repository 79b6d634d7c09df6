"""The figures of the page of zopog verify, from the curves that the rows were checked on."""

from typing import NamedTuple

import numpy as np

from zopog_ref.app.report.plots import Chart, Series, chart
from zopog_ref.convergence import lines_rates as measured
from zopog_ref.convergence import rates
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.lines_descent import run_trace
from zopog_ref.convergence.rates import Curve
from zopog_ref.convergence.theorem import alpha_noise, progress, z_noise


class Figure(NamedTuple):
    """A chart, what it shows in one sentence, and the labels it belongs to."""

    title: str
    labels: str
    chart: Chart


def _pair(curve: Curve, colour: int, name: str | None = None) -> list[Series]:
    predicted = curve.predicted is not None
    found = [Series(name or curve.name, curve.x, curve.y, colour, curve.error, only_dots=predicted)]
    if curve.predicted is not None:
        found.append(Series("", curve.x, curve.predicted, colour, dashed=True))
    return found


def _slope(curve: Curve) -> str:
    value, error = rates.slope(curve.x, curve.y, curve.error)
    return f"{value:.3f} ± {error:.3f}".replace("-", "−")


def figures(bench: Bench) -> list[Figure]:
    """All figures, in the order of the page."""
    made = [
        _policy(bench), _noise(bench), _directions(bench), _pairs(bench),
        _bias(bench), _roundoff(bench), _theorem(bench),
    ]  # fmt: skip
    return [*made, _complexity(bench)] if bench.effort.epsilons else made


def _policy(bench: Bench) -> Figure:
    c = measured.policy_curve(bench)
    square = c.y[0] * (c.x / c.x[0]) ** -2.0
    series = _pair(c, 1, "measured, ± 2 standard errors")
    series.append(Series("1/I², as the reported Proposition 1 needs", c.x, square, 2, dashed=True))
    value, error = rates.slope(c.x, c.y, c.error)
    note = f"Slope {_slope(c)}; −2 is {(value + 2) / error:.0f} standard errors away."
    body = chart(series, "samples I", "E‖ĝ − G‖²", note)
    return Figure("The variance of the policy gradient falls as 1/I", "V5 V7", body)


def _noise(bench: Bench) -> Figure:
    fresh, one = measured.noise_curve(bench, False), measured.noise_curve(bench, True)
    series = _pair(fresh, 1, "fresh noise with each sample") + _pair(one, 2, "one noise for all samples of a step")
    note = "One noise a step leaves a floor that neither I nor B lowers: the gradient's own variance over the noise."
    return Figure("One Gumbel noise a step adds a floor", "G2", chart(series, "samples I", "E‖ĝ − G‖²", note))


def _directions(bench: Bench) -> Figure:
    series = []
    for colour, (spread, per, name) in enumerate([
        (0.0, False, "shared, examples agree"), (0.0, True, "per-example, examples agree"),
        (3.0, False, "shared, examples differ"), (3.0, True, "per-example, examples differ"),
    ], start=1):  # fmt: skip
        c = measured.batch_curve(bench, spread, per)
        series += _pair(c, colour, name)
    note = "A direction for each example divides the variance by B where examples agree; elsewhere it gains less."
    body = chart(series, "batch size B", "variance of ĝ_z", note)
    return Figure("Per-example directions use the same calls better", "Z5 Z5b", body)


def _pairs(bench: Bench) -> Figure:
    pairs, dims = measured.pairs_curve(bench), measured.dimension_curve(bench)
    series = [Series("against I₂, d = 20", pairs.x, pairs.y, 1, pairs.error),
              Series("against d + 1, one pair", dims.x, dims.y, 3, dims.error)]  # fmt: skip
    note = f"Slopes {_slope(pairs)} in I₂ and {_slope(dims)} in d + 1."
    body = chart(series, "I₂, or d + 1", "variance of ĝ_z", note)
    return Figure("The zeroth-order variance: 1/I₂ and d", "Z4 Z5", body)


def _bias(bench: Bench) -> Figure:
    wells, kink = measured.bias_curves(bench)
    series = [Series("wells: Lipschitz Hessian, slope 2", wells.x, wells.y, 1),
              Series("one-sided quadratic: a kink in the Hessian, slope 1", kink.x, kink.y, 2)]  # fmt: skip
    body = chart(series, "radius μ", "‖∇L_μ − ∇L‖", "On a quadratic it is 0 for every μ.")
    return Figure("The bias of smoothing", "Z3", body)


def _roundoff(bench: Bench) -> Figure:
    r = measured.roundoff(bench)
    series = [Series("bias²", r.mu, r.bias, 1, dashed=True),
              Series("round-off in float32", r.mu, r.roundoff, 2, r.error),
              Series("sum", r.mu, r.bias + r.roundoff, 4)]  # fmt: skip
    note = f"Best radius by the formula: μ* = {r.best:.2g}, for wells of width 1 in ten dimensions."
    return Figure("Which μ is best in float32", "Z3", chart(series, "radius μ", "squared error of ĝ_z", note))


def _theorem(bench: Bench) -> Figure:
    run, c, plan = run_trace(bench, True), bench.run_constants, bench.run_plan
    steps = np.arange(1, run.alpha_slope2.shape[1] + 1)
    left = progress(c, plan, run.alpha_slope2, run.z_slope2).mean(axis=0).cumsum() / steps
    drop = run.value[:, 0].mean() - run.value[:, 1:].mean(axis=0)
    right = drop / steps + alpha_noise(c, plan) + z_noise(c, plan)
    few = np.unique(np.geomspace(1, len(steps), 24).astype(int)) - 1
    thin = [Series("left side: mean squared gradients", steps[few], left[few], 1),
            Series("right side", steps[few], right[few], 2, dashed=True)]  # fmt: skip
    note = f"Mean of {len(run.value)} runs of Algorithm 1 at small steps, which cannot leave α ≥ 1/(2N)."
    return Figure("Theorem 1 along real runs", "T1", chart(thin, "steps T", "both sides of T1", note))


def _complexity(bench: Bench) -> Figure:
    series, words = [], []
    for colour, rule in enumerate(measured.complexity_runs(bench), start=1):
        c = rule.curve
        series.append(Series(rule.rule, 1 / c.x, c.y, colour, c.error))
        words.append(f"{rule.rule}: {_slope(c)}")
    note = "Exponents in ε: " + "; ".join(words) + ". The rule to stop fixes them: steps · ε² is nearly constant."
    return Figure("Prompt evaluations until ε-stationary", "C1", chart(series, "1/ε", "T (I₁ + 2 I₂)", note))
