"""Expectations without sampling: every prompt, every tuple of prompts, Gauss nodes for normals and Gumbel noise.

This side of each comparison never calls the estimators or the analytic score it is compared with: scores here are
complex-step derivatives of log P, exact to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOAT64 = NDArray[np.float64]
ARRAY = NDArray[Any]  # float64, or complex128 while differentiating
INT64 = NDArray[np.int64]
PolicyEstimator = Callable[[FLOAT64, INT64, FLOAT64, FLOAT64, float], ArrayLike]  # policy_gradient's signature
ZerothEstimator = Callable[[FLOAT64, FLOAT64, FLOAT64, float], ArrayLike]  # two_point_gradient's signature

COMPLEX_STEP = 1e-30  # no subtraction, so no cancellation: any tiny step is exact to rounding


def all_prompts(n: int, n_candidates: int) -> INT64:
    """Every prompt, (N^n, n), the last position fastest."""
    return np.indices((n_candidates,) * n).reshape(n, -1).T.astype(np.int64)


def log_prompt_probability(tokens: INT64, alpha: ARRAY, tau: float, gumbel: FLOAT64 | None = None) -> ARRAY:
    """log P(t | alpha, g), section 3.2, written again from its definition; alpha may be complex. Returns (A,).

    tokens (A, n); alpha (n, N); gumbel (n, N), (A, n, N) or None.
    """
    x = (np.log(alpha) + (0.0 if gumbel is None else gumbel)) / tau  # ([A,] n, N)
    x = np.broadcast_to(x, (*tokens.shape, alpha.shape[1]))
    log_normaliser = np.log(np.exp(x - x.real.max(axis=-1, keepdims=True)).sum(axis=-1)) + x.real.max(axis=-1)
    chosen = np.take_along_axis(x, tokens[..., None], axis=-1)[..., 0]
    return (chosen - log_normaliser).sum(axis=-1)


def differentiate(function: Callable[[ARRAY], ARRAY], alpha: FLOAT64) -> FLOAT64:
    """d function / d alpha_ij by complex steps: Im function(alpha + i h e_ij) / h. Returns (..., n, N)."""
    columns = []
    for cell in np.ndindex(alpha.shape):
        shifted = alpha.astype(np.complex128)
        shifted[cell] += 1j * COMPLEX_STEP
        columns.append(np.imag(function(shifted)) / COMPLEX_STEP)
    return np.stack(columns, axis=-1).reshape(*np.shape(columns[0]), *alpha.shape)


@dataclass(frozen=True)
class Atoms:
    """Everything a draw of (g, t) can be: finitely many atoms with their probabilities.

    tokens (A, n); prompt (A,) its row in all_prompts; weight (A,); p (n, N) when all atoms share it, else (A, n, N);
    score (A, n, N) by complex steps; alpha (n, N), tau.
    """

    tokens: INT64
    prompt: INT64
    weight: FLOAT64
    p: FLOAT64
    score: FLOAT64
    alpha: FLOAT64
    tau: float

    def probabilities_of(self, chosen: INT64) -> FLOAT64:
        """p as the estimator gets it for the atoms `chosen` (I,): (n, N) shared, or (I, n, N)."""
        return self.p if self.p.ndim == 2 else self.p[chosen]


def token_probabilities(alpha: ARRAY, tau: float, gumbel: FLOAT64 | None = None) -> ARRAY:
    """p_ij = softmax_j((log alpha_ij + g_ij) / tau), written again from its definition."""
    x = (np.log(alpha) + (0.0 if gumbel is None else gumbel)) / tau
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def prompt_atoms(alpha: FLOAT64, tau: float = 1.0, gumbel: FLOAT64 | None = None) -> Atoms:
    """All N^n prompts, given the noise g (n, N) or without noise."""
    tokens = all_prompts(*alpha.shape)
    weight = np.exp(log_prompt_probability(tokens, alpha, tau, gumbel).real)
    score = differentiate(lambda a: log_prompt_probability(tokens, a, tau, gumbel), alpha)
    p = token_probabilities(alpha, tau, gumbel)
    return Atoms(tokens, np.arange(len(tokens)), weight, p, score, alpha, tau)


class Noise(NamedTuple):
    """A finite distribution of Gumbel noise: weight (Q,), gumbel (Q, n, N)."""

    weight: FLOAT64
    gumbel: FLOAT64


def binary_noise(n: int, nodes: int) -> Noise:
    """Gumbel noise of a binary vocabulary (N = 2), section 5.3: g_1 - g_2 = log(u / (1 - u)) is logistic.

    Gauss-Legendre in u on (0, 1) at every position: nodes^n points; only the difference of the two g matters.
    """
    node, weight = np.polynomial.legendre.leggauss(nodes)
    u = (node + 1) / 2
    index = all_prompts(n, nodes)  # (Q, n)
    gumbel = np.zeros((len(index), n, 2))
    gumbel[..., 0] = np.log(u / (1 - u))[index]
    return Noise((weight / 2)[index].prod(axis=1), gumbel)


def noisy_atoms(alpha: FLOAT64, tau: float, noise: Noise) -> Atoms:
    """All pairs (g, t): a fresh g with every prompt, the mode gumbel="per_sample"."""
    per_noise = [prompt_atoms(alpha, tau, g) for g in noise.gumbel]
    return Atoms(
        tokens=np.concatenate([a.tokens for a in per_noise]),
        prompt=np.concatenate([a.prompt for a in per_noise]),
        weight=np.concatenate([w * a.weight for w, a in zip(noise.weight, per_noise)]),
        p=np.concatenate([np.broadcast_to(a.p, (len(a.tokens), *a.p.shape)) for a in per_noise]),
        score=np.concatenate([a.score for a in per_noise]),
        alpha=alpha,
        tau=tau,
    )


Mode = Literal["none", "per_sample", "per_step"]
MODES: tuple[Mode, ...] = ("none", "per_sample", "per_step")


def no_noise(n: int, n_candidates: int) -> Noise:
    """g = 0 with probability 1."""
    return Noise(np.ones(1), np.zeros((1, n, n_candidates)))


def draws_of_a_step(mode: Mode, alpha: FLOAT64, tau: float, noise: Noise) -> list[tuple[float, Atoms]]:
    """What the samples of one half step can be: (weight, atoms), the samples independent and alike given the entry.

    Under per_step there is one entry for each g, which all samples of the half step share; otherwise one for all.
    """
    if mode == "none":
        return [(1.0, prompt_atoms(alpha, tau))]
    if mode == "per_sample":
        return [(1.0, noisy_atoms(alpha, tau, noise))]
    return [(float(weight), prompt_atoms(alpha, tau, g)) for weight, g in zip(*noise)]


def prompt_weights(alpha: FLOAT64, tau: float, noise: Noise) -> FLOAT64:
    """E_g P(t | alpha, g) of all N^n prompts: L averages the losses over it, whatever the mode. Returns (N^n,)."""
    tokens = all_prompts(*alpha.shape)
    given = [np.exp(log_prompt_probability(tokens, alpha, tau, g)).real for g in noise.gumbel]
    return np.asarray(noise.weight @ np.stack(given))


class Moments(NamedTuple):
    """Exact moments of an estimate: its mean, and tr Cov = E||g||^2 - ||E g||^2."""

    mean: FLOAT64
    trace_covariance: float


def policy_moments(estimator: PolicyEstimator, atoms: Atoms, losses: FLOAT64, samples: int) -> Moments:
    """Exact mean and variance of a policy gradient: the estimator is called on all A^I tuples of atoms.

    losses (A,) of the atoms; samples I.
    """
    mean, second = np.zeros(atoms.alpha.shape), 0.0
    for chosen in map(np.array, product(range(len(atoms.weight)), repeat=samples)):
        weight = atoms.weight[chosen].prod()
        g = np.asarray(
            estimator(losses[chosen], atoms.tokens[chosen], atoms.alpha, atoms.probabilities_of(chosen), atoms.tau)
        )
        mean += weight * g
        second += weight * float((g * g).sum())
    return Moments(mean, second - float((mean * mean).sum()))


class Nodes(NamedTuple):
    """A finite stand-in for u ~ N(0, I_d), exact for polynomials: weight (M,), direction (M, d)."""

    weight: FLOAT64
    direction: FLOAT64


def normal_nodes(d: int, nodes: int) -> Nodes:
    """Gauss-Hermite nodes for N(0, I_d): nodes^d points, exact for polynomials of degree 2 nodes - 1 in each u_i."""
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    index = all_prompts(d, nodes)  # (M, d)
    return Nodes((weight / weight.sum())[index].prod(axis=1), node[index])
