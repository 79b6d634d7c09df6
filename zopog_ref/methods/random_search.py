"""Random search: independent prompts, the best on the training rows. What every method that learns must beat.

    t_i ~ uniform over the N candidates,    z ~ N(0, sigma^2 I_d),    keep the prompt of least training loss

With sigma = 0 it is a search for tokens alone. No paper; Clip-Tuning and CMA-ES papers report it as a strong baseline.
"""

from dataclasses import dataclass

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import NOT_NEGATIVE, at_least, check
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.objective import Objective
from zopog_ref.randomness import Purpose, normal, uniform

__all__ = ["RandomSearch", "RandomSearchState"]


@dataclass(frozen=True)
class RandomSearchState:
    """The best prompt so far, and for the curve its training loss and the mean of the last samples'."""

    step: int
    tokens: INT64  # (n,)
    z: FLOAT64  # (d,)
    best_loss: float = float("inf")
    loss: float = float("nan")


class RandomSearch(Method):
    """Random search over all training rows; see the module. A step costs `samples` prompts."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of random search: the symbols of docs/random-search.md."""

        samples: int = 20  # prompts a step
        sigma: float = 1.0  # standard deviation of z

        def __post_init__(self) -> None:
            check(self, at_least(1), "samples")
            check(self, NOT_NEGATIVE, "sigma")

    settings: Settings
    full_batch = True

    @property
    def calls_per_step(self) -> int:
        """Prompts a step."""
        return self.settings.samples

    def init(self) -> RandomSearchState:
        """The first candidate everywhere, z = 0, until something has been tried."""
        return RandomSearchState(0, np.zeros(self.n_positions, np.int64), np.zeros(self.dim))

    def step(self, state: RandomSearchState, objective: Objective, examples: INT64) -> RandomSearchState:
        """Draw, ask, keep the best; the earlier of equals."""
        tokens, z = self._draw(state.step)
        losses = objective.losses(tokens, z, examples).mean(axis=1)  # (K,)
        best, mean = int(np.argmin(losses)), float(losses.mean())
        if losses[best] < state.best_loss:
            return RandomSearchState(state.step + 1, tokens[best], z[best], float(losses[best]), mean)
        return RandomSearchState(state.step + 1, state.tokens, state.z, state.best_loss, mean)

    def prompts(self, state: RandomSearchState) -> list[WeightedPrompt]:
        """The best so far."""
        return [WeightedPrompt(state.tokens, state.z, 1.0)]

    def _draw(self, step: int) -> tuple[INT64, FLOAT64]:
        """tokens (K, n), z (K, d) of a step."""
        shape = (self.settings.samples, self.n_positions)
        u = uniform(self.seed, step, Purpose.TOKENS_SEARCH, shape)
        z = normal(self.seed, step, Purpose.Z_SEARCH, (self.settings.samples, self.dim))
        return np.floor(u * self.n_candidates).astype(np.int64), self.settings.sigma * z.astype(np.float64)
