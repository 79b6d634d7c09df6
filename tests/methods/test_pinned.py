"""What each method draws, from which stream: numbers that saved runs depend on, and streams that never meet."""

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger
from zopog_ref.methods.bdpl import BDPL
from zopog_ref.methods.clip_tuning import unit_mask
from zopog_ref.methods.fixed_tokens import fixed_tokens
from zopog_ref.methods.gflf_abc_smc import AbcSmc
from zopog_ref.methods.gflf_cma_elbo import CmaElbo
from zopog_ref.methods.random_search import RandomSearch
from zopog_ref.methods.sspt import SSPT
from zopog_ref.randomness import Purpose, normal, uniform

SHAPE = (2, 3, 4)


class Seen:
    """An objective that keeps what it was asked."""

    def __init__(self) -> None:
        self.tokens: list[np.ndarray] = []
        self.z: list[np.ndarray] = []
        self.objective = FunctionObjective(self, Ledger(10**6))

    def __call__(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        self.tokens.append(tokens.copy())
        self.z.append(z.copy())
        z = z if z.ndim == 3 else z[:, None]
        return (1 + tokens.sum(axis=1))[:, None] * (1 + ((z - 1) ** 2).sum(axis=-1)) + 0.1 * examples


def test_fixed_tokens() -> None:
    assert fixed_tokens(3, 6, 10).tolist() == [5, 5, 3, 4, 4, 8]
    u = uniform(3, 0, Purpose.TOKENS_SEARCH, (6,))
    assert fixed_tokens(3, 6, 10).tolist() == np.floor(10 * u).astype(int).tolist()


def test_unit_masks() -> None:
    given = unit_mask(3, 1, 0.4, (2, 5))
    expected = uniform(3, 1, Purpose.UNIT_MASK, (2, 5)) >= 0.4
    np.testing.assert_allclose(given, expected / 0.6, rtol=1e-15)
    assert (given > 0).astype(int).tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]


def test_random_search() -> None:
    seen, method = Seen(), RandomSearch(*SHAPE, RandomSearch.Settings(samples=5, sigma=2.0), 3)
    state = method.init()
    for step in range(2):
        state = method.step(state, seen.objective, np.arange(3))
        u = uniform(3, step, Purpose.TOKENS_SEARCH, (5, 2))
        assert np.array_equal(seen.tokens[step], np.floor(3 * u))
        np.testing.assert_allclose(
            seen.z[step], 2 * normal(3, step, Purpose.Z_SEARCH, (5, 4)).astype(float), rtol=1e-15
        )


def test_bdpl_draws_by_the_inverse_of_the_cumulative_probabilities() -> None:
    seen, method = Seen(), BDPL(*SHAPE, BDPL.Settings(samples=6), 3)
    state = method.init()
    for step in range(2):
        p = state.p
        state = method.step(state, seen.objective, np.arange(3))
        u = uniform(3, step, Purpose.TOKENS_POLICY, (6, 2))
        assert np.array_equal(seen.tokens[step], (np.cumsum(p, axis=1) <= u[..., None]).sum(axis=-1))
        assert not seen.z[step].any()


@pytest.mark.parametrize("directions", ["per_example", "shared"])
def test_sspt_perturbs_along_its_directions(directions: str) -> None:
    seen, method = (
        Seen(),
        SSPT(*SHAPE, SSPT.Settings(direction_pairs=2, mu=0.25, decay=0.5, keep=4, directions=directions), 3),
    )
    state = method.init()
    for step in range(2):
        before = state.z
        state = method.step(state, seen.objective, np.arange(3))
        u = normal(3, step, Purpose.DIRECTIONS, (2, 4) if directions == "shared" else (2, 3, 4)).astype(float)
        np.testing.assert_allclose(seen.z[step], np.concatenate([before + 0.25 * u, before - 0.25 * u]), rtol=1e-12)
        assert np.array_equal(seen.tokens[step], np.tile(fixed_tokens(3, 2, 3), (4, 1)))
        losses = Seen()(
            np.tile(method.tokens, (4, 1)), np.concatenate([before + 0.25 * u, before - 0.25 * u]), np.arange(3)
        )
        slope = (losses[:2] - losses[2:]) / 0.5  # (2, 3)
        slope = slope.mean(axis=1) if directions == "shared" else slope
        g = np.tensordot(slope, u, axes=slope.ndim) / slope.size
        np.testing.assert_allclose(state.z, before - method.settings.eta_z / (1 + 0.5 * step) * g, rtol=1e-10)
        assert state.z_gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-10)


def test_abc_smc_proposes_from_its_streams() -> None:
    method = AbcSmc(*SHAPE, AbcSmc.Settings(samples=3, prior_variance=4.0), 3)
    expected = 2 * normal(3, 0, Purpose.Z_SEARCH, (3, 4)).astype(float)
    np.testing.assert_allclose(method._propose(method.init()), expected, rtol=1e-15)


def training_noise(common: bool) -> list[np.ndarray]:
    """The standard normals that two steps of CMA-ELBO estimated its losses with, (popsize or 1, draws, d) each."""
    pytest.importorskip("cma", reason="CMA-ELBO needs the package cma (extra methods)")
    settings = CmaElbo.Settings(popsize=3, draws=2, common_draws=common, members=4)
    method, seen, found = CmaElbo(*SHAPE, settings, 3), Seen(), []
    state = method.init()
    for step in range(2):
        candidates = method._fresh(state.told).ask()
        mean, variance = candidates[:, None, :4], np.abs(candidates[:, None, 4:])
        state = method.step(state, seen.objective, np.arange(3))
        noise = (seen.z[step].reshape(3, 2, 4) - mean) / np.sqrt(variance)
        found.append(noise[:1] if common else noise)
        if common:
            np.testing.assert_allclose(noise[1:], np.repeat(noise[:1], 2, axis=0), rtol=0, atol=1e-6)
    return found


@pytest.mark.parametrize("common", [True, False])
def test_cma_elbo_estimates_with_other_draws_than_it_deploys(common: bool) -> None:
    """Deployed draws that were trained on would look better than they are: step 0's, too, are others."""
    deployed = CmaElbo(*SHAPE, CmaElbo.Settings(members=4), 3).prompts(CmaElbo(*SHAPE).init())
    drawn = np.stack([prompt.z for prompt in deployed])  # q = N(0, I) at the start: the draws themselves
    np.testing.assert_allclose(drawn, normal(3, 0, Purpose.POSTERIOR_DRAWS, (4, 4)), rtol=1e-6)
    for step, noise in enumerate(training_noise(common)):
        expected = normal(3, 1 + step, Purpose.POSTERIOR_DRAWS, noise.shape)
        np.testing.assert_allclose(noise, expected, rtol=0, atol=1e-5)
        distance = np.abs(noise.reshape(-1, 1, 4) - drawn).max(axis=-1)
        assert distance.min() > 1e-2
