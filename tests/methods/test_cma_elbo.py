"""CMA-ELBO: its KL against the closed form and by Monte Carlo, its objective on a loss whose expectation is known."""

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger
from zopog_ref.methods.gflf_cma_elbo import CmaElbo, kl_to_prior

Settings = CmaElbo.Settings

RNG = np.random.default_rng(0)
MEAN, VARIANCE, PRIOR = RNG.normal(0, 4, 6), RNG.uniform(0.2, 80, 6), 50.0


def by_one_dimension(mean: np.ndarray, variance: np.ndarray, prior: float) -> float:
    """The textbook's log(s2/s1) + (s1^2 + m^2) / (2 s2^2) - 1/2, summed."""
    terms = zip(mean, np.sqrt(variance))
    return sum(np.log(np.sqrt(prior) / s) + (s**2 + m**2) / (2 * prior) - 0.5 for m, s in terms)


def by_matrices(mean: np.ndarray, variance: np.ndarray, prior: float) -> float:
    """tr(S2^-1 S1) + m' S2^-1 m - d + log det S2 / det S1, halved."""
    s1, s2 = np.diag(variance), prior * np.eye(len(mean))
    inverse = np.linalg.inv(s2)
    return 0.5 * float(
        np.trace(inverse @ s1) + mean @ inverse @ mean - len(mean) + np.log(np.linalg.det(s2) / np.linalg.det(s1))
    )


def monte_carlo_z(kl: float) -> float:
    """How many standard errors kl lies from E_q[log q - log p]."""
    z = MEAN + np.sqrt(VARIANCE) * np.random.default_rng(1).standard_normal((200_000, 6))
    log_q = -0.5 * ((z - MEAN) ** 2 / VARIANCE + np.log(VARIANCE)).sum(axis=1)
    log_p = -0.5 * (z**2 / PRIOR + np.log(PRIOR)).sum(axis=1)
    ratio = log_q - log_p
    return float((ratio.mean() - kl) / (ratio.std() / np.sqrt(len(ratio))))


def test_kl_is_the_closed_form() -> None:
    kl = float(kl_to_prior(MEAN, VARIANCE, PRIOR))
    assert kl == pytest.approx(by_one_dimension(MEAN, VARIANCE, PRIOR), rel=1e-12)
    assert kl == pytest.approx(by_matrices(MEAN, VARIANCE, PRIOR), rel=1e-12)
    assert kl_to_prior(np.zeros(6), np.full(6, PRIOR), PRIOR) == 0
    batch = kl_to_prior(np.stack([MEAN, 0 * MEAN]), np.stack([VARIANCE, VARIANCE]), PRIOR)
    assert batch.shape == (2,)
    assert batch[0] == kl
    assert abs(monte_carlo_z(kl)) < 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m, v, p: kl_to_prior(m, np.sqrt(v), p),  # deviations for variances
        lambda m, v, p: kl_to_prior(np.zeros_like(m), v, p),  # no mean
        lambda m, v, p: kl_to_prior(m, v, p) + 0.5 * np.log(v / p).sum(),  # no log term
        lambda m, v, p: kl_to_prior(m, v, p) + 0.5 * len(m),  # no -d
        lambda m, v, p: -by_one_dimension(-m, np.full_like(v, p), 1.0),  # the other way round
    ],
)
def test_a_wrong_kl_is_caught(wrong) -> None:
    assert abs(monte_carlo_z(float(wrong(MEAN, VARIANCE, PRIOR)))) > 4


# -- the search; for a quadratic loss |z - c|^2 the expectation under q is |m - c|^2 + sum |v| ------------------------

pytest.importorskip("cma", reason="the evolution strategy is in the methods extra")
CENTRE, ROWS = np.array([1.5, -1.0]), np.arange(4)


