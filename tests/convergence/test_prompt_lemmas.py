"""[S1] to [V6]: each line holds at several seeds. Its broken twins are in mutants.py and test_mutants.py."""

import numpy as np
import pytest

from zopog_ref.convergence import prompt_lemmas
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import equal
from zopog_ref.convergence.exact import Atoms, policy_moments, prompt_atoms
from zopog_ref.convergence.prompt_lemmas import PolicyCase
from zopog_ref.distribution import mode
from zopog_ref.policy_gradient import collapsed, literal

SEEDS = (0, 1)


@pytest.fixture(params=SEEDS)
def bench(request) -> Bench:
    return Bench(seed=request.param)


def all_cases(bench: Bench) -> list[PolicyCase]:
    return [case for case, _ in bench.policy_cases]


def test_score_is_derivative(bench: Bench) -> None:
    assert all(prompt_lemmas.score_is_derivative(case).holds(1) for case in all_cases(bench))


def test_expected_score_vanishes(bench: Bench) -> None:
    assert all(prompt_lemmas.expected_score_vanishes(case).holds(1) for case in all_cases(bench))


def test_score_second_moment(bench: Bench) -> None:
    assert all(prompt_lemmas.score_second_moment(case).holds(1) for case in all_cases(bench)[:2])


def test_score_second_moment_bound() -> None:
    bound = prompt_lemmas.score_second_moment_bound(2, 5, 0.1, 0.7)
    assert bound.holds()
    assert bound.ratio == pytest.approx(1)  # sharp: any larger score breaks it


def test_score_norm_bound(bench: Bench) -> None:
    assert all(prompt_lemmas.score_norm_bound(case).holds() for case in all_cases(bench))


def test_s4_does_not_imply_s3() -> None:
    """The mean of S4's right side exceeds S3's: 2 sum p (1-p)^2 = 2 (1 - 1/N)^2 > 1 - 1/N at uniform p, N > 2."""
    p = np.full(5, 0.2)
    assert 2 * (p * (1 - p) ** 2).sum() > 1 - 1 / 5


def test_scale_derivative_vanishes(bench: Bench) -> None:
    assert all(prompt_lemmas.scale_derivative_vanishes(case).holds(1) for case in all_cases(bench))


def test_rows_never_shrink(bench: Bench) -> None:
    for case in all_cases(bench):
        assert prompt_lemmas.rows_never_shrink(case, 3.0, 1e-11, bench.rng(0), 100).holds()


def test_rows_never_shrink_twin(bench: Bench) -> None:
    """A gradient with a component along alpha shrinks the row."""

    def not_orthogonal(losses, tokens, alpha, p, tau):
        return literal(losses, tokens, alpha, p, tau) + 0.1 * alpha

    assert not prompt_lemmas.rows_never_shrink(bench.noisy_case, 0.01, 1e-11, bench.rng(0), 50, not_orthogonal).holds()


def test_published_formula(bench: Bench) -> None:
    assert all(prompt_lemmas.published_formula(case, 4).holds(1) for case in all_cases(bench))


def test_three_ways(bench: Bench) -> None:
    assert all(prompt_lemmas.three_ways(case, 4).holds(1) for case in all_cases(bench))


def test_collapsed_form(bench: Bench) -> None:
    assert all(prompt_lemmas.collapsed_form(case, 4).holds(1) for case in all_cases(bench)[:2])


def test_collapsed_form_needs_one_p(bench: Bench) -> None:
    """With fresh noise for each sample the -p_ij do not cancel."""
    case = bench.fresh_case

    def scatter(losses, tokens, alpha, p, tau):
        return collapsed(losses, tokens, alpha, p[0], tau)

    assert not prompt_lemmas.published_formula(case, 4, scatter).holds(10)


def test_unbiased(bench: Bench) -> None:
    for case, sizes in bench.policy_cases:
        assert all(prompt_lemmas.unbiased(case, size).holds(1) for size in sizes)


def test_exact_variance(bench: Bench) -> None:
    for case, sizes in bench.policy_cases:
        assert all(prompt_lemmas.exact_variance(case, size).holds(1) for size in sizes)


