"""ZO-PoG, Algorithm 1: policy gradient on the discrete prompt, then a zeroth-order step on the continuous one.

    >>> import numpy as np
    >>> from zopog_ref import FunctionObjective, Ledger, Settings, ZOPoG
    >>> def my_function(tokens, z, examples):  # (K, n), (d,) or (K, d), (B,) -> losses (K, B)
    ...     loss = (tokens != 2).sum(axis=1) + ((z - 1) ** 2).sum(axis=-1)
    ...     return np.repeat(loss[:, None], len(examples), axis=1)
    >>> settings = Settings(eta_alpha=0.1, eta_z=0.1, directions="shared")
    >>> method = ZOPoG(n_positions=4, n_candidates=3, dim=2, settings=settings, seed=0)
    >>> objective, state = FunctionObjective(my_function, Ledger(budget=4000)), method.init()
    >>> for _ in range(100):  # of 40 calls
    ...     state = method.step(state, objective, np.arange(1))
    >>> [prompt] = method.prompts(state)  # its tokens, z and weight 1
    >>> prompt.tokens
    array([2, 2, 2, 2])
    >>> prompt.z.round(1)
    array([1., 1.])

Reported (official code): the two estimates, their alternation, the clipping, the numbers of Settings.paper().
"""

from __future__ import annotations  # signatures show names, not what these stand for

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from zopog_ref import read_loss
from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import NOT_NEGATIVE, POSITIVE, at_least, check, check_choices
from zopog_ref.distribution import mode
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.norms import norm
from zopog_ref.objective import Objective
from zopog_ref.randomness import Purpose

__all__ = ["Settings", "ZOPoG", "ZOPoGState"]


@dataclass(frozen=True)
class ZOPoGState:
    """Where a run stands. The floats are for the learning curve; step, alpha, z and readout decide what comes next."""

    step: int
    alpha: FLOAT64  # (n, N)
    z: FLOAT64  # (d,)
    loss: float = float("nan")  # mean loss of the step's queries
    alpha_gradient_norm: float = 0.0
    z_gradient_norm: float = 0.0
    readout: FLOAT64 | None = None  # (folds, C + 1, C): Theta of `read_loss`


