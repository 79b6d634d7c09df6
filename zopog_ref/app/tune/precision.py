"""Before fewer bits may answer a run's questions: how far their answers go with the full model's, on its own rows.

What a policy step reads is how the losses of its prompts differ on one mini-batch; what a zeroth-order step reads is
L(z + mu u) - L(z - mu u). Each is asked of both models, and the correlation r is what counts: of the variance that the
step then reads, about 1 - r^2 is rounding. Below THRESHOLD (a fifth of it is) the run is refused.

The questions teach the run nothing: no prompt, no alpha and no z depends on the answers. So they are not charged to its
budget; how many they were stands in config.json and result.json.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zopog_models.frozen.model import FrozenModel
from zopog_models.runners.local import REDUCED
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say
from zopog_ref.app.run.config import Precision
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.objective import LOSSES

PRECISIONS = ("fp32", *REDUCED)
SCOPES = ("policy", "all")
THRESHOLD = 0.9
PROMPTS = 24  # compared on each batch
PAIRS = 12  # of a zeroth-order difference
BATCHES = 2
FLOAT64 = NDArray[np.float64]


def use_precision(experiment: Experiment, asked: Precision) -> Precision:
    """Measure, then let the reduced model answer: what config.json keeps of it. Errors: InputError below THRESHOLD."""
    reduced = experiment.model.reduced(asked.precision)
    found = measure(experiment, reduced, asked)
    if found.least < THRESHOLD and not asked.anyway:
        raise InputError(
            f"{found.text()}. Below {THRESHOLD} it is refused{_cause(experiment, asked)}: take fp32"
            + (", keep --precision-scope policy," if asked.scope == "all" and found.policy >= THRESHOLD else "")
            + " or use it all the same with --precision-anyway"
        )
    say(found.text())
    experiment.reduce(reduced, asked.scope == "all")
    return found


def _cause(experiment: Experiment, asked: Precision) -> str:
    """What int8 often fails by on a decoder, for the message."""
    if asked.precision != "int8" or not experiment.model.description.decoder:
        return ""
    return " (int8 has one scale for all channels that a map reads, and decoders often have a few that are far larger)"


def measure(experiment: Experiment, reduced: FrozenModel, asked: Precision) -> Precision:
    """Where a run begins: prompts drawn at random from the candidates, around z = 0, on mini-batches of its rows.

    The same seed draws the same. Nothing of the run's own randomness is used up.
    """
    preset, rng = experiment.preset, np.random.default_rng([experiment.seed, 0x9EC])
    full, fewer = (experiment.oracle_of(model, "train") for model in (experiment.model, reduced))
    rows = len(experiment.train.labels)
    size = min(preset.batch_size, rows)
    losses: list[list[FLOAT64]] = [[], []]
    others: list[list[FLOAT64]] = [[], []]
    same, calls = [], 0
    for _ in range(BATCHES):
        examples = rng.permutation(rows)[:size]
        tokens = rng.integers(0, full.n_candidates, (PROMPTS, preset.n_positions))
        at_zero = np.zeros((PROMPTS, preset.dim))
        logits = [oracle.logits(tokens, at_zero, examples) for oracle in (full, fewer)]  # (PROMPTS, B, C) each
        for kept, found in zip(losses, logits):
            kept.append(_centred(_row_losses(experiment, found, examples).mean(axis=1)))
        same.append((logits[0].argmax(-1) == logits[1].argmax(-1)).mean())
        calls += 2 * PROMPTS
        if asked.scope == "all":
            tokens, points = _other_questions(experiment, tokens[:PAIRS], rng)
            for kept, oracle in zip(others, (full, fewer)):
                found = _row_losses(experiment, oracle.logits(tokens, points, examples), examples)
                kept.append(_read(experiment, found))
            calls += 2 * len(tokens)
    second = None if asked.scope == "policy" else correlation(np.concatenate(others[0]), np.concatenate(others[1]))
    first = correlation(np.concatenate(losses[0]), np.concatenate(losses[1]))
    agreement = {"policy": first, "zeroth_order": second, "labels": float(np.mean(same)), "calls": calls}
    return replace(asked, **agreement, threshold=THRESHOLD)  # type: ignore[arg-type]


def _row_losses(experiment: Experiment, logits: NDArray[np.float32], examples: NDArray[np.int64]) -> FLOAT64:
    """The run's own loss of each row: (K, B, C) -> (K, B)."""
    return LOSSES[experiment.loss](logits, experiment.train.labels[examples])


def _other_questions(
    experiment: Experiment, tokens: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], FLOAT64]:
    """Prompts that differ in z: antithetic pairs for a method with a radius mu, else points as far apart as sigma."""
    settings, dim = experiment.preset.method, experiment.preset.dim
    if hasattr(settings, "mu"):
        u = settings.mu * rng.standard_normal((len(tokens), dim))
        return np.concatenate([tokens, tokens]), np.concatenate([u, -u])
    return np.tile(tokens, (2, 1)), getattr(settings, "sigma", 1.0) * rng.standard_normal((2 * len(tokens), dim))


def _read(experiment: Experiment, losses: FLOAT64) -> FLOAT64:
    """What a step makes of (K, B) losses: the pairs' differences, each row's where it has a direction of its own, else
    the batch's; without pairs, how batches differ from their mean."""
    settings = experiment.preset.method
    if getattr(settings, "directions", "shared") != "per_example":
        losses = losses.mean(axis=1, keepdims=True)
    if hasattr(settings, "mu"):
        plus, minus = np.split(losses, 2)
        return (plus - minus).ravel()
    return _centred(losses.ravel())


def _centred(values: FLOAT64) -> FLOAT64:
    return values - values.mean()


def correlation(a: FLOAT64, b: FLOAT64) -> float:
    """Pearson's r; 0 where one of the two does not vary, so that a model that answers nothing earns nothing."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
