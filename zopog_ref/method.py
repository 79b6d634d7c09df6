"""What every method is: init, step, prompts over a state that is only data."""

from __future__ import annotations  # signatures show names, not what these stand for

import operator
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.backend import NUMPY, Backend
from zopog_ref.checks import Rule, at_least, check
from zopog_ref.objective import Objective

__all__ = ["Method", "WeightedPrompt"]


class WeightedPrompt(NamedTuple):
    """A prompt to deploy: candidate indices (n,), continuous prompt (d,), and its weight among several.

    readout: Theta (C + 1, C), by which its scores are read (`read_loss`). Default: None, as they are.
    """

    tokens: INT64
    z: FLOAT64
    weight: float
    readout: FLOAT64 | None = None


class Method(ABC):
    """A way to learn a prompt of n positions, N candidates and a d-dimensional continuous part.

    Settings is the method's frozen dataclass of floats, ints, bools and strings, checked when made. A State is a frozen
    dataclass of arrays, ints and floats, enough to go on bit for bit; its float fields go into the learning curve and
    are finite after a step. Every random number comes from (seed, step), or from replaying what the state keeps.

    Parameters:

    - n_positions: n, positions of the discrete prompt; at least 1.
    - n_candidates: N, candidate tokens at each position; at least 1.
    - dim: d, dimensions of the continuous prompt; at least 1.
    - settings: an instance of the method's Settings. Default: None, which is Settings().
    - seed: decides every draw; 0 to 2^64 - 1. Default: 0.
    - backend: where the mathematics runs. Default: NumPy. Another one needs a method with kernels (has_kernels).

    Errors: ValueError when n, N, d or the seed is unusable, or when a method without kernels gets a backend; TypeError
    for a seed that is no integer.
    """

    Settings: ClassVar[type[Any]]
    settings: Any

    def __repr__(self) -> str:
        sizes = f"n_positions={self.n_positions}, n_candidates={self.n_candidates}, dim={self.dim}"
        return f"{type(self).__name__}({sizes}, settings={self.settings!r}, seed={self.seed})"

    def __init__(
        self,
        n_positions: int,
        n_candidates: int,
        dim: int,
        settings: Any = None,
        seed: int = 0,
        backend: Backend = NUMPY,
    ) -> None:
        self.n_positions, self.n_candidates, self.dim, self.seed = n_positions, n_candidates, dim, operator.index(seed)
        check(self, Rule("lie in 0 to 2^64 - 1", lambda seed: 0 <= seed < 2**64), "seed")
        check(self, at_least(1), "n_positions", "n_candidates", "dim")
        self.settings = self.Settings() if settings is None else settings
        if backend is not NUMPY and not self.has_kernels:  # which may hang on the settings
            raise ValueError(f"{type(self).__name__} runs in NumPy only: leave out backend")
        self.backend = backend
        self.check_shape()

    def check_shape(self) -> None:
        """See that n, N, d and the settings go together. Errors: ValueError when they do not."""
        return

    @property
    def has_kernels(self) -> bool:
        """True when its mathematics runs on any backend; False when it runs in NumPy only."""
        return False

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
