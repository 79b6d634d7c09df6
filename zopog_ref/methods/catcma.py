"""CatCMA: tokens and continuous prompt searched together, by one evolution strategy over both.

    t_i ~ Cat(q_i),  z ~ N(m, sigma^2 C):  draw popsize prompts, tell their losses, deploy the best so far

R. Hamano, S. Saito, M. Nomura, K. Uchida, S. Shirakawa, *CatCMA: Stochastic Optimization for Mixed-Category Problems*,
GECCO 2024, as its authors' package `cmaes` runs it. Not published for prompts: here it is ZO-PoG's competitor, the
other way to learn both parts from losses alone. docs/catcma.md has the settings.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zopog_ref.arrays import BOOL, FLOAT64, INT64
from zopog_ref.checks import POSITIVE, at_least, check
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.blas_threads import one_blas_thread
from zopog_ref.objective import Objective

__all__ = ["CatCMA", "CatCMAState", "MixedSearch"]


@dataclass(frozen=True)
class CatCMAState:
    """All that the strategy was told, and the best prompt so far. The floats are for the learning curve."""

    step: int
    told: FLOAT64  # (G, popsize) losses, G = step
    tokens: INT64  # (n,) the incumbent
    z: FLOAT64  # (d,)
    best_loss: float = float("inf")  # its training loss
    loss: float = float("nan")  # mean of the last generation's


class MixedSearch:
    """The strategy of the `cmaes` package between ask and tell; replaying `told` leads to where it stood."""

    def __init__(self, shape: tuple[int, int, int], settings: "CatCMA.Settings", seed: int, told: FLOAT64) -> None:
        from cmaes import CatCMA as Strategy

        n, n_candidates, dim = shape
        # Above 32 bits the seed enters the package's generator as two words.
        words: Any = seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32]
        self._popsize = settings.popsize
        self._strategy = Strategy(
            mean=np.zeros(dim), sigma=settings.sigma, cat_num=np.full(n, n_candidates), seed=words,
            population_size=settings.popsize,
        )  # fmt: skip
        self._points: list[tuple[FLOAT64, BOOL]] = []
        self.told = np.zeros((0, settings.popsize))
        for losses in told:
            self.ask()
            self.tell(losses)

    def ask(self) -> tuple[INT64, FLOAT64]:
        """tokens (popsize, n), z (popsize, d) of the next generation; the same ones until they are told."""
        if not self._points:
            with one_blas_thread():
                self._points = [self._strategy.ask() for _ in range(self._popsize)]
        one_hot = np.stack([c for _, c in self._points])  # (popsize, n, N)
        return one_hot.argmax(axis=-1).astype(np.int64), np.stack([x for x, _ in self._points])

    def tell(self, losses: FLOAT64) -> None:
        """Losses (popsize,) of the prompts asked for, in their order."""
        with one_blas_thread():
            self._strategy.tell(list(zip(self._points, losses.tolist())))
        self._points = []
        self.told = np.concatenate([self.told, losses[None]])


class CatCMA(Method):
    """CatCMA on the whole training set. A step is a generation of popsize prompts.

    Errors: ValueError for fewer than 2 candidates or dimensions, which the package does not take.
    """

    @dataclass(frozen=True)
    class Settings:
        """Settings of CatCMA: the symbols of docs/catcma.md."""

        popsize: int = 20  # prompts a generation
        sigma: float = 1.0  # first step size of the continuous part

        def __post_init__(self) -> None:
            check(self, at_least(4, ", so that two or more are recombined"), "popsize")
            check(self, POSITIVE, "sigma")

    settings: Settings
    full_batch = True
    _live: MixedSearch | None = None

    def check_shape(self) -> None:
        """See that there is a choice in both parts. Errors: ValueError."""
        if self.n_candidates < 2 or self.dim < 2:
            raise ValueError(
                f"CatCMA needs at least 2 candidates and 2 dimensions, got {self.n_candidates} and {self.dim}"
            )

    @property
    def calls_per_step(self) -> int:
        """popsize prompts."""
        return self.settings.popsize

    def init(self) -> CatCMAState:
        """Uniform tokens, z around 0; the first candidate everywhere and z = 0 until a prompt has been tried."""
        told = np.zeros((0, self.settings.popsize))
        return CatCMAState(0, told, np.zeros(self.n_positions, np.int64), np.zeros(self.dim))

    def step(self, state: CatCMAState, objective: Objective, examples: INT64) -> CatCMAState:
        """One generation on the rows `examples` (B,): all of the training split."""
        search = self._live
        if search is None or not np.array_equal(search.told, state.told):
            shape = (self.n_positions, self.n_candidates, self.dim)
            search = self._live = MixedSearch(shape, self.settings, self.seed, state.told)
        tokens, z = search.ask()
        losses = objective.losses(tokens, z, examples).mean(axis=1)  # (popsize,)
        search.tell(losses)
        best = int(np.argmin(losses))
        better = losses[best] < state.best_loss
        return CatCMAState(
            step=state.step + 1,
            told=search.told,
            tokens=tokens[best] if better else state.tokens,
            z=z[best] if better else state.z,
            best_loss=float(losses[best]) if better else state.best_loss,
            loss=float(losses.mean()),
        )

    def prompts(self, state: CatCMAState) -> list[WeightedPrompt]:
        """The incumbent: the prompt of least training loss so far."""
        return [WeightedPrompt(state.tokens, state.z, 1.0)]
