"""Rows on the assumptions [A1] to [A3] and the continuous prompt [Z1] to [Z5b], [G4]."""

import numpy as np

from zopog_ref.convergence import assumptions, noise_in_z, smoothing_lemmas
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Equality, Inequality
from zopog_ref.convergence.exact import MODES, Nodes, binary_noise, normal_nodes
from zopog_ref.convergence.lines import Line
from zopog_ref.convergence.lines_descent import opposite_given
from zopog_ref.convergence.problems import table_quadratic
from zopog_ref.convergence.sharp_problems import (
    Cubic,
    OddKink,
    half_range_nodes,
    opposite_examples,
    opposite_prompts,
)
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, batches, zeroth_case


def _smooth_in_alpha(bench: Bench) -> list[Inequality]:
    args = bench.rng(30), bench.effort.points
    seen = [assumptions.observed_smoothness_in_alpha(bench.wells, 0.1, tau, *args) for tau in (0.5, 1.0)]
    return seen + [assumptions.sharp_smoothness_in_alpha(tau) for tau in (0.1, 1.0, 4.0)]


def _smooth_in_z(bench: Bench) -> list[Inequality]:
    args = bench.rng(31), bench.effort.points
    return [assumptions.observed_smoothness_in_z(problem, *args) for problem in (bench.wells, bench.quadratic)]


def _batch_variance(bench: Bench) -> tuple[list[Inequality], Inequality]:
    in_alpha, in_z = assumptions.observed_batch_variance(bench.wells, 0.1, 0.7, bench.rng(32), bench.effort.points)
    return [in_alpha, assumptions.sharp_batch_variance()], in_z


def _odd_kink(d: int, mu: float) -> ZerothCase:
    """Nodes for one dimension; a second one is a product of them."""
    one = half_range_nodes(12, 8.0)
    if d == 1:
        return ZerothCase("odd kink, d = 1", OddKink(1), np.ones(1), np.zeros(1), mu, half_range_nodes())
    i, j = np.indices((len(one.weight),) * 2).reshape(2, -1)
    nodes = Nodes(one.weight[i] * one.weight[j], np.column_stack([one.direction[i, 0], one.direction[j, 0]]))
    return ZerothCase("odd kink, d = 2", OddKink(2), np.ones(1), np.zeros(2), mu, nodes)


def _radius_cases(bench: Bench) -> list[Inequality]:
    cases = [*(bench.on_wells(mu) for mu in (0.1, 0.3, 1.0)), _odd_kink(1, 0.3), _odd_kink(2, 0.3)]
    return [smoothing_lemmas.bias_bound(case, bench.zeroth) for case in cases]


def _radius_cases_smooth(bench: Bench) -> list[Inequality]:
    cubic = [ZerothCase(f"cubic, d = {d}", Cubic(d), np.ones(1), np.zeros(d), 0.3, normal_nodes(d, 6)) for d in (1, 2)]
    cases = [*(bench.on_wells(mu) for mu in (0.1, 0.3, 1.0)), *cubic]
    return [smoothing_lemmas.bias_bound_smooth_hessian(case, bench.zeroth) for case in cases]


def _second_moments(bench: Bench) -> list[Inequality]:
    cases = [*(bench.on_wells(mu) for mu in (0.05, 0.3, 1.0)), _odd_kink(1, 0.3)]
    return [smoothing_lemmas.second_moment_bound(case, bench.zeroth) for case in cases]


def _variance_exact(bench: Bench) -> list[Equality]:
    case, every = bench.on_quadratic(), batches(2, 2)
    sizes = [(batch, 1) for batch in every] + [(every[1], 2)]
    return [smoothing_lemmas.exact_variance_shared(case, batch, pairs, bench.zeroth) for batch, pairs in sizes]


def _variance_bounds(bench: Bench, per_example: bool) -> list[Inequality]:
    """[Z5], [Z5b]: on wells; where the variance lies between examples, or between prompts; and in each noise mode."""
    slope2, z0 = bench.small_wells.largest_slope**2, np.zeros(1)
    found = [
        smoothing_lemmas.variance_bound(bench.on_wells(mu, 6), 2, per_example, slope2, bench.zeroth)
        for mu in (0.05, 0.3)
    ]
    half = np.full((1, 2), 0.5)
    examples = zeroth_case("opposite examples", opposite_examples(1), half[:, :1], z0, 1e-3, 4)
    prompts = zeroth_case("opposite prompts", opposite_prompts(1), half, z0, 1e-3, 4)  # even: no node at u = 0
    for case, batch, pairs in ((examples, 2, 400), (prompts, 6 if per_example else 2, 1)):
        args = batch, pairs, per_example, 1.0, 0.0, bench.zeroth, case.name
        found.append(noise_in_z.variance_bound_in_mode([(1.0, case)], *args))
    for mode in MODES:
        given, gamma2 = opposite_given(mode, binary_noise(1, 12)), 1 / 3 if mode == "per_step" else 0.0
        args = 2 if per_example else 64, 200, per_example, 1.0, gamma2, bench.zeroth, mode
        found.append(noise_in_z.variance_bound_in_mode(given, *args))
    return found


