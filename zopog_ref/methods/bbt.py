"""BBT: CMA-ES on the continuous prompt, with fixed tokens.

    z_1 .. z_popsize ~ N(m, sigma^2 C);  tell CMA-ES their losses on the whole training set;  deploy the best z so far

T. Sun, Y. Shao, H. Qian, X. Huang, X. Qiu, *Black-Box Tuning for Language-Model-as-a-Service*, ICML 2022.
docs/bbt.md says what is the paper's, what the official code's, and what is ours.
"""

from dataclasses import dataclass

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import NOT_NEGATIVE, POSITIVE, Rule, at_least, check
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.cma_es import CmaEs, standing_at
from zopog_ref.methods.fixed_tokens import fixed_tokens
from zopog_ref.objective import Objective

__all__ = ["BBT", "BBTState"]


@dataclass(frozen=True)
class BBTState:
    """All that CMA-ES was told, and the best point so far. The floats are for the learning curve."""

    step: int
    told: FLOAT64  # (G, popsize) losses, G = step
    z: FLOAT64  # (d,) the incumbent
    best_loss: float = float("inf")  # its training loss
    loss: float = float("nan")  # mean of the last generation's
    step_size: float = float("nan")  # sigma of CMA-ES


class BBT(Method):
    """BBT for n fixed tokens and a d-dimensional z, by the `cma` package. A step is a generation of popsize prompts.

    The state keeps losses, not CMA-ES's matrices: a resumed run tells them again and stands where it stood.
    """

    @dataclass(frozen=True)
    class Settings:
        """Settings of BBT: the symbols of docs/bbt.md."""

        popsize: int = 20  # points a generation
        sigma: float = 1.0  # CMA-ES's first step size
        diagonal: bool = False  # learn variances only (separable CMA-ES)
        bound: float = 0.0  # keeps every coordinate of z in [-bound, bound]; 0: unbounded

        def __post_init__(self) -> None:
            check(self, at_least(2), "popsize")
            check(self, POSITIVE, "sigma")
            check(self, Rule("be 0 (none) or positive, and finite", NOT_NEGATIVE.holds), "bound")

    settings: Settings
    full_batch = True
    _live: CmaEs | None = None

    @property
    def calls_per_step(self) -> int:
        """popsize prompts."""
        return self.settings.popsize

    @property
    def tokens(self) -> INT64:
        """(n,) the fixed tokens."""
        return fixed_tokens(self.seed, self.n_positions, self.n_candidates)

    def init(self) -> BBTState:
        """CMA-ES at z = 0, which is the incumbent until a point has been tried."""
        return BBTState(0, np.zeros((0, self.settings.popsize)), np.zeros(self.dim))

    def step(self, state: BBTState, objective: Objective, examples: INT64) -> BBTState:
        """One generation on the rows `examples` (B,): all of the training split."""
        search = self._live = standing_at(self._live, state.told, self._fresh)
        z = search.ask()  # (popsize, d)
        losses = objective.losses(np.tile(self.tokens, (len(z), 1)), z, examples).mean(axis=1)  # (popsize,)
        search.tell(losses)
        best = int(np.argmin(losses))
        better = losses[best] < state.best_loss
        return BBTState(
            step=state.step + 1,
            told=search.told,
            z=z[best] if better else state.z,
            best_loss=float(losses[best]) if better else state.best_loss,
            loss=float(losses.mean()),
            step_size=search.sigma,
        )

    def prompts(self, state: BBTState) -> list[WeightedPrompt]:
        """The incumbent: the point of least training loss so far."""
        return [WeightedPrompt(self.tokens, state.z, 1.0)]

    def _fresh(self, told: FLOAT64) -> CmaEs:
        s = self.settings
        return CmaEs(self.dim, s.sigma, s.popsize, self.seed, diagonal=s.diagonal, bound=s.bound or None, told=told)
