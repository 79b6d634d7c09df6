"""[J1] to [J4]: pairs that feed both halves, by enumeration; each with a way to fail."""

from dataclasses import replace

import numpy as np
import pytest

from zopog_ref.convergence import joint
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.lines_joint import JOINT, _quadratics, _signals, _wells
from zopog_ref.convergence.smoothing_lemmas import exact_variance_shared, zeroth_case
from zopog_ref.policy_gradient import policy_gradient

BENCH = Bench(seed=1, effort=TINY)
LINES = {line.key: line for line in JOINT}


@pytest.mark.parametrize("key", ["J1-alpha", "J1-z"])
def test_both_halves_are_unbiased(key: str) -> None:
    assert all(c.holds(1) for c in LINES[key].check(BENCH))


def test_it_is_the_smoothed_objective_and_not_the_plain_one() -> None:
    """At mu = 0.3 the gradient of the plain objective in alpha is another one."""
    [case] = _wells(BENCH)
    problem, p = case.zeroth.problem, case.atoms
    plain = np.tensordot(p.weight * problem.table(case.zeroth.z).mean(axis=1), p.score, axes=1)
    assert np.abs(joint.joint_moments(case)[0].mean - plain).max() > 1e-3 * np.abs(plain).max()


@pytest.mark.parametrize("key", ["J2", "J3"])
def test_variances(key: str) -> None:
    assert all(c.holds(1) for c in LINES[key].check(BENCH))


def test_the_surplus_in_alpha_is_what_it_says() -> None:
    """Two pairs a prompt halve it, and it falls as mu^4; without it the line is off by more than rounding."""
    problem, alpha = _quadratics(BENCH)[1].zeroth.problem, BENCH.binary_alpha[:1]

    def excess(mu: float, pairs: int) -> float:
        case = joint.joint_case("", problem, alpha, BENCH.z[:1], mu, 4, 2, pairs)
        smooth = joint.variance_formula(case.atoms.weight, joint.smoothed_losses(case), case.atoms.score, 2)
        return joint.joint_moments(case)[0].trace_covariance - smooth

    assert excess(1.0, 2) == pytest.approx(excess(1.0, 1) / 2, rel=1e-8)
    assert excess(0.5, 1) == pytest.approx(excess(1.0, 1) / 16, rel=1e-6)
    assert excess(1.0, 1) > 1e-3


def test_one_pair_a_prompt_is_the_exact_variance_of_z5() -> None:
    one = _quadratics(BENCH)[0]
    known = exact_variance_shared(one.zeroth, np.arange(2), 2)
    assert joint.variance_in_z(one).left == pytest.approx(known.left, rel=1e-10)
    assert joint.variance_in_z(one).right == pytest.approx(known.right, rel=1e-10)


def test_more_pairs_on_the_same_prompts_do_not_lower_what_lies_between_prompts() -> None:
    """d = 1, K = 2: from M = 1 to 2 the first term halves, the second stays."""
    one, two = (joint.variance_in_z(case) for case in _quadratics(BENCH)[1:3])
    case = _quadratics(BENCH)[1].zeroth
    slopes = case.problem.slope_table(case.z).mean(axis=1)
    between = case.weight @ (slopes - case.weight @ slopes) ** 2
    assert 2 * two.left - one.left == pytest.approx(between[0] / 2, rel=1e-9)


def test_a_prompt_that_is_fixed_has_no_variance_between_prompts() -> None:
    problem = _quadratics(BENCH)[1].zeroth.problem
    case = zeroth_case("", problem, np.array([[1.0, 1e-300]]), BENCH.z[:1], 0.3, 4)
    fixed = joint.JointCase(case, _quadratics(BENCH)[1].atoms, 1, 2)
    slope = problem.slope_table(case.z).mean(axis=1)[0, 0]
    of_z = joint.joint_moments(fixed, policy=lambda *_: np.zeros((1, 2)))[1]
    assert of_z.trace_covariance == pytest.approx(2 * slope**2 / 2, rel=1e-10)  # (d + 1) / (K M)


def test_signal_bound() -> None:
    loose, sharp = _signals(BENCH)
    assert loose.holds()
    assert loose.ratio < 0.999
    assert sharp.ratio == pytest.approx(1, rel=1e-12)
    assert not any(c.holds() for c in _signals(replace(BENCH, policy=lambda *a: 2 * policy_gradient(*a)))[1:])
