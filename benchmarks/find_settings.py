"""How the shipped settings were found: coordinate search on dev, never looking at a test row.

    python benchmarks/find_settings.py --method bbt --task supersense --out settings.json

Starts from a method's shipped settings (or --start) and changes one setting at a time; a point's value is the mean,
over seeds that no table in the docs uses, of the accuracy on the task's WHOLE dev file of the prompt that the run
itself selected on its few-shot dev rows. The best value of a setting is kept before the next is tried. One thread a
process.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from zopog_models.frozen.model import load_model
from zopog_models.tasks.task_files import load_task, read_rows
from zopog_ref import run
from zopog_ref.app.run.experiment import prepare
from zopog_ref.app.run.presets import PRESET_FIELDS, PRESETS, Preset
from zopog_ref.app.tune.result import evaluate
from zopog_ref.methods import METHODS

# method -> setting -> values, in the order they are tried
GRIDS: dict[str, dict[str, list[Any]]] = {
    "zo-pog": {
        "eta_z": [0.2, 0.5, 1.0],
        "scale": [10.0, 30.0, 60.0],
        "mu": [0.03, 0.1, 0.3],
        "eta_alpha": [0.03, 0.3, 3.0, 10.0],
        "decay": [0.0, 0.03],
        "gumbel": ["per_step", "per_sample", "none"],
        "directions": ["per_example", "shared"],
        "tau": [0.5, 1.0, 2.0],
    },
    "bdpl": {"eta_p": [0.03, 0.3, 3.0], "samples": [10, 20, 40], "n_positions": [5, 20]},
    # Where z is drawn around 0 only scale times sigma counts: the size of A z in standard deviations of an embedding.
    "bbt": {"scale": [1.0, 3.0, 10.0], "dim": [50, 500], "diagonal": [False, True], "popsize": [10, 20]},
    "catcma": {"scale": [1.0, 3.0, 10.0], "dim": [50, 500], "popsize": [10, 20]},
    "sspt": {"keep": [50, 100, 500], "eta_z": [0.2, 0.5, 1.0], "mu": [0.03, 0.1, 0.3], "decay": [0.0, 0.03]},
    "ensembles": {"scale": [1.0, 3.0, 10.0], "dim": [50, 500], "members": [3, 5, 10]},
    "cma-elbo": {"scale": [1.0, 3.0, 10.0], "dim": [50, 500], "draws": [2, 4, 10], "kl_weight": [0.0, 1e-3, 1e-1]},
    "abc-smc": {"scale": [0.5, 1.0, 3.0], "dim": [10, 50, 500], "weighted": [False, True], "members": [5, 10, 20]},
    "clip-tuning": {"scale": [1.0, 3.0, 10.0], "dim": [50, 500], "networks": [2, 4], "p_clip": [0.05, 0.1, 0.2]},
    "random-search": {"scale": [1.0, 3.0, 10.0], "sigma": [0.0, 1.0]},
}
SEEDS = (1, 2, 3)


def dev_accuracy(job: tuple[str, str, str, dict[str, Any], int]) -> float:
    """One run at one point with one seed: accuracy on the whole dev file; 0 when it diverges."""
    model_name, task_name, method, changes, seed = job
    model, task = load_model(model_name, threads=1), load_task(task_name)
    experiment = prepare(model, task, PRESETS[method, "embedded"].changed(**changes), seed, shots=16)
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


def value_of(preset: Preset, setting: str) -> Any:
    """A setting of the run or of its method."""
    return getattr(preset if setting in PRESET_FIELDS else preset.method, setting)


def main() -> None:
    """Run the search; print and write every point tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="zo-pog", choices=[name for name in METHODS if name in GRIDS])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--task", default="supersense")
    parser.add_argument("--settings", nargs="*", help="which to search, in this order (default: all of the grid)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--start", type=json.loads, default={}, help="JSON that replaces parts of the starting point")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    grid = GRIDS[arguments.method]
    settings = list(grid) if arguments.settings is None else arguments.settings
    unknown = [setting for setting in settings if setting not in grid]
    if unknown:
        parser.error(f"--settings: no grid for {', '.join(unknown)}; there is one for {', '.join(grid)}")
    shipped = PRESETS[arguments.method, "embedded"]
    point = {setting: value_of(shipped, setting) for setting in grid} | arguments.start
    tried: dict[str, list[float]] = {}
    with ProcessPoolExecutor(arguments.processes) as pool:
        for setting in settings or [next(iter(grid))]:
            values = grid[setting] if settings else [point[setting]]  # no settings: the starting point alone
            candidates = [point | {setting: value} for value in values]
            fresh = [c for c in candidates if json.dumps(c, sort_keys=True) not in tried]
            jobs = [(arguments.model, arguments.task, arguments.method, c, seed)
                    for c in fresh for seed in arguments.seeds]  # fmt: skip
            scores = pool.map(dev_accuracy, jobs)  # in the order of the jobs, each as soon as it is there
            for candidate in fresh:
                each = list(islice(scores, len(arguments.seeds)))
                tried[json.dumps(candidate, sort_keys=True)] = each
                print(f"{sum(each) / len(each):.3f}  {[round(s, 3) for s in each]}  {candidate}", flush=True)
            point = max(candidates, key=lambda c: sum(tried[json.dumps(c, sort_keys=True)]))
            print(f"-> {setting} = {point[setting]}", file=sys.stderr, flush=True)
            if arguments.out:
                rows = [{"settings": json.loads(key), "dev_accuracy": each} for key, each in tried.items()]
                found = {"method": arguments.method, "seeds": arguments.seeds, "best": point, "tried": rows}
                arguments.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(point))


if __name__ == "__main__":
    main()
