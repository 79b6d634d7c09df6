"""ABC-SMC's proposal and weights against their formulas, written out; when it is finished, exactly."""

import dataclasses

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger
from zopog_ref.methods.gflf_abc_smc import AbcSmc, AbcSmcState
from zopog_ref.randomness import Purpose, normal, uniform

V0, KERNEL = 7.0, 3.0
PARTICLES = np.array([[0.0, 1.0], [100.0, -2.0], [-80.0, 4.0]])  # far apart: a proposal shows its ancestor
WEIGHTS = np.array([0.5, 0.2, 0.3])
# K = diag(v) * kernel_variance / mean(v), v the variances of the particles
VARIANCES = PARTICLES.var(axis=0)
K = KERNEL * VARIANCES / VARIANCES.mean()


def method(**settings) -> AbcSmc:
    return AbcSmc(
        1, 3, 2, AbcSmc.Settings(**({"members": 3, "prior_variance": V0, "kernel_variance": KERNEL} | settings)), 5
    )


def population(**changes) -> AbcSmcState:
    state = method().init()
    filled = {
        "step": 4,
        "rows": 6,
        "population": 1,
        "required": 3,
        "particles": PARTICLES,
        "log_weights": np.log(WEIGHTS),
    }
    return dataclasses.replace(state, **(filled | changes))


def exact_weights(z: np.ndarray) -> np.ndarray:
    """p(z) / sum_j W_j N(z; z_j, K), with every factor that is not common to all z."""
    prior = np.exp(-0.5 * (z**2).sum(axis=1) / V0)
    kernel = np.exp(-0.5 * ((z[:, None] - PARTICLES) ** 2 / K).sum(axis=2))  # (a, M)
    return prior / (kernel @ WEIGHTS)


def test_the_weights_are_the_formula() -> None:
    z = np.array([[0.5, 1.5], [-1.0, 0.0], [2.0, -0.5], [8.0, 1.0], [-75.0, 4.0]])
    given, exact = method()._log_weights(population(), z), np.log(exact_weights(z))
    np.testing.assert_allclose(given - given[0], exact - exact[0], rtol=0, atol=1e-9)


def test_weights_of_equal_particles_and_without_a_population() -> None:
    z = np.array([[0.5, 1.5], [-1.0, 0.0]])
    assert method(weighted=False)._log_weights(population(), z).tolist() == [0.0, 0.0]
    assert method()._log_weights(population(population=0), z).tolist() == [0.0, 0.0]


def test_proposals_come_from_the_particles_by_weight_with_the_kernel_s_variances() -> None:
    count = 20_000
    z = method(samples=count)._propose(population())
    offsets = z[:, None] - PARTICLES  # (count, M, d)
    ancestors = np.abs(offsets[:, :, 0]).argmin(axis=1)
    shares = np.bincount(ancestors, minlength=3) / count
    assert (np.abs(shares - WEIGHTS) < 4 * np.sqrt(WEIGHTS * (1 - WEIGHTS) / count)).all()
    noise = offsets[np.arange(count), ancestors]
    assert (np.abs(noise.var(axis=0) / K - 1) < 4 * np.sqrt(2 / count)).all()
    assert (np.abs(noise.mean(axis=0)) < 4 * np.sqrt(K / count)).all()


def test_proposals_are_of_these_streams() -> None:
    z = method(samples=50)._propose(population())
    u = uniform(5, 4, Purpose.ANCESTORS, (50,))
    ancestors = (u[:, None] >= np.cumsum(WEIGHTS)).sum(axis=1)
    noise = normal(5, 4, Purpose.Z_SEARCH, (50, 2)).astype(float)
    np.testing.assert_allclose(z, PARTICLES[ancestors] + np.sqrt(K) * noise, rtol=1e-12)


def test_before_a_population_proposals_come_from_the_prior() -> None:
    z = method(samples=20_000)._propose(method().init())
    assert (np.abs(z.var(axis=0) / V0 - 1) < 4 * np.sqrt(2 / len(z))).all()


def test_particles_without_a_spread_have_a_round_kernel() -> None:
    flat = population(particles=np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]]))
    assert method()._kernel(flat).tolist() == [KERNEL, KERNEL]
    np.testing.assert_allclose(method()._kernel(population()), K, rtol=1e-14)
    assert method()._kernel(population()).mean() == pytest.approx(KERNEL)


def test_the_weights_of_a_new_population_are_normalised() -> None:
    filling = population(accepted=PARTICLES + 1, accepted_log_weights=np.log([1.0, 3.0, 4.0]))
    state = method()._next_population(filling)
    np.testing.assert_allclose(np.exp(state.log_weights), [1 / 8, 3 / 8, 4 / 8], rtol=1e-14)
    assert state.effective_size == pytest.approx(64 / 26)
    assert (state.population, state.required, len(state.accepted), len(state.accepted_log_weights)) == (2, 4, 0, 0)
    assert state.tolerance == pytest.approx(1 - 4 / 6)
    assert np.array_equal(state.particles, PARTICLES + 1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"required": 6}, ""),  # all rows right is still asked for
        ({"required": 7}, "accuracy 1"),
        ({"required": 7, "population": 0}, ""),
        ({"rejections": 49}, ""),
        ({"rejections": 50}, "nothing acceptable"),
    ],
)
def test_when_it_is_finished(changes: dict, why: str) -> None:
    assert method().finished(population(**changes)) == why


def test_acceptance_is_of_what_reaches_the_threshold() -> None:
    """The draws have 4, 3, 2, 3 right answers of 6; 3 are asked for and two places are free."""
    right = np.array([4, 3, 2, 3])

    def losses(tokens, z, examples):
        return (np.arange(6) >= right[:, None]).astype(float)

    before = population(rejections=5, accepted=PARTICLES[:1], accepted_log_weights=np.zeros(1))
    z = method(samples=4)._propose(before)
    state = method(samples=4).step(before, FunctionObjective(losses, Ledger(100)), np.arange(6))
    assert (state.population, state.required, state.rejections, state.acceptance) == (2, 4, 0, 0.75)
    assert np.array_equal(state.particles, np.concatenate([PARTICLES[:1], z[:2]]))
    assert state.loss == 1 - 12 / 24
    assert (state.most_right, state.best.tolist()) == (4, z[0].tolist())
    none = method(samples=4).step(
        dataclasses.replace(before, required=5), FunctionObjective(losses, Ledger(100)), np.arange(6)
    )
    assert (none.rejections, none.acceptance, len(none.accepted)) == (6, 0.0, 1)


def test_members_before_the_first_population_weigh_the_same() -> None:
    prompts = method().prompts(population(population=0, accepted=PARTICLES[:2]))
    assert [prompt.weight for prompt in prompts] == [0.5, 0.5]
    prompts = method().prompts(population())
    np.testing.assert_allclose([prompt.weight for prompt in prompts], WEIGHTS, rtol=1e-12)
