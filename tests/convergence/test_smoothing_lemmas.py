"""[Z1] to [Z5b] at two seeds; the broken twins are in mutants.py and test_mutants.py."""

import numpy as np
import pytest

from zopog_ref.convergence import lines_continuous, smoothing_lemmas
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.problems import TableQuadratic
from zopog_ref.convergence.smoothing_lemmas import batches


@pytest.fixture(params=(0, 1))
def bench(request) -> Bench:
    return Bench(seed=request.param)


@pytest.mark.parametrize("per_example", [False, True])
def test_two_point_formula(bench: Bench, per_example: bool) -> None:
    assert smoothing_lemmas.two_point_formula(bench.rng(0), per_example).holds(1)


def test_stein_identity(bench: Bench) -> None:
    assert smoothing_lemmas.stein_identity(bench.on_quadratic()).holds(1)
    assert smoothing_lemmas.stein_identity(bench.on_wells()).holds(1)


def test_smoothed_wells_by_another_road(bench: Bench) -> None:
    """The closed form of grad L_mu against the mean of grad f at z + mu u."""
    case = bench.on_wells(0.5)
    every = np.array([bench.small_wells.slope_table(case.z + 0.5 * u) for u in case.nodes.direction])
    mean = np.tensordot(case.nodes.weight, every, axes=1)
    np.testing.assert_allclose(mean, bench.small_wells.smoothed_slope_table(case.z, 0.5), atol=1e-8)


def test_no_bias_on_quadratics(bench: Bench) -> None:
    assert smoothing_lemmas.no_bias_on_quadratics(bench.on_quadratic(3.0)).holds(1)


def test_bias_bound(bench: Bench) -> None:
    assert all(smoothing_lemmas.bias_bound(bench.on_wells(mu)).holds() for mu in (0.1, 1.0))


def test_bias_bound_smooth_hessian(bench: Bench) -> None:
    assert all(smoothing_lemmas.bias_bound_smooth_hessian(bench.on_wells(mu)).holds() for mu in (0.1, 1.0))


def test_bias_bounds_twin(bench: Bench) -> None:
    """A biased estimate passes neither."""

    def biased(plus, minus, u, mu):
        return np.full(u.shape[-1], 3.0)

    assert not smoothing_lemmas.bias_bound(bench.on_wells(0.1), biased).holds()
    assert not smoothing_lemmas.bias_bound_smooth_hessian(bench.on_wells(0.1), biased).holds()


def test_kink_bias() -> None:
    assert smoothing_lemmas.kink_bias(0.2, 3).holds(1)
    assert smoothing_lemmas.kink_bias(0.2, 3).right < 0.2 * np.sqrt(3)  # within [Z3]


def test_kink_bias_twin(monkeypatch) -> None:
    from zopog_ref.convergence.problems import Kink

    monkeypatch.setattr(Kink, "of", lambda self, prompt, z, examples: (np.abs(z) ** 2).sum(axis=-1) / 3)
    assert not smoothing_lemmas.kink_bias(0.2, 3).holds(10)


def test_second_moment_on_quadratics(bench: Bench) -> None:
    assert smoothing_lemmas.second_moment_on_quadratics(bench.on_quadratic()).holds(1)


def test_second_moment_bound(bench: Bench) -> None:
    assert all(smoothing_lemmas.second_moment_bound(bench.on_wells(mu)).holds() for mu in (0.05, 1.0))


def test_exact_variance_shared(bench: Bench) -> None:
    case = bench.on_quadratic()
    assert smoothing_lemmas.exact_variance_shared(case, batches(2, 2)[1], 2).holds(1)


def test_exact_variance_per_example(bench: Bench) -> None:
    assert smoothing_lemmas.exact_variance_per_example(bench.on_quadratic(), batches(2, 2)[1]).holds(1)


@pytest.mark.parametrize("per_example", [False, True])
def test_variance_bound(bench: Bench, per_example: bool) -> None:
    slope2 = bench.small_wells.largest_slope**2
    assert smoothing_lemmas.variance_bound(bench.on_wells(0.3, 6), 2, per_example, slope2).holds()


def test_per_example_gains_when_examples_agree(bench: Bench) -> None:
    case, same = bench.on_quadratic(), np.array([0, 0])
    shared = smoothing_lemmas.exact_variance_shared(case, same, 1).left
    assert smoothing_lemmas.exact_variance_per_example(case, same).left < shared


def test_per_example_gains_over_batches_and_may_lose_on_one(bench: Bench) -> None:
    """Two examples with opposite slopes: on the batch of both, shared directions see a slope of 0."""
    opposite = TableQuadratic(1, 1, np.zeros((1, 2)), np.array([[[1.0, 0.5], [-1.0, -0.5]]]), np.eye(2))
    case = smoothing_lemmas.zeroth_case("opposite", opposite, np.ones((1, 1)), np.zeros(2), 0.1, 4)
    shared = [smoothing_lemmas.exact_variance_shared(case, batch, 1).left for batch in batches(2, 2)]
    per_example = [smoothing_lemmas.exact_variance_per_example(case, batch).left for batch in batches(2, 2)]
    assert shared[1] < 1e-12 < per_example[1]
    assert np.mean(per_example) <= np.mean(shared) + 1e-12


def test_the_bounds_on_the_bias_are_used_as_far_as_they_can_be(bench: Bench) -> None:
    """Exact shares: sqrt(2/pi) of mu L_z sqrt(d) on the odd kink whatever d, 1/sqrt(d) of rho mu^2 d / 2 on a cubic."""
    first, smooth = lines_continuous._radius_cases(bench)[-2:], lines_continuous._radius_cases_smooth(bench)[-2:]
    assert [c.ratio for c in first] == pytest.approx([np.sqrt(2 / np.pi)] * 2, rel=1e-4)  # nodes of d = 2: 5e-6
    assert [c.ratio for c in smooth] == pytest.approx([1, np.sqrt(1 / 2)], rel=1e-9)
