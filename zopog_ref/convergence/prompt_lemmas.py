"""The lines on the discrete prompt, section 3.2: [S1] to [S5], [V1] to [V6].

Each function compares code (the core's, or another one given as `estimator` or `score`) with an exact value, and
returns both sides. `case` holds the prompts' probabilities, their complex-step scores and their losses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref import distribution, policy_gradient
from zopog_ref.convergence.assumptions import policy_variance
from zopog_ref.convergence.comparison import Equality, Inequality, equal, estimated, tightest, worst
from zopog_ref.convergence.exact import (
    ARRAY,
    Atoms,
    Noise,
    PolicyEstimator,
    differentiate,
    log_prompt_probability,
    policy_moments,
    prompt_atoms,
)
from zopog_ref.convergence.problems import SeparableTable
from zopog_ref.policy_gradient import collapsed, leave_one_out

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
Score = Callable[[INT64, FLOAT64, FLOAT64, float], FLOAT64]


@dataclass(frozen=True)
class PolicyCase:
    """Atoms with the batch loss of each, l_B(t): everything a policy gradient can see, and all of it."""

    name: str
    atoms: Atoms
    losses: FLOAT64  # (A,)
    gumbel: FLOAT64 | None = None  # the given g, when there is one
    noise: Noise | None = None  # the distribution of g, when it is fresh with each prompt


def score_is_derivative(case: PolicyCase, score: Score = distribution.score) -> Equality:
    """Score [S1], reported, confirmed: s_ij = (1{t_i = j} - p_ij) / (tau alpha_ij) = d log P / d alpha_ij."""
    a = case.atoms
    return equal(score(a.tokens, a.alpha, a.p, a.tau), a.score, case.name)


def expected_score_vanishes(case: PolicyCase, score: Score = distribution.score) -> Equality:
    """Mean of the score [S2], proved: E_t[s | g] = 0, since sum_t P(t) grad log P(t) = grad sum_t P(t) = grad 1."""
    a = case.atoms
    s = score(a.tokens, a.alpha, a.p, a.tau)
    left = np.tensordot(a.weight, s, axes=1)
    return equal(left, np.zeros_like(left), case.name, scale=float(np.abs(a.score).max()))


def score_second_moment(case: PolicyCase, score: Score = distribution.score) -> Equality:
    """Second moment of the score [S3], proved: E_t ||s_i||^2 = sum_j p_ij (1 - p_ij) / (tau alpha_ij)^2."""
    a = case.atoms
    left = np.tensordot(a.weight, (score(a.tokens, a.alpha, a.p, a.tau) ** 2).sum(axis=-1), axes=1)
    return equal(left, (a.p * (1 - a.p) / (a.tau * a.alpha) ** 2).sum(axis=-1), case.name)


def score_second_moment_bound(n: int, n_candidates: int, alpha_min: float, tau: float,
                              score: Score = distribution.score) -> Inequality:  # fmt: skip
    """Bound on the score [S3], proved: E_t ||s_i||^2 <= (1 - 1/N) / (tau alpha_min)^2.

    sum_j p_j (1 - p_j) = 1 - sum_j p_j^2 <= 1 - 1/N. Equality at uniform p with all alpha = alpha_min, checked there.
    """
    a = prompt_atoms(np.full((n, n_candidates), alpha_min), tau)
    left = np.tensordot(a.weight, (score(a.tokens, a.alpha, a.p, tau) ** 2).sum(axis=-1), axes=1)
    return Inequality(float(left.max()), distribution.score_second_moment_bound(n_candidates, alpha_min, tau))


def score_norm_bound(case: PolicyCase, score: Score = distribution.score) -> Inequality:
    """Norm of the score [S4], proved: ||s_i||^2 <= 2 (1 - p_{i,t_i})^2 / (tau alpha_min)^2 for every t.

    ||1_t - p||^2 = (1 - p_t)^2 + sum_{j != t} p_j^2, and the sum is at most (sum_{j != t} p_j)^2 = (1 - p_t)^2; equal
    for N = 2. [S4] does not imply [S3]: its mean over t is 2 sum_j p_j (1 - p_j)^2, up to 2 (1 - 1/N)^2.
    """
    a = case.atoms
    left = (score(a.tokens, a.alpha, a.p, a.tau) ** 2).sum(axis=-1)  # (A, n)
    right = distribution.score_norm_bound(a.tokens, a.p, float(a.alpha.min()), a.tau)
    place = np.unravel_index(np.argmax(left / right), left.shape)
    return Inequality(float(left[place]), float(right[place]), case.name)


def scale_derivative_vanishes(case: PolicyCase, score: Score = distribution.score) -> Equality:
    """Scale invariance [S5], proved: sum_j alpha_ij s_ij = (sum_j 1{t_i = j} - sum_j p_ij) / tau = 0."""
    a = case.atoms
    left = (a.alpha * score(a.tokens, a.alpha, a.p, a.tau)).sum(axis=-1)
    return equal(left, np.zeros_like(left), case.name, scale=1 / a.tau)


def rows_never_shrink(case: PolicyCase, eta: float, alpha_min: float, rng: np.random.Generator, steps: int,
                      estimator: PolicyEstimator = policy_gradient) -> Inequality:  # fmt: skip
    """Rows never shrink [S5], proved: ||alpha_i|| <= ||max(alpha_i - eta g_i, alpha_min)||, clipped or not.

    Unclipped, ||alpha_i - eta g_i||^2 = ||alpha_i||^2 + eta^2 ||g_i||^2. Clipped: v = alpha_i - eta g_i has
    alpha_i.v = ||alpha_i||^2, so alpha_i.max(v, 0) >= ||alpha_i||^2 and by Cauchy-Schwarz ||max(v, 0)|| >= ||alpha_i||;
    raising entries to alpha_min > 0 adds more. Steps are taken large enough to clip.
    """
    a, found = case.atoms, []
    for _ in range(steps):
        k = rng.choice(len(a.weight), 3, p=a.weight / a.weight.sum())
        g = np.asarray(estimator(case.losses[k], a.tokens[k], a.alpha, a.probabilities_of(k), a.tau))
        after = np.maximum(a.alpha - eta * g, alpha_min)
        for before, now in zip(np.linalg.norm(a.alpha, axis=1), np.linalg.norm(after, axis=1)):
            found.append(Inequality(float(before), float(now), case.name))
    return tightest(found)


def _draws(case: PolicyCase, samples: int, times: int) -> list[INT64]:
    rng = np.random.default_rng(0)
    return [rng.integers(len(case.atoms.weight), size=samples) for _ in range(times)]


def _largest_term(case: PolicyCase) -> float:
    """The size of one term l s of the sums: rounding is relative to it, also where the sum happens to vanish."""
    return float(np.abs(case.losses).max() * np.abs(case.atoms.score).max())


def _literal(case: PolicyCase, k: INT64) -> FLOAT64:
    losses = case.losses[k]
    return np.tensordot(losses - losses.mean(), case.atoms.score[k], axes=1) / (len(k) - 1)


def published_formula(case: PolicyCase, samples: int, estimator: PolicyEstimator = policy_gradient) -> Equality:
    """Variance-reduced policy gradient [V1], reported: g = 1/(I-1) sum_k (l_k - mean l) s^k, with complex-step s."""
    a, found = case.atoms, []
    for k in _draws(case, samples, 20):
        g = estimator(case.losses[k], a.tokens[k], a.alpha, a.probabilities_of(k), a.tau)
        found.append(equal(g, _literal(case, k), case.name, _largest_term(case)))
    return worst(found)


def three_ways(case: PolicyCase, samples: int, estimator: PolicyEstimator = leave_one_out) -> Equality:
    """Leave-one-out form [V2], proved: (1/I) sum_k (l_k - mean_{m != k} l_m) s^k = cov(l, s) = [V1].

    l_k - mean_{m != k} l_m = I/(I-1) (l_k - mean l). The right side is the sample covariance of np.cov.
    """
    a, found = case.atoms, []
    for k in _draws(case, samples, 20):
        s = a.score[k].reshape(samples, -1)
        covariance = np.cov(np.column_stack((case.losses[k], s)), rowvar=False)[0, 1:].reshape(a.alpha.shape)
        g = estimator(case.losses[k], a.tokens[k], a.alpha, a.probabilities_of(k), a.tau)
        found.append(equal(g, covariance, case.name, _largest_term(case)))
    return worst(found)


def collapsed_form(case: PolicyCase, samples: int, estimator: PolicyEstimator = collapsed) -> Equality:
    """Collapsed form [V3], proved for one shared p: g_ij = 1/((I-1) tau alpha_ij) sum_{k: t^k_i = j} (l_k - mean l)."""
    a, found = case.atoms, []
    for k in _draws(case, samples, 20):
        g = estimator(case.losses[k], a.tokens[k], a.alpha, a.p, a.tau)
        found.append(equal(g, _literal(case, k), case.name, _largest_term(case)))
    return worst(found)


def exact_policy_gradient(case: PolicyCase) -> FLOAT64:
    """grad_alpha E l_B by complex steps through sum P(t | alpha, g) l_B(t), averaged over g where g is random."""
    a = case.atoms
    if case.noise is None:
        noise_weight: FLOAT64 | float = 1.0
        gumbel = case.gumbel
    else:
        repeats = len(a.tokens) // len(case.noise.weight)
        noise_weight, gumbel = (np.repeat(x, repeats, axis=0) for x in case.noise)

    def objective(x: ARRAY) -> ARRAY:
        return np.asarray((noise_weight * np.exp(log_prompt_probability(a.tokens, x, a.tau, gumbel))) @ case.losses)

    return differentiate(objective, a.alpha)


def unbiased(case: PolicyCase, samples: int, estimator: PolicyEstimator = policy_gradient) -> Equality:
    """Unbiased [V4], proved: E[g | batch] = grad_alpha E_t l_B, over all tuples of I prompts.

    E sum_k (l_k - mean l) s^k = I G - (1/I) sum_{k,m} E[l_m s^k] = I G - G, as s^k has mean 0 and is independent of
    l_m for m != k. The baseline from the same samples costs a factor (I-1)/I, which 1/(I-1) repays exactly.
    """
    mean = policy_moments(estimator, case.atoms, case.losses, samples).mean
    return equal(mean, exact_policy_gradient(case), case.name)


def variance_formula(weight: ArrayLike, losses: ArrayLike, score: ArrayLike, samples: int) -> float:
    """Right-hand side of [V5]; weight (A,), losses (A,), score (A, n, N) of the atoms, samples I.

    tr Cov = (1/I)(E[(l - m)^2 ||s||^2] - ||G||^2) + (1/(I (I-1)))(Var(l) E||s||^2 + ||G||^2).
    """
    weight, losses, score = np.asarray(weight), np.asarray(losses), np.asarray(score)
    x = losses - weight @ losses
    squared = (score**2).sum(axis=(1, 2))  # ||s||^2, (A,)
    G = np.tensordot(weight * x, score, axes=1)
    G2 = float((G * G).sum())
    own = weight @ (x**2 * squared) - G2
    cross = (weight @ x**2) * (weight @ squared) + G2
    return float(own / samples + cross / (samples * (samples - 1)))


def exact_variance(case: PolicyCase, samples: int, estimator: PolicyEstimator = policy_gradient) -> Equality:
    """Exact variance [V5], proved, of order exactly 1/I: tr Cov(g) over all tuples against the formula.

    With x = l - m: g = (1/I) sum_k x_k s^k - 1/(I(I-1)) sum_{k != m} x_k s^m. The two sums are uncorrelated; of the
    pairs in the second only (k, m) with itself, E x^2 E||s||^2, and with (m, k), ||G||^2, have a mean.
    """
    a = case.atoms
    left = policy_moments(estimator, a, case.losses, samples).trace_covariance
    return equal(left, variance_formula(a.weight, case.losses, a.score, samples), f"{case.name}, I = {samples}")


def variance_bound(case: PolicyCase, samples: int, F: float, alpha_min: float,
                   estimator: PolicyEstimator = policy_gradient) -> Inequality:  # fmt: skip
    """Bound on the variance [V6], proved: tr Cov(g) <= sigma_g^2/I, sigma_g^2 = (5/4) F^2 n (1-1/N)/(tau alpha_min)^2.

    In [V5], -||G||^2/I + ||G||^2/(I(I-1)) <= 0, (l - m)^2 <= F^2, Var(l) <= F^2/4 and 1/(I-1) <= 1:
    tr Cov <= (F^2/I)(1 + 1/(4(I-1))) E||s||^2, so it holds for every I >= 2, and 5/4 is
    needed at I = 2 only.
    """
    a = case.atoms
    n, n_candidates = a.alpha.shape
    bound = policy_variance(F, n, n_candidates, alpha_min, a.tau) / samples
    return Inequality(policy_moments(estimator, a, case.losses, samples).trace_covariance, bound, case.name)


def at_paper_shape(table: SeparableTable, samples: int, times: int, rng: np.random.Generator,
                   estimator: PolicyEstimator = policy_gradient) -> tuple[Equality, Equality]:  # fmt: skip
    """Unbiased [V4] and exact variance [V5] at the published n, N and I, by Monte Carlo against closed forms.

    l(t) = (F/n) sum_i c_i[t_i] at alpha = 1/N (p = 1/N, tau = 1): with x_i = (F/n)(c_i[t_i] - mean), independent,
    G_ij = x_ij, E||s||^2 = n N (N-1), and E[(l-m)^2 ||s||^2] = Var(l) E||s||^2, since ||s||^2 is constant here.
    """
    n, N = table.c.shape
    alpha, p = np.full((n, N), 1 / N), np.full((n, N), 1 / N)
    G = table.F / n * (table.c - table.c.mean(axis=1, keepdims=True))
    G2 = float((G * G).sum())
    total = float((G * G).mean(axis=1).sum()) * n * N * (N - 1)  # Var(l) E||s||^2
    predicted = (total - G2) / samples + (total + G2) / (samples * (samples - 1))
    along, spread = np.empty(times), np.empty(times)
    for r in range(times):
        tokens = rng.integers(N, size=(samples, n))
        losses = table.losses(tokens, np.zeros(1), np.zeros(1, np.int64))[:, 0]
        g = np.asarray(estimator(losses, tokens, alpha, p, 1.0))
        along[r], spread[r] = (g * G).sum() / G2, ((g - G) ** 2).sum()
    case = f"n = {n}, N = {N}, I = {samples}"
    return estimated(along, 1.0, case), estimated(spread, predicted, case)
