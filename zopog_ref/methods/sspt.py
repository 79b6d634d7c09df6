"""SSPT: zeroth-order steps on the continuous prompt, kept sparse by a proximal step.

    z <- H_k(z - eta_z g_z)          g_z: the two-point estimate [Z1] or [Z1b];  H_k keeps the k largest entries

The proximal step of SSPT (KDD 2024), as far as its published description goes: H_k is the projection onto the vectors
of at most k non-zero entries. Tokens are fixed. docs/sspt.md says what was not found and is a setting here.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref import read_loss
from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import NOT_NEGATIVE, POSITIVE, at_least, check, check_choices
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.fixed_tokens import fixed_tokens
from zopog_ref.norms import norm
from zopog_ref.objective import Objective
from zopog_ref.randomness import Purpose, normal
from zopog_ref.zeroth_order import perturb, two_point_gradient

__all__ = ["SSPT", "SSPTState", "hard_threshold"]


@dataclass(frozen=True)
class SSPTState:
    """Where a run stands. The floats are for the learning curve."""

    step: int
    z: FLOAT64  # (d,)
    loss: float = float("nan")  # mean loss of the step's queries
    z_gradient_norm: float = 0.0
    readout: FLOAT64 | None = None  # (folds, C + 1, C): Theta of `read_loss`


def hard_threshold(z: ArrayLike, k: int) -> FLOAT64:
    """H_k(z): the k entries of z (d,) that are largest in absolute value, 0 elsewhere; the earlier of equals stays.

    The nearest point to z with at most k non-zero entries.
    """
    z = np.asarray(z, np.float64)
    kept = np.argsort(-np.abs(z), kind="stable")[:k]
    sparse = np.zeros_like(z)
    sparse[kept] = z[kept]
    return sparse


class SSPT(Method):
    """SSPT on mini-batches, with fixed tokens. A step costs 2 I_2 prompts."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of SSPT: the symbols of docs/sspt.md."""

        direction_pairs: int = 20  # I_2, antithetic pairs a step
        mu: float = 0.1  # smoothing radius
        eta_z: float = 0.5  # step size of z
        decay: float = 0.0  # step t uses eta_z / (1 + decay t)
        keep: int = 100  # k, entries of z that may differ from 0; all of them when k >= d
        directions: Literal["per_example", "shared"] = "per_example"
        readout_folds: int = 0  # F readouts inside the objective, refitted after each step (zopog_ref/read_loss.py)

        def __post_init__(self) -> None:
            check(self, at_least(1), "direction_pairs", "keep")
            check(self, POSITIVE, "mu", "eta_z")
            check(self, NOT_NEGATIVE, "decay")
            check(self, at_least(0), "readout_folds")
            check_choices(self)

    settings: Settings

    @property
    def calls_per_step(self) -> int:
        """2 I_2 prompts."""
        return 2 * self.settings.direction_pairs

    @property
    def tokens(self) -> INT64:
        """(n,) the fixed tokens."""
        return fixed_tokens(self.seed, self.n_positions, self.n_candidates)

    def init(self) -> SSPTState:
        """z = 0."""
        return SSPTState(0, np.zeros(self.dim), readout=read_loss.start(self.settings.readout_folds))

    def step(self, state: SSPTState, objective: Objective, examples: INT64) -> SSPTState:
        """One two-point step and its threshold, on the mini-batch of rows `examples` (B,)."""
        s = self.settings
        objective = read_loss.reading(objective, s.readout_folds, state.readout, self.seed)
        shared = s.directions == "shared"
        shape = (s.direction_pairs, self.dim) if shared else (s.direction_pairs, len(examples), self.dim)
        u = normal(self.seed, state.step, Purpose.DIRECTIONS, shape)
        tokens = np.tile(self.tokens, (2 * s.direction_pairs, 1))
        losses = objective.losses(tokens, np.concatenate(perturb(state.z, u, s.mu)), examples)  # (2 I_2, B)
        plus, minus = losses[: s.direction_pairs], losses[s.direction_pairs :]
        if shared:
            plus, minus = plus.mean(axis=1), minus.mean(axis=1)
        g = two_point_gradient(plus, minus, u, s.mu, getattr(objective, "roundoff", None))  # (d,)
        z = hard_threshold(state.z - s.eta_z / (1 + s.decay * state.step) * g, s.keep)
        return SSPTState(state.step + 1, z, float(losses.mean()), norm(g), read_loss.refitted(objective))

    def prompts(self, state: SSPTState) -> list[WeightedPrompt]:
        """The fixed tokens and z."""
        return [WeightedPrompt(self.tokens, state.z, 1.0, read_loss.deployed(state.readout))]
