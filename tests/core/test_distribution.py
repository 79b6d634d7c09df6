"""[S1] to [S5] by enumeration, and sampling by its exact inverse."""

import numpy as np
import pytest

from tests.core.enumeration import all_prompts, finite_difference, prompt_probabilities, softmax_of
from zopog_ref import distribution
from zopog_ref.distribution import (
    expected_score,
    log_probability,
    mode,
    probabilities,
    sample,
    scale_derivative,
    score,
    score_norm_bound,
    score_second_moment,
    score_second_moment_bound,
)

N_POSITIONS, N_CANDIDATES, TAU = 2, 3, 0.7


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=["none", "frozen noise"])
def noise(request: pytest.FixtureRequest, rng: np.random.Generator) -> np.ndarray | None:
    return None if request.param == "none" else rng.gumbel(size=(N_POSITIONS, N_CANDIDATES))


@pytest.fixture
def alpha(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.2, 1.0, (N_POSITIONS, N_CANDIDATES))


def test_probabilities_are_the_definition(alpha: np.ndarray, noise: np.ndarray | None) -> None:
    np.testing.assert_allclose(probabilities(alpha, TAU, noise), softmax_of(alpha, TAU, noise), rtol=1e-14)


def test_probabilities_survive_the_clipping_floor() -> None:
    p = probabilities(np.array([[1e-11, 1e-11, 50.0]]), tau=0.1)
    assert np.isfinite(p).all()
    assert p[0, 2] == 1.0


def test_gumbel_max_probabilities_are_alpha(rng: np.random.Generator) -> None:
    """As tau -> 0 the noisy argmax is a draw from alpha: P(argmax = j) = alpha_j / sum alpha."""
    alpha = np.array([[0.1, 0.3, 0.6]])
    p = probabilities(alpha, 1e-3, rng.gumbel(size=(40_000, 1, 3)))
    counts = np.bincount(p[:, 0].argmax(axis=-1), minlength=3)
    assert (np.abs(counts - 40_000 * alpha[0]) < 4 * np.sqrt(40_000 * alpha[0] * (1 - alpha[0]))).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_alpha_must_be_positive(bad: float) -> None:
    with pytest.raises(ValueError, match="alpha must be positive"):
        probabilities(np.array([[1.0, bad]]))


def test_one_row_that_is_not_finite_is_enough() -> None:
    with pytest.raises(ValueError, match="the largest alpha is inf"):
        probabilities(np.array([[1.0, 2.0], [1.0, np.inf]]))


def test_tau_must_be_positive() -> None:
    with pytest.raises(ValueError, match="tau must be positive"):
        probabilities(np.ones((1, 2)), tau=0.0)


def test_score_is_the_derivative_of_log_probability_s1(alpha: np.ndarray, noise: np.ndarray | None) -> None:
    prompts = all_prompts(N_POSITIONS, N_CANDIDATES)
    scores = score(prompts, alpha, probabilities(alpha, TAU, noise), TAU)
    for prompt, s in zip(prompts, scores):
        derivative = finite_difference(
            lambda a, prompt=prompt: float(np.log(prompt_probabilities(softmax_of(a, TAU, noise), prompt[None]))[0]),
            alpha,
        )
        np.testing.assert_allclose(s, derivative, atol=1e-8)


def test_score_without_the_temperature_is_caught(alpha: np.ndarray) -> None:
    prompt = np.array([[0, 1]])
    derivative = finite_difference(
        lambda a: float(np.log(prompt_probabilities(softmax_of(a, TAU, None), prompt))[0]), alpha
    )
    wrong = score(prompt, alpha, probabilities(alpha, TAU), tau=1.0)[0]
    assert np.abs(wrong - derivative).max() > 0.1


def test_expected_score_is_zero_s2(alpha: np.ndarray, noise: np.ndarray | None) -> None:
    p = probabilities(alpha, TAU, noise)
    assert np.abs(expected_score(alpha, p, TAU)).max() < 1e-14
    prompts = all_prompts(N_POSITIONS, N_CANDIDATES)
    enumerated = np.tensordot(prompt_probabilities(p, prompts), score(prompts, alpha, p, TAU), axes=1)
    assert np.abs(enumerated).max() < 1e-14