def test_exact_variance_at_two_samples_by_hand(bench: Bench) -> None:
    """I = 2: g = (l_1 - l_2)(s^1 - s^2)/2, so E||g||^2 is a double sum that needs no lemma."""
    a: Atoms = bench.simplex_case.atoms
    losses, w = bench.simplex_case.losses, bench.simplex_case.atoms.weight
    score = a.score.reshape(len(w), -1)
    apart = ((score[:, None] - score[None]) ** 2).sum(axis=-1)
    second = (w[:, None] * w[None] * (losses[:, None] - losses[None]) ** 2 * apart).sum() / 4
    moments = policy_moments(literal, a, losses, 2)
    assert moments.trace_covariance + (moments.mean**2).sum() == pytest.approx(second, rel=1e-12)


def test_variance_bound(bench: Bench) -> None:
    for case, sizes in bench.policy_cases:
        for size in sizes:
            assert prompt_lemmas.variance_bound(case, size, 1.0, float(case.atoms.alpha.min())).holds()


def test_variance_bound_twin(bench: Bench) -> None:
    """A bound without n (1 - 1/N) / (tau alpha_min)^2, that is for a loss of a twentieth, is broken."""
    case = bench.simplex_case
    assert not prompt_lemmas.variance_bound(case, 2, 0.05, float(case.atoms.alpha.max())).holds()


def test_at_paper_shape(bench: Bench) -> None:
    from zopog_ref.convergence.problems import SeparableTable

    table = SeparableTable(bench.rng(0).random((20, 100)))
    mean, variance = prompt_lemmas.at_paper_shape(table, 20, 3000, bench.rng(1))
    assert abs(mean.z) < 4.5
    assert abs(variance.z) < 4.5


def test_the_exact_side_does_not_use_the_score_under_test(bench: Bench) -> None:
    """Complex steps agree with central differences of log P."""
    from zopog_ref.convergence.exact import log_prompt_probability

    case, h = bench.noisy_case, 1e-6
    a = case.atoms
    for cell in np.ndindex(a.alpha.shape):
        up, down = a.alpha.copy(), a.alpha.copy()
        up[cell] += h
        down[cell] -= h
        difference = (
            log_prompt_probability(a.tokens, up, a.tau, case.gumbel)
            - log_prompt_probability(a.tokens, down, a.tau, case.gumbel)
        ) / (2 * h)
        np.testing.assert_allclose(difference, a.score[(slice(None), *cell)], atol=1e-6)


def test_floor_entry_has_a_huge_score() -> None:
    """A token at alpha = 1e-11 is drawn about never, and its score is then 1e11: what clipping leaves behind [S5]."""
    from zopog_ref.distribution import probabilities, score

    alpha = np.array([[1.0, 1e-11]])
    p = probabilities(alpha)
    s = score(np.array([[1]]), alpha, p)
    assert s[0, 0, 1] == pytest.approx(1e11, rel=1e-6)
    assert mode(alpha)[0] == 0


def test_equal_flags_what_is_not_finite() -> None:
    assert not equal(np.array([np.nan]), np.array([1.0])).holds(5)


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_the_prediction_at_the_paper_s_shape_is_v5_enumerated(bench: Bench, samples: int) -> None:
    from zopog_ref.convergence.problems import SeparableTable

    table = SeparableTable(bench.rng(3).random((2, 4)), F=2.0)
    atoms = prompt_atoms(np.full((2, 4), 1 / 4))
    losses = table.losses(atoms.tokens, np.zeros(1), np.zeros(1, int))[:, 0]
    _, variance = prompt_lemmas.at_paper_shape(table, samples, 4, bench.rng(4))
    exact = policy_moments(literal, atoms, losses, samples).trace_covariance if samples < 4 else None
    formula = prompt_lemmas.variance_formula(atoms.weight, losses, atoms.score, samples)
    assert variance.right == pytest.approx(formula, rel=1e-12)
    assert exact is None or exact == pytest.approx(formula, rel=1e-10)
