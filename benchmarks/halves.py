"""What the two halves of a ZO-PoG step see on a real task: signal, and the variance that [J1] to [J4] split.

    python benchmarks/halves.py --task supersense --n-positions 20

At the start (alpha = 1/N, z = 0), over random prompts and directions that all prompts share, on all training rows:

    between prompts     tr Cov_t(grad_z l(t))       [J3]: what a step with K prompts has a K-th of
    one prompt          E_t ||grad_z l(t)||^2       the signal of a prompt that is kept
    all prompts         ||E_t grad_z l(t)||^2       the signal while p is uniform
    between rows        E_t mean_b ||grad_z f_b||^2 [Z5b]: divided by the step's directions I_2 B / (d + 1)
    Var(l), w           [J2]: of the losses of prompts, and of a pair's mean around its prompt's

A squared slope along u ~ N(0, I) has the mean ||grad||^2. Products of different prompts, or of different directions for
the variance of the mean, keep these estimates free of each other's noise.
"""

import argparse
import json
from dataclasses import replace

import numpy as np

from zopog_models.frozen.model import load_model
from zopog_models.tasks.task_files import load_task
from zopog_ref.app.run.experiment import prepare
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.objective import Ledger


def main() -> None:
    """Ask, and print the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--task", default="supersense")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n-positions", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--directions", type=int, default=40)
    asked = parser.parse_args()
    preset = replace(PRESETS["zo-pog", "embedded"], n_positions=asked.n_positions)
    mu = preset.method.mu
    experiment = prepare(load_model(asked.model, threads=1), load_task(asked.task), preset, asked.seed, shots=16)
    rows, rng = np.arange(len(experiment.train.labels)), np.random.default_rng(asked.seed)
    objective = experiment.objective(Ledger(10**9, batch_size=preset.batch_size))
    T, D, d = asked.prompts, asked.directions, preset.dim
    tokens = rng.integers(0, experiment.preset.n_candidates, (T, asked.n_positions))
    at_zero = objective.losses(tokens, np.zeros((T, d)), rows).mean(axis=1)  # (T,)
    slope, even = np.empty((D, T, len(rows))), np.empty((D, T))
    for k, u in enumerate(rng.standard_normal((D, d))):
        both = [objective.losses(tokens, np.tile(sign * mu * u, (T, 1)), rows) for sign in (1, -1)]  # (T, rows) each
        slope[k], even[k] = (both[0] - both[1]) / (2 * mu), (both[0] + both[1]).mean(axis=1) / 2
    of_prompt = slope.mean(axis=2)  # (D, T): <u, grad l(t)>
    one = float((of_prompt**2).mean())
    between = float(of_prompt.var(axis=1, ddof=1).mean())
    found = {
        "one prompt": one, "between prompts": between, "all prompts": one - between,
        "between rows": float((slope**2).mean()), "d": d, "rows": len(rows), "calls": objective.ledger.calls,
        "Var(l)": float(at_zero.var(ddof=1)), "w": float(even.var(axis=0, ddof=1).mean()),
    }  # fmt: skip
    print(json.dumps({name: float(f"{value:.3g}") for name, value in found.items()}))


if __name__ == "__main__":
    main()