class ZOPoG(Method):
    """ZO-PoG, Algorithm 1, for n positions, N candidates and a d-dimensional continuous prompt.

    A step costs I_1 + 2 I_2 calls (40 with 20 and 10). Every random number comes from (seed, step), so the state
    holds no generator and a resumed run repeats an uninterrupted one bit for bit.

    Parameters:

    - n_positions: n, positions of the discrete prompt; at least 1.
    - n_candidates: N, candidate tokens at each position; at least 1.
    - dim: d, dimensions of the continuous prompt z; at least 1.
    - settings: step sizes, samples, variants. Default: None, which is Settings().
    - seed: decides every draw; 0 to 2^64 - 1. Default: 0.
    - backend: where the mathematics runs. On a GPU (zopog_kernels.cupy_backend()) alpha and z stay there from step to
      step, the objective gets arrays that are there and should return such; a step waits for the device once.
      Default: NumPy.

    Errors: ValueError when n, N, d or the seed is unusable.
    """

    @dataclass(frozen=True)
    class Settings:
        """Settings of ZO-PoG: the symbols of docs/zo-pog.md. The defaults learn; paper() are the published ones.

        Parameters:

        - policy_samples: I_1, prompts of a policy step; at least 2. Default: 20.
        - direction_pairs: I_2, antithetic pairs of a zeroth-order step; at least 1. Default: 10.
        - tau: temperature. Default: 1.0.
        - mu: smoothing radius, in the unit of z. Default: 0.03.
        - eta_alpha: step size of alpha. Default: 0.03.
        - eta_z: step size of z. Default: 0.3.
        - decay: step t uses eta / (1 + decay t), for both; 0 is constant, as published. Default: 0.0.
        - alpha_min: Assumption 4's lower bound on alpha, enforced by clipping. Default: 1e-11.
        - gumbel: noise g for each sample ("per_sample"), for each step ("per_step"), or "none". Default: "per_step".
        - directions: u for each example ("per_example") or one for all ("shared"). Default: "per_example".
        - deploy: the argmax of alpha ("mode"), or of the last noisy p ("noisy_mode"). Default: "mode".
        - policy: False is the ablation without policy gradient: alpha stays at 1/N. Default: True.
        - zeroth_order: False is the ablation without zeroth-order steps: z stays 0. Default: True.
        - screen: True is no published method but our improved variant (screened()): the first step spends its calls on
          prompts at z = 0, the best of them is kept, and all other calls go to z. Needs policy=False. Default: False.
        - readout_folds: 0 is the published method. F > 0: the loss is read through a readout, refitted after each step
          from its own scores, a third block that costs no calls. F = 1: fitted on all rows, and so to the rows whose
          loss is read; F >= 2: each row by one that never saw it (zopog_ref/read_loss.py). Default: 0.

        Errors: ValueError naming the setting that cannot be used.
        """

        policy_samples: int = 20  # I_1
        direction_pairs: int = 10  # I_2
        tau: float = 1.0
        mu: float = 0.03
        eta_alpha: float = 0.03
        eta_z: float = 0.3
        decay: float = 0.0
        alpha_min: float = 1e-11
        gumbel: Literal["per_sample", "per_step", "none"] = "per_step"
        directions: Literal["per_example", "shared"] = "per_example"
        deploy: Literal["mode", "noisy_mode"] = "mode"
        policy: bool = True
        zeroth_order: bool = True
        screen: bool = False
        readout_folds: int = 0

        def __post_init__(self) -> None:
            check(self, at_least(2), "policy_samples")
            check(self, at_least(1), "direction_pairs")
            check(self, POSITIVE, "tau", "mu", "eta_alpha", "eta_z", "alpha_min")
            check(self, NOT_NEGATIVE, "decay")
            check(self, at_least(0), "readout_folds")
            check_choices(self)
            if not (self.policy or self.zeroth_order):
                raise ValueError("policy and zeroth_order are both off: nothing would be learned")
            if self.screen and self.policy:
                raise ValueError("screen keeps one prompt, from which policy steps learn nothing: turn policy off")

        @classmethod
        def official(cls, **changes: object) -> Self:
            """The choices of the official code where the paper's text leaves room, with these changes."""
            official = cls(gumbel="per_step", directions="per_example", deploy="noisy_mode")
            return replace(official, **changes)  # type: ignore[arg-type]

        @classmethod
        def paper(cls) -> Self:
            """The published numbers for RoBERTa-large, in the official variant; its projection has scale a = 100."""
            return cls.official(mu=0.01, eta_alpha=1e-3, eta_z=1e-2)

        @classmethod
        def screened(cls, **changes: object) -> Self:
            """The improved variant with the numbers found on dev (docs/zo-pog.md), with these changes."""
            found = cls(screen=True, policy=False, direction_pairs=20, mu=0.1, eta_z=1.2, decay=0.06, gumbel="none")
            return replace(found, **changes)  # type: ignore[arg-type]

    settings: Settings

    @property
    def has_kernels(self) -> bool:
        """True without a readout in the loss, which is fitted in NumPy."""
        return not self.settings.readout_folds

    @property
    def calls_per_step(self) -> int:
        """API calls of one step: I_1 + 2 I_2, or one of the two in an ablation."""
        s = self.settings
        return s.policy * s.policy_samples + s.zeroth_order * 2 * s.direction_pairs

    def init(self) -> ZOPoGState:
        """alpha_0 = 1/N everywhere, z_0 = 0."""
        alpha = np.full((self.n_positions, self.n_candidates), 1 / self.n_candidates)
        return ZOPoGState(0, alpha, np.zeros(self.dim), readout=read_loss.start(self.settings.readout_folds))

    def step(self, state: ZOPoGState, objective: Objective, examples: INT64) -> ZOPoGState:
        """One iteration of Algorithm 1 on the mini-batch of rows `examples` (B,)."""
        s, b = self.settings, self.backend
        alpha, z = b.asarray(state.alpha), b.asarray(state.z)
        eta_alpha, eta_z = (eta / (1 + s.decay * state.step) for eta in (s.eta_alpha, s.eta_z))
        objective = read_loss.reading(objective, s.readout_folds, state.readout, self.seed)
        if s.screen and state.step == 0:
            return self._screened(alpha, z, objective, examples)
        queries: list[FLOAT64] = []
        alpha_gradient, z_gradient = np.zeros_like(alpha), np.zeros_like(z)

        if s.policy:  # alpha <- max(alpha - eta_alpha g_alpha, alpha_min), at the current z
            p = self._probabilities(alpha, state.step, Purpose.GUMBEL_POLICY, s.policy_samples)
            tokens = self._draw(p, state.step, Purpose.TOKENS_POLICY, s.policy_samples)  # (I1, n)
            points = np.broadcast_to(z, (len(tokens), self.dim))
            losses = b.asarray(objective.losses(tokens, points, examples))  # (I1, B)
            alpha_gradient = b.policy_gradient(losses.mean(axis=1), tokens, alpha, p, s.tau)  # (n, N)
            alpha = np.maximum(alpha - eta_alpha * alpha_gradient, s.alpha_min)
            queries.append(losses)

        if s.zeroth_order:  # z <- z - eta_z g_z, with prompts from the new distribution
            # Under per_step noise the draw that follows an update of alpha serves this step's zeroth-order half and
            # the next step's policy half, as in the official code: hence step + 1 here and step above.
            p = self._probabilities(alpha, state.step + 1, Purpose.GUMBEL_ZEROTH, s.direction_pairs)
            tokens = self._draw(p, state.step, Purpose.TOKENS_ZEROTH, s.direction_pairs)  # (I2, n)
            u = self._directions(state.step, len(examples))  # (I2, d) or (I2, B, d)
            points = np.reshape(b.perturb(z, u, s.mu), (2 * s.direction_pairs, *u.shape[1:]))  # z + mu u, z - mu u
            losses = b.asarray(objective.losses(np.tile(tokens, (2, 1)), points, examples))
            plus, minus = losses[: s.direction_pairs], losses[s.direction_pairs :]  # (I2, B) each
            if s.directions == "shared":
                plus, minus = plus.mean(axis=1), minus.mean(axis=1)  # (I2,) each: [Z1], else [Z1b]
            z_gradient = b.two_point_gradient(plus, minus, u, s.mu, getattr(objective, "roundoff", None))
            z = z - eta_z * z_gradient
            queries.append(losses)

        mean = np.mean(np.concatenate(queries))
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(alpha_gradient), np.linalg.norm(z_gradient)
        loss, alpha_norm, z_norm = np.stack((mean, *norms)).tolist()  # the one place that waits for a device
        if not np.isfinite((alpha_norm, z_norm)).all():  # the squares of a finite gradient may overflow
            alpha_norm, z_norm = norm(b.to_numpy(alpha_gradient)), norm(b.to_numpy(z_gradient))
        if not np.isfinite((loss, alpha_norm, z_norm)).all():
            raise FloatingPointError(
                f"step {state.step} has mean loss {loss} and gradients of norm {alpha_norm} and {z_norm}: "
                "a smaller eta_z or scale may help, or losses in a larger unit"
            )
        return ZOPoGState(state.step + 1, alpha, z, loss, alpha_norm, z_norm, read_loss.refitted(objective))

    def _screened(self, alpha: Any, z: Any, objective: Objective, examples: INT64) -> ZOPoGState:
        """The first step of screen: of as many prompts as a step has calls the best, alpha_min for all other tokens.

        It is a policy step whose alpha goes all the way to the best sample.
        """
        count = self.calls_per_step
        tokens = self._draw(
            self._probabilities(alpha, 0, Purpose.GUMBEL_POLICY, count), 0, Purpose.TOKENS_POLICY, count
        )
        losses = objective.losses(tokens, np.broadcast_to(z, (count, self.dim)), examples)
        mean = self.backend.to_numpy(losses).mean(axis=1)  # (R,)
        if not np.isfinite(mean).all():
            raise FloatingPointError(
                f"{int((~np.isfinite(mean)).sum())} of {count} screened prompts have no finite loss"
            )
        kept = np.full((self.n_positions, self.n_candidates), self.settings.alpha_min)
        kept[np.arange(self.n_positions), self.backend.to_numpy(tokens)[mean.argmin()]] = 1.0
        return ZOPoGState(1, self.backend.asarray(kept), z, float(mean.mean()), readout=read_loss.refitted(objective))

    def prompts(self, state: ZOPoGState) -> list[WeightedPrompt]:
        """The prompt to deploy: the mode of the distribution, and z.

        deploy="mode" takes argmax_j alpha_ij, the mode of the distribution. deploy="noisy_mode" takes the argmax of
        the last noisy p, as the official code does: that is one random draw from alpha, not its mode.
        """
        if self.settings.deploy == "mode":
            weights = state.alpha
        else:
            p = self._probabilities(state.alpha, state.step, Purpose.GUMBEL_POLICY, 1)
            weights = p[0] if p.ndim == 3 else p
        tokens, z = mode(self.backend.to_numpy(weights)), self.backend.to_numpy(state.z)
        return [WeightedPrompt(tokens, z, 1.0, read_loss.deployed(state.readout))]

    def _probabilities(self, alpha: FLOAT64, step: int, purpose: Purpose, samples: int) -> FLOAT64:
        """p with the noise of this mode: (n, N), or (samples, n, N) for per_sample."""
        b, mode_, tau = self.backend, self.settings.gumbel, self.settings.tau
        if mode_ == "none":
            return b.probabilities(alpha, tau)
        if mode_ == "per_step":
            return b.probabilities(alpha, tau, b.gumbel(self.seed, step, Purpose.GUMBEL_STEP, alpha.shape))
        return b.probabilities(alpha, tau, b.gumbel(self.seed, step, purpose, (samples, *alpha.shape)))

    def _draw(self, p: FLOAT64, step: int, purpose: Purpose, samples: int) -> INT64:
        return self.backend.sample(p, self.backend.uniform(self.seed, step, purpose, (samples, self.n_positions)))

    def _directions(self, step: int, batch: int) -> Any:
        pairs = self.settings.direction_pairs
        shape = (pairs, self.dim) if self.settings.directions == "shared" else (pairs, batch, self.dim)
        return self.backend.normal(self.seed, step, Purpose.DIRECTIONS, shape)


Settings = ZOPoG.Settings  # zopog_ref.Settings: the algorithm that the package is about has the short name
