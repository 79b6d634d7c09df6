"""Rows on the discrete prompt: [S1] to [S5], [V1] to [V7], [G1] to [G3]."""

from collections.abc import Sequence

import numpy as np

from zopog_ref.convergence import noise_lemmas, prompt_lemmas, proposition
from zopog_ref.convergence.assumptions import constants
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Comparison, Equality, Inequality
from zopog_ref.convergence.exact import MODES, binary_noise, draws_of_a_step, prompt_atoms
from zopog_ref.convergence.lines import Line
from zopog_ref.convergence.problems import SeparableTable
from zopog_ref.convergence.prompt_lemmas import PolicyCase


def _cases(bench: Bench) -> list[PolicyCase]:
    return [case for case, _ in bench.policy_cases]


def _samples(bench: Bench) -> list[tuple[PolicyCase, int]]:
    return [(case, size) for case, sizes in bench.policy_cases for size in sizes]


def _paper(bench: Bench) -> tuple[Equality, Equality]:
    """[V4] and [V5] at the published shape share their draws."""
    if "paper" not in bench.cache:
        table, rng = SeparableTable(bench.rng(20).random((20, 100))), bench.rng(21)
        bench.cache["paper"] = prompt_lemmas.at_paper_shape(table, 20, bench.effort.paper_times, rng, bench.policy)
    return bench.cache["paper"]  # type: ignore[return-value]


def _variance_bound(bench: Bench) -> list[Inequality]:
    return [
        prompt_lemmas.variance_bound(case, size, bench.wells.F, float(case.atoms.alpha.min()), bench.policy)
        for case, size in _samples(bench)
    ] + [_sharp_variance(bench)]


def _sharp_variance(bench: Bench) -> Inequality:
    """One position, two tokens, losses 0 and F, alpha = (a, a), I = 2: 0.4 of the bound, the most that we know of."""
    atoms = prompt_atoms(np.full((1, 2), 0.3))
    case = PolicyCase("two tokens, losses 0 and F", atoms, np.array([0.0, 1.0]))
    return prompt_lemmas.variance_bound(case, 2, 1.0, 0.3, bench.policy)


def _score_bounds(bench: Bench) -> list[Inequality]:
    return [prompt_lemmas.score_second_moment_bound(2, N, 0.1, tau, bench.score) for N in (2, 5) for tau in (0.5, 1.0)]


def _rows(bench: Bench) -> list[Inequality]:
    return [
        prompt_lemmas.rows_never_shrink(case, eta, 1e-11, bench.rng(22), 100, bench.policy)
        for case in _cases(bench) for eta in (0.01, 3.0)
    ]  # fmt: skip


def _exact_error(bench: Bench) -> list[Comparison]:
    atoms = prompt_atoms(bench.binary_alpha)
    return [proposition.exact_error(bench.small_wells, atoms, bench.z, 2, B, bench.policy) for B in (1, 2, 3)]


def _bounded_error(bench: Bench) -> list[Inequality]:
    atoms, c = prompt_atoms(bench.binary_alpha), bench.small_constants
    found = [proposition.bounded_error(bench.small_wells, atoms, bench.z, c, 2, B, bench.policy) for B in (1, 2, 3)]
    return found + [proposition.sharp_error(mode, binary_noise(1, 12), True) for mode in MODES]


def _error_in_modes(bench: Bench) -> list[Equality]:
    """Two examples, B = 1 and 2, every noise mode."""
    table, alpha, found = bench.one_position.table(bench.z)[:, :2], bench.binary_alpha[:1], []
    for mode in MODES if bench.with_fresh_noise else ("none", "per_step"):
        draws = draws_of_a_step(mode, alpha, 0.7, binary_noise(1, 8))
        found += [proposition.exact_error_in_mode(draws, table, 2, B, mode, bench.policy) for B in (1, 2)]
    return found


def _reported(bench: Bench) -> Inequality:
    atoms, losses = prompt_atoms(bench.binary_alpha), bench.small_wells.table(bench.z).mean(axis=1)
    c = constants(bench.small_wells, float(bench.binary_alpha.min()))
    first = proposition.reported_fails_from(atoms, losses, c)
    return proposition.reported_at(atoms, losses, c, 4 * (first or 2**20))


def _per_step(bench: Bench) -> list[Equality]:
    losses = bench.one_position.table(bench.z).mean(axis=1)
    return [
        noise_lemmas.per_step_variance(bench.binary_alpha[:1], 0.5, bench.noise, losses, size, bench.policy)
        for size in (2, 5)
    ]


def _reuse(bench: Bench) -> list[Equality]:
    """The bias over eta_z against its limit, at two eta_z."""
    args = bench.one_position, bench.binary_alpha[:1], bench.z, bench.noise
    return [noise_lemmas.reuse_bias_in_the_limit(*args, eta, bench.zeroth) for eta in (2e-6, 1e-6)]


def _marginal(bench: Bench) -> Equality:
    return noise_lemmas.noisy_marginal(bench.binary_alpha, binary_noise(2, 24), bench.probabilities)


def _collapsed(bench: Bench) -> Sequence[Equality]:
    return [prompt_lemmas.collapsed_form(case, 4, bench.scatter) for case in _cases(bench)[:2]]


