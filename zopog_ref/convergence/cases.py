"""The cases of a verification run, all from one seed, and how much work it may spend."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zopog_ref import distribution, policy_gradient
from zopog_ref.algorithm import ZOPoGState
from zopog_ref.backend import Backend, NumPyBackend
from zopog_ref.convergence.assumptions import Constants, constants, largest_step_in_alpha
from zopog_ref.convergence.exact import (
    Noise,
    PolicyEstimator,
    ZerothEstimator,
    binary_noise,
    noisy_atoms,
    prompt_atoms,
)
from zopog_ref.convergence.problems import (
    GaussianWells,
    TableQuadratic,
    binary_vocabulary,
    gaussian_wells,
    random_alpha,
    table_quadratic,
)
from zopog_ref.convergence.prompt_lemmas import PolicyCase, Score
from zopog_ref.convergence.smoothing_lemmas import ZerothCase, zeroth_case
from zopog_ref.convergence.theorem import Plan, largest_eta_alpha, largest_eta_z
from zopog_ref.policy_gradient import collapsed, leave_one_out
from zopog_ref.zeroth_order import two_point_gradient

FLOAT64 = NDArray[np.float64]


@dataclass(frozen=True)
class Effort:
    """Sizes of what is sampled; exact lines cost the same in all."""

    name: str
    times: int  # Monte-Carlo repetitions of a point of a curve
    paper_times: int  # repetitions at the published n, N, I
    points: int  # random places at which an assumption is looked at
    runs: int  # runs of Algorithm 1
    steps: int  # steps of each
    epsilons: tuple[float, ...]  # targets of the complexity runs
    mode_runs: int  # runs for each noise mode
    prompts: int  # N^n of the enumerated variance curve is prompts: N = 8 or 16, n = 3


TINY = Effort("tiny", 1500, 1500, 5, 3, 25, (), 0, 512)
QUICK = Effort("quick", 4000, 10_000, 20, 8, 120, (0.3, 0.22, 0.16), 8, 512)
FULL = Effort("full", 20_000, 50_000, 100, 24, 240, (0.3, 0.2, 0.13, 0.09, 0.06), 48, 4096)


@dataclass(frozen=True)
class Bench:
    """Cases for all lines. The estimators under test are fields, so that a mutant or a user's function can stand in."""

    seed: int = 0
    effort: Effort = QUICK
    score: Score = distribution.score
    policy: PolicyEstimator = policy_gradient
    zeroth: ZerothEstimator = two_point_gradient
    one_out: PolicyEstimator = leave_one_out
    scatter: PolicyEstimator = collapsed
    probabilities: Callable[..., FLOAT64] = distribution.probabilities
    with_fresh_noise: bool = True  # False for an estimator that takes one p (n, N) for all samples only
    cache: dict[str, object] = field(default_factory=dict, compare=False)

    @cached_property
    def backend(self) -> Backend:
        """What Algorithm 1 runs on here: NumPy, with the estimators under test."""
        made = NumPyBackend()

        def zeroth(plus: FLOAT64, minus: FLOAT64, u: FLOAT64, mu: float, roundoff: float | None = None) -> FLOAT64:
            return np.asarray(self.zeroth(plus, minus, u, mu))  # an estimator under test knows nothing of rounding

        made.policy_gradient, made.two_point_gradient = self.policy, zeroth  # type: ignore[assignment]
        return made

    def rng(self, stream: int) -> np.random.Generator:
        """Fresh random numbers: the same for a line whatever ran before it."""
        return np.random.default_rng([self.seed, stream])

    @cached_property
    def wells(self) -> GaussianWells:
        """n = 2, N = 3, d = 2, four examples."""
        return gaussian_wells(self.rng(1), 2, 3, 2, 4)

    @cached_property
    def small_wells(self) -> GaussianWells:
        """n = 2, N = 2, d = 2, two examples: every batch, prompt and direction together can be enumerated."""
        return binary_vocabulary(self.rng(2), 2, 2, 2)

    @cached_property
    def quadratic(self) -> TableQuadratic:
        """n = 2, N = 2, d = 2, two examples."""
        return table_quadratic(self.rng(3), 2, 2, 2, 2)

    @cached_property
    def z(self) -> FLOAT64:
        """A place in two dimensions, not a stationary one."""
        return 0.7 * self.rng(4).standard_normal(2)

    @cached_property
    def binary_alpha(self) -> FLOAT64:
        """(2, 2), off the simplex."""
        return random_alpha(self.rng(5), 2, 2, 0.15)

    @cached_property
    def noise(self) -> Noise:
        """Gumbel noise of one binary position."""
        return binary_noise(1, 12)

    @cached_property
    def simplex_case(self) -> PolicyCase:
        """tau = 1, no noise, rows of alpha sum to 1: p = alpha."""
        alpha = random_alpha(self.rng(6), 2, 3)
        atoms = prompt_atoms(alpha / alpha.sum(axis=1, keepdims=True), 1.0)
        return PolicyCase("tau = 1, no noise, alpha = p", atoms, self.wells.table(self.z).mean(axis=1))

    @cached_property
    def noisy_case(self) -> PolicyCase:
        """tau = 0.7, a given noise for all samples (per_step), rows of alpha of any length."""
        rng = self.rng(7)
        alpha, g = random_alpha(rng, 2, 3), rng.gumbel(size=(2, 3))
        losses = self.wells.table(self.z).mean(axis=1)
        return PolicyCase("tau = 0.7, one noise for all samples", prompt_atoms(alpha, 0.7, g), losses, gumbel=g)

    @cached_property
    def fresh_case(self) -> PolicyCase:
        """tau = 0.5, fresh noise with every sample (per_sample), one binary position."""
        atoms = noisy_atoms(self.binary_alpha[:1], 0.5, self.noise)
        losses = self.one_position.table(self.z).mean(axis=1)[atoms.prompt]
        return PolicyCase("tau = 0.5, fresh noise with each sample", atoms, losses, noise=self.noise)

    @cached_property
    def one_position(self) -> GaussianWells:
        """n = 1, N = 2: what the noise of one position can be enumerated for."""
        return binary_vocabulary(self.rng(8), 1, 2, 3)

    @property
    def policy_cases(self) -> list[tuple[PolicyCase, tuple[int, ...]]]:
        """All three, with the numbers of samples I whose tuples are enumerated."""
        shared: list[tuple[PolicyCase, tuple[int, ...]]] = [(self.simplex_case, (2, 3)), (self.noisy_case, (2, 3))]
        return [*shared, (self.fresh_case, (2,))] if self.with_fresh_noise else shared

    def on_quadratic(self, mu: float = 0.3) -> ZerothCase:
        """The quadratic with 4 nodes a dimension: exact for its sixth-degree moments."""
        return zeroth_case("quadratic", self.quadratic, self.binary_alpha, self.z, mu, 4)

    def on_wells(self, mu: float = 0.3, nodes: int = 24) -> ZerothCase:
        """The wells with enough nodes to be exact to rounding at 24."""
        return zeroth_case("wells", self.small_wells, self.binary_alpha, self.z, mu, nodes)

    @cached_property
    def small_constants(self) -> Constants:
        """[A1] to [A3] of the small wells, above the smallest alpha of binary_alpha less a tenth."""
        return constants(self.small_wells, 0.9 * float(self.binary_alpha.min()))

    def small_plan(self, share: float, mu: float, batch: int = 1) -> Plan:
        """I_1 = 2, I_2 = 1, at a share of the largest step sizes."""
        c = self.small_constants
        return Plan(share * largest_eta_alpha(c), share * largest_eta_z(c, 1), mu, 2, 1, batch)

    @cached_property
    def run_constants(self) -> Constants:
        """Constants of the runs: alpha_min = 1/(2N), half of where alpha starts."""
        return constants(self.wells, 1 / 6)

    @cached_property
    def run_plan(self) -> Plan:
        """A fiftieth of D2's step, so that z_noise cannot cover standing still; in alpha a tenth of D1's, and
        no more than keeps all runs inside [A4] whatever is drawn."""
        c = self.run_constants
        surely = (1 / 3 - c.alpha_min) / (self.effort.steps * largest_step_in_alpha(c.F, 40, c.alpha_min, 1.0))
        return Plan(min(0.1 * largest_eta_alpha(c), surely), 0.02 * largest_eta_z(c, 40), 0.02, 40, 40, 16)

    @cached_property
    def quiet_plan(self) -> Plan:
        """Steps so small that the terms of a shared draw are a small part of the decrease."""
        return Plan(2e-6, 2e-6, 1e-3, 40, 40, 16)

    @cached_property
    def clipped_plan(self) -> Plan:
        """D1's largest step and samples so many that [T1b] with the exact variance is not all noise."""
        c = self.run_constants
        return Plan(largest_eta_alpha(c), 1e-3 * largest_eta_z(c, 40), 0.02, 400, 40, 128)

    @property
    def start(self) -> ZOPoGState:
        """alpha = 1/N, z where the wells are not flat."""
        return ZOPoGState(0, np.full((2, 3), 1 / 3), self.z)
