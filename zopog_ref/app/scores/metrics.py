"""Classification metrics from predictions: accuracy, macro F1, Matthews correlation, the confusion matrix."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion(labels: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Rows are true classes, columns predicted ones, all of them classes. Returns (C, C) counts."""
    cells = np.asarray(labels) * n_classes + np.asarray(predicted)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def classification_metrics(labels: ArrayLike, predicted: ArrayLike, classes: list[str]) -> dict[str, Any]:
    """accuracy, majority (always the most frequent class), macro_f1, matthews (the multi-class form), confusion.

    macro_f1 is the mean over the classes that are true or predicted somewhere, as scikit-learn has it. A row predicted
    as -1 has no answer: it is wrong, stands in no column of the confusion, and is counted (`unanswered`, if any).
    """
    y, predicted = np.asarray(labels), np.asarray(predicted)
    told = predicted >= 0
    table = confusion(y[told], predicted[told], len(classes))
    true, guessed, right = np.bincount(y, minlength=len(classes)), table.sum(axis=0), np.diag(table)
    total, silent = len(y), int((~told).sum())
    f1 = 2 * right / np.maximum(true + guessed, 1)
    # covariance of the one-hot true and predicted classes over the product of their deviations
    covariance = right.sum() * total - (true * guessed).sum()
    spread = np.sqrt(float(total**2 - (true**2).sum())) * np.sqrt(float(total**2 - (guessed**2).sum() - silent**2))
    return {
        "accuracy": float(right.sum() / total),
        "majority": float(true.max() / total),
        "macro_f1": float(f1[true + guessed > 0].mean()),
        "matthews": float(covariance / spread) if spread else 0.0,
        "rows": total,
        "classes": classes,
        "confusion": table.tolist(),
        **({"unanswered": silent} if silent else {}),
    }
