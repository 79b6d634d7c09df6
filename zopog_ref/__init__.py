"""ZO-PoG and its relatives in plain NumPy: black-box prompt learning, readable beside the paper.

Importing this package imports NumPy and the standard library, nothing else.
"""

import importlib
import importlib.util
import logging
from typing import Any

from zopog_ref.algorithm import Settings, ZOPoG, ZOPoGState
from zopog_ref.distribution import probabilities, sample, score
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.objective import (
    BudgetExhausted,
    FunctionObjective,
    Ledger,
    ModelObjective,
    Objective,
    Oracle,
    cross_entropy,
    hinge,
)
from zopog_ref.policy_gradient import policy_gradient
from zopog_ref.rounding import RoundingWarning
from zopog_ref.search import DevScore, Record, SearchResult, run
from zopog_ref.zeroth_order import perturb, projection, two_point_gradient

__version__ = "0.2.0"

__all__ = [
    "BudgetExhausted", "DevScore", "FunctionObjective", "Ledger", "Method", "ModelObjective", "Objective", "Oracle",
    "Record", "RoundingWarning", "SearchResult", "Settings", "WeightedPrompt", "ZOPoG", "ZOPoGState",
    "cross_entropy", "hinge", "perturb", "policy_gradient", "probabilities", "projection", "run", "sample", "score",
    "two_point_gradient",
]  # fmt: skip
if importlib.util.find_spec("sklearn"):  # so that `import *` works where it is not
    __all__ += ["PromptClassifier"]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until somebody listens


def __getattr__(name: str) -> Any:
    """PromptClassifier, imported when it is asked for: it needs scikit-learn and the packages of a model."""
    if name == "PromptClassifier":
        return importlib.import_module("zopog_ref.app.classifier.classifier").PromptClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What completion offers."""
    return sorted({*__all__, "PromptClassifier", "__version__"})
