"""Clip-Tuning: BBT whose loss is a mixture of K frozen "thinned" networks' losses.

    m_k ~ Bernoulli(1 - p_clip) / (1 - p_clip), one fixed mask for each network over the hidden units of its layers
    loss(z) = mean_k loss of network k;      deploy the full network with the best z

Y. Chai, S. Wang, Y. Sun, H. Tian, H. Wu, H. Wang, *Clip-Tuning: Towards Derivative-free Prompt Learning with a Mixture
of Rewards*, Findings of EMNLP 2022. There is no official code; docs/clip-tuning.md says what was found and what was
chosen. Every network counts: a candidate costs K times what it costs BBT. With p_clip = 0 it is BBT, bit for bit.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.checks import Rule, at_least, check, check_choices
from zopog_ref.methods import bbt
from zopog_ref.objective import Objective, Thinnable
from zopog_ref.randomness import Purpose, uniform

__all__ = ["ClipTuning", "MixedRewards", "unit_mask"]


def unit_mask(seed: int, network: int, p_clip: float, hidden_units: tuple[int, int]) -> FLOAT64:
    """The fixed mask of a network: 0 with probability p_clip, else 1/(1 - p_clip), so that its mean is 1.

    hidden_units (layers, F). Returns (layers, F), the same for the same (seed, network).
    """
    kept = uniform(seed, network, Purpose.UNIT_MASK, hidden_units) >= p_clip
    return kept / (1 - p_clip)


class MixedRewards:
    """The objective that Clip-Tuning minimises: it asks K networks and mixes their mean losses on the rows."""

    def __init__(self, networks: list[Objective], mixture: str) -> None:
        self.networks, self.mixture = networks, mixture
        self.ledger = networks[0].ledger  # the one that all of them charge

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(P, 1): one mixed loss for each of P prompts, for P calls on each of the K networks."""
        losses = np.stack([network.losses(tokens, z, examples).mean(axis=1) for network in self.networks])  # (K, P)
        mixed: FLOAT64 = losses.max(axis=0) if self.mixture == "worst" else losses.mean(axis=0)
        return mixed[:, None]


class ClipTuning(bbt.BBT):
    """Clip-Tuning for n fixed tokens and a d-dimensional z. A step is a generation: popsize prompts on K networks.

    An objective without hidden units (a function of your own) has nothing to thin: it stands for all K networks.
    """

    @dataclass(frozen=True)
    class Settings(bbt.BBT.Settings):
        """BBT's settings, and those of the thinned networks: the symbols of docs/clip-tuning.md."""

        networks: int = 4  # K
        p_clip: float = 0.1  # probability that a hidden unit is switched off
        mixture: Literal["mean", "worst"] = "mean"  # of the K networks' losses

        def __post_init__(self) -> None:
            super().__post_init__()
            check(self, at_least(1), "networks")
            check(self, Rule("be 0 or more, and less than 1", lambda p_clip: 0 <= p_clip < 1), "p_clip")
            check_choices(self)

    settings: Settings

    @property
    def thins(self) -> bool:
        """True unless p_clip is 0."""
        return self.settings.p_clip > 0

    @property
    def calls_per_step(self) -> int:
        """popsize prompts on each of K networks."""
        return self.settings.popsize * self.settings.networks

    def step(self, state: bbt.BBTState, objective: Objective, examples: INT64) -> bbt.BBTState:
        """BBT's generation, on the mixture."""
        return super().step(state, MixedRewards(self.thinned(objective), self.settings.mixture), examples)

    def thinned(self, objective: Objective) -> list[Objective]:
        """The K networks, each with the mask it keeps for the whole run."""
        s = self.settings
        if not self.thins or not isinstance(objective, Thinnable):
            return [objective] * s.networks
        units = objective.hidden_units
        return [objective.thinned(unit_mask(self.seed, k, s.p_clip, units)) for k in range(s.networks)]
