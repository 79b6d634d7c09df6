"""ABC-SMC (GFLF): a posterior over prompts from predicted labels alone, by sequential Monte Carlo.

    prior z ~ N(0, v0 I);   accept z when it answers at least r training rows rightly;   population r: M accepted z
    first r:  the most right answers among one step's prior draws; each later population asks for one more
    proposal: a particle of the last population by its weight, plus N(0, K), K = diag(v) * kernel_variance / mean(v)
    weight:   W_i ~ p(z_i) / sum_j W_j N(z_i; z_j, K), the sum over the last population
    deploy:   votes, p(y | x) = sum_i W_i 1{argmax logits(x; z_i) = y}

M. Shen, S. Ghosh, P. Sattigeri, S. Das, Y. Bu, G. Wornell, *Reliable Gradient-free and Likelihood-free Prompt Tuning*,
Findings of EACL 2023; the weights as in M. A. Beaumont, J.-M. Cornuet, J.-M. Marin, C. P. Robert, *Adaptive approximate
Bayesian computation*, Biometrika 2009. docs/gflf.md says what is the paper's, what the official code's, what is ours.

With weights, population r samples the prior restricted to {z: right answers >= r}: that is what the tests check.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import POSITIVE, at_least, check
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.fixed_tokens import fixed_tokens
from zopog_ref.objective import Objective, log_sum_exp
from zopog_ref.randomness import Purpose, normal, uniform

__all__ = ["AbcSmc", "AbcSmcState", "right_answers"]


@dataclass(frozen=True)
class AbcSmcState:
    """The last whole population, and the one that is being filled. The floats are for the learning curve."""

    step: int
    rows: int  # B, of the training split; 0 before the first step
    population: int  # whole populations so far
    required: int  # r, right answers that the population being filled asks for
    rejections: int  # steps in a row without an acceptance
    particles: FLOAT64  # (M, d) of the last whole population; (0, d) before the first
    log_weights: FLOAT64  # (M,), normalised
    accepted: FLOAT64  # (a, d), a < M, of the population being filled
    accepted_log_weights: FLOAT64  # (a,), not normalised
    best: FLOAT64  # (d,) the draw with the most right answers
    most_right: int  # its right answers
    loss: float = float("nan")  # share of wrong answers of the step's draws
    tolerance: float = 1.0  # share of wrong answers still accepted, 1 - r/B
    acceptance: float = 0.0  # share of the step's draws
    effective_size: float = 0.0  # 1 / sum W^2 of the last whole population


class AbcSmc(Method):
    """ABC-SMC for n fixed tokens and a d-dimensional z. A step is `samples` proposals on all rows.

    It must see the 0/1 loss. It is finished when a whole population answers every row rightly ("accuracy 1"), or when
    max_rejections steps in a row accepted nothing ("nothing acceptable").
    """

    @dataclass(frozen=True)
    class Settings:
        """Settings of ABC-SMC: the symbols of docs/gflf.md. The defaults suit a small budget, paper() is published."""

        members: int = 10  # M, particles of a population
        samples: int = 20  # proposals a step
        prior_variance: float = 50.0  # v0
        kernel_variance: float = 10.0  # mean of the proposal kernel's variances
        max_rejections: int = 50  # steps in a row without an acceptance after which nothing is acceptable
        weighted: bool = True  # False: equal weights, as the official code has in effect

        def __post_init__(self) -> None:
            check(self, at_least(1), "members", "samples", "max_rejections")
            check(self, POSITIVE, "prior_variance", "kernel_variance")

        @classmethod
        def paper(cls) -> Self:
            """The published numbers, in the variant of the official code."""
            return cls(members=100, weighted=False)

    settings: Settings
    full_batch = True
    loss = "error"
    predictive = "votes"

    @property
    def calls_per_step(self) -> int:
        """`samples` prompts."""
        return self.settings.samples

    @property
    def tokens(self) -> INT64:
        """(n,) the fixed tokens."""
        return fixed_tokens(self.seed, self.n_positions, self.n_candidates)

    def init(self) -> AbcSmcState:
        """No particle yet."""
        none, no_weights = np.zeros((0, self.dim)), np.zeros(0)
        return AbcSmcState(0, 0, 0, 0, 0, none, no_weights, none, no_weights, np.zeros(self.dim), -1)

    def step(self, state: AbcSmcState, objective: Objective, examples: INT64) -> AbcSmcState:
        """`samples` proposals on the rows `examples` (B,): all of the training split. Errors: ValueError."""
        z = self._propose(state)  # (K, d)
        right = right_answers(objective.losses(np.tile(self.tokens, (len(z), 1)), z, examples))  # (K,)
        state = replace(state, step=state.step + 1, rows=len(examples), loss=float(1 - right.mean() / len(examples)))
        first = int(np.argmax(right))
        if right[first] > state.most_right:
            state = replace(state, best=z[first], most_right=int(right[first]))
        if state.step == 1:  # these draws only set the first r: they were not asked to reach it
            return self._asking_for(state, int(right.max()))
        room = self.settings.members - len(state.accepted)
        new = z[np.flatnonzero(right >= state.required)[:room]]  # (a', d)
        state = replace(
            state,
            rejections=0 if len(new) else state.rejections + 1,
            accepted=np.concatenate([state.accepted, new]),
            accepted_log_weights=np.concatenate([state.accepted_log_weights, self._log_weights(state, new)]),
            acceptance=float((right >= state.required).mean()),
        )
        return self._next_population(state) if len(new) == room else state

    def prompts(self, state: AbcSmcState) -> list[WeightedPrompt]:
        """The last whole population by weight; before there is one the accepted draws, or else the best draw."""
        if state.population:
            weights = np.exp(state.log_weights)
            return [WeightedPrompt(self.tokens, z, float(w)) for z, w in zip(state.particles, weights / weights.sum())]
        draws = state.accepted if len(state.accepted) else state.best[None]
        return [WeightedPrompt(self.tokens, z, 1 / len(draws)) for z in draws]

    def finished(self, state: AbcSmcState) -> str:
        """Why no proposal can be accepted any more, or ""."""
        if state.population and state.required > state.rows:
            return "accuracy 1"
        return "nothing acceptable" if state.rejections >= self.settings.max_rejections else ""

    def _propose(self, state: AbcSmcState) -> FLOAT64:
        """(K, d) draws from the prior, or around particles of the last population."""
        s = self.settings
        noise = normal(self.seed, state.step, Purpose.Z_SEARCH, (s.samples, self.dim)).astype(np.float64)
        if not state.population:
            return np.sqrt(s.prior_variance) * noise
        u = uniform(self.seed, state.step, Purpose.ANCESTORS, (s.samples,))
        weights = np.exp(state.log_weights)
        ancestors = np.searchsorted(np.cumsum(weights / weights.sum()), u, side="right")  # (K,)
        ancestors = np.minimum(ancestors, len(weights) - 1)  # the cumulative sum may end just below 1
        return state.particles[ancestors] + np.sqrt(self._kernel(state)) * noise

    def _kernel(self, state: AbcSmcState) -> FLOAT64:
        """(d,) variances of the proposal kernel: the population's, scaled to a mean of kernel_variance."""
        variance = state.particles.var(axis=0)
        shape = variance / variance.mean() if variance.min() > 0 else np.ones(self.dim)  # one particle: no shape
        return self.settings.kernel_variance * shape

    def _log_weights(self, state: AbcSmcState, z: FLOAT64) -> FLOAT64:
        """(a,) log of p(z) / sum_j W_j N(z; z_j, K), up to a constant; 0 where all are equal."""
        s = self.settings
        if not state.population or not s.weighted:
            return np.zeros(len(z))
        variance = self._kernel(state)
        log_prior = -0.5 * (z**2).sum(axis=1) / s.prior_variance  # (a,)
        distance = ((z[:, None] - state.particles) ** 2 / variance).sum(axis=2)  # (a, M)
        return log_prior - log_sum_exp(state.log_weights - 0.5 * distance)

    def _next_population(self, state: AbcSmcState) -> AbcSmcState:
        """The accepted become the population; one more right answer is asked for."""
        log_weights = state.accepted_log_weights - log_sum_exp(state.accepted_log_weights)
        state = replace(
            state,
            population=state.population + 1,
            particles=state.accepted,
            log_weights=log_weights,
            accepted=np.zeros((0, self.dim)),
            accepted_log_weights=np.zeros(0),
            effective_size=float(np.exp(-log_sum_exp(2 * log_weights))),
        )
        return self._asking_for(state, state.required + 1)

    @staticmethod
    def _asking_for(state: AbcSmcState, required: int) -> AbcSmcState:
        return replace(state, required=required, tolerance=max(0.0, 1 - required / state.rows))


def right_answers(losses: FLOAT64) -> INT64:
    """(K,) counts, as integers, from 0/1 losses (K, B). Errors: ValueError for losses of any other kind."""
    if not np.isin(losses, (0, 1)).all():
        raise ValueError(
            'ABC-SMC sees right or wrong answers only: give it an objective with the 0/1 loss, loss="error"'
        )
    return losses.shape[1] - losses.astype(np.int64).sum(axis=1)