def _one_noise(bench: Bench) -> list[Equality]:
    """[G4]: two prompts, two examples, every g, for one pair and for two."""
    problem = table_quadratic(bench.rng(36), 1, 2, 1, 2)
    case = zeroth_case("quadratic", problem, bench.binary_alpha[:1], np.full(1, 0.4), 0.3, 4)
    given = noise_in_z.cases_of("per_step", case, bench.binary_alpha[:1], 0.7, bench.noise)
    return [noise_in_z.one_noise_variance(given, batch, pairs, bench.zeroth)
            for batch, pairs in ((np.array([0, 1]), 1), (np.array([0, 1]), 2), (np.array([1, 1]), 2))]  # fmt: skip


def _algorithm_modes(bench: Bench) -> list[Equality]:
    """[G4] by Algorithm 1 itself, in each mode."""
    if "algorithm modes" not in bench.cache:
        problem, alpha = opposite_prompts(2), np.array([[0.3, 0.5]])
        case = zeroth_case("opposite prompts", problem, alpha, np.array([0.3, 0.2]), 0.1, 3)
        found = []
        for number, mode in enumerate(MODES):
            given = noise_in_z.cases_of(mode, case, alpha, 1.0, binary_noise(1, 24))
            seed = (1_000_000 * bench.seed + 100_000 * number) % 2**62
            times = max(200, bench.effort.times // 8)
            args = problem, given, alpha, mode, 20, times, seed, bench.backend
            found.append(noise_in_z.half_step_of_the_algorithm(*args))
        bench.cache["algorithm modes"] = found
    return bench.cache["algorithm modes"]  # type: ignore[return-value]


def _both_formulas(bench: Bench) -> list[Equality]:
    return [smoothing_lemmas.two_point_formula(bench.rng(33), False, bench.zeroth)]


_A, _Z = "test_assumptions.py::", "test_smoothing_lemmas.py::"
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
         _Z + "test_kink_bias", lambda b: [smoothing_lemmas.kink_bias(mu, 5, b.zeroth) for mu in (0.01, 0.3)]),
    Line("Z4-quadratic", "Z4", "Second moment on a quadratic: (d+2) ||grad h||^2.", "proved",
         smoothing_lemmas.second_moment_on_quadratics, _Z + "test_second_moment_on_quadratics",
         lambda b: [smoothing_lemmas.second_moment_on_quadratics(b.on_quadratic(mu), b.zeroth) for mu in (0.01, 3.0)]),
    Line("Z4", "Z4", "Second moment of one sample, bound.", "proved", smoothing_lemmas.second_moment_bound,
         _Z + "test_second_moment_bound",
         _second_moments),
    Line("Z5-exact", "Z5", "Exact variance on quadratics, shared directions.", "proved",
         smoothing_lemmas.exact_variance_shared, _Z + "test_exact_variance_shared", _variance_exact),
    Line("Z5", "Z5", "Variance with shared directions, bound.", "proved", smoothing_lemmas.variance_bound,
         _Z + "test_variance_bound", lambda b: _variance_bounds(b, False)),
    Line("Z5b-exact", "Z5b", "Exact variance on quadratics, per-example directions.", "proved",
         smoothing_lemmas.exact_variance_per_example, _Z + "test_exact_variance_per_example",
         lambda b: [smoothing_lemmas.exact_variance_per_example(b.on_quadratic(), x, b.zeroth) for x in batches(2, 2)]),
    Line("Z5b", "Z5b", "Variance with per-example directions, bound.", "proved", smoothing_lemmas.variance_bound,
         _Z + "test_variance_bound", lambda b: _variance_bounds(b, True)),
    Line("G4", "G4", "One noise a half step adds Var_g of the gradient in z.", "proved", noise_in_z.one_noise_variance,
         "test_noise_in_z.py::test_one_noise_variance", _one_noise),
    Line("G4-run", "G4", "The half step of the algorithm in each noise mode.", "proved",
         noise_in_z.half_step_of_the_algorithm, "test_noise_in_z.py::test_half_step_of_the_algorithm",
         _algorithm_modes),
)  # fmt: skip
