"""[V1] to [V4]: the three forms against each other, against enumeration, and against the official code's numbers."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.core.enumeration import all_prompts, expected_loss, finite_difference, prompt_probabilities
from zopog_ref import policy_gradient, probabilities, score
from zopog_ref.policy_gradient import collapsed, leave_one_out, literal

N_POSITIONS, N_CANDIDATES, TAU, SAMPLES = 2, 3, 0.7, 3
Estimator = Callable[..., np.ndarray]
OFFICIAL = json.loads((Path(__file__).parent / "official_steps.json").read_text())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def draw(rng: np.random.Generator, samples: int = 9, n: int = 4, n_candidates: int = 6):
    alpha = rng.uniform(0.1, 1.0, (n, n_candidates))
    p = probabilities(alpha, TAU, rng.gumbel(size=alpha.shape))
    return rng.random(samples), rng.integers(0, n_candidates, (samples, n)), alpha, p, TAU


def test_three_forms_are_one_number_v1_v2_v3(rng: np.random.Generator) -> None:
    for samples in (2, 3, 20):
        arguments = draw(rng, samples)
        np.testing.assert_allclose(leave_one_out(*arguments), literal(*arguments), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(collapsed(*arguments), literal(*arguments), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(policy_gradient(*arguments), literal(*arguments), rtol=1e-12, atol=1e-12)


def test_it_is_the_sample_covariance_of_loss_and_score_v2(rng: np.random.Generator) -> None:
    losses, tokens, alpha, p, tau = draw(rng)
    s = score(tokens, alpha, p, tau).reshape(len(losses), -1)
    covariance = np.cov(np.column_stack([losses, s]), rowvar=False)[0, 1:].reshape(alpha.shape)
    np.testing.assert_allclose(policy_gradient(losses, tokens, alpha, p, tau), covariance, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("estimator", [policy_gradient, literal, leave_one_out, collapsed])
def test_the_temperature_is_1_unless_given(estimator: Estimator, rng: np.random.Generator) -> None:
    losses, tokens, alpha, p, _ = draw(rng)
    assert np.array_equal(estimator(losses, tokens, alpha, p), estimator(losses, tokens, alpha, p, 1.0))


def test_one_noise_per_sample_uses_the_literal_sum(rng: np.random.Generator) -> None:
    losses, tokens, alpha, _, tau = draw(rng)
    p = probabilities(alpha, tau, rng.gumbel(size=(len(losses), *alpha.shape)))
    expected = np.zeros_like(alpha)
    for k, (loss, prompt) in enumerate(zip(losses, tokens)):
        expected += (loss - losses.mean()) * score(prompt[None], alpha, p[k], tau)[0] / (len(losses) - 1)
    np.testing.assert_allclose(policy_gradient(losses, tokens, alpha, p, tau), expected, rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match=r"\[V3\] needs one p"):
        collapsed(losses, tokens, alpha, p, tau)


def test_collapsing_with_one_noise_per_sample_would_be_wrong(rng: np.random.Generator) -> None:
    losses, tokens, alpha, _, tau = draw(rng)
    p = probabilities(alpha, tau, rng.gumbel(size=(len(losses), *alpha.shape)))
    assert np.abs(collapsed(losses, tokens, alpha, p[0], tau) - literal(losses, tokens, alpha, p, tau)).max() > 1e-3


def exact_expectation(estimator: Estimator, alpha: np.ndarray, noises: list[np.ndarray | None], table: np.ndarray):
    """E over all I-tuples of prompts, sample k drawn from p(alpha, noises[k]); table holds l(t) of every prompt."""
    prompts = all_prompts(N_POSITIONS, N_CANDIDATES)
    p = np.stack([probabilities(alpha, TAU, noise) for noise in noises])  # (I, n, N)
    chance = [prompt_probabilities(p[k], prompts) for k in range(len(noises))]
    shared = all(noise is noises[0] for noise in noises)
    total = np.zeros_like(alpha)
    for indices in itertools.product(range(len(prompts)), repeat=len(noises)):
        picked = list(indices)
        weight = np.prod([chance[k][t] for k, t in enumerate(picked)])
        total += weight * estimator(table[picked], prompts[picked], alpha, p[0] if shared else p, TAU)
    return total


def modes(rng: np.random.Generator) -> dict[str, list[np.ndarray | None]]:
    shape = (N_POSITIONS, N_CANDIDATES)
    shared = rng.gumbel(size=shape)
    return {
        "none": [None] * SAMPLES,
        "per_step": [shared] * SAMPLES,
        "per_sample": list(rng.gumbel(size=(SAMPLES, *shape))),
    }


@pytest.mark.parametrize("gumbel", ["none", "per_step", "per_sample"])
def test_unbiased_by_enumeration_v4(gumbel: str, rng: np.random.Generator) -> None:
    """E[g | noise] = gradient of the exact objective: with g frozen per sample, of the mean over the samples' noises.

    Per sample, sum_k (l_k - mean l) s^k / (I - 1) has expectation (1/I) sum_k grad E[l | g_k]: the other samples'
    losses are independent of s^k whatever their noise.
    """
    alpha = rng.uniform(0.2, 1.0, (N_POSITIONS, N_CANDIDATES))
    prompts = all_prompts(N_POSITIONS, N_CANDIDATES)
    table = rng.random(len(prompts))
    noises = modes(rng)[gumbel]
    gradient = finite_difference(
        lambda a: float(np.mean([expected_loss(a, TAU, g, prompts, table) for g in noises])), alpha
    )
    np.testing.assert_allclose(exact_expectation(policy_gradient, alpha, noises, table), gradient, atol=1e-8)


def over_samples(losses, tokens, alpha, p, tau):
    """1/I in place of 1/(I-1)."""
    return policy_gradient(losses, tokens, alpha, p, tau) * (len(losses) - 1) / len(losses)


def no_temperature(losses, tokens, alpha, p, tau):
    return policy_gradient(losses, tokens, alpha, p, 1.0)


def reused_noise(losses, tokens, alpha, p, tau):
    """The first sample's p for all of them."""
    return policy_gradient(losses, tokens, alpha, p[0] if p.ndim == 3 else np.roll(p, 1, axis=0), tau)


