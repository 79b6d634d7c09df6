"""CMA-ELBO (GFLF): a Gaussian over prompts, fitted by CMA-ES to the evidence lower bound, gradient-free.

    q(z) = N(m, diag|v|),   prior p(z) = N(0, v0 I)
    minimise over (m, v) in R^{2d}:   rows * E_{z~q}[mean cross-entropy] + lambda * KL(q || p)
    deploy M draws of q with equal weights:   p(y | x) = (1/M) sum_m softmax(logits(x; z_m))_y

M. Shen, S. Ghosh, P. Sattigeri, S. Das, Y. Bu, G. Wornell, *Reliable Gradient-free and Likelihood-free Prompt Tuning*,
Findings of EACL 2023. docs/gflf.md says what is the paper's, what the official code's, and what is ours.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import NOT_NEGATIVE, POSITIVE, Rule, at_least, check
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.cma_es import CmaEs, standing_at
from zopog_ref.methods.fixed_tokens import fixed_tokens
from zopog_ref.objective import Objective
from zopog_ref.randomness import Purpose, normal

__all__ = ["SMALLEST_VARIANCE", "CmaElbo", "CmaElboState", "kl_to_prior"]

SMALLEST_VARIANCE = 1e-12  # |v| = 0 has no logarithm


@dataclass(frozen=True)
class CmaElboState:
    """All that CMA-ES was told, and the best q so far. The floats are for the learning curve."""

    step: int
    told: FLOAT64  # (G, popsize) objectives, G = step
    mean: FLOAT64  # (d,) of the incumbent q
    variance: FLOAT64  # (d,)
    best_elbo: float = float("inf")  # its objective, the negative bound: lower is better
    loss: float = float("nan")  # mean cross-entropy of the last generation
    kl: float = 0.0  # mean KL(q || p) of the last generation


def kl_to_prior(mean: FLOAT64, variance: FLOAT64, prior_variance: float) -> FLOAT64:
    """KL(N(m, diag v) || N(0, v0 I)) = 1/2 sum_j (v_j/v0 + m_j^2/v0 - 1 - log(v_j/v0)), in nats.

    mean, variance (..., d); variance > 0. Returns (...).
    """
    ratio = variance / prior_variance
    kl: FLOAT64 = 0.5 * (ratio + mean**2 / prior_variance - 1 - np.log(ratio)).sum(axis=-1)
    return kl


class CmaElbo(Method):
    """CMA-ELBO for n fixed tokens and a d-dimensional z. A step is a generation: popsize x draws prompts."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of CMA-ELBO: the symbols of docs/gflf.md. The defaults suit a small budget, paper() is published."""

        popsize: int = 10  # candidates (m, v) a generation
        draws: int = 4  # of q, to estimate the expected loss of a candidate
        sigma: float = 1.0  # CMA-ES's first step size
        diagonal: bool = False  # learn variances only (separable CMA-ES)
        bound: float = 100.0  # keeps every coordinate of m and v in [-bound, bound]; 0: unbounded
        prior_variance: float = 50.0  # v0
        kl_weight: float = 1e-3  # lambda
        common_draws: bool = True  # the candidates of a generation share their standard normals
        members: int = 10  # M, draws of q that are deployed

        def __post_init__(self) -> None:
            check(self, at_least(2), "popsize")
            check(self, at_least(1), "draws", "members")
            check(self, POSITIVE, "sigma", "prior_variance")
            check(self, NOT_NEGATIVE, "bound", "kl_weight")
            wide = Rule("be 0 (none) or above 1, where the variances start", lambda bound: bound == 0 or bound > 1)
            check(self, wide, "bound")

        @classmethod
        def paper(cls) -> Self:
            """The published numbers, in the variant of the official code."""
            return cls(popsize=20, draws=10, common_draws=False, members=100)

    settings: Settings
    full_batch = True
    _live: CmaEs | None = None

    @property
    def calls_per_step(self) -> int:
        """popsize x draws prompts."""
        return self.settings.popsize * self.settings.draws

    @property
    def tokens(self) -> INT64:
        """(n,) the fixed tokens."""
        return fixed_tokens(self.seed, self.n_positions, self.n_candidates)

    def init(self) -> CmaElboState:
        """q = N(0, I), as in the official code."""
        return CmaElboState(0, np.zeros((0, self.settings.popsize)), np.zeros(self.dim), np.ones(self.dim))

    def step(self, state: CmaElboState, objective: Objective, examples: INT64) -> CmaElboState:
        """One generation on the rows `examples` (B,): all of the training split."""
        s = self.settings
        search = self._live = standing_at(self._live, state.told, self._fresh)
        candidates = search.ask()  # (popsize, 2 d)
        mean, variance = candidates[:, : self.dim], np.maximum(np.abs(candidates[:, self.dim :]), SMALLEST_VARIANCE)
        shape = (1 if s.common_draws else s.popsize, s.draws, self.dim)
        noise = normal(self.seed, 1 + state.step, Purpose.POSTERIOR_DRAWS, shape)
        z = mean[:, None] + np.sqrt(variance)[:, None] * noise  # (popsize, draws, d)
        z = z.reshape(-1, self.dim)
        losses = objective.losses(np.tile(self.tokens, (len(z), 1)), z, examples)  # (popsize * draws, B)
        loss = losses.mean(axis=1).reshape(s.popsize, s.draws).mean(axis=1)  # (popsize,)
        kl = kl_to_prior(mean, variance, s.prior_variance)  # (popsize,)
        elbo = len(examples) * loss + s.kl_weight * kl
        search.tell(elbo)
        best = int(np.argmin(elbo))
        better = elbo[best] < state.best_elbo
        return CmaElboState(
            step=state.step + 1,
            told=search.told,
            mean=mean[best] if better else state.mean,
            variance=variance[best] if better else state.variance,
            best_elbo=float(elbo[best]) if better else state.best_elbo,
            loss=float(loss.mean()),
            kl=float(kl.mean()),
        )

    def prompts(self, state: CmaElboState) -> list[WeightedPrompt]:
        """M draws of the incumbent q, with the same standard normals whenever it is asked."""
        members = self.settings.members
        noise = normal(self.seed, 0, Purpose.POSTERIOR_DRAWS, (members, self.dim))  # step 0: never used above
        z = state.mean + np.sqrt(state.variance) * noise  # (M, d)
        return [WeightedPrompt(self.tokens, point, 1 / members) for point in z]

    def _fresh(self, told: FLOAT64) -> CmaEs:
        s = self.settings
        start = np.concatenate([np.zeros(self.dim), np.ones(self.dim)])
        return CmaEs(
            2 * self.dim, s.sigma, s.popsize, self.seed,
            mean=start, diagonal=s.diagonal, bound=s.bound or None, told=told,
        )  # fmt: skip
