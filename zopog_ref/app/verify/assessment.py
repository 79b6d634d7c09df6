"""The verdict on an estimator: is it unbiased, what is its variance beside the reference's, what does a call cost."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import z_threshold
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

    def unbiased(self, tolerance: float, threshold: float) -> bool:
        """Exact cases to the tolerance, repeated ones to their standard error."""
        if not np.isfinite(self.bias):
            return False
        return self.z <= threshold if self.z else self.bias <= tolerance * self.gradient

    @property
    def ratio(self) -> float:
        """Its variance over the reference's."""
        return self.variance / self.reference

    def in_words(self) -> str:
        """How its mean lies to the gradient."""
        if not np.isfinite(self.bias):
            return f"{self.case}: not a number"
        if self.beside < 1e-6 and not self.z:
            return f"{self.case}: exactly {self.factor:.6g} times the gradient"
        error = f", {self.z:.1f} standard errors off" if self.z else ""
        return f"{self.case}: {self.factor:.4g} times the gradient, {self.beside:.1%} of its length beside it{error}"


def assess(bench: Bench, kind: str, repetitions: int) -> list[Assessed]:
    """Every case of the kind: the estimator on everything that its inputs can be, `repetitions` times."""
    return [_assessed(*case, repetitions) for case in (_policy(bench) if kind == "policy" else _zeroth(bench))]


Ask = Callable[[Any], Moments]


def _policy(bench: Bench) -> Iterator[tuple[str, FLOAT64, Ask, Any, Any]]:
    def asked(case: PolicyCase, size: int) -> Ask:
        return lambda estimator: policy_moments(estimator, case.atoms, case.losses, size)

    for case, sizes in bench.policy_cases:
        for size in sizes:
            yield f"{case.name}, I = {size}", exact_policy_gradient(case), asked(case, size), bench.policy, literal


def _zeroth(bench: Bench) -> Iterator[tuple[str, FLOAT64, Ask, Any, Any]]:
    def shared(case: ZerothCase, pairs: int) -> Ask:
        return lambda estimator: shared_moments(case, np.arange(case.problem.rows), pairs, estimator)

    quadratic, wells = bench.on_quadratic(), bench.on_wells(0.3, 12)
    every = np.arange(quadratic.problem.rows)
    for name, case, ask in (
        ("quadratic, one pair", quadratic, shared(quadratic, 1)),
        ("quadratic, two pairs", quadratic, shared(quadratic, 2)),
        ("wells, one pair", wells, shared(wells, 1)),
        ("quadratic, per-example directions", quadratic, lambda e: per_example_moments(quadratic, every, e)),
    ):
        yield name, smoothed_gradient(case), ask, bench.zeroth, two_point_gradient


def _assessed(name: str, truth: FLOAT64, ask: Ask, estimator: Any, reference: Any, repetitions: int) -> Assessed:
    seen = [ask(estimator) for _ in range(repetitions)]
    means = np.stack([m.mean for m in seen])
    mean = means.mean(axis=0)
    second = float(np.mean([m.trace_covariance + (m.mean**2).sum() for m in seen]))
    z = 0.0
    if repetitions > 1:
        error = means.std(axis=0, ddof=1) / np.sqrt(repetitions)
        off = np.abs(mean - truth)
        z = float(np.divide(off, error, out=np.where(off > 1e-12, np.inf, 0.0), where=error > 0).max()) or 1e-300
    size2 = float((truth * truth).sum())
    factor = float((mean * truth).sum()) / size2
    length = float(np.linalg.norm(mean))
    beside = float(np.linalg.norm(mean - factor * truth)) / length if length > 0 else 0.0
    bias = float(np.linalg.norm(mean - truth))
    variance = second - float((mean**2).sum())
    return Assessed(name, float(np.sqrt(size2)), factor, beside, bias, z, variance, ask(reference).trace_covariance)


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
