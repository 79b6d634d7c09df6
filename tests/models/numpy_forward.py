"""Each encoder family's forward pass in float64 NumPy, by model_type."""

from collections.abc import Callable

import numpy as np

from tests.models.numpy_bert import full_logits
from tests.models.numpy_encoders import albert, as_roberta, distilbert, electra
from tests.models.numpy_modernbert import modernbert, mpnet

FORWARD: dict[str, Callable[..., np.ndarray]] = {
    "bert": full_logits,
    "roberta": full_logits,
    "xlm-roberta": as_roberta,
    "camembert": as_roberta,
    "distilbert": distilbert,
    "electra": electra,
    "albert": albert,
    "mpnet": mpnet,
    "modernbert": modernbert,
}
