"""Ensembles (GFLF): M searches of BBT's kind from M seeds, each member its best prompt, all of equal weight.

    z_m = the best point of CMA-ES run m, m = 1..M;      p(y | x) = (1/M) sum_m softmax(logits(x; z_m))_y

M. Shen, S. Ghosh, P. Sattigeri, S. Das, Y. Bu, G. Wornell, *Reliable Gradient-free and Likelihood-free Prompt Tuning*,
Findings of EACL 2023. docs/gflf.md says what is the paper's, what the official code's, and what is ours.

The budget is split equally: step t is a generation of member t mod M, so that wherever the budget ends no member is
more than one generation ahead of another. With M = 1 it is BBT, bit for bit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import at_least, check
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods import bbt
from zopog_ref.methods.cma_es import CmaEs, standing_at
from zopog_ref.methods.fixed_tokens import fixed_tokens
from zopog_ref.objective import Objective

__all__ = ["Ensembles", "EnsemblesState"]


@dataclass(frozen=True)
class EnsemblesState:
    """All that the members were told, and their best points so far. The floats are for the learning curve."""

    step: int
    told: FLOAT64  # (G, popsize) losses, G = step; member m's are told[m::M]
    z: FLOAT64  # (M, d) the members' incumbents
    best_losses: FLOAT64  # (M,) their training losses; inf until a member has had its first generation
    loss: float = float("nan")  # mean of the last generation's


class Ensembles(Method):
    """M members on the same n fixed tokens. A step is one member's generation of popsize prompts on all rows."""

    @dataclass(frozen=True)
    class Settings(bbt.BBT.Settings):
        """BBT's settings, for every member, and how many members there are."""

        members: int = 5  # M

        def __post_init__(self) -> None:
            super().__post_init__()
            check(self, at_least(1), "members")

        @classmethod
        def paper(cls) -> Self:
            """The published numbers: ten members."""
            return cls(members=10)

    settings: Settings
    full_batch = True

    @cached_property
    def _live(self) -> dict[int, CmaEs]:
        """The members' searches, kept between two steps."""
        return {}

    @property
    def calls_per_step(self) -> int:
        """popsize prompts."""
        return self.settings.popsize

    @property
    def tokens(self) -> INT64:
        """(n,) the fixed tokens, one set for all members."""
        return fixed_tokens(self.seed, self.n_positions, self.n_candidates)

    def init(self) -> EnsemblesState:
        """Every member at z = 0."""
        s = self.settings
        return EnsemblesState(0, np.zeros((0, s.popsize)), np.zeros((s.members, self.dim)), np.full(s.members, np.inf))

    def step(self, state: EnsemblesState, objective: Objective, examples: INT64) -> EnsemblesState:
        """The next generation of the member whose turn it is, on the rows `examples` (B,)."""
        m = state.step % self.settings.members
        search = self._member(m, state.told[m :: self.settings.members])
        z = search.ask()  # (popsize, d)
        losses = objective.losses(np.tile(self.tokens, (len(z), 1)), z, examples).mean(axis=1)  # (popsize,)
        search.tell(losses)
        incumbents, best_losses = state.z.copy(), state.best_losses.copy()
        best = int(np.argmin(losses))
        if losses[best] < best_losses[m]:
            incumbents[m], best_losses[m] = z[best], losses[best]
        told = np.concatenate([state.told, losses[None]])
        return EnsemblesState(state.step + 1, told, incumbents, best_losses, float(losses.mean()))

    def prompts(self, state: EnsemblesState) -> list[WeightedPrompt]:
        """The incumbents of the members that have had a generation, with equal weights (at the start z = 0)."""
        started = state.z[: max(1, min(state.step, self.settings.members))]
        return [WeightedPrompt(self.tokens, z, 1 / len(started)) for z in started]

    def _member(self, m: int, told: FLOAT64) -> CmaEs:
        """The search of member m where it has been told `told`; member 0 has the run's own seed, as BBT would."""
        s = self.settings
        seed = (self.seed + (m << 32)) % 2**64
        search = standing_at(
            self._live.get(m),
            told,
            lambda told: CmaEs(
                self.dim, s.sigma, s.popsize, seed, diagonal=s.diagonal, bound=s.bound or None, told=told
            ),
        )
        self._live[m] = search
        return search
