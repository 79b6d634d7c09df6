"""The rates of section 4, measured: how errors scale with I, I_2, d, B and mu, as slopes in logarithms.

Every curve is measured with the estimators of the core, prompts and noise from fresh random numbers, and keeps the
standard error of each point; a slope is the weighted least-squares fit of log y on log x with its standard error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zopog_ref import policy_gradient, sample
from zopog_ref.convergence.comparison import Equality
from zopog_ref.convergence.exact import Noise, PolicyEstimator, ZerothEstimator, normal_nodes, prompt_atoms
from zopog_ref.convergence.noise_lemmas import per_step_excess
from zopog_ref.convergence.problems import GaussianWells, Kink, Problem, TableQuadratic
from zopog_ref.convergence.prompt_lemmas import variance_formula
from zopog_ref.convergence.sharp_problems import half_range_nodes
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, measured_bias
from zopog_ref.distribution import probabilities
from zopog_ref.zeroth_order import perturb, two_point_gradient

FLOAT64 = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A measured curve: y(x) with standard errors, and the prediction at the same x where there is one."""

    name: str
    x_name: str
    x: FLOAT64
    y: FLOAT64
    error: FLOAT64
    predicted: FLOAT64 | None = None

    def against_prediction(self) -> list[Equality]:
        """One z-score a point."""
        assert self.predicted is not None
        return [
            Equality(float(y), float(p), float(y - p), float(e), False, f"{self.x_name} = {x:g}")
            for x, y, e, p in zip(self.x, self.y, self.error, self.predicted)
        ]


def slope(x: FLOAT64, y: FLOAT64, error: FLOAT64) -> tuple[float, float]:
    """Slope of log y on log x, weighted by the errors of log y, and its standard error."""
    u, v, weight = np.log(x), np.log(y), (y / error) ** 2
    u = u - np.average(u, weights=weight)
    spread = (weight * u**2).sum()
    return float((weight * u * v).sum() / spread), float(1 / np.sqrt(spread))


def slope_against(curve: Curve, predicted: float) -> Equality:
    """The measured slope of a curve and the predicted one."""
    measured, error = slope(curve.x, curve.y, curve.error)
    return Equality(measured, predicted, measured - predicted, error, False, curve.name)


def predicted_slope(curve: Curve) -> float:
    """The slope that the prediction itself has over the same points with the same weights."""
    assert curve.predicted is not None
    return slope(curve.x, curve.predicted, curve.error * curve.predicted / curve.y)[0]


def _curve(name: str, x_name: str, x: Sequence[float], draw: Callable[[int], FLOAT64],
           predicted: Sequence[float] | None = None) -> Curve:  # fmt: skip
    """y(x_i) = mean of draw(i), squared errors of independent estimates."""
    samples = [draw(i) for i in range(len(x))]
    y = np.array([s.mean() for s in samples])
    error = np.array([s.std(ddof=1) / np.sqrt(len(s)) for s in samples])
    return Curve(name, x_name, np.asarray(x, float), y, error, None if predicted is None else np.asarray(predicted))


def policy_variance_curve(problem: Problem, alpha: FLOAT64, z: FLOAT64, sizes: Sequence[int], times: int,
                          rng: np.random.Generator, estimator: PolicyEstimator = policy_gradient) -> Curve:  # fmt: skip
    """Variance of VR-PGE against I: E||g - grad_alpha E_t l||^2, predicted by [V5]: slope -1.

    The reported [V7] needs slope -2, and the reported complexity [C1] rests on it.
    """
    atoms, losses = prompt_atoms(alpha), problem.table(z).mean(axis=1)
    G = np.tensordot(atoms.weight * losses, atoms.score, axes=1)
    p, shape = probabilities(alpha), alpha.shape

    def squared_errors(i: int) -> FLOAT64:
        out = np.empty(times)
        for r in range(times):
            tokens = sample(p, rng.random((sizes[i], shape[0])))
            number = tokens @ shape[1] ** np.arange(shape[0] - 1, -1, -1)
            out[r] = ((np.asarray(estimator(losses[number], tokens, alpha, p, 1.0)) - G) ** 2).sum()
        return out

    predicted = [variance_formula(atoms.weight, losses, atoms.score, size) for size in sizes]
    return _curve("variance of the policy gradient", "I", sizes, squared_errors, predicted)


