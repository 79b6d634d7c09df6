"""[G1] to [G3]: the binary vocabulary's integral, one noise a step, noise reused; each with its twin."""

import numpy as np
import pytest

from zopog_ref.convergence import noise_lemmas
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.exact import Noise, binary_noise, normal_nodes
from zopog_ref.convergence.prompt_lemmas import exact_variance, unbiased
from zopog_ref.distribution import probabilities
from zopog_ref.randomness import Purpose, gumbel

BENCH = Bench(seed=1)
ONE = BENCH.binary_alpha[:1]


def test_noisy_marginal() -> None:
    assert noise_lemmas.noisy_marginal(BENCH.binary_alpha, binary_noise(2, 24)).holds(1)


@pytest.mark.parametrize("factor", [0.0, 0.9, -2.0])
def test_noisy_marginal_twin(factor: float) -> None:
    """No noise, less noise, more noise: another marginal."""
    weight, g = binary_noise(2, 24)
    assert not noise_lemmas.noisy_marginal(BENCH.binary_alpha, Noise(weight, factor * g)).holds(10)


def test_the_noise_of_the_core_has_this_marginal() -> None:
    """Gumbel noise as Algorithm 1 draws it, against the integral."""
    g = gumbel(7, 0, Purpose.GUMBEL_POLICY, (40_000, 1, 2))
    p = probabilities(ONE, 1.0, g)[:, 0, 0]
    weight, nodes = binary_noise(1, 24)
    exact = weight @ probabilities(ONE, 1.0, nodes)[:, 0, 0]
    assert abs(p.mean() - exact) < 4.5 * p.std() / np.sqrt(len(p))


def test_per_step_variance() -> None:
    losses = BENCH.one_position.table(BENCH.z).mean(axis=1)
    for size in (2, 5):
        assert noise_lemmas.per_step_variance(ONE, 0.5, BENCH.noise, losses, size).holds(1)


def test_per_step_excess_is_not_removed_by_samples() -> None:
    """V5 with fresh noise goes to 0 with I, the per-step variance to the excess."""
    losses = BENCH.one_position.table(BENCH.z).mean(axis=1)
    excess = noise_lemmas.per_step_excess(ONE, 0.5, BENCH.noise, losses)
    assert excess > 0
    comparison = noise_lemmas.per_step_variance(ONE, 0.5, BENCH.noise, losses, 8)
    assert comparison.left > excess


def test_fresh_noise_keeps_v4_and_v5() -> None:
    assert unbiased(BENCH.fresh_case, 2).holds(1)
    assert exact_variance(BENCH.fresh_case, 2).holds(1)


def test_reuse_bias() -> None:
    args = BENCH.one_position, ONE, BENCH.z, BENCH.noise
    at_2, at_1 = (noise_lemmas.reuse_bias(*args, eta, 0.1, normal_nodes(2, 6)) for eta in (2e-6, 1e-6))
    np.testing.assert_allclose(at_2, 2 * at_1, rtol=1e-4)
    assert np.abs(at_1).max() > 1e-12
    assert noise_lemmas.reuse_bias_in_the_limit(*args, 1e-6).holds(1)


def test_reuse_bias_twin() -> None:
    """Without a step of z, or without noise, nothing is reused and the bias is 0."""
    args = BENCH.one_position, ONE, BENCH.z
    none = Noise(np.ones(1), np.zeros((1, 1, 2)))
    assert np.abs(noise_lemmas.reuse_bias(*args, BENCH.noise, 0.0, 0.1, normal_nodes(2, 4))).max() < 1e-15
    assert np.abs(noise_lemmas.reuse_bias(*args, none, 0.3, 0.1, normal_nodes(2, 4))).max() < 1e-15
    assert not noise_lemmas.reuse_bias_in_the_limit(*args, BENCH.noise, 0.3).holds(1)  # far from the limit


def test_mode_statistics() -> None:
    """One noise a step never has the smaller variance of the two noisy modes: its between-noise part is not averaged."""
    losses = BENCH.one_position.table(BENCH.z).mean(axis=1)
    noise = binary_noise(1, 16)
    found = {mode: values[0] for mode, values in noise_lemmas.mode_statistics(ONE, noise, losses[None], 20).items()}
    assert found["per_step"].variance > found["per_sample"].variance
    assert found["per_step"].gradient2 == found["per_sample"].gradient2
    excess = noise_lemmas.per_step_excess(ONE, 1.0, noise, losses)
    assert found["per_step"].variance > excess > 0
