"""BDPL: a categorical distribution for every prompt position, learned by variance-reduced policy gradient.

    t_i ~ Cat(p_i),  p_i on the simplex
    g_ij = 1/(I-1) sum_k (l_k - mean l) s_ij^k           s: the score, two of them below
    p_i <- projection onto {q: sum_j q_j = 1, q_j >= floor} of p_i - update(g_i)

S. Diao, Z. Huang, R. Xu, X. Li, Y. Lin, X. Zhou, T. Zhang, *Black-box Prompt Learning for Pre-trained Language Models*,
TMLR 2023. docs/bdpl.md says what is the paper's, what the official code's, and what is ours.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_ref.backend import NUMPY, Backend
from zopog_ref.distribution import mode
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.simplex import project
from zopog_ref.objective import Objective
from zopog_ref.randomness import Purpose

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's, the defaults of its paper and of every library


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

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples is {self.samples}; it must be at least 2")
        if not 0 < self.eta_p < np.inf:
            raise ValueError(f"eta_p is {self.eta_p}; it must be positive and finite")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more, and finite")
        if not 0 < self.floor <= 1:
            raise ValueError(f"floor is {self.floor}; it must lie above 0, at most 1/N")
        for name, choices in (("score", ("unbiased", "official")), ("optimizer", ("plain", "adamw"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")

    @classmethod
    def paper(cls) -> "Settings":
        """The official code's numbers for MRPC; its floor is 0, where 1/p ends in NaN, ours as small as is safe."""
        return cls(eta_p=1e-4, score="official", optimizer="adamw", clip=3.0, floor=1e-8)


@dataclass(frozen=True)
class BDPLState:
    """Where a run stands. The floats are for the learning curve."""

    step: int
    p: FLOAT64  # (n, N)
    first_moment: FLOAT64  # (n, N), of AdamW
    second_moment: FLOAT64  # (n, N)
    loss: float = float("nan")  # mean loss of the step's prompts
    gradient_norm: float = 0.0  # before clipping


def score(tokens: ArrayLike, p: ArrayLike, kind: str = "unbiased") -> FLOAT64:
    """The score s of tokens (I, n) under p (n, N). Returns (I, n, N).

    unbiased: 1{t_i = j} / p_ij, the derivative of log p_{i, t_i} with free entries.
    official: +1/p_ij for the drawn entry, -1/p_ij for every other, as in the official code.
    """
    tokens, p = np.asarray(tokens), np.asarray(p, np.float64)
    drawn = tokens[..., None] == np.arange(p.shape[-1])  # (I, n, N)
    return np.where(drawn, 1.0, -1.0 if kind == "official" else 0.0) / p


def gradient(losses: ArrayLike, tokens: ArrayLike, p: ArrayLike, kind: str = "unbiased") -> FLOAT64:
    """BDPL's gradient estimate g_ij = 1/(I-1) sum_k (l_k - mean l) s_ij^k. losses (I,), tokens (I, n), p (n, N).

    With L_ij = E[l | t_i = j] and L = E[l]: E g_ij = L_ij - L for the unbiased score, 2 (L_ij - L) for the official
    one. Both point the same way: a projection onto the simplex does not see a constant added to a row.
    Returns (n, N).
    """
    losses = np.asarray(losses, np.float64)
    return np.tensordot(losses - losses.mean(), score(tokens, p, kind), axes=1) / (len(losses) - 1)


class BDPL(Method):
    """BDPL on mini-batches; the continuous part stays 0. A step costs I prompts.

    backend: where prompts are drawn and the gradient is taken, as in ZOPoG. What follows, the optimiser and the
    projection by sorting, is NumPy's: p is uploaded in every step, and gradient and mean loss come back in one copy.
    """

    settings: Settings

    def __init__(
        self,
        n_positions: int,
        n_candidates: int,
        dim: int,
        settings: Settings | None = None,
        seed: int = 0,
        backend: Backend = NUMPY,
    ) -> None:
        super().__init__(n_positions, n_candidates, dim, settings, seed)
        self.backend = backend
        if self.settings.floor * n_candidates > 1:
            raise ValueError(f"floor is {self.settings.floor}; {n_candidates} candidates allow {1 / n_candidates:.3g}")

    @property
    def calls_per_step(self) -> int:
        """I prompts."""
        return self.settings.samples

    def init(self) -> BDPLState:
        """p = 1/N everywhere."""
        shape = (self.n_positions, self.n_candidates)
        return BDPLState(0, np.full(shape, 1 / self.n_candidates), np.zeros(shape), np.zeros(shape))

    def step(self, state: BDPLState, objective: Objective, examples: INT64) -> BDPLState:
        """One policy-gradient step on the mini-batch of rows `examples` (B,)."""
        s, b, p = self.settings, self.backend, state.p
        on_backend = b.asarray(p)
        u = b.uniform(self.seed, state.step, Purpose.TOKENS_POLICY, (s.samples, self.n_positions))
        tokens = b.sample(on_backend, u)  # (I, n)
        points = np.broadcast_to(b.asarray(np.zeros(self.dim)), (s.samples, self.dim))
        losses = b.asarray(objective.losses(tokens, points, examples)).mean(axis=1)  # (I,)
        if b is NUMPY:
            g, loss = gradient(losses, tokens, p, s.score), float(losses.mean())  # (n, N)
        else:
            # With free entries this is ZO-PoG's gradient at alpha = p, tau = 1; the official score doubles it.
            drawn = b.policy_gradient(losses, tokens, on_backend, on_backend)
            read = b.to_numpy(np.concatenate((np.reshape(drawn, (-1,)), np.reshape(losses.mean(), (1,)))))
            g, loss = (2.0 if s.score == "official" else 1.0) * read[:-1].reshape(p.shape), float(read[-1])
        if not np.isfinite(loss):
            raise FloatingPointError(f"the mean loss of step {state.step} is {loss}: the model may be damaged")
        norm = float(np.linalg.norm(g))
        if 0 < s.clip < norm:
            g = g * (s.clip / norm)
        m, v = state.first_moment, state.second_moment
        if s.optimizer == "adamw":
            m, v = _BETA_1 * m + (1 - _BETA_1) * g, _BETA_2 * v + (1 - _BETA_2) * g**2
            unbiased_m, unbiased_v = m / (1 - _BETA_1 ** (state.step + 1)), v / (1 - _BETA_2 ** (state.step + 1))
            moved = p * (1 - s.eta_p * s.weight_decay) - s.eta_p * unbiased_m / (np.sqrt(unbiased_v) + _EPSILON)
        else:
            moved = p - s.eta_p * g
        return BDPLState(state.step + 1, project(moved, s.floor), m, v, loss, norm)

    def prompts(self, state: BDPLState) -> list[WeightedPrompt]:
        """The most probable prompt, argmax_j p_ij at every position."""
        return [WeightedPrompt(mode(state.p), np.zeros(self.dim), 1.0)]


BDPL.Settings = Settings
