"""Rows on the assumptions [A1] to [A4], the continuous prompt [Z1] to [Z5b], descent [D1], [D2] and Theorem 1 [T1]."""

from zopog_ref.convergence import assumptions, runs, smoothing_lemmas, theorem
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Equality, Inequality
from zopog_ref.convergence.exact import prompt_atoms
from zopog_ref.convergence.lines import Line
from zopog_ref.convergence.smoothing_lemmas import batches


def _smooth_in_alpha(bench: Bench) -> list[Inequality]:
    args = bench.rng(30), bench.effort.points
    return [assumptions.observed_smoothness_in_alpha(bench.wells, 0.1, tau, *args) for tau in (0.5, 1.0)]


def _smooth_in_z(bench: Bench) -> list[Inequality]:
    args = bench.rng(31), bench.effort.points
    return [assumptions.observed_smoothness_in_z(problem, *args) for problem in (bench.wells, bench.quadratic)]


def _batch_variance(bench: Bench) -> tuple[Inequality, Inequality]:
    return assumptions.observed_batch_variance(bench.wells, 0.1, 0.7, bench.rng(32), bench.effort.points)


def _radius_cases(bench: Bench) -> list[Inequality]:
    return [smoothing_lemmas.bias_bound(bench.on_wells(mu), bench.zeroth) for mu in (0.1, 0.3, 1.0)]


def _radius_cases_smooth(bench: Bench) -> list[Inequality]:
    return [smoothing_lemmas.bias_bound_smooth_hessian(bench.on_wells(mu), bench.zeroth) for mu in (0.1, 0.3, 1.0)]


def _variance_exact(bench: Bench) -> list[Equality]:
    case, every = bench.on_quadratic(), batches(2, 2)
    sizes = [(batch, 1) for batch in every] + [(every[1], 2)]
    return [smoothing_lemmas.exact_variance_shared(case, batch, pairs, bench.zeroth) for batch, pairs in sizes]


def _variance_bounds(bench: Bench, per_example: bool) -> list[Inequality]:
    slope2 = bench.small_wells.largest_slope**2
    return [
        smoothing_lemmas.variance_bound(bench.on_wells(mu, 6), 2, per_example, slope2, bench.zeroth)
        for mu in (0.05, 0.3)
    ]


def descent_alpha(bench: Bench) -> list[Inequality]:
    """[D1] at three shares of the largest step; at the smallest the right side is a sure decrease."""
    atoms, c = prompt_atoms(bench.binary_alpha), bench.small_constants
    plans = [bench.small_plan(share, 0.02) for share in (1.0, 0.1, 1e-4)]
    return [theorem.descent_in_alpha(bench.small_wells, atoms, bench.z, c, plan, bench.policy) for plan in plans]


def descent_z(bench: Bench) -> list[Inequality]:
    """[D2] at three shares of the largest step; at the smallest the right side is a sure decrease."""
    c = bench.small_constants
    return [
        theorem.descent_in_z(bench.on_wells(mu, 8), c, bench.small_plan(share, mu), bench.zeroth)
        for share, mu in ((1.0, 0.02), (0.1, 0.02), (1e-3, 1e-3))
    ]


def run_trace(bench: Bench, fresh: bool) -> runs.Trace:
    """The runs of [T1] and [A4], made once."""
    key = f"trace {fresh}"
    if key not in bench.cache:
        seeds = [1000 * bench.seed + r for r in range(bench.effort.runs)]
        bench.cache[key] = runs.trace(bench.wells, bench.start, bench.run_plan, bench.effort.steps, seeds, fresh)
    return bench.cache[key]  # type: ignore[return-value]


def _theorem(bench: Bench) -> list[Inequality]:
    run = run_trace(bench, True).within(bench.run_constants.alpha_min)
    return [runs.theorem_1(bench.run_constants, bench.run_plan, run, lowest) for lowest in (0.0, None)]


def _theorem_shared(bench: Bench) -> Inequality:
    run = run_trace(bench, False).within(bench.run_constants.alpha_min)
    return runs.theorem_1(bench.run_constants, bench.run_plan, run, None, shared=True)


def _lower_bound(bench: Bench) -> Inequality:
    smallest = float(run_trace(bench, True).smallest_alpha.min())
    return assumptions.observed_lower_bound(smallest, bench.run_constants.alpha_min)


def _lower_bound_at_limit(bench: Bench) -> Inequality:
    c = bench.run_constants
    plan = theorem.Plan(theorem.largest_eta_alpha(c), theorem.largest_eta_z(c, 10), 0.02, 20, 10, 16)
    run = runs.trace(bench.wells, bench.start, plan, 50, [bench.seed], False)
    return assumptions.observed_lower_bound(float(run.smallest_alpha.min()), c.alpha_min)


def _both_formulas(bench: Bench) -> list[Equality]:
    return [smoothing_lemmas.two_point_formula(bench.rng(33), False, bench.zeroth)]


