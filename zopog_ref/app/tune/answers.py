"""What each call of `auto` was answered, a file for each: nothing is asked twice, and every choice can be repeated.

A folder may come from a stranger, so a file is used for the very question that it names, or refused.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zopog_models.errors import TensorFileError
from zopog_models.files.tensor_file import read_metadata, read_tensors, write_tensors
from zopog_models.files.untrusted import check_regular
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.curve import digest
from zopog_ref.search import Arrays

__all__ = ["keep", "kept"]

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]


def keep(path: Path, template: str, rows: INT64, scores: FLOAT64, columns: INT64) -> None:
    """scores (rows, T), as float32, which is what a model gives; columns (T,). Errors: OSError."""
    path.parent.mkdir(exist_ok=True)
    arrays: Arrays = {"rows": rows, "scores": scores.astype(np.float32), "columns": columns}
    write_tensors(path, arrays, {"template": template, "sha256": digest(arrays)})


def kept(path: Path, template: str, rows: INT64) -> tuple[FLOAT64, INT64] | None:
    """Scores and columns, None where nothing is kept. Errors: InputError for a file that is not of this question."""
    if not path.exists():
        return None
    try:
        check_regular(path)
        found, about = {name: np.array(array) for name, array in read_tensors(path).items()}, read_metadata(path)
        scores, columns = found["scores"], found["columns"]
        same = about["template"] == template and np.array_equal(found["rows"], rows)
        if not same or about["sha256"] != digest(found) or scores.shape != (len(rows), len(columns)):
            raise ValueError("it is not the answer to this run's question")
        if scores.dtype != np.float32 or columns.dtype != np.int64 or not np.isfinite(scores).all():
            raise ValueError("its numbers are not those of an answer")
    except (TensorFileError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be used ({error!s:.300}): delete it, and it is asked and paid again") from None
    return scores.astype(np.float64), columns
