"""Problems on which every line is checked exactly, section 5, with their constants in closed form.

A problem gives the loss of all N^n prompts on all of its examples, so L, its gradients and every variance are sums.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zopog_ref.convergence.exact import ARRAY, Atoms, all_prompts, differentiate, log_prompt_probability

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]


class Problem:
    """n positions, N candidates, a continuous prompt in d dimensions, and a population of `rows` examples.

    F bounds the loss [A3] (infinite when nothing does), L_z is the Lipschitz constant of grad_z f(t, z; x) for every
    prompt and example [A1], rho that of its Hessian (infinite when it has none).
    """

    n: int
    n_candidates: int
    d: int
    rows: int
    F: float
    L_z: float
    rho: float

    @cached_property
    def prompts(self) -> INT64:
        """(N^n, n): every prompt."""
        return all_prompts(self.n, self.n_candidates)

    def of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """f(t, z; x) (..., ) for prompt numbers (...), z (..., d) and examples (...), broadcast together."""
        raise TypeError(f"{type(self).__name__} must define its loss")

    def slope_of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """grad_z f(t, z; x) (..., d); arguments as `of`."""
        raise TypeError(f"{type(self).__name__} must define its gradient")

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B), as an Objective's: tokens (K, n); z (K, d) or (K, B, d); examples (B,)."""
        prompt = tokens @ self.n_candidates ** np.arange(self.n - 1, -1, -1)  # (K,)
        z = z if np.ndim(z) == 3 else np.asarray(z)[:, None, :]
        return self.of(prompt[:, None], z, np.asarray(examples)[None, :])

    def table(self, z: FLOAT64) -> FLOAT64:
        """f of every prompt on every example at one z (d,). Returns (N^n, rows)."""
        return self.of(np.arange(len(self.prompts))[:, None], z, np.arange(self.rows)[None, :])

    def slope_table(self, z: FLOAT64) -> FLOAT64:
        """grad_z f of every prompt on every example at one z (d,). Returns (N^n, rows, d)."""
        return self.slope_of(np.arange(len(self.prompts))[:, None], z, np.arange(self.rows)[None, :])


@dataclass(frozen=True)
class TableQuadratic(Problem):
    """Table quadratic, section 5.1: f(t, z; b) = c_b[t] + (z - w_b[t])^T H (z - w_b[t]) / 2.

    L_z = largest eigenvalue of H, rho = 0, F infinite. c (N^n, rows) >= 0; w (N^n, rows, d); H (d, d).
    """

    n: int
    n_candidates: int
    c: FLOAT64
    w: FLOAT64
    H: FLOAT64
    F: float = np.inf
    rho: float = 0.0

    @property
    def d(self) -> int:  # type: ignore[override]
        return self.w.shape[-1]

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.c.shape[1]

    @cached_property
    def L_z(self) -> float:  # type: ignore[override]
        return float(np.linalg.eigvalsh(self.H)[-1])

    def of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        x = z - self.w[prompt, examples]
        return self.c[prompt, examples] + 0.5 * ((x @ self.H) * x).sum(axis=-1)

    def slope_of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return (z - self.w[prompt, examples]) @ self.H


@dataclass(frozen=True)
class GaussianWells(Problem):
    """Gaussian wells, section 5.2, bounded and smooth: f(t, z; b) = F (1 - exp(-||z - w_b[t]||^2 / (2 s^2))).

    L_z = F / s^2: along v the second derivative is (F/s^2) e^(-r^2/2) (1 - a^2), a = v.x/s, at most F/s^2 in size.
    rho = 1.3801 F / s^3: the third derivative along v is (F/s^3) e^(-r^2/2) (3a - a^3), largest at r = |a| with
    a^2 = 3 - sqrt 6. ||grad_z f|| <= F / (s sqrt e), at r = 1.
    """

    n: int
    n_candidates: int
    w: FLOAT64  # (N^n, rows, d)
    F: float = 1.0
    s: float = 1.0

    @property
    def d(self) -> int:  # type: ignore[override]
        return self.w.shape[-1]

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.w.shape[1]

    @property
    def L_z(self) -> float:  # type: ignore[override]
        return self.F / self.s**2

    @property
    def rho(self) -> float:  # type: ignore[override]
        a = np.sqrt(3 - np.sqrt(6))
        return float((3 * a - a**3) * np.exp(-(a**2) / 2) * self.F / self.s**3)

    @property
    def largest_slope(self) -> float:
        """max ||grad_z f|| = F / (s sqrt e)."""
        return self.F / (self.s * np.sqrt(np.e))

    def of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        squared = ((z - self.w[prompt, examples]) ** 2).sum(axis=-1)
        return self.F * (1 - np.exp(-squared / (2 * self.s**2)))

    def slope_of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        x = z - self.w[prompt, examples]
        well = np.exp(-(x**2).sum(axis=-1) / (2 * self.s**2))
        return self.F / self.s**2 * well[..., None] * x

    def smoothed_slope_table(self, z: FLOAT64, mu: float) -> FLOAT64:
        """grad_z of E_u f(t, z + mu u; b), u ~ N(0, I): again a well, of width sqrt(s^2 + mu^2) and less deep.

        E_u exp(-||x + mu u||^2 / (2 s^2)) = (s^2 / (s^2 + mu^2))^(d/2) exp(-||x||^2 / (2 (s^2 + mu^2))).
        """
        wide = self.s**2 + mu**2
        x = z - self.w  # (N^n, rows, d)
        depth = self.F * (self.s**2 / wide) ** (self.d / 2)
        return depth / wide * np.exp(-(x**2).sum(axis=-1) / (2 * wide))[..., None] * x


