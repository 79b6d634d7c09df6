"""Problems on which a line is attained, or false without one of its terms, with constants in closed form."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zopog_ref.convergence.exact import Nodes
from zopog_ref.convergence.problems import Problem, TableQuadratic

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]


@dataclass(frozen=True)
class OddKink(Problem):
    """f(z) = s sum_i z_i - sum_i z_i |z_i| / 2: L_z = 1, and the slope s - |z_i| has a kink at 0.

    At z = 0 the bias of [Z3] is -mu sqrt(2/pi) in each coordinate, 0.8 of mu L_z sqrt(d) whatever d; with s = 0 the
    second moment of [Z4] is half its bound at d = 1. The losses are not bounded: only lines in z are checked on it.
    """

    d: int
    s: float = 0.0
    n: int = 1
    n_candidates: int = 1
    rows: int = 1
    F: float = np.inf
    L_z: float = 1.0
    rho: float = np.inf

    def of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return (self.s * z - 0.5 * z * np.abs(z)).sum(axis=-1) + 0.0 * (prompt + examples)

    def slope_of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return self.s - np.abs(z) + 0.0 * (prompt + examples)[..., None]


@dataclass(frozen=True)
class Cubic(Problem):
    """f(z) = rho sum_i z_i^3 / 6: the Hessian diag(rho z_i) is rho-Lipschitz, and the bias of [Z3] is rho mu^2 / 2 in
    each coordinate: the bound rho mu^2 d / 2 is attained at d = 1 and 1/sqrt(d) of it is used elsewhere."""

    d: int
    rho: float = 1.5
    n: int = 1
    n_candidates: int = 1
    rows: int = 1
    F: float = np.inf
    L_z: float = np.inf

    def of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return self.rho / 6 * (z**3).sum(axis=-1) + 0.0 * (prompt + examples)

    def slope_of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return self.rho / 2 * z**2 + 0.0 * (prompt + examples)[..., None]


@dataclass(frozen=True)
class CoupledSines(Problem):
    """Two tokens a position, bounded, d = 1: f(t, z; x) = cost[t, x] + A (1 + sign[t, x] sin z) + s (1 - sin z).

    L_z = A + s; F = max cost + 2 A + 2 s. With the cost on the token that an example does not want, a policy step on
    that example's batch moves alpha to where the same batch has a slope A of its own: see [T1], one mini-batch.
    """

    cost: FLOAT64  # (2^n, rows), at least 0
    sign: FLOAT64  # (2^n, rows), in [-1, 1]
    A: float
    s: float
    n: int = 1
    n_candidates: int = 2
    d: int = 1

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.cost.shape[1]

    @property
    def F(self) -> float:  # type: ignore[override]
        return float(self.cost.max()) + 2 * self.A + 2 * self.s

    @property
    def L_z(self) -> float:  # type: ignore[override]
        return self.A + self.s

    def of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        wave = np.sin(z[..., 0])
        own = self.A * (1 + self.sign[prompt, examples] * wave)
        return self.cost[prompt, examples] + own + self.s * (1 - wave)

    def slope_of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return ((self.A * self.sign[prompt, examples] - self.s) * np.cos(z[..., 0]))[..., None]


def plain_bowl(d: int) -> TableQuadratic:
    """||z||^2 / 2: one prompt, one example, no variance but that of the directions."""
    return TableQuadratic(1, 1, np.zeros((1, 1)), np.zeros((1, 1, d)), np.eye(d))


def opposite_examples(d: int) -> TableQuadratic:
    """Two examples with slopes z - e_1 and z + e_1: at z = 0 all of sigma_z^2 = 1 lies between the examples."""
    w = np.zeros((1, 2, d))
    w[0, :, 0] = 1, -1
    return TableQuadratic(1, 1, np.zeros((1, 2)), w, np.eye(d))


def opposite_prompts(d: int) -> TableQuadratic:
    """Two prompts with slopes z - e_1 and z + e_1, one example: at z = 0 all of sigma_z^2 = 1 lies between prompts.

    With tau = 1 and alpha = (a, a), p is uniform on (0, 1) over the noise, so that Var_g(grad_z E_t[f | g]) = 1/3: one
    noise a half step leaves a third of sigma_z^2 in place whatever I_2 and B [G4].
    """
    w = np.zeros((2, 1, d))
    w[:, 0, 0] = 1, -1
    return TableQuadratic(1, 2, np.zeros((2, 1)), w, np.eye(d))


def half_range_nodes(nodes: int = 60, far: float = 10.0) -> Nodes:
    """u ~ N(0, 1) by Gauss-Legendre on both sides of 0, out to `far`: exact to rounding with a kink at 0."""
    node, weight = np.polynomial.legendre.leggauss(nodes)
    u = far / 2 * (node + 1)
    half = far / 2 * weight * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    return Nodes(np.concatenate([half, half]), np.concatenate([u, -u])[:, None])
