"""ABC-SMC recovers a posterior that is known, with weights and not without; it ends, and it counts."""

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger, run
from zopog_ref.methods.gflf_abc_smc import AbcSmc, right_answers
from zopog_ref.objective import log_sum_exp

Settings = AbcSmc.Settings

V0, SEEN = 50.0, 8.0
WIDTHS = np.array([12.0, 9.0, 6.0, 4.0, 2.5, 1.5])  # row b is answered rightly when |z_1 + z_2 - seen| <= WIDTHS[b]


def conjugate(tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """theta = z_1 ~ N(0, 50) is seen through x = theta + z_2, z_2 ~ N(0, 50), to within a window."""
    return (np.abs(z.sum(axis=1) - SEEN)[:, None] > WIDTHS[examples]).astype(float)


def window_moments(width: float) -> tuple[float, float, float]:
    """Mean and variance of theta given |x - seen| <= width, and P of that, x ~ N(0, 2 V0).

    Given x, theta ~ N(x/2, V0/2), the conjugate posterior; x itself is a normal cut to the window.
    """
    x = np.linspace(SEEN - width, SEEN + width, 20_001)
    density = np.exp(-0.5 * x**2 / (2 * V0))
    mean = float((x * density).sum() / density.sum())
    variance = float(((x - mean) ** 2 * density).sum() / density.sum())
    return mean / 2, V0 / 2 + variance / 4, float(density.mean() * 2 * width / np.sqrt(2 * np.pi * 2 * V0))


def particles_after(populations: int, weighted: bool = True, kernel_variance: float = 30.0, seed: int = 5):
    """The state when so many populations are whole, on all rows."""
    settings = Settings(members=800, samples=2000, weighted=weighted, kernel_variance=kernel_variance)
    method, objective = AbcSmc(1, 3, 2, settings, seed), FunctionObjective(conjugate, Ledger(10**8))
    # The first r is the best of 2,000 draws, which is all of the rows: begin at one instead.
    state = method.step(method.init(), objective, np.arange(len(WIDTHS)))
    state = method._asking_for(state, 1)
    while state.population < populations:
        state = method.step(state, objective, np.arange(len(WIDTHS)))
    return state


def deviations(state) -> np.ndarray:
    """Mean and variance of theta against the exact ones, in standard errors of the weighted sample."""
    mean, variance, _ = window_moments(WIDTHS[state.population - 1])  # r = population right answers
    weights, theta = np.exp(state.log_weights), state.particles[:, 0]
    found = weights @ theta
    spread = weights @ (theta - found) ** 2
    errors = np.sqrt([variance, 2 * variance**2] / np.exp(-log_sum_exp(2 * state.log_weights)))
    return np.abs([found - mean, spread - variance]) / errors


@pytest.mark.parametrize("populations", [1, 2, 6])
def test_it_recovers_a_conjugate_posterior(populations: int) -> None:
    state = particles_after(populations)
    assert (conjugate(None, state.particles, np.arange(populations)) == 0).all()
    assert deviations(state).max() < 4
    assert state.effective_size > 100


def test_without_weights_it_does_not() -> None:
    """The twin: the official code's equal weights let the particles wander away from the prior."""
    assert deviations(particles_after(6, weighted=False)).max() > 8


def test_weights_that_forget_the_prior_do_not() -> None:
    """The twin on the other side: weights, but without p(z)."""
    state = particles_after(6)
    log_weights = state.log_weights + 0.5 * (state.particles**2).sum(axis=1) / V0
    log_weights -= log_sum_exp(log_weights)
    broken = type(state)(**(vars(state) | {"log_weights": log_weights}))
    assert deviations(broken).max() > 8


def test_the_first_population_is_the_prior_s_own() -> None:
    """Accepted at the rate of the window, with equal weights."""
    method = AbcSmc(1, 3, 2, Settings(members=10**6, samples=4000), 1)
    objective = FunctionObjective(conjugate, Ledger(10**8))
    state = method._asking_for(method.step(method.init(), objective, np.arange(6)), 3)
    for _ in range(5):
        state = method.step(state, objective, np.arange(6))
    rate = window_moments(WIDTHS[2])[2]
    assert abs(len(state.accepted) - 20_000 * rate) < 4 * np.sqrt(20_000 * rate * (1 - rate))
    assert not state.accepted_log_weights.any()


def test_it_asks_first_for_the_best_of_a_step_and_then_for_one_more() -> None:
    method = AbcSmc(1, 3, 2, Settings(members=4, samples=30), 2)
    objective = FunctionObjective(conjugate, Ledger(10**6))
    state = method.step(method.init(), objective, np.arange(6))
    draws = method._propose(method.init())
    right = (np.abs(draws.sum(axis=1) - SEEN)[:, None] <= WIDTHS).sum(axis=1)
    assert (state.required, state.most_right) == (right.max(), right.max())
    assert np.array_equal(state.best, draws[right.argmax()])
    assert len(state.accepted) == 0  # they set r: they were not asked to reach it
    required = state.required
    while not state.population:
        state = method.step(state, objective, np.arange(6))
    assert (state.required, len(state.particles)) == (required + 1, 4)
    assert state.tolerance == pytest.approx(max(0, 1 - (required + 1) / 6))


def finish(losses, settings: Settings, budget: int = 10**6, dim: int = 2):
    objective = FunctionObjective(losses, Ledger(budget, batch_size=4))
    return run(AbcSmc(1, 3, dim, settings, 3), objective, rows=6, batch_size=4), objective.ledger


def test_it_ends_when_nothing_is_acceptable() -> None:
    settings = Settings(members=5, samples=4, max_rejections=7)
    result, _ = finish(lambda t, z, e: np.ones((len(t), len(e))), settings)
    assert result.stop_reason == "nothing acceptable"
    assert result.state.population == 1  # every draw has no right answer, which is what was asked for; none has one
    assert result.state.rejections == 7
    assert len(result.prompts) == 5


def test_it_ends_when_all_is_right() -> None:
    result, _ = finish(lambda t, z, e: np.zeros((len(t), len(e))), Settings(members=5, samples=4))
    assert result.stop_reason == "accuracy 1"
    assert (result.state.population, result.state.required) == (1, 7)


def test_it_never_overspends() -> None:
    """Two mini-batches a prompt: a step of four proposals is eight calls, and thirty calls are three steps."""
    result, ledger = finish(conjugate, Settings(members=500, samples=4), budget=30)
    assert (result.stop_reason, ledger.calls, len(result.curve)) == ("budget", 24, 3)
    assert sum(prompt.weight for prompt in result.prompts) == pytest.approx(1)


def test_before_the_first_population_it_deploys_what_there_is() -> None:
    method, objective = AbcSmc(1, 3, 2, Settings(members=10, samples=4), 2), FunctionObjective(conjugate, Ledger(10**6))
    state = method.step(method.init(), objective, np.arange(6))
    [prompt] = method.prompts(state)
    assert np.array_equal(prompt.z, state.best)
    while not len(state.accepted):
        state = method.step(state, objective, np.arange(6))
    assert len(method.prompts(state)) == len(state.accepted) < 10


def test_right_answers_are_integers() -> None:
    """0.1 added ten times is not 1: counts are of integers, and other losses are refused."""
    assert right_answers(np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])).tolist() == [2, 0]
    assert right_answers(np.zeros((1, 3))).dtype == np.int64
    with pytest.raises(ValueError, match='loss="error"'):
        right_answers(np.array([[0.3, 0.0]]))


def test_weights_survive_high_dimensions() -> None:
    """In 500 dimensions the weights' logarithms differ by hundreds: no overflow, no NaN, a sum of 1."""
    settings = Settings(members=5, samples=20)
    result, _ = finish(lambda t, z, e: (z[:, :1] <= 4.0 * np.arange(len(e))).astype(float), settings, 4000, dim=500)
    weights = [prompt.weight for prompt in result.prompts]
    assert result.state.population > 1
    assert np.isfinite(weights).all()
    assert sum(weights) == pytest.approx(1)
    assert 1 <= result.state.effective_size <= 5 + 1e-9


def test_one_particle_has_no_shape() -> None:
    result, _ = finish(conjugate, Settings(members=1, samples=20), budget=2000)
    assert np.isfinite(result.state.particles).all()
    assert [prompt.weight for prompt in result.prompts] == [1.0]
