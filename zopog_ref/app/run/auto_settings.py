"""Settings for a model that nobody tuned for (`--settings auto`): sizes in units of the model, steps by the budget.

The projection A is in units of the standard deviation of the model's word embeddings, so a scale is the size of A z
for any model; the radius moves a prompt by scale mu = 3 of them, hundreds of times what the rounding of float32 asks
for (its cube root, about 0.008). The prompt is short: what is added to 5 positions says as much, and costs less.

A step costs what the budget can afford: about 0.6 sqrt(budget) prompts on a mini-batch, so that 200 calls are 25 steps
of 8 and 4,000 are 111 of 36: fewer calls are both fewer steps and cheaper ones. Methods that read all training rows
for each prompt ask for half as many prompts. docs/real-models.md says what was measured.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any

from zopog_ref.algorithm import Settings
from zopog_ref.methods.bbt import BBT
from zopog_ref.methods.bdpl import BDPL
from zopog_ref.methods.sspt import SSPT

__all__ = ["FEW_STEPS", "RULES", "auto_fields"]

FEW_STEPS = 20  # a run of fewer steps has hardly begun
_MOST = 40  # prompts of a step, as published
_STEP: dict[str, Any] = {"mu": 0.1, "eta_z": 0.7, "decay": 0.03}  # of z, with a scale of 30


def _zo_pog(prompts: int) -> dict[str, Any]:
    pairs = max(1, (prompts - 2) // 2)
    method = Settings(policy_samples=2, direction_pairs=pairs, eta_alpha=30.0, gumbel="none", **_STEP)
    return {"scale": 30.0, "method": method}


def _sspt(prompts: int) -> dict[str, Any]:
    return {"scale": 30.0, "method": SSPT.Settings(direction_pairs=max(1, prompts // 2), keep=500, **_STEP)}


def _bdpl(prompts: int) -> dict[str, Any]:
    return {"method": BDPL.Settings(samples=min(max(2, prompts), 20))}


def _bbt(prompts: int) -> dict[str, Any]:
    return {"scale": 3.0, "dim": 50, "method": BBT.Settings(popsize=min(max(2, prompts // 2), 20))}


# method -> its fields of a preset, for as many prompts a step; the other methods have no rule
RULES: dict[str, Callable[[int], dict[str, Any]]] = {"zo-pog": _zo_pog, "sspt": _sspt, "bdpl": _bdpl, "bbt": _bbt}


def auto_fields(method: str, budget: int) -> dict[str, Any]:
    """The fields of a preset that has this budget of calls; n = 5."""
    prompts = min(int(0.6 * sqrt(max(budget, 0))), _MOST)
    return {"n_positions": 5, "budget": budget, "method_name": method} | RULES[method](prompts)