def test_expected_score_of_a_wrong_distribution_is_not_zero(alpha: np.ndarray) -> None:
    prompts = all_prompts(N_POSITIONS, N_CANDIDATES)
    p, other = probabilities(alpha, TAU), probabilities(alpha, 2 * TAU)
    assert (
        np.abs(np.tensordot(prompt_probabilities(other, prompts), score(prompts, alpha, p, TAU), axes=1)).max() > 0.01
    )


def test_second_moment_of_the_score_s3(alpha: np.ndarray, noise: np.ndarray | None) -> None:
    p, prompts = probabilities(alpha, TAU, noise), all_prompts(N_POSITIONS, N_CANDIDATES)
    squares = (score(prompts, alpha, p, TAU) ** 2).sum(axis=-1)  # (T, n)
    enumerated = prompt_probabilities(p, prompts) @ squares
    np.testing.assert_allclose(score_second_moment(alpha, p, TAU), enumerated, rtol=1e-13)
    assert (enumerated <= score_second_moment_bound(N_CANDIDATES, alpha.min(), TAU)).all()


def test_second_moment_bound_is_tight_at_uniform_s3() -> None:
    alpha = np.full((1, 5), 0.2)
    moment = score_second_moment(alpha, probabilities(alpha))
    np.testing.assert_allclose(moment, score_second_moment_bound(5, 0.2), rtol=1e-13)


def test_norm_of_every_score_s4(alpha: np.ndarray, noise: np.ndarray | None) -> None:
    p, prompts = probabilities(alpha, TAU, noise), all_prompts(N_POSITIONS, N_CANDIDATES)
    squares = (score(prompts, alpha, p, TAU) ** 2).sum(axis=-1)
    assert (squares <= score_norm_bound(prompts, p, alpha.min(), TAU) * (1 + 1e-12)).all()


def test_norm_bound_is_attained_by_two_candidates_s4() -> None:
    """With N = 2 both entries of a row have size 1 - p: the factor 2 is needed, so 1 in its place would fail."""
    alpha = np.full((1, 2), 0.5)
    p = probabilities(alpha, 1.0, np.array([[1.0, 0.0]]))
    squares = (score(np.array([[0]]), alpha, p) ** 2).sum(axis=-1)
    np.testing.assert_allclose(squares, score_norm_bound(np.array([[0]]), p, 0.5), rtol=1e-13)


def test_rows_have_no_radial_score_s5(alpha: np.ndarray, noise: np.ndarray | None) -> None:
    p, prompts = probabilities(alpha, TAU, noise), all_prompts(N_POSITIONS, N_CANDIDATES)
    assert np.abs(scale_derivative(prompts, alpha, p, TAU)).max() < 1e-14
    assert np.abs(scale_derivative(prompts, alpha, np.roll(p, 1, axis=1) * 0.9, TAU)).max() > 0.01  # its twin


def test_an_unclipped_step_never_shrinks_a_row_s5(alpha: np.ndarray) -> None:
    p, prompts = probabilities(alpha, TAU), all_prompts(N_POSITIONS, N_CANDIDATES)
    s = score(prompts, alpha, p, TAU)[4]
    stepped = ((alpha - 0.01 * s) ** 2).sum(axis=1)
    np.testing.assert_allclose(stepped, (alpha**2).sum(axis=1) + 1e-4 * (s**2).sum(axis=1), rtol=1e-13)


def test_log_probability(alpha: np.ndarray) -> None:
    p, prompts = probabilities(alpha, TAU), all_prompts(N_POSITIONS, N_CANDIDATES)
    np.testing.assert_allclose(np.exp(log_probability(prompts, p)), prompt_probabilities(p, prompts), rtol=1e-13)


def test_log_probability_of_prompts_that_have_their_own_noise() -> None:
    """Three prompts of two positions and four candidates, of which the drawn ones have probabilities 1/2, 1/4, 1/8."""
    p, tokens = np.full((3, 2, 4), 1e-3), np.array([[0, 3], [2, 1], [1, 1]])
    for k, chance in enumerate((1 / 2, 1 / 4, 1 / 8)):
        p[k, [0, 1], tokens[k]] = chance
    np.testing.assert_allclose(log_probability(tokens, p), 2 * np.log([1 / 2, 1 / 4, 1 / 8]), rtol=1e-14)


