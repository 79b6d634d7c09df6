"""Test predictions of a finished run, kept beside its result so that runs can be compared row by row."""

from dataclasses import dataclass
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
_ROUNDING = 1e-7  # of a sum that is 1


@dataclass(frozen=True)
class Predictions:
    """Probabilities on R test rows: of each of M prompts, and of the manual prompt."""

    rows: INT64  # (R,) which rows of the test file: what makes two runs comparable row by row
    labels: INT64  # (R,) true classes
    per_prompt: FLOAT64  # (M, R, C)
    weights: FLOAT64  # (M,), with sum 1
    manual: FLOAT64  # (R, C)

    @property
    def mean(self) -> FLOAT64:
        """The predictive that is deployed, sum_m w_m p_m(c | row); (R, C)."""
        return np.einsum("m,mrc->rc", self.weights, self.per_prompt)


def save_predictions(folder: Path, predictions: Predictions) -> None:
    """Write predictions.safetensors, whole or not at all. Probabilities are kept in float64, so nothing is rounded."""
    tensors = {name: np.asarray(value) for name, value in vars(predictions).items()}
    write_tensors(folder / PREDICTIONS, tensors)


def load_predictions(folder: Path) -> Predictions:
    """What save_predictions wrote. Errors: InputError when it is missing, damaged, or of another form."""
    path = folder / PREDICTIONS
    try:
        check_regular(path)
        found = Predictions(**{name: np.array(value) for name, value in read_tensors(path).items()})
    except (OSError, UnusableFile, TensorFileError, TypeError) as error:
        again = f"delete {folder / 'result.json'} and resume the run"
        raise InputError(f"{path} cannot be read ({error!s:.500}): {again}") from None
    if found.per_prompt.ndim != 3:
        raise InputError(f"{path}: per_prompt has shape {found.per_prompt.shape}, expected (prompts, rows, classes)")
    prompts, rows, classes = found.per_prompt.shape
    shapes = {"rows": (rows,), "labels": (rows,), "weights": (prompts,), "manual": (rows, classes)}
    for name, shape in shapes.items():
        if getattr(found, name).shape != shape:
            raise InputError(f"{path}: {name} has shape {getattr(found, name).shape}, expected {shape}")
    for name in ("rows", "labels"):
        if getattr(found, name).dtype.kind not in "iu":
            raise InputError(f"{path}: {name} must be whole numbers, got {getattr(found, name).dtype}")
    if rows and not (0 <= found.labels.min() and found.labels.max() < classes):
        raise InputError(f"{path}: labels go from {found.labels.min()} to {found.labels.max()} of {classes} classes")
    for name in ("per_prompt", "manual"):
        p = getattr(found, name)
        if p.dtype.kind != "f" or not (p >= 0).all() or not (np.abs(p.sum(axis=-1) - 1) < _ROUNDING).all():
            raise InputError(f"{path}: {name} must be probabilities, which sum to 1 in every row")
    if not (found.weights >= 0).all() or not abs(found.weights.sum() - 1) < _ROUNDING:
        raise InputError(f"{path}: weights must be numbers of at least 0 with sum 1")
    return found
