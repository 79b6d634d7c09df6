"""Rows on the measured rates and the complexity [C1]; the curves are kept for the plots."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zopog_ref.convergence import complexity, rates, runs, theorem
from zopog_ref.convergence.assumptions import constants
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Equality, Inequality
from zopog_ref.convergence.exact import binary_noise
from zopog_ref.convergence.lines import Line
from zopog_ref.convergence.noise_lemmas import mode_statistics
from zopog_ref.convergence.problems import binary_vocabulary, gaussian_wells, random_alpha
from zopog_ref.convergence.rates import Curve, Roundoff


def _once(bench: Bench, key: str, make: Callable[[], object]) -> object:
    if key not in bench.cache:
        bench.cache[key] = make()
    return bench.cache[key]


def policy_curve(bench: Bench) -> Curve:
    """Variance of VR-PGE against I, on N^n = 512 or 4096 prompts."""

    def make() -> Curve:
        rng, N = bench.rng(40), 16 if bench.effort.prompts == 4096 else 8
        problem, z = gaussian_wells(rng, 3, N, 4, 4), 0.5 * rng.standard_normal(4)
        place = random_alpha(rng, 3, N), z, (2, 4, 8, 16, 32, 64, 128, 256)
        return rates.policy_variance_curve(problem, *place, bench.effort.times, rng, bench.policy)

    return _once(bench, "policy", make)  # type: ignore[return-value]


def noise_curve(bench: Bench, per_step: bool) -> Curve:
    """Variance of VR-PGE against I under the two modes of Gumbel noise."""

    def make() -> Curve:
        args = bench.small_wells, bench.binary_alpha, 1.0, bench.z, binary_noise(2, 16), (2, 8, 32, 128, 512)
        return rates.noise_floor_curve(*args, max(bench.effort.times // 4, 1000), bench.rng(41), per_step, bench.policy)

    return _once(bench, f"noise {per_step}", make)  # type: ignore[return-value]


def pairs_curve(bench: Bench) -> Curve:
    """Variance of the zeroth-order estimate against I_2."""
    make = lambda: rates.pairs_curve(bench.rng(42), (1, 2, 4, 8, 16, 32), bench.effort.times, bench.zeroth)  # noqa: E731
    return _once(bench, "pairs", make)  # type: ignore[return-value]


def dimension_curve(bench: Bench) -> Curve:
    """Variance of the zeroth-order estimate against d."""
    make = lambda: rates.dimension_curve(bench.rng(43), (2, 4, 8, 16, 32, 64, 128), bench.effort.times, bench.zeroth)  # noqa: E731
    return _once(bench, "dimension", make)  # type: ignore[return-value]


def batch_curve(bench: Bench, spread: float, per_example: bool) -> Curve:
    """Variance of both kinds of directions against B, examples alike (0) or not (3)."""
    args = bench.rng(44), (1, 2, 4, 8, 16, 32), bench.effort.times, spread, per_example, bench.zeroth
    return _once(bench, f"batch {spread} {per_example}", lambda: rates.batch_curve(*args))  # type: ignore[return-value]


def radius_curve(bench: Bench) -> Curve:
    """Second moment of the zeroth-order estimate on a well against mu."""

    def make() -> Curve:
        rng = bench.rng(45)
        problem = gaussian_wells(rng, 1, 1, 10, 1, s=3.0)
        place, radii = rng.standard_normal(10), (1e-3, 1e-2, 1e-1)
        return rates.radius_curve(rng, problem, place, radii, bench.effort.times, bench.zeroth)

    return _once(bench, "radius", make)  # type: ignore[return-value]


def bias_curves(bench: Bench) -> list[Curve]:
    """Bias against mu with and without a Lipschitz Hessian."""
    radii = [float(mu) for mu in np.geomspace(1e-3, 3e-2, 6)]
    make = lambda: rates.bias_curves(bench.wells, bench.z, radii, bench.zeroth)  # noqa: E731
    return _once(bench, "bias", make)  # type: ignore[return-value]


def roundoff(bench: Bench) -> Roundoff:
    """Error of the two-point estimate in float32 against mu."""

    def make() -> Roundoff:
        rng = bench.rng(46)
        problem = gaussian_wells(rng, 1, 1, 10, 1)
        z = problem.w[0, 0] + 1.4 * _unit(rng.standard_normal(10))  # a loss of 0.62: rounded by 2^-24
        return rates.float32_radius(
            problem, z, list(np.geomspace(1e-5, 0.3, 15)), bench.effort.times, rng, bench.zeroth
        )

    return _once(bench, "roundoff", make)  # type: ignore[return-value]


def _unit(v: rates.FLOAT64) -> rates.FLOAT64:
    return v / np.linalg.norm(v)


def _policy_slope(bench: Bench, against: float | None = None) -> Equality:
    curve = policy_curve(bench)
    return rates.slope_against(curve, rates.predicted_slope(curve) if against is None else against)


def _with_slope(curve: Curve, expected: float) -> list[Equality]:
    """The slope, and the value at both ends, so that a factor does not pass."""
    points = curve.against_prediction()
    return [rates.slope_against(curve, expected), points[0], points[-1]]


def _radius_rate(bench: Bench) -> list[Equality]:
    """The slope and the value at the smallest mu, where the prediction for mu -> 0 is exact to 1e-6."""
    curve = radius_curve(bench)
    return [rates.slope_against(curve, 0.0), curve.against_prediction()[0]]


def _batches(bench: Bench) -> list[Equality]:
    curves = [batch_curve(bench, spread, per) for spread in (0.0, 3.0) for per in (True, False)]
    return [point for curve in curves for point in curve.against_prediction()]


def _noise(bench: Bench) -> list[Equality]:
    return [point for per_step in (False, True) for point in noise_curve(bench, per_step).against_prediction()]


def _bias(bench: Bench) -> list[Equality]:
    wells, kink = bias_curves(bench)
    return [_near(rates.slope_against(wells, 2.0)), _near(rates.slope_against(kink, 1.0))]


def _near(slope: Equality) -> Equality:
    """A slope of a closed-form curve: exact but for the next order in mu, under 0.01 for these mu."""
    return Equality(slope.left, slope.right, slope.gap, 0.01, True, slope.case)


def _roundoff_slope(bench: Bench) -> list[Equality]:
    r = roundoff(bench)
    near = r.mu <= 0.02  # further out the losses leave [1/2, 1), where all are rounded alike
    predicted = 10 * (2.0**-48 / 12) / (2 * r.mu[near] ** 2)
    curve = Curve("round-off in float32", "mu", r.mu[near], r.roundoff[near], r.error[near], predicted)
    return _with_slope(curve, -2.0)


def _best_radius(bench: Bench) -> Inequality:
    r = roundoff(bench)
    total = np.interp(np.log(r.best), np.log(r.mu), np.log(r.bias + r.roundoff))
    return Inequality(float(np.exp(total)), 2 * float((r.bias + r.roundoff).min()), f"mu* = {r.best:.2g}")


def _needed_samples(bench: Bench) -> Equality:
    """I for a root-mean-square error of eps goes as eps^(2/s), s the slope of the variance."""
    curve = policy_curve(bench)
    measured, error = rates.slope(curve.x, curve.y, curve.error)
    exponent, predicted = 2 / measured, 2 / rates.predicted_slope(curve)
    return Equality(exponent, predicted, exponent - predicted, 2 * error / measured**2, False, "exponent of I in eps")


def _sizes_suffice(bench: Bench) -> list[Inequality]:
    return complexity.sizes_suffice(bench.run_constants, constants(bench.wells, 1 / 6, 1.0, True))


def _exponents(bench: Bench) -> list[Equality]:
    return complexity.exponents(bench.run_constants, *(constants(bench.wells, a) for a in (1e-3, 1e-4)))


@dataclass(frozen=True)
class ComplexityRuns:
    """Evaluations until eps-stationary under a rule for the sample sizes."""

    rule: str
    reached: list[runs.Reached]

    @property
    def curve(self) -> Curve:
        """Evaluations against eps, where all runs reached it."""
        reached = [r for r in self.reached if not r.unfinished]
        epsilon = np.array([r.epsilon for r in reached])
        evaluations = np.array([r.evaluations for r in reached])
        error = np.maximum([r.error for r in reached], 0.02 * evaluations)
        return Curve(self.rule, "eps", epsilon, evaluations, error)


def complexity_runs(bench: Bench) -> list[ComplexityRuns]:
    """Algorithm 1 with I of order 1/eps^2 (proved), 1/eps (reported) and fixed at 20, on the wells."""

    def make() -> list[ComplexityRuns]:
        found, c, seeds = [], bench.run_constants, [(7000 + 1000 * bench.seed + r) % 2**63 for r in range(4)]
        first = bench.effort.epsilons[0]
        rules = {"I = 2/eps^2": (2.0, 2), f"I = 2/({first} eps)": (2 / first, 1), "I = 20": (20.0, 0)}
        for rule, (factor, power) in rules.items():
            reached = []
            for epsilon in bench.effort.epsilons:
                pairs = int(factor / epsilon**power)
                plan = theorem.Plan(1 / c.L_alpha, theorem.largest_eta_z(c, pairs), 0.02, pairs, pairs, 4)
                reached.append(runs.evaluations_to_reach(bench.wells, bench.start, plan, epsilon, 6000, seeds))
            found.append(ComplexityRuns(rule, reached))
        return found

    return _once(bench, "complexity", make)  # type: ignore[return-value]


def mode_results(bench: Bench) -> list[runs.ModeResult]:
    """Where Algorithm 1 ends with each kind of noise and of directions, at the same step sizes and calls."""

    def make() -> list[runs.ModeResult]:
        problem = gaussian_wells(bench.rng(47), 4, 5, 4, 16, s=2.0)
        seeds = range(bench.effort.mode_runs)
        return [
            runs.final_loss(problem, mode, directions, 0.2, 2.0, 100, 8, seeds)
            for mode in ("none", "per_sample", "per_step") for directions in ("shared", "per_example")
        ]  # fmt: skip

    return _once(bench, "modes", make)  # type: ignore[return-value]


_T = "test_rates.py::"
RATES = (
    Line("rate-I", "V5", "Variance of VR-PGE at each I, sampled.", "proved", rates.policy_variance_curve,
         _T + "test_policy_variance", lambda b: policy_curve(b).against_prediction()),
    Line("slope-I", "V5", "Its slope in I: -1 (that of V5 over these I).", "proved", rates.policy_variance_curve,
         _T + "test_policy_variance", _policy_slope),
    Line("slope-I-reported", "V7", "Its slope in I: -2, as Proposition 1 needs.", "reported",
         rates.policy_variance_curve, _T + "test_policy_variance", lambda b: _policy_slope(b, -2.0), required=False),
    Line("rate-noise", "G2", "Variance at each I under both noise modes.", "proved", rates.noise_floor_curve,
         _T + "test_noise_floor", _noise),
    Line("rate-I2", "Z5", "Zeroth-order variance in I2: slope -1.", "proved", rates.pairs_curve,
         _T + "test_zeroth_curves", lambda b: _with_slope(pairs_curve(b), -1.0)),
    Line("rate-d", "Z4", "Zeroth-order variance in d + 1: slope 1.", "proved", rates.dimension_curve,
         _T + "test_zeroth_curves", lambda b: _with_slope(dimension_curve(b), 1.0)),
    Line("rate-mu", "Z4", "Zeroth-order second moment in mu: slope 0.", "proved", rates.radius_curve,
         _T + "test_radius", _radius_rate),
    Line("rate-B", "Z5b", "Variance at each B, both kinds of directions.", "proved", rates.batch_curve,
         _T + "test_batch_curves", _batches),
    Line("rate-bias", "Z3", "Bias in mu: slope 2, or 1 at a kink.", "proved", rates.bias_curves, _T + "test_bias",
         _bias),
    Line("rate-float32", "Z3", "Round-off in float32: slope -2 in mu.", "measured", rates.float32_radius,
         _T + "test_float32", _roundoff_slope),
    Line("best-mu", "Z3", "Error at mu* within a factor 2 of the best on the grid.", "measured", rates.float32_radius,
         _T + "test_float32", _best_radius),
    Line("C1-sizes", "C1", "The proved sizes make T1's bound at most eps^2.", "proved", complexity.complexity,
         "test_complexity.py::test_sizes_suffice", _sizes_suffice),
    Line("C1", "C1", "Cheapest sizes, by search: -4 in calls, -6 in examples.", "proved", complexity.cheapest,
         "test_complexity.py::test_exponents", _exponents),
    Line("C1-samples", "C1", "Samples for an error eps: exponent -2, sampled.", "proved", rates.policy_variance_curve,
         _T + "test_policy_variance", _needed_samples),
)  # fmt: skip


def reported_exponent(bench: Bench) -> list[Equality]:
    """Slopes of the evaluations that runs of Algorithm 1 took, for the page: none of them is a row."""
    return [rates.slope_against(rule.curve, -4.0) for rule in complexity_runs(bench)]


def noise_modes(bench: Bench) -> list[dict[str, Any]]:
    """Medians over 50 random wells (n = 2, N = 2): squared gradient, variance at I = 20, and their ratio, for each mode
    of noise at alpha = (1/2, 1/2) and (0.9, 0.1). Exact but for the choice of problems."""

    def make() -> list[dict[str, Any]]:
        found, problems = [], []
        for i in range(50):
            rng = bench.rng(1000 + i)
            problems.append(binary_vocabulary(rng, 2, 2, 3).table(0.7 * rng.standard_normal(2)).mean(axis=1))
        for row in ((0.5, 0.5), (0.9, 0.1)):
            seen = mode_statistics(np.array([row, row]), binary_noise(2, 16), np.stack(problems), 20)
            for mode, values in seen.items():
                g2, variance = np.array(values).T
                medians = (float(np.median(x)) for x in (g2, variance, g2 / variance))
                found.append({"alpha": f"{row[0]:g}, {row[1]:g}", "mode": mode,
                              **dict(zip(("gradient2", "variance", "ratio"), medians))})  # fmt: skip
        return found

    return _once(bench, "noise modes", make)  # type: ignore[return-value]