@dataclass(frozen=True)
class SeparableTable(Problem):
    """A sum over positions, f(t) = F/n sum_i c_i[t_i]: exact at the published shape, where N^n cannot be enumerated.

    c (n, N) in [0, 1]. Only for the discrete half (d = 1 and no dependence on z).
    """

    c: FLOAT64
    F: float = 1.0
    L_z: float = 0.0
    rho: float = 0.0
    rows: int = 1
    d: int = 1

    @property
    def n(self) -> int:  # type: ignore[override]
        return self.c.shape[0]

    @property
    def n_candidates(self) -> int:  # type: ignore[override]
        return self.c.shape[1]

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        value = self.F * self.c[np.arange(self.n), tokens].mean(axis=-1)
        return np.repeat(value[:, None], len(examples), axis=1)


@dataclass(frozen=True)
class Kink(Problem):
    """One-sided quadratic: f(z) = ||max(z, 0)||^2 / 2. L_z = 1, but the Hessian jumps at 0: rho is infinite.

    At z = 0 the smoothing bias of [Z3] is exactly mu / sqrt(2 pi) in each coordinate: of first order in mu.
    """

    d: int
    n: int = 1
    n_candidates: int = 1
    rows: int = 1
    F: float = np.inf
    L_z: float = 1.0
    rho: float = np.inf

    def of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return 0.5 * (np.maximum(z, 0) ** 2).sum(axis=-1)

    def slope_of(self, prompt: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        return np.maximum(z, 0) + 0.0 * (prompt + examples)[..., None]


def table_quadratic(rng: np.random.Generator, n: int, n_candidates: int, d: int, rows: int) -> TableQuadratic:
    """A random table quadratic with eigenvalues of H in [0.3, 2]."""
    prompts = n_candidates**n
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    H = basis * np.linspace(0.3, 2.0, d) @ basis.T
    return TableQuadratic(n, n_candidates, rng.random((prompts, rows)), rng.standard_normal((prompts, rows, d)), H)


def gaussian_wells(
    rng: np.random.Generator, n: int, n_candidates: int, d: int, rows: int, F: float = 1.0, s: float = 1.0
) -> GaussianWells:
    """Random wells: each prompt has a centre, and each example moves it by less."""
    prompts = n_candidates**n
    w = rng.standard_normal((prompts, 1, d)) * s + 0.4 * s * rng.standard_normal((prompts, rows, d))
    return GaussianWells(n, n_candidates, w, F, s)


def binary_vocabulary(rng: np.random.Generator, n: int, d: int, rows: int) -> GaussianWells:
    """Binary vocabulary, section 5.3: wells with N = 2, so that E_g is a one-dimensional integral a position."""
    return gaussian_wells(rng, n, 2, d, rows)


class Gradients(NamedTuple):
    """L and its two gradients at (alpha, z), by enumeration; the loss averaged over the examples asked for."""

    value: float
    alpha: FLOAT64  # (n, N)
    z: FLOAT64  # (d,)


def exact_gradients(problem: Problem, alpha: FLOAT64, z: FLOAT64, tau: float = 1.0,
                    gumbel: FLOAT64 | None = None) -> Gradients:  # fmt: skip
    """L(alpha, z), grad_alpha L by complex steps through the sum over prompts, grad_z L by the table of slopes."""
    mean_loss = problem.table(z).mean(axis=1)  # (N^n,)

    def objective(a: ARRAY) -> ARRAY:
        return np.asarray(np.exp(log_prompt_probability(problem.prompts, a, tau, gumbel)) @ mean_loss)

    weight = np.exp(log_prompt_probability(problem.prompts, alpha, tau, gumbel)).real
    slope = weight @ problem.slope_table(z).mean(axis=1)
    return Gradients(float(np.real(objective(alpha))), differentiate(objective, alpha), slope)


def alpha_gradient(atoms: Atoms, losses: FLOAT64) -> FLOAT64:
    """grad_alpha E l = E[l s] over atoms, with complex-step scores. losses (A,) or (A, m). Returns (..., n, N)."""
    return np.tensordot((atoms.weight * losses.T), atoms.score, axes=(-1, 0))


def random_alpha(rng: np.random.Generator, n: int, n_candidates: int, smallest: float = 0.05) -> FLOAT64:
    """A point off the simplex: rows of different length, every entry at least `smallest`."""
    return smallest + rng.random((n, n_candidates)) / n_candidates * np.arange(1, n + 1)[:, None]
