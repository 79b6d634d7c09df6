"""BDPL: a categorical distribution for every prompt position, learned by variance-reduced policy gradient.

    t_i ~ Cat(p_i),  p_i on the simplex
    g_ij = 1/(I-1) sum_k (l_k - mean l) s_ij^k           s: the score, two of them below
    p_i <- projection onto {q: sum_j q_j = 1, q_j >= floor} of p_i - update(g_i)

S. Diao, Z. Huang, R. Xu, X. Li, Y. Lin, X. Zhou, T. Zhang, *Black-box Prompt Learning for Pre-trained Language Models*,
TMLR 2023. docs/bdpl.md says what is the paper's, what the official code's, and what is ours.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from zopog_ref import read_loss
from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import NOT_NEGATIVE, POSITIVE, Rule, at_least, check, check_choices
from zopog_ref.distribution import mode
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.simplex import project
from zopog_ref.norms import norm
from zopog_ref.objective import Objective
from zopog_ref.randomness import Purpose

__all__ = ["BDPL", "BDPLState"]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's, the defaults of its paper and of every library


@dataclass(frozen=True)
class BDPLState:
    """Where a run stands. The floats are for the learning curve."""

    step: int
    p: FLOAT64  # (n, N)
    first_moment: FLOAT64  # (n, N), of AdamW
    second_moment: FLOAT64  # (n, N)
    loss: float = float("nan")  # mean loss of the step's prompts
    gradient_norm: float = 0.0  # before clipping
    readout: FLOAT64 | None = None  # (folds, C + 1, C): Theta of `read_loss`


class BDPL(Method):
    """BDPL on mini-batches; the continuous part stays 0. A step costs I prompts.

    The backend draws the prompts and takes the gradient. The optimiser and the projection run in NumPy: p is uploaded
    in every step, and the gradient and the mean loss come back in one copy.
    """

    @dataclass(frozen=True)
    class Settings:
        """Settings of BDPL: the symbols of docs/bdpl.md. The defaults learn; paper() are the published ones."""

        samples: int = 20  # I, prompts a step
        eta_p: float = 0.3  # step size of p
        score: Literal["unbiased", "official"] = "unbiased"
        optimizer: Literal["plain", "adamw"] = "plain"
        weight_decay: float = 0.1  # of AdamW
        clip: float = 0.0  # largest norm of the gradient; 0: never clipped
        floor: float = 1e-4  # least probability, at most 1/N
        readout_folds: int = 0  # F readouts inside the objective, refitted after each step (zopog_ref/read_loss.py)

        def __post_init__(self) -> None:
            check(self, at_least(2), "samples")
            check(self, at_least(0), "readout_folds")
            check(self, POSITIVE, "eta_p")
            check(self, NOT_NEGATIVE, "weight_decay", "clip")
            check(self, Rule("lie above 0, at most 1/N", lambda floor: 0 < floor <= 1), "floor")
            check_choices(self)

        @classmethod
        def paper(cls) -> Self:
            """The official code's numbers for MRPC; its floor is 0, where 1/p ends in NaN, ours as small as is safe."""
            return cls(eta_p=1e-4, score="official", optimizer="adamw", clip=3.0, floor=1e-8)

    settings: Settings

    @property
    def has_kernels(self) -> bool:
        """True without a readout in the loss, which is fitted in NumPy."""
        return not self.settings.readout_folds

    def check_shape(self) -> None:
        """See that the floor leaves room for all candidates. Errors: ValueError."""
        floor, n_candidates = self.settings.floor, self.n_candidates
        if floor * n_candidates > 1:
            raise ValueError(f"floor is {floor}; {n_candidates} candidates allow {1 / n_candidates:.3g}")

    @property
    def calls_per_step(self) -> int:
        """I prompts."""
        return self.settings.samples

    def init(self) -> BDPLState:
        """p = 1/N everywhere."""
        shape = (self.n_positions, self.n_candidates)
        uniform, nothing = np.full(shape, 1 / self.n_candidates), np.zeros(shape)
        return BDPLState(0, uniform, nothing, nothing, readout=read_loss.start(self.settings.readout_folds))

    def step(self, state: BDPLState, objective: Objective, examples: INT64) -> BDPLState:
        """One policy-gradient step on the mini-batch of rows `examples` (B,)."""
        s, b, p = self.settings, self.backend, state.p
        objective = read_loss.reading(objective, s.readout_folds, state.readout, self.seed)
        on_backend = b.asarray(p)
        u = b.uniform(self.seed, state.step, Purpose.TOKENS_POLICY, (s.samples, self.n_positions))
        tokens = b.sample(on_backend, u)  # (I, n)
        points = np.broadcast_to(b.asarray(np.zeros(self.dim)), (s.samples, self.dim))
        losses = b.asarray(objective.losses(tokens, points, examples)).mean(axis=1)  # (I,)
        drawn = b.free_gradient(losses, tokens, on_backend, s.score)  # (n, N)
        read = b.to_numpy(np.concatenate((np.reshape(drawn, (-1,)), np.reshape(losses.mean(), (1,)))))
        g, loss = read[:-1].reshape(p.shape), float(read[-1])
        if not np.isfinite(loss):
            raise FloatingPointError(f"the mean loss of step {state.step} is {loss}: the model may be damaged")
        length = norm(g)
        if 0 < s.clip < length:
            g = g * (s.clip / length)
        m, v = state.first_moment, state.second_moment
        if s.optimizer == "adamw":
            m, v = _BETA_1 * m + (1 - _BETA_1) * g, _BETA_2 * v + (1 - _BETA_2) * g**2
            unbiased_m, unbiased_v = m / (1 - _BETA_1 ** (state.step + 1)), v / (1 - _BETA_2 ** (state.step + 1))
            moved = p * (1 - s.eta_p * s.weight_decay) - s.eta_p * unbiased_m / (np.sqrt(unbiased_v) + _EPSILON)
        else:
            moved = p - s.eta_p * g
        theta = read_loss.refitted(objective)
        return BDPLState(state.step + 1, project(moved, s.floor), m, v, loss, length, theta)

    def prompts(self, state: BDPLState) -> list[WeightedPrompt]:
        """The most probable prompt, argmax_j p_ij at every position."""
        return [WeightedPrompt(mode(state.p), np.zeros(self.dim), 1.0, read_loss.deployed(state.readout))]