def bdpl_score(losses, tokens, alpha, p, tau):
    """BDPL's published score, -1/p for the entries not drawn, is no derivative of log P."""
    advantage = losses - losses.mean()
    drawn = tokens[..., None] == np.arange(alpha.shape[1])
    return np.tensordot(advantage, np.where(drawn, 1, -1) / p, axes=1) / (len(losses) - 1)


@pytest.mark.parametrize("mutant", [over_samples, no_temperature, bdpl_score])
def test_broken_estimators_are_caught_v4(mutant: Estimator, rng: np.random.Generator) -> None:
    alpha = rng.uniform(0.2, 1.0, (N_POSITIONS, N_CANDIDATES))
    prompts = all_prompts(N_POSITIONS, N_CANDIDATES)
    table = rng.random(len(prompts))
    noises = modes(rng)["per_step"]
    gradient = finite_difference(lambda a: expected_loss(a, TAU, noises[0], prompts, table), alpha)
    assert np.abs(exact_expectation(mutant, alpha, noises, table) - gradient).max() > 1e-2


def test_noise_reused_across_samples_is_caught(rng: np.random.Generator) -> None:
    """The literal sum does depend on every sample's own p: with the first one's p for all, another number."""
    losses, tokens, alpha, _, tau = draw(rng)
    p = probabilities(alpha, tau, rng.gumbel(size=(len(losses), *alpha.shape)))
    right, wrong = (f(losses, tokens, alpha, p, tau) for f in (policy_gradient, reused_noise))
    assert np.abs(right - wrong).max() > 1e-3


@pytest.mark.parametrize("step", [0, 1])
def test_equals_the_official_code(step: int) -> None:
    """Given alpha, p, tau, tokens and losses, the number that the official run_policy returned (float32)."""
    policy = OFFICIAL["steps"][step]["policy"]
    losses = np.mean(policy["losses"], axis=1)
    gradient = policy_gradient(losses, np.array(policy["tokens"]), policy["alpha"], policy["p"], OFFICIAL["tau"])
    np.testing.assert_allclose(gradient, policy["gradient"], rtol=2e-6, atol=2e-6)
    assert np.abs(over_samples(losses, np.array(policy["tokens"]), np.array(policy["alpha"]), np.array(policy["p"]),
                               OFFICIAL["tau"]) - policy["gradient"]).max() > 1e-2  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": [1.0]}, "I >= 2"),
        ({"losses": [1.0, np.nan]}, "entry 1 is not"),
        ({"tokens": [[0, 1]]}, "expected tokens"),
        ({"tokens": [[0, 1], [0, 3]]}, r"lie in 0\.\.2"),
        ({"tokens": [[0, 1], [-1, 1]]}, r"lie in 0\.\.2"),
        ({"tokens": [[0.0, 1.0], [0.0, 1.0]]}, "must be integers"),
        ({"p": np.ones((2, 4))}, "p must be"),
        ({"alpha": np.zeros((2, 3))}, "must be positive"),
        ({"alpha": np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])}, "must be positive"),
        ({"tau": 0.0}, "must be positive"),
    ],
)
def test_errors_say_what_is_wrong(change: dict, message: str) -> None:
    arguments = {"losses": [1.0, 2.0], "tokens": [[0, 1], [2, 1]], "alpha": np.full((2, 3), 1 / 3),
                 "p": np.full((2, 3), 1 / 3), "tau": 1.0}  # fmt: skip
    policy_gradient(**arguments)
    with pytest.raises(ValueError, match=message):
        policy_gradient(**(arguments | change))