def test_rows_that_end_short_of_1_still_give_a_token() -> None:
    """As probabilities of float32 do: u is a share of the row's own sum, so the last entry is in reach, not beyond."""
    p = np.array([[0.5, 0.5 - 1e-6]])
    u = np.array([[0.4999], [1 - 2.0**-33]])
    assert sample(p, u).ravel().tolist() == [0, 1]
    assert sample(np.stack([p, p]), u).ravel().tolist() == [0, 1]


def test_the_temperature_is_1_unless_given(alpha: np.ndarray) -> None:
    p, prompts = probabilities(alpha), all_prompts(N_POSITIONS, N_CANDIDATES)
    assert np.array_equal(p, probabilities(alpha, 1.0))
    for function, arguments in (
        (score, (prompts, alpha, p)), (expected_score, (alpha, p)), (score_second_moment, (alpha, p)),
        (score_second_moment_bound, (3, 0.1)), (score_norm_bound, (prompts, p, 0.1)), (scale_derivative, (prompts, alpha, p)),
    ):  # fmt: skip
        assert np.array_equal(function(*arguments), function(*arguments, 1.0)), function.__name__


def test_sampling_inverts_the_distribution_function() -> None:
    p = np.array([[0.25, 0.0, 0.5, 0.25], [0.0, 1.0, 0.0, 0.0]])
    u = np.array([[1e-12, 0.5], [0.2499, 1e-12], [0.2501, 1 - 1e-12], [0.7499, 0.1], [0.7501, 0.9], [1 - 1e-12, 0.3]])
    assert sample(p, u)[:, 0].tolist() == [0, 0, 2, 2, 3, 3]
    assert (sample(p, u)[:, 1] == 1).all()


def test_a_uniform_on_a_border_takes_the_next_entry_that_has_probability() -> None:
    """t is the first j whose cumulative sum exceeds u: at equality the next one, past entries of probability 0."""
    p, u = np.array([[0.5, 0.0, 0.5]]), np.array([[0.5]])
    assert sample(p, u).tolist() == [[2]]
    assert sample(p[None], u).tolist() == [[2]]


def test_a_uniform_beyond_a_rounded_sum_takes_the_last_entry() -> None:
    """Ten times 0.1 adds up to less than 1, and a uniform may be as large."""
    p, uniforms = np.full((1, 10), 0.1), np.full((1, 1), np.nextafter(1, 0))
    assert np.cumsum(p)[-1] <= uniforms[0, 0]
    assert sample(p, uniforms) == sample(p[None], uniforms) == 9


def test_one_distribution_per_sample_gives_the_same_tokens(rng: np.random.Generator) -> None:
    p, u = rng.dirichlet(np.ones(7), size=4), rng.random((50, 4))
    assert (sample(p, u) == sample(np.broadcast_to(p, (50, 4, 7)), u)).all()


def test_sampled_frequencies(rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(6), size=3)
    tokens = sample(p, rng.random((60_000, 3)))
    for i in range(3):
        counts = np.bincount(tokens[:, i], minlength=6)
        assert (np.abs(counts - 60_000 * p[i]) < 4.5 * np.sqrt(60_000 * p[i] * (1 - p[i])) + 1).all()


def test_mode() -> None:
    assert mode(np.array([[0.1, 0.9], [0.7, 0.3]])).tolist() == [1, 0]


def test_public_functions_have_their_labels() -> None:
    for function, label in [(score, "[S1]"), (expected_score, "[S2]"), (score_second_moment, "[S3]"),
                            (score_norm_bound, "[S4]"), (scale_derivative, "[S5]")]:  # fmt: skip
        assert label in (function.__doc__ or "").splitlines()[0]
    assert "[S1]" in (distribution.__doc__ or "")


def test_the_scale_derivative_is_what_p_lacks_of_1_s5(alpha: np.ndarray) -> None:
    """sum_j alpha_ij s_ij = (1 - sum_j p_ij) / tau, whatever p."""
    prompts = all_prompts(N_POSITIONS, N_CANDIDATES)
    given = scale_derivative(prompts, alpha, 0.75 * probabilities(alpha, TAU), TAU)
    np.testing.assert_allclose(given, 0.25 / TAU, rtol=1e-12)