def noise_floor_curve(problem: GaussianWells, alpha: FLOAT64, tau: float, z: FLOAT64, noise: Noise,
                      sizes: Sequence[int], times: int, rng: np.random.Generator, per_step: bool,
                      estimator: PolicyEstimator = policy_gradient) -> Curve:  # fmt: skip
    """Variance of VR-PGE against I under Gumbel noise [G2]: per_step stays above Var_g(grad E_t[l | g]), N = 2."""
    losses = problem.table(z).mean(axis=1)
    given = [prompt_atoms(alpha, tau, g) for g in noise.gumbel]
    G = np.einsum("q,qij->ij", noise.weight, [np.tensordot(a.weight * losses, a.score, axes=1) for a in given])
    n = alpha.shape[0]

    def squared_errors(i: int) -> FLOAT64:
        out = np.empty(times)
        for r in range(times):
            g = rng.gumbel(size=alpha.shape if per_step else (sizes[i], *alpha.shape))
            p = probabilities(alpha, tau, g)
            tokens = sample(p, rng.random((sizes[i], n)))
            values = losses[tokens @ 2 ** np.arange(n - 1, -1, -1)]
            out[r] = ((np.asarray(estimator(values, tokens, alpha, p, tau)) - G) ** 2).sum()
        return out

    if per_step:
        excess = per_step_excess(alpha, tau, noise, losses)
        within = [[variance_formula(a.weight, losses, a.score, size) for a in given] for size in sizes]
        return _curve("one noise a step (per_step)", "I", sizes, squared_errors, list(within @ noise.weight + excess))
    weight = np.concatenate([w * a.weight for w, a in zip(noise.weight, given)])
    score, every = np.concatenate([a.score for a in given]), np.tile(losses, len(given))
    predicted = [variance_formula(weight, every, score, size) for size in sizes]
    return _curve("fresh noise a sample (per_sample)", "I", sizes, squared_errors, predicted)


def zeroth_errors(problem: Problem, z: FLOAT64, mu: float, pairs: int, batch: int, per_example: bool, times: int,
                  rng: np.random.Generator, estimator: ZerothEstimator = two_point_gradient) -> FLOAT64:  # fmt: skip
    """Squared distances of `times` zeroth-order estimates from their mean grad L_mu = grad L, on a quadratic with one
    prompt; batches are the first `batch` examples, so that only the directions are random. Returns (times,)."""
    examples = np.arange(batch)
    truth = problem.slope_of(np.zeros(batch, np.int64), z, examples).mean(axis=0)
    out = np.empty(times)
    for r in range(times):
        u = rng.standard_normal((pairs, batch, problem.d) if per_example else (pairs, problem.d))
        plus, minus = (problem.losses(np.zeros((pairs, 1), np.int64), point, examples) for point in perturb(z, u, mu))
        if not per_example:
            plus, minus = plus.mean(axis=1), minus.mean(axis=1)
        out[r] = ((np.asarray(estimator(plus, minus, u, mu)) - truth) ** 2).sum()
    return out


def plain_quadratic(rng: np.random.Generator, d: int, rows: int, spread: float) -> TableQuadratic:
    """One prompt, H = I, slopes of length about 1 at z = 0 that differ between examples by `spread`."""
    w = rng.standard_normal(d) + spread * rng.standard_normal((1, rows, d))
    w /= np.sqrt((w.mean(axis=1) ** 2).sum())
    return TableQuadratic(1, 1, np.zeros((1, rows)), w, np.eye(d))


def pairs_curve(rng: np.random.Generator, sizes: Sequence[int], times: int,
                estimator: ZerothEstimator = two_point_gradient) -> Curve:  # fmt: skip
    """Variance of [Z1] against I_2 on a quadratic, d = 20: (d+1)||grad||^2 / I_2, slope -1 [Z5]."""
    problem = plain_quadratic(rng, 20, 1, 0.0)
    return _curve(
        "variance of the zeroth-order estimate", "I2", sizes,
        lambda i: zeroth_errors(problem, np.zeros(20), 0.1, sizes[i], 1, False, times, rng, estimator),
        [21 / size for size in sizes],
    )  # fmt: skip


def dimension_curve(rng: np.random.Generator, dims: Sequence[int], times: int,
                    estimator: ZerothEstimator = two_point_gradient) -> Curve:  # fmt: skip
    """Variance of [Z1] with one pair against d + 1, on quadratics with ||grad|| = 1: d + 1, slope 1 [Z4]."""
    return _curve(
        "variance of the zeroth-order estimate", "d + 1", [d + 1 for d in dims],
        lambda i: zeroth_errors(
            plain_quadratic(rng, dims[i], 1, 0.0), np.zeros(dims[i]), 0.1, 1, 1, False, times, rng, estimator
        ),
        [d + 1 for d in dims],
    )  # fmt: skip


