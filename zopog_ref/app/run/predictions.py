"""Test predictions of a finished run, kept beside its result so that runs can be compared row by row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zopog_models.errors import UnusableFile
from zopog_models.files.tensor_file import TensorFileError, read_tensors, write_tensors
from zopog_models.files.untrusted import check_regular
from zopog_ref.app.errors import InputError

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]

PREDICTIONS = "predictions.safetensors"
# Beside the manual prompt as it is.
READINGS = ("manual, best template", "manual + centred", "manual + readout", "tuned", "tuned + readout")
_ROUNDING = 1e-7  # of a sum that is 1


@dataclass(frozen=True)
class Answers:
    """Probabilities on R rows, of each of M prompts."""

    per_prompt: FLOAT64  # (M, R, C)
    weights: FLOAT64  # (M,), with sum 1

    @property
    def mean(self) -> FLOAT64:
        """The predictive, sum_m w_m p_m(c | row); (R, C)."""
        return np.einsum("m,mrc->rc", self.weights, self.per_prompt)


@dataclass(frozen=True)
class Predictions(Answers):
    """Probabilities on R test rows: of what is deployed, of the manual prompt, and of every other way to read the two
    (none in a run without a readout)."""

    rows: INT64  # (R,) which rows of the test file: what makes two runs comparable row by row
    labels: INT64  # (R,) true classes
    manual: FLOAT64  # (R, C)
    readings: Mapping[str, Answers] = field(default_factory=dict)  # by the names of READINGS


def save_predictions(folder: Path, predictions: Predictions) -> None:
    """Write predictions.safetensors, whole or not at all. Probabilities are kept in float64, so nothing is rounded."""
    own = {name: value for name, value in vars(predictions).items() if name != "readings"}
    more = {f"{name}.{part}": v for name, given in predictions.readings.items() for part, v in vars(given).items()}
    write_tensors(folder / PREDICTIONS, {name: np.asarray(value) for name, value in (own | more).items()})


def load_predictions(folder: Path) -> Predictions:
    """What save_predictions wrote. Errors: InputError when it is missing, damaged, or of another form."""
    path = folder / PREDICTIONS
    try:
        check_regular(path)
        tensors = {name: np.array(value) for name, value in read_tensors(path).items()}
        readings = {
            name: Answers(tensors.pop(f"{name}.per_prompt"), tensors.pop(f"{name}.weights"))
            for name in READINGS
            if f"{name}.per_prompt" in tensors
        }
        found = Predictions(**tensors, readings=readings)
    except (OSError, UnusableFile, TensorFileError, TypeError, KeyError) as error:
        again = f"delete {folder / 'result.json'} and resume the run"
        raise InputError(f"{path} cannot be read ({error!s:.500}): {again}") from None
    if found.per_prompt.ndim != 3:
        raise InputError(f"{path}: per_prompt has shape {found.per_prompt.shape}, expected (prompts, rows, classes)")
    _, rows, classes = found.per_prompt.shape
    for name, shape in {"rows": (rows,), "labels": (rows,), "manual": (rows, classes)}.items():
        if getattr(found, name).shape != shape:
            raise InputError(f"{path}: {name} has shape {getattr(found, name).shape}, expected {shape}")
    for name in ("rows", "labels"):
        if getattr(found, name).dtype.kind not in "iu":
            raise InputError(f"{path}: {name} must be whole numbers, got {getattr(found, name).dtype}")
    if rows and not (0 <= found.labels.min() and found.labels.max() < classes):
        raise InputError(f"{path}: labels go from {found.labels.min()} to {found.labels.max()} of {classes} classes")
    _check_probabilities(f"{path}: manual", found.manual)
    for name, answers in {"": found, **readings}.items():
        _check_answers(f"{path}: {name and name + '.'}", answers, (rows, classes))
    return found


def _check_answers(where: str, answers: Answers, shape: tuple[int, int]) -> None:
    prompts, weights = len(answers.per_prompt), answers.weights
    wanted = {"per_prompt": (prompts, *shape), "weights": (prompts,)}
    for name, expected in wanted.items():
        if getattr(answers, name).shape != expected:
            raise InputError(f"{where}{name} has shape {getattr(answers, name).shape}, expected {expected}")
    _check_probabilities(f"{where}per_prompt", answers.per_prompt)
    if not (weights >= 0).all() or not abs(weights.sum() - 1) < _ROUNDING:
        raise InputError(f"{where}weights must be numbers of at least 0 with sum 1")


def _check_probabilities(what: str, p: FLOAT64) -> None:
    if p.dtype.kind != "f" or not (p >= 0).all() or not (np.abs(p.sum(axis=-1) - 1) < _ROUNDING).all():
        raise InputError(f"{what} must be probabilities, which sum to 1 in every row")
