"""[Z1] and [Z1b] on quadratics, where a symmetric difference is exact: g = mean u u^T grad."""

import json
from pathlib import Path

import numpy as np
import pytest

from zopog_ref import perturb, projection, two_point_gradient

OFFICIAL = json.loads((Path(__file__).parent / "official_steps.json").read_text())
DIM, PAIRS, BATCH, MU = 6, 4, 3, 0.1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


@pytest.fixture
def quadratics(rng: np.random.Generator):
    """f_b(z) = (z - w_b)^T H (z - w_b) / 2 + c_b and its gradient, for b = 0..B-1."""
    root = rng.normal(size=(DIM, DIM))
    hessian, centre = root @ root.T + np.eye(DIM), rng.normal(size=(BATCH, DIM))

    def value(z: np.ndarray) -> np.ndarray:  # (K, d) or (K, B, d) -> (K, B)
        offset = (z if z.ndim == 3 else z[:, None, :]) - centre
        return 0.5 * np.einsum("kbi,ij,kbj->kb", offset, hessian, offset) + np.arange(BATCH)

    def gradient(z: np.ndarray) -> np.ndarray:  # (d,) -> (B, d)
        return (z - centre) @ hessian

    return value, gradient


def test_shared_directions_on_a_quadratic_z1(quadratics, rng: np.random.Generator) -> None:
    value, gradient = quadratics
    z, u = rng.normal(size=DIM), rng.normal(size=(PAIRS, DIM))
    plus, minus = perturb(z, u, MU)
    estimate = two_point_gradient(value(plus).mean(axis=1), value(minus).mean(axis=1), u, MU)
    np.testing.assert_allclose(estimate, u.T @ u @ gradient(z).mean(axis=0) / PAIRS, rtol=1e-12)


def test_per_example_directions_on_a_quadratic_z1b(quadratics, rng: np.random.Generator) -> None:
    value, gradient = quadratics
    z, u = rng.normal(size=DIM), rng.normal(size=(PAIRS, BATCH, DIM))
    plus, minus = perturb(z, u, MU)
    estimate = two_point_gradient(value(plus), value(minus), u, MU)
    exact = sum(np.outer(u[k, b], u[k, b]) @ gradient(z)[b] for k in range(PAIRS) for b in range(BATCH))
    np.testing.assert_allclose(estimate, exact / (PAIRS * BATCH), rtol=1e-12)


def test_broken_estimates_are_caught(quadratics, rng: np.random.Generator) -> None:
    value, gradient = quadratics
    z, u = rng.normal(size=DIM), rng.normal(size=(PAIRS, DIM))
    plus, minus = (value(point).mean(axis=1) for point in perturb(z, u, MU))
    exact = u.T @ u @ gradient(z).mean(axis=0) / PAIRS
    one_sided = np.tensordot((plus - value(z[None]).mean()) / MU, u, axes=1) / PAIRS
    no_half = 2 * two_point_gradient(plus, minus, u, MU)
    swapped = two_point_gradient(minus, plus, u, MU)
    other_noise = two_point_gradient(plus, minus, rng.normal(size=u.shape), MU)
    for wrong in (one_sided, no_half, swapped, other_noise):
        assert np.abs(wrong - exact).max() > 1e-2


def test_unbiased_for_the_smoothed_gradient_of_a_cubic_z2(rng: np.random.Generator) -> None:
    """f = sum z^3: the smoothed loss is sum (z^3 + 3 mu^2 z), whose gradient is 3 z^2 + 3 mu^2, not 3 z^2."""
    z, count = np.array([0.5, -1.0]), 400_000
    u = rng.normal(size=(count, 2))
    plus, minus = perturb(z, u, 0.5)
    slope = ((plus**3).sum(axis=1) - (minus**3).sum(axis=1))[:, None] * u  # one sample's estimate is slope / (2 mu)
    standard_error = slope.std(axis=0) / (2 * 0.5 * np.sqrt(count))
    estimate = two_point_gradient((plus**3).sum(axis=1), (minus**3).sum(axis=1), u, 0.5)
    smoothed = 3 * z**2 + 3 * 0.5**2
    assert (np.abs(estimate - smoothed) < 4 * standard_error).all()
    assert (np.abs(estimate - 3 * z**2) > 10 * standard_error).any()  # the unsmoothed gradient is told apart


@pytest.mark.parametrize("step", [0, 1])
def test_equals_the_official_code(step: int) -> None:
    zeroth = OFFICIAL["steps"][step]["zeroth"]
    arguments = [np.array(zeroth[name]) for name in ("losses_plus", "losses_minus", "directions")]
    np.testing.assert_allclose(two_point_gradient(*arguments, OFFICIAL["mu"]), zeroth["gradient"], rtol=1e-4, atol=1e-5)


def test_projection_has_the_published_scale() -> None:
    a = projection(7, 5, 64, 500, scale=100.0, embedding_std=0.04)
    assert a.shape == (320, 500)
    assert a.dtype == np.float32
    s = 100 * 0.04 / np.sqrt(500)
    assert abs(a.std() / s - 1) < 4 / np.sqrt(2 * a.size)
    assert (a == projection(7, 5, 64, 500, scale=100.0, embedding_std=0.04)).all()


@pytest.mark.parametrize(
    ("plus", "minus", "directions", "mu", "message"),
    [
        (np.ones(3), np.ones(3), np.ones((3, 2)), 0.0, "mu must be positive"),
        (np.ones(3), np.ones(2), np.ones((3, 2)), 0.1, "expected losses"),
        (np.ones(3), np.ones(3), np.ones((3, 4, 2)), 0.1, "expected losses"),
        (np.ones(0), np.ones(0), np.ones((0, 2)), 0.1, "expected losses"),
        (np.array([np.inf]), np.ones(1), np.ones((1, 2)), 0.1, "must be finite"),
    ],
)
def test_errors_say_what_is_wrong(plus, minus, directions, mu: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_point_gradient(plus, minus, directions, mu)
