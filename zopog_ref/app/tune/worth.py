"""What a way to read a run's prompts is worth: what tables say of it, and whether it tells more than chance."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.prompts.predicting import chosen
from zopog_models.tasks.task_files import Rows
from zopog_ref.app.tune.readings import BEST_TEMPLATE, Reading

INT64 = NDArray[np.int64]


def measured(found: Reading, dev: Rows, test: Rows | None) -> dict[str, Any]:
    """What a table says of a reading beside the classification metrics."""
    said: dict[str, Any] = {"name": found.name, "calls": found.calls, "dev_nll": float(found.losses(dev.labels).mean())}
    if found.choice is not None or found.prompt.readout is not None:
        said["readout"] = found.prompt.readout.kind if found.prompt.readout is not None else "none"
    if found.name == BEST_TEMPLATE:
        said["template"] = found.prompt.template
    if test is None or found.test is None:
        return said
    p = found.test.probabilities
    right = int((chosen(p, found.test.per_prompt) == test.labels).sum())
    said |= {"accuracy": right / len(p), "interval": list(wilson(right, len(p)))}
    if found.prompt.readout is not None and (sets := found.prompt.readout.sets(p)) is not None:
        said["coverage"] = float(sets[np.arange(len(p)), test.labels].mean())
        said["set_size"] = float(sets.sum(axis=1).mean())
    return said


def wilson(right: int, rows: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95% interval of a share, right of rows."""
    share, scale = right / rows, 1 + z**2 / rows
    middle = (share + z**2 / (2 * rows)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def beats_chance(found: Reading, labels: INT64, classes: int) -> bool:
    """Whether its loss on the dev rows is under log C by more than two standard errors."""
    gain = math.log(classes) - found.losses(labels)
    spread = gain.std(ddof=1) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return bool(gain.mean() > 2 * spread)