_A, _Z, _T = "test_assumptions.py::", "test_smoothing_lemmas.py::", "test_theorem.py::"
CONTINUOUS = (
    Line("A1-alpha", "A1", "L is smooth in alpha, L_alpha from F, tau, alpha_min.", "proved",
         assumptions.observed_smoothness_in_alpha, _A + "test_smoothness_in_alpha", _smooth_in_alpha),
    Line("A1-z", "A1", "Every f is smooth in z, L_z in closed form.", "proved", assumptions.observed_smoothness_in_z,
         _A + "test_smoothness_in_z", _smooth_in_z),
    Line("A2-alpha", "A2", "sigma_alpha^2 <= sigma_g^2 / 5: follows from A3, A4.", "proved",
         assumptions.observed_batch_variance, _A + "test_batch_variance", lambda b: _batch_variance(b)[0]),
    Line("A2-z", "A2", "sigma_z^2 <= max ||grad f||^2 <= L_z F, at every z.", "proved",
         assumptions.observed_batch_variance, _A + "test_batch_variance", lambda b: _batch_variance(b)[1]),
    Line("A3", "A3", "Losses lie in [0, F].", "proved", assumptions.observed_losses, _A + "test_losses",
         lambda b: assumptions.observed_losses(b.wells, b.rng(34), b.effort.points)),
    Line("A4", "A4", "alpha >= 1/(2N) by itself, all steps of T1's runs.", "measured",
         assumptions.observed_lower_bound, _A + "test_lower_bound", _lower_bound, required=False),
    Line("A4-limit", "A4", "The same at D1's largest step with I = 20.", "measured", assumptions.observed_lower_bound,
         _A + "test_lower_bound", _lower_bound_at_limit, required=False),
    Line("Z1", "Z1", "The two-point estimate is the published formula.", "reported, confirmed",
         smoothing_lemmas.two_point_formula, _Z + "test_two_point_formula", _both_formulas),
    Line("Z1b", "Z1b", "The same with a direction for each example.", "reported, confirmed",
         smoothing_lemmas.two_point_formula, _Z + "test_two_point_formula",
         lambda b: smoothing_lemmas.two_point_formula(b.rng(35), True, b.zeroth)),
    Line("Z2", "Z2", "It is unbiased for the smoothed loss.", "proved", smoothing_lemmas.stein_identity,
         _Z + "test_stein_identity",
         lambda b: [smoothing_lemmas.stein_identity(case, b.zeroth) for case in (b.on_quadratic(), b.on_wells())]),
    Line("Z3-quadratic", "Z3", "No bias on a quadratic, whatever mu.", "proved", smoothing_lemmas.no_bias_on_quadratics,
         _Z + "test_no_bias_on_quadratics",
         lambda b: [smoothing_lemmas.no_bias_on_quadratics(b.on_quadratic(mu), b.zeroth) for mu in (0.01, 0.3, 3.0)]),
    Line("Z3", "Z3", "Bias at most mu L_z sqrt(d).", "proved", smoothing_lemmas.bias_bound, _Z + "test_bias_bound",
         _radius_cases),
    Line("Z3-hessian", "Z3", "Bias at most rho mu^2 d / 2, Hessian rho-Lipschitz.", "proved",
         smoothing_lemmas.bias_bound_smooth_hessian, _Z + "test_bias_bound_smooth_hessian", _radius_cases_smooth),
    Line("Z3-kink", "Z3", "At a kink of the Hessian it is of first order in mu.", "proved", smoothing_lemmas.kink_bias,
         _Z + "test_kink_bias", lambda b: [smoothing_lemmas.kink_bias(mu, 5) for mu in (0.01, 0.3)]),
    Line("Z4-quadratic", "Z4", "Second moment on a quadratic: (d+2) ||grad h||^2.", "proved",
         smoothing_lemmas.second_moment_on_quadratics, _Z + "test_second_moment_on_quadratics",
         lambda b: [smoothing_lemmas.second_moment_on_quadratics(b.on_quadratic(mu), b.zeroth) for mu in (0.01, 3.0)]),
    Line("Z4", "Z4", "Second moment of one sample, bound.", "proved", smoothing_lemmas.second_moment_bound,
         _Z + "test_second_moment_bound",
         lambda b: [smoothing_lemmas.second_moment_bound(b.on_wells(mu), b.zeroth) for mu in (0.05, 0.3, 1.0)]),
    Line("Z5-exact", "Z5", "Exact variance on quadratics, shared directions.", "proved",
         smoothing_lemmas.exact_variance_shared, _Z + "test_exact_variance_shared", _variance_exact),
    Line("Z5", "Z5", "Variance with shared directions, bound.", "proved", smoothing_lemmas.variance_bound,
         _Z + "test_variance_bound", lambda b: _variance_bounds(b, False)),
    Line("Z5b-exact", "Z5b", "Exact variance on quadratics, per-example directions.", "proved",
         smoothing_lemmas.exact_variance_per_example, _Z + "test_exact_variance_per_example",
         lambda b: [smoothing_lemmas.exact_variance_per_example(b.on_quadratic(), x, b.zeroth) for x in batches(2, 2)]),
    Line("Z5b", "Z5b", "Variance with per-example directions, bound.", "proved", smoothing_lemmas.variance_bound,
         _Z + "test_variance_bound", lambda b: _variance_bounds(b, True)),
    Line("D1", "D1", "A policy step decreases L in the mean.", "proved", theorem.descent_in_alpha,
         _T + "test_descent_in_alpha", descent_alpha),
    Line("D2", "D2", "A zeroth-order step decreases L in the mean.", "proved", theorem.descent_in_z,
         _T + "test_descent_in_z", descent_z),
    Line("T1", "T1", "Theorem 1 along runs while A4 holds, fresh batches.", "proved", runs.theorem_1,
         _T + "test_theorem_1", _theorem),
    Line("T1-shared", "T1", "The same with one batch for both halves.", "proved", runs.theorem_1,
         _T + "test_theorem_1", _theorem_shared),
)  # fmt: skip