def batch_curve(rng: np.random.Generator, sizes: Sequence[int], times: int, spread: float, per_example: bool,
                estimator: ZerothEstimator = two_point_gradient) -> Curve:  # fmt: skip
    """Variance given the batch against B, one pair, d = 20 [Z5], [Z5b], predicted exactly for both directions modes."""
    problem = plain_quadratic(rng, 20, max(sizes), spread)
    slopes = [problem.slope_table(np.zeros(20))[0, :B] for B in sizes]
    together = [float((s.mean(axis=0) ** 2).sum()) for s in slopes]
    each = [float((s**2).sum(axis=1).mean()) for s in slopes]
    predicted = [21 * e / B for e, B in zip(each, sizes)] if per_example else [21 * t for t in together]
    name = f"{'per-example' if per_example else 'shared'} directions, spread {spread:g}"
    return _curve(
        name, "B", sizes,
        lambda i: zeroth_errors(problem, np.zeros(20), 0.1, 1, sizes[i], per_example, times, rng, estimator), predicted,
    )  # fmt: skip


def radius_curve(rng: np.random.Generator, problem: GaussianWells, z: FLOAT64, radii: Sequence[float],
                 times: int, estimator: ZerothEstimator = two_point_gradient) -> Curve:  # fmt: skip
    """E||g||^2 of one pair on a well against mu [Z4]: (d + 2) ||grad h||^2 where mu is small, so slope 0."""
    first = np.zeros(times, np.int64)

    def squares(i: int) -> FLOAT64:
        u = rng.standard_normal((times, problem.d))
        plus, minus = (problem.of(first, point, first) for point in perturb(z, u, radii[i]))
        pairs = zip(plus[:, None], minus[:, None], u[:, None])
        return np.array([(np.asarray(estimator(*pair, radii[i])) ** 2).sum() for pair in pairs])

    limit = (problem.d + 2) * float((problem.slope_table(z)[0, 0] ** 2).sum())
    return _curve("second moment on a well", "mu", radii, squares, [limit] * len(radii))


def bias_curves(problem: GaussianWells, z: FLOAT64, radii: Sequence[float],
                estimator: ZerothEstimator = two_point_gradient) -> list[Curve]:  # fmt: skip
    """Bias ||E g_z - grad L|| against mu [Z3], the estimator on all nodes: slope 2 on wells, 1 at a kink."""
    mu, weight = np.asarray(radii), np.full(len(problem.prompts), 1 / len(problem.prompts))
    wells = [measured_bias(ZerothCase("", problem, weight, z, m, normal_nodes(len(z), 8)), estimator) for m in mu]
    kink = [
        measured_bias(ZerothCase("", Kink(1), np.ones(1), np.zeros(1), m, half_range_nodes()), estimator) for m in mu
    ]
    names = "wells: smooth Hessian", "one-sided quadratic: kink in the Hessian"
    return [Curve(name, "mu", mu, np.array(y), 1e-6 * np.array(y)) for name, y in zip(names, (wells, kink))]


@dataclass(frozen=True)
class Roundoff:
    """Error of the two-point estimate in float32 against mu, squared: smoothing bias, round-off, and their sum."""

    mu: FLOAT64
    bias: FLOAT64
    roundoff: FLOAT64
    error: FLOAT64  # standard error of roundoff
    best: float  # mu* of the formula


def float32_radius(problem: GaussianWells, z: FLOAT64, radii: Sequence[float], times: int,
                   rng: np.random.Generator, estimator: ZerothEstimator = two_point_gradient) -> Roundoff:  # fmt: skip
    """Which mu is best in float32 [Z3]: bias^2 ~ b^2 mu^4, round-off ~ d e^2 / 2 mu^2: mu* = (d e^2 / 4 b^2)^(1/6).

    e^2 = ulp^2 / 12 is the variance of rounding one loss, ulp = 2^-24 for losses in [1/2, 1); one pair. Round-off is
    measured as E||g32 - g64||^2 on the same directions.
    """
    mu, d, zero = np.asarray(radii), problem.d, np.zeros(times, np.int64)
    truth = problem.slope_table(z)[0, 0]
    bias = np.array([((problem.smoothed_slope_table(z, m)[0, 0] - truth) ** 2).sum() for m in mu])
    roundoff, error = np.empty(len(mu)), np.empty(len(mu))
    for i, m in enumerate(mu):
        u = rng.standard_normal((times, d))
        # a place of its own for each pair: at one z, where l(z) stands between two float32 numbers would decide
        near = z + 1e-4 * rng.standard_normal((times, d))
        plus, minus = (problem.of(zero, x, zero) for x in perturb(near, u, m))
        # an estimate is linear in the losses, so what it makes of their rounding is the difference of the two
        lost = (plus.astype(np.float32) - plus)[:, None], (minus.astype(np.float32) - minus)[:, None]
        squared = np.array([(np.asarray(estimator(a, b, v[None], m)) ** 2).sum() for a, b, v in zip(*lost, u)])
        roundoff[i], error[i] = squared.mean(), squared.std(ddof=1) / np.sqrt(times)
    small = int(np.searchsorted(mu, 1e-2))
    b2 = bias[small] / mu[small] ** 4
    return Roundoff(mu, bias, roundoff, error, float((d * (2.0**-48 / 12) / (4 * b2)) ** (1 / 6)))
