"""The verdict on an estimator: is it unbiased, what is its variance beside the reference's, what does a call cost."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import ROUNDING, z_threshold
from zopog_ref.convergence.exact import Moments, policy_moments
from zopog_ref.convergence.prompt_lemmas import PolicyCase, exact_policy_gradient
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, per_example_moments, shared_moments, smoothed_gradient
from zopog_ref.policy_gradient import literal
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]
STUDENT = 1.2  # room for standard errors that are themselves estimated, from 30 repetitions or more


@dataclass(frozen=True)
class Assessed:
    """One case, exactly, or over repetitions of a randomised estimator with standard errors."""

    case: str
    gradient: float  # norm of the true one
    factor: float  # the mean is this times the gradient, and
    beside: float  # this share of its length beside it
    bias: float  # norm of mean - gradient
    z: float  # largest deviation of an entry in standard errors; 0 for an exact case
    variance: float
    reference: float  # the reference's variance in the same case
    furthest: str  # the entry that is furthest from the gradient's
    error: float  # norm of the standard errors of the mean; 0 for an exact case

    def unbiased(self, tolerance: float, threshold: float) -> bool:
        """To the tolerance, or for repeated cases to their standard error."""
        return self.bias <= tolerance * self.gradient or (np.isfinite(self.bias) and 0 < self.z <= threshold)

    @property
    def ratio(self) -> float:
        """Its variance over the reference's."""
        return self.variance / self.reference

    def in_words(self) -> str:
        """How its mean lies to the gradient."""
        if not np.isfinite(self.bias):
            return f"{self.case}: not a number"
        if self.beside < 1e-6 and not self.z:
            return f"{self.case}: exactly {self.factor:.9g} times the gradient"
        error = f", {self.z:.1f} standard errors off" if self.z else ""
        means = f"{self.factor:.4g} times the gradient, {self.beside:.1%} of its length beside it"
        return f"{self.case}: {means}{error}; furthest off in {self.furthest}"


def assess(bench: Bench, kind: str, repetitions: int, sampled: bool = False) -> list[Assessed]:
    """Every case of the kind: the estimator on everything that its inputs can be, `repetitions` times.

    sampled: a zeroth-order estimator on DRAWS directions each time, as Gauss nodes are exact for polynomials only.
    """
    cases = _policy(bench) if kind == "policy" else _zeroth(bench, bench.rng(50) if sampled else None)
    return [_assessed(*case, repetitions) for case in cases]


DRAWS = 500
Ask = Callable[[Any], Moments]


def _sampled(case: ZerothCase, pairs: int, per_example: bool, rng: np.random.Generator) -> Ask:
    """The moments over DRAWS of prompts and directions, all examples as batch."""
    every = np.arange(case.problem.rows)

    def ask(estimator: Any) -> Moments:
        mean, second = np.zeros(case.problem.d), 0.0
        for _ in range(DRAWS):
            t = rng.choice(len(case.weight), size=pairs, p=case.weight)[:, None]
            u = rng.standard_normal((pairs, len(every) if per_example else 1, case.problem.d))
            plus, minus = (case.problem.of(t, case.z + sign * case.mu * u, every[None]) for sign in (1, -1))
            given = (plus, minus, u) if per_example else (plus.mean(axis=1), minus.mean(axis=1), u[:, 0])
            g = np.asarray(estimator(*given, case.mu))
            mean, second = mean + g / DRAWS, second + float(g @ g) / DRAWS
        return Moments(mean, second - float(mean @ mean))

    return ask


def _policy(bench: Bench) -> Iterator[tuple[str, FLOAT64, Ask, Ask, Any, Any]]:
    def asked(case: PolicyCase, size: int) -> Ask:
        return lambda estimator: policy_moments(estimator, case.atoms, case.losses, size)

    for case, sizes in bench.policy_cases:
        for size in sizes:
            ask = asked(case, size)
            yield f"{case.name}, I = {size}", exact_policy_gradient(case), ask, ask, bench.policy, literal


def _exact(case: ZerothCase, pairs: int, per_example: bool) -> Ask:
    every = np.arange(case.problem.rows)
    if per_example:
        return lambda estimator: per_example_moments(case, every, estimator)
    return lambda estimator: shared_moments(case, every, pairs, estimator)


def _zeroth(bench: Bench, rng: np.random.Generator | None) -> Iterator[tuple[str, FLOAT64, Ask, Ask, Any, Any]]:
    # a function of u that is not linear smooths in its own way, which differs from L_mu by a term in mu^2
    quadratic, wells = bench.on_quadratic(), bench.on_wells(0.3 if rng is None else 0.03, 12)
    for name, case, pairs, per_example in (
        ("quadratic, one pair", quadratic, 1, False),
        ("quadratic, two pairs", quadratic, 2, False),
        ("wells, one pair", wells, 1, False),
        ("quadratic, per-example directions", quadratic, 1, True),
    ):
        exact = _exact(case, pairs, per_example)
        ask = exact if rng is None else _sampled(case, pairs, per_example, rng)
        yield name, smoothed_gradient(case), ask, exact, bench.zeroth, two_point_gradient


def _assessed(name: str, truth: FLOAT64, ask: Ask, exact: Ask, estimator: Any, reference: Any,
              repetitions: int) -> Assessed:  # fmt: skip
    seen = [ask(estimator) for _ in range(repetitions)]
    means = np.stack([m.mean for m in seen])
    mean = means.mean(axis=0)
    second = float(np.mean([m.trace_covariance + (m.mean**2).sum() for m in seen]))
    z = spread = 0.0
    if repetitions > 1:
        error = np.hypot(means.std(axis=0, ddof=1) / np.sqrt(repetitions), ROUNDING * np.abs(truth).max())
        z, spread = float((np.abs(mean - truth) / error).max()) or 1e-300, float(np.linalg.norm(error))
    size2 = float((truth * truth).sum())
    factor = float((mean * truth).sum()) / size2
    length = float(np.linalg.norm(mean))
    beside = float(np.linalg.norm(mean - factor * truth)) / length if length > 0 else 0.0
    bias = float(np.linalg.norm(mean - truth))
    variance = second - float((mean**2).sum())
    entry = np.unravel_index(int(np.abs(mean - truth).argmax()), mean.shape)
    furthest = f"entry [{', '.join(map(str, entry))}], {mean[entry]:.4g} where the gradient has {truth[entry]:.4g}"
    size, expected = float(np.sqrt(size2)), exact(reference).trace_covariance
    return Assessed(name, size, factor, beside, bias, z, variance, expected, furthest, spread)


def threshold_of(assessed: list[Assessed]) -> float:
    """Bonferroni's |z| for all entries of all repeated cases, at most ten in each, with room for Student's tail."""
    return STUDENT * z_threshold(10 * max(1, len(assessed)))


def seconds_a_call(function: Callable[..., Any], kind: str) -> float:
    """The least of five times, at the size of a step: n = 20, N = 100, I = 20, or 10 pairs in 500 dimensions."""
    rng, times = np.random.default_rng(0), []
    if kind == "policy":
        p = np.full((20, 100), 0.01)
        given: tuple[Any, ...] = (rng.random(20), rng.integers(100, size=(20, 20)), p.copy(), p, 1.0)
    else:
        given = (rng.random(10), rng.random(10), rng.standard_normal((10, 500)), 0.01)
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(20):
            function(*(np.array(a) if isinstance(a, np.ndarray) else a for a in given))
        times.append((time.perf_counter() - started) / 20)
    return min(times)
