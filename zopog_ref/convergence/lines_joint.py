"""Rows on pairs that feed both halves: [J1] to [J4]."""

import numpy as np

from zopog_ref.convergence import joint
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Inequality
from zopog_ref.convergence.exact import prompt_atoms
from zopog_ref.convergence.joint import JointCase, joint_case
from zopog_ref.convergence.lines import Line
from zopog_ref.convergence.problems import SeparableTable, binary_vocabulary, table_quadratic
from zopog_ref.convergence.prompt_lemmas import PolicyCase


def _wells(bench: Bench) -> list[JointCase]:
    """Two positions, one dimension; nodes enough to be exact to rounding."""
    problem = binary_vocabulary(bench.rng(40), 2, 1, 2)
    return [joint_case("wells", problem, bench.binary_alpha, bench.z[:1], 0.3, 16, 2, 1)]


def _quadratics(bench: Bench) -> list[JointCase]:
    """One pair a prompt and two; two dimensions and one. mu is large, so that what it adds is seen."""
    flat, line = table_quadratic(bench.rng(41), 1, 2, 2, 2), table_quadratic(bench.rng(42), 1, 2, 1, 2)
    alpha = bench.binary_alpha[:1]
    one = joint_case("d = 2", flat, alpha, bench.z, 1.2, 4, 2, 1)
    return [one, *(joint_case("d = 1", line, alpha, bench.z[:1], 1.2, 4, K, M) for K, M in ((2, 1), (2, 2), (3, 1)))]


def _signals(bench: Bench) -> list[Inequality]:
    """Attained where the loss is a sum over positions and p is uniform."""
    table = SeparableTable(bench.rng(43).random((2, 3)))
    atoms = prompt_atoms(np.full((2, 3), 1 / 3))
    separable = table.losses(atoms.tokens, np.zeros(1), np.zeros(1, np.int64))[:, 0]
    cases = [bench.simplex_case, PolicyCase("sum over positions, p = 1/N", atoms, separable)]
    return [joint.signal_bound(case, 2, bench.policy) for case in cases]


_T = "test_joint.py::"
JOINT = (
    Line("J1-alpha", "J1", "Pairs as policy samples: unbiased for the smoothed L.", "proved", joint.unbiased_in_alpha,
         _T + "test_both_halves_are_unbiased",
         lambda b: [joint.unbiased_in_alpha(case, b.policy) for case in (*_wells(b), *_quadratics(b))]),
    Line("J1-z", "J1", "Pairs that share prompts: unbiased for the smoothed L.", "proved", joint.unbiased_in_z,
         _T + "test_both_halves_are_unbiased",
         lambda b: [joint.unbiased_in_z(case, b.zeroth) for case in (*_wells(b), *_quadratics(b))]),
    Line("J2", "J2", "Exact variance in alpha of pairs as policy samples.", "proved", joint.variance_in_alpha,
         _T + "test_variances", lambda b: [joint.variance_in_alpha(case, b.policy) for case in _quadratics(b)]),
    Line("J3", "J3", "Exact variance in z of pairs that share prompts.", "proved", joint.variance_in_z,
         _T + "test_variances", lambda b: [joint.variance_in_z(case, b.zeroth) for case in _quadratics(b)]),
    Line("J4", "J4", "The token gradient is at most Var(l) / min p long, squared.", "proved", joint.signal_bound,
         _T + "test_signal_bound", _signals),
)  # fmt: skip