_T = "test_prompt_lemmas.py::"
DISCRETE = (
    Line("S1", "S1", "The score is the derivative of log P.", "reported, confirmed", prompt_lemmas.score_is_derivative,
         _T + "test_score_is_derivative",
         lambda b: [prompt_lemmas.score_is_derivative(case, b.score) for case in _cases(b)]),
    Line("S2", "S2", "The score has mean 0.", "proved", prompt_lemmas.expected_score_vanishes,
         _T + "test_expected_score_vanishes",
         lambda b: [prompt_lemmas.expected_score_vanishes(case, b.score) for case in _cases(b)]),
    Line("S3", "S3", "Second moment of the score.", "proved", prompt_lemmas.score_second_moment,
         _T + "test_score_second_moment",
         lambda b: [prompt_lemmas.score_second_moment(case, b.score) for case in _cases(b)[:2]]),
    Line("S3-bound", "S3", "It is largest at uniform p on the floor.", "proved",
         prompt_lemmas.score_second_moment_bound, _T + "test_score_second_moment_bound", _score_bounds),
    Line("S4", "S4", "Norm of the score, for every prompt.", "proved", prompt_lemmas.score_norm_bound,
         _T + "test_score_norm_bound", lambda b: [prompt_lemmas.score_norm_bound(case, b.score) for case in _cases(b)]),
    Line("S5", "S5", "Scaling a row of alpha changes nothing.", "proved", prompt_lemmas.scale_derivative_vanishes,
         _T + "test_scale_derivative_vanishes",
         lambda b: [prompt_lemmas.scale_derivative_vanishes(case, b.score) for case in _cases(b)]),
    Line("S5-rows", "S5", "A step never shrinks a row, clipped or not.", "proved", prompt_lemmas.rows_never_shrink,
         _T + "test_rows_never_shrink", _rows),
    Line("V1", "V1", "VR-PGE is the published formula.", "reported, confirmed", prompt_lemmas.published_formula,
         _T + "test_published_formula",
         lambda b: [prompt_lemmas.published_formula(case, 4, b.policy) for case in _cases(b)]),
    Line("V2", "V2", "Leave-one-out form = covariance = V1.", "proved", prompt_lemmas.three_ways,
         _T + "test_three_ways",
         lambda b: [prompt_lemmas.three_ways(case, 4, b.one_out) for case in _cases(b)]),
    Line("V3", "V3", "Collapsed scatter-add = V1, with one p.", "proved", prompt_lemmas.collapsed_form,
         _T + "test_collapsed_form", _collapsed),
    Line("V4", "V4", "VR-PGE is unbiased, baseline included.", "proved", prompt_lemmas.unbiased, _T + "test_unbiased",
         lambda b: [prompt_lemmas.unbiased(case, size, b.policy) for case, size in _samples(b)]),
    Line("V4-paper", "V4", "The same at n = 20, N = 100, I = 20.", "proved", prompt_lemmas.at_paper_shape,
         _T + "test_at_paper_shape", lambda b: _paper(b)[0]),
    Line("V5", "V5", "Exact variance of VR-PGE, of order 1/I.", "proved", prompt_lemmas.exact_variance,
         _T + "test_exact_variance",
         lambda b: [prompt_lemmas.exact_variance(case, size, b.policy) for case, size in _samples(b)]),
    Line("V5-paper", "V5", "The same at n = 20, N = 100, I = 20.", "proved", prompt_lemmas.at_paper_shape,
         _T + "test_at_paper_shape", lambda b: _paper(b)[1]),
    Line("V6", "V6", "Bound on the variance, every I >= 2.", "proved", prompt_lemmas.variance_bound,
         _T + "test_variance_bound", _variance_bound),
    Line("V7-exact", "V7", "Exact error of VR-PGE over batches and prompts.", "proved", proposition.exact_error,
         "test_proposition.py::test_exact_error", _exact_error),
    Line("V7", "V7", "Proposition 1 with 1/I.", "proved", proposition.bounded_error,
         "test_proposition.py::test_bounded_error", _bounded_error),
    Line("V7-noise", "V7", "The same in every noise mode: Var_g of the gradient.", "proved",
         proposition.exact_error_in_mode, "test_proposition.py::test_exact_error_in_modes", _error_in_modes),
    Line("V7-exception", "V7", "Order 1/I^2 after all where x s is constant.", "proved", proposition.no_leading_order,
         "test_proposition.py::test_no_leading_order",
         lambda b: [proposition.no_leading_order(size, 0.3, b.policy) for size in (2, 3, 4)]),
    Line("V7-reported", "V7", "Proposition 1 with 1/I^2.", "reported", proposition.reported_at,
         "test_proposition.py::test_reported_fails", _reported, required=False),
    Line("G1", "G1", "Noisy token probability of a binary vocabulary.", "proved", noise_lemmas.noisy_marginal,
         "test_noise_lemmas.py::test_noisy_marginal", _marginal),
    Line("G2", "G2", "One noise a step adds Var_g of the gradient.", "proved", noise_lemmas.per_step_variance,
         "test_noise_lemmas.py::test_per_step_variance", _per_step),
    Line("G3", "G3", "Noise reused across half steps: bias of order eta_z.", "proved", noise_lemmas.reuse_bias,
         "test_noise_lemmas.py::test_reuse_bias", _reuse),
)  # fmt: skip
