"""MPNet's layers (Song et al. 2020): BERT's, whose scores are shifted by the distance of the two positions.

attention = softmax(Q Kᵀ / √w + b[bucket(j − i)]) V
bucket(k) = |k| below 8, then two for each doubling up to 15 (from |k| = 91 on); 16 more where k > 0
"""

import numpy as np

from zopog_models.families.mpnet import BUCKETS, MPNet
from zopog_models.graph.layers import Layers

UNSEEN = -6e4  # a score that no softmax brings back, and that fp16 can hold


def bucket(distance: np.ndarray) -> np.ndarray:
    """The bucket of each distance j − i."""
    far, half = np.abs(distance), BUCKETS // 2
    beyond = half // 2 + np.floor(2 * np.log2(np.maximum(far, half // 2) / (half // 2))).astype(np.int64)
    found = np.where(far < half // 2, far, np.minimum(beyond, half - 1))
    return found + half * (distance > 0)


class MPNetLayers(Layers):
    """BERT's layers with another mask: the shifts, and UNSEEN where nothing may be looked at."""

    masked = True

    def sight(self, mask: str, at: str | None, total: str) -> str:
        assert isinstance(self.family, MPNet)
        g, longest = self.graph, self.architecture.max_positions
        table = self.tensors[self.family.relative_bias()].astype(np.float32).T  # (heads, BUCKETS)
        shifts = g.weight("relative_shifts", table[:, bucket(np.arange(1 - longest, longest))])
        columns = self.places(total)  # (1, S)
        rows = g.op("Transpose", columns, perm=(1, 0)) if at is None else at  # (S, 1), or (R, 1)
        distance = g.op("Add", g.op("Sub", columns, rows), g.scalar(longest - 1))  # (S, S) or (R, S)
        shift = g.op("Gather", shifts, distance, axis=1)  # (heads, S, S) or (heads, R, S)
        if at is not None:
            shift = g.op("Unsqueeze", g.op("Transpose", shift, perm=(1, 0, 2)), g.integers(2))  # (R, heads, 1, S)
        return g.op("Where", mask, shift, g.weight("unseen", np.array(UNSEEN, np.float32)))
