"""What every method is: init, step, prompts over a state that is only data."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zopog_ref.objective import Objective

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]


class WeightedPrompt(NamedTuple):
    """A prompt to deploy: candidate indices (n,), continuous prompt (d,), and its weight among several."""

    tokens: INT64
    z: FLOAT64
    weight: float


class Method(ABC):
    """A way to learn a prompt of n positions, N candidates and a d-dimensional continuous part.

    Settings is the method's frozen dataclass of floats, ints, bools and strings, checked when made. A State is a frozen
    dataclass of arrays, ints and floats, enough to go on bit for bit; its float fields go into the learning curve and
    are finite after a step. Every random number comes from (seed, step), or from replaying what the state keeps.
    Errors: ValueError when n, N, d or a setting is unusable.
    """

    Settings: ClassVar[type[Any]]
    settings: Any

    def __init__(self, n_positions: int, n_candidates: int, dim: int, settings: Any = None, seed: int = 0) -> None:
        for name, value in (("n_positions", n_positions), ("n_candidates", n_candidates), ("dim", dim)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.n_positions, self.n_candidates, self.dim, self.seed = n_positions, n_candidates, dim, seed
        self.settings = self.Settings() if settings is None else settings

    @property
    def full_batch(self) -> bool:
        """True when step() wants every training row instead of a mini-batch."""
        return False

    @property
    def loss(self) -> str | None:
        """The loss that this method must see, a name of objective.LOSSES; None: whichever the run chose."""
        return None

    @property
    def thins(self) -> bool:
        """True when it reads thinned networks: its model must offer them (objective.Thinnable)."""
        return False

    @property
    def predictive(self) -> str:
        """How its prompts answer together: "mean" of their probabilities, or "votes" where only labels are seen."""
        return "mean"

    @property
    @abstractmethod
    def calls_per_step(self) -> int:
        """Prompts that one step evaluates, on all its rows: the K of its losses() calls, added up."""

    @abstractmethod
    def init(self) -> Any:
        """The state before the first step."""

    @abstractmethod
    def step(self, state: Any, objective: Objective, examples: INT64) -> Any:
        """The state after one step on the training rows `examples` (B,)."""

    @abstractmethod
    def prompts(self, state: Any) -> list[WeightedPrompt]:
        """What would be deployed now; the weights sum to 1."""

    def finished(self, state: Any) -> str:
        """Why nothing more can be learned, such as "nothing acceptable"; "" to go on."""
        return ""
