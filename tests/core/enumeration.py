"""Everything about a small prompt distribution by full enumeration: the exact side of the estimator tests."""

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FLOAT64 = NDArray[np.float64]


def all_prompts(n: int, n_candidates: int) -> NDArray[np.int64]:
    """(N^n, n): every discrete prompt."""
    return np.array(list(itertools.product(range(n_candidates), repeat=n)))


def softmax_of(alpha: FLOAT64, tau: float, gumbel: FLOAT64 | None) -> FLOAT64:
    """p written a second time, straight from its definition: alpha^(1/tau) e^(g/tau), normalised."""
    weights = alpha ** (1 / tau) * (1.0 if gumbel is None else np.exp(gumbel / tau))
    return weights / weights.sum(axis=-1, keepdims=True)


def prompt_probabilities(p: FLOAT64, prompts: NDArray[np.int64]) -> FLOAT64:
    """P(t) of every prompt, as a product over positions."""
    return np.prod([p[i, prompts[:, i]] for i in range(p.shape[0])], axis=0)


def expected_loss(
    alpha: FLOAT64, tau: float, gumbel: FLOAT64 | None, prompts: NDArray[np.int64], losses: FLOAT64
) -> float:
    """L(alpha | g) = sum_t P(t | alpha, g) l(t)."""
    return float(prompt_probabilities(softmax_of(alpha, tau, gumbel), prompts) @ losses)


def finite_difference(function: Callable[[FLOAT64], float], at: FLOAT64, step: float = 1e-3) -> FLOAT64:
    """Gradient by a six-point central difference of order step^6."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        for offset, weight in ((1, 45), (2, -9), (3, 1)):
            plus, minus = at.copy(), at.copy()
            plus[index] += offset * step
            minus[index] -= offset * step
            gradient[index] += weight * (function(plus) - function(minus)) / (60 * step)
    return gradient
