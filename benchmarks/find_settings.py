"""How the shipped settings were found: coordinate search on dev, never looking at a test row.

    python benchmarks/find_settings.py --task supersense --out settings.json

Starts from a point and changes one setting at a time; a point's value is the mean, over seeds that no table in the
docs uses, of the accuracy on the task's WHOLE dev file of the prompt that the run itself selected on its few-shot dev
rows. The best value of a setting is kept before the next is tried. Two processes, one thread each.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from zopog_models.runtime import load_model
from zopog_models.task import load_task, read_rows
from zopog_ref import run
from zopog_ref.app.experiment import prepare
from zopog_ref.app.presets import PRESETS
from zopog_ref.app.tune import evaluate

START: dict[str, Any] = {"scale": 30.0, "mu": 0.1, "eta_z": 0.5, "eta_alpha": 3.0, "decay": 0.03, "gumbel": "none"}
GRID: dict[str, list[Any]] = {
    "eta_z": [0.2, 0.5, 1.0],
    "scale": [10.0, 30.0, 60.0],
    "mu": [0.03, 0.1, 0.3],
    "eta_alpha": [0.03, 0.3, 3.0, 10.0],
    "decay": [0.0, 0.03],
    "gumbel": ["per_step", "per_sample", "none"],
    "directions": ["per_example", "shared"],
    "tau": [0.5, 1.0, 2.0],
}
SEEDS = (1, 2, 3)


def dev_accuracy(job: tuple[str, str, dict[str, Any], int]) -> float:
    """One run at one point with one seed: accuracy on the whole dev file; 0 when it diverges."""
    model_name, task_name, changes, seed = job
    model, task = load_model(model_name, threads=1), load_task(task_name)
    experiment = prepare(model, task, PRESETS["zo-pog", "embedded"].changed(**changes), seed, shots=16)
    assert task.dev is not None
    try:
        result = run(
            experiment.method(),
            experiment.objective(experiment.ledger()),
            rows=len(experiment.train.labels),
            batch_size=experiment.preset.batch_size,
            dev=experiment.dev_score,
        )
    except FloatingPointError:
        return 0.0
    prompt = experiment.deployable(result.prompts)
    return float(evaluate(model, prompt, task, read_rows(task.dev, task))["accuracy"])


def main() -> None:
    """Run the search; print and write every point tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--task", default="supersense")
    parser.add_argument("--settings", nargs="+", default=list(GRID), choices=list(GRID))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--start", type=json.loads, default={}, help="JSON that replaces parts of the starting point")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    point, tried = START | arguments.start, {}
    with ProcessPoolExecutor(2) as pool:
        for setting in arguments.settings:
            candidates = [point | {setting: value} for value in GRID[setting]]
            fresh = [c for c in candidates if json.dumps(c, sort_keys=True) not in tried]
            jobs = [(arguments.model, arguments.task, c, seed) for c in fresh for seed in arguments.seeds]
            scores = list(pool.map(dev_accuracy, jobs))
            for i, candidate in enumerate(fresh):
                each = scores[i * len(arguments.seeds) : (i + 1) * len(arguments.seeds)]
                tried[json.dumps(candidate, sort_keys=True)] = each
                print(f"{sum(each) / len(each):.3f}  {[round(s, 3) for s in each]}  {candidate}", flush=True)
            point = max(candidates, key=lambda c: sum(tried[json.dumps(c, sort_keys=True)]))
            print(f"-> {setting} = {point[setting]}", file=sys.stderr, flush=True)
            if arguments.out:
                rows = [{"settings": json.loads(key), "dev_accuracy": each} for key, each in tried.items()]
                arguments.out.write_text(json.dumps({"seeds": arguments.seeds, "best": point, "tried": rows}, indent=1))
    print(json.dumps(point))


if __name__ == "__main__":
    main()
