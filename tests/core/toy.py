"""A toy problem with a known best prompt: f = sum_i table[i, t_i] + |z - centre|^2 / 2 + a per-example shift."""

import numpy as np

from zopog_ref import DevScore, FunctionObjective, Ledger, WeightedPrompt

N_POSITIONS, N_CANDIDATES, DIM, ROWS = 4, 6, 3, 12
_rng = np.random.default_rng(5)
TABLE, CENTRE, SHIFT = _rng.random((N_POSITIONS, N_CANDIDATES)), _rng.normal(size=DIM), 0.1 * _rng.random(ROWS)
BEST = float(TABLE.min(axis=1).sum())


def losses(tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
    z = z if z.ndim == 3 else z[:, None, :]
    discrete = TABLE[np.arange(N_POSITIONS), tokens].sum(axis=-1)  # (K,)
    return discrete[:, None] + 0.5 * ((z - CENTRE) ** 2).sum(axis=-1) + SHIFT[examples]


def objective(budget: int) -> FunctionObjective:
    return FunctionObjective(losses, Ledger(budget))


def dev(prompts: list[WeightedPrompt]) -> DevScore:
    [prompt] = prompts
    loss = losses(prompt.tokens[None], prompt.z[None], np.arange(ROWS)).mean() - SHIFT.mean()
    return DevScore(0.0, float(loss))