def quadratic(tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
    return np.repeat(((z - CENTRE) ** 2).sum(axis=1)[:, None], len(examples), axis=1)


def steps(settings: Settings, count: int, seed: int = 3):
    method, objective = CmaElbo(1, 3, 2, settings, seed), FunctionObjective(quadratic, Ledger(10**7))
    state = method.init()
    for _ in range(count):
        state = method.step(state, objective, ROWS)
    return method, state


def test_what_is_told_is_the_bound() -> None:
    """With many draws, rows x expected loss + lambda x KL, from the candidates that cma itself would ask."""
    method, state = steps(Settings(draws=4000, popsize=4, kl_weight=0.5), 1)
    candidates = method._fresh(np.zeros((0, 4))).ask()
    mean, variance = candidates[:, :2], np.abs(candidates[:, 2:])
    expected_loss = ((mean - CENTRE) ** 2).sum(axis=1) + variance.sum(axis=1)
    kl = np.array([by_one_dimension(m, v, 50.0) for m, v in zip(mean, variance)])
    for rows_, weight, agrees in ((4, 0.5, True), (1, 0.5, False), (4, 0.0, False), (4, 1.0, False)):
        gap = np.abs(state.told[0] - (rows_ * expected_loss + weight * kl)) / state.told[0]
        assert bool(gap.max() < 0.01) is agrees
    best = int(np.argmin(state.told[0]))
    assert np.array_equal(state.mean, mean[best])
    assert np.array_equal(state.variance, variance[best])
    assert state.best_elbo == state.told[0][best]


def test_it_finds_the_posterior_of_a_quadratic() -> None:
    """rows (|m-c|^2 + sum v) + lambda KL is least at m = c rows/(rows + lambda/(2 v0)), v = 1/(2 rows/lambda + 1/v0)."""
    settings = Settings(draws=64, popsize=16, kl_weight=8.0, prior_variance=2.0, sigma=0.5)
    _, state = steps(settings, 60)
    mean, variance = CENTRE * 4 / (4 + 8 / 4), 1 / (2 * 4 / 8 + 1 / 2)
    np.testing.assert_allclose(state.mean, mean, atol=0.25)
    np.testing.assert_allclose(state.variance, variance, atol=0.25)


def test_draws_that_are_deployed() -> None:
    method, state = steps(Settings(popsize=4, draws=2, members=4000), 3)
    prompts = method.prompts(state)
    z = np.array([prompt.z for prompt in prompts])
    assert sum(prompt.weight for prompt in prompts) == pytest.approx(1)
    assert np.abs((z.mean(axis=0) - state.mean) / np.sqrt(state.variance / 4000)).max() < 4
    np.testing.assert_allclose(z.var(axis=0), state.variance, rtol=0.15)
    assert all(np.array_equal(a.z, b.z) for a, b in zip(prompts, method.prompts(state)))


def test_draws_are_shared_or_not() -> None:
    asked = []

    def remember(tokens, z, examples):
        asked.append(z)
        return quadratic(tokens, z, examples)

    def noise(common: bool) -> np.ndarray:
        method = CmaElbo(1, 3, 2, Settings(popsize=4, draws=3, common_draws=common), 3)
        method.step(method.init(), FunctionObjective(remember, Ledger(12)), ROWS)
        candidates = method._fresh(np.zeros((0, 4))).ask()
        z = asked.pop().reshape(4, 3, 2)
        return (z - candidates[:, None, :2]) / np.sqrt(np.abs(candidates[:, None, 2:]))

    shared, own = noise(True), noise(False)
    np.testing.assert_allclose(shared, np.broadcast_to(shared[:1], shared.shape), atol=1e-6)
    assert len(np.unique(own.round(6))) == 24


def test_bounds_hold() -> None:
    _, state = steps(Settings(popsize=6, draws=2, sigma=5.0, bound=1.1), 20)
    assert np.abs(state.mean).max() <= 1.1
    assert state.variance.max() <= 1.1
    with pytest.raises(ValueError, match=r"bound is 0\.5; it must be 0 \(none\) or above 1"):
        Settings(bound=0.5)


def test_the_search_starts_at_mean_0_and_variance_1() -> None:
    """With next to no step size every candidate is where the search starts."""
    method = CmaElbo(2, 3, 4, CmaElbo.Settings(sigma=1e-9), 3)
    candidates = method._fresh(method.init().told).ask()
    np.testing.assert_allclose(candidates, np.tile([0.0] * 4 + [1.0] * 4, (len(candidates), 1)), rtol=0, atol=1e-7)
