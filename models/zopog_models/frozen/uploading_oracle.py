"""The black box for a method whose mathematics is NumPy's, beside a model that reads arrays where they lie.

CMA-ES and its like compute on the host. What their queries need beside the model does not have to: A z (offsets of n E
numbers a prompt) is computed and read on the device. Prompts and points go over in one upload each, and the scores come
back in one copy, the only wait.
"""

from __future__ import annotations  # signatures show names, not what these stand for

import numpy as np

from zopog_models.frozen.device_oracle import DeviceOracle
from zopog_models.frozen.oracle import distinct_prompts

__all__ = ["UploadingOracle"]


class UploadingOracle(DeviceOracle):
    """A `DeviceOracle` whose tokens, z and scores lie on the host: the interface of a `FrozenModelOracle`.

    On a CPU the scores have the bits of FrozenModelOracle's where both read the same chunks. Parameters and errors are
    DeviceOracle's; indices are looked at, as FrozenModelOracle does.
    """

    def logits(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Scores (K, B, C), float32, as FrozenModelOracle.logits; equal prompts are read once."""
        tokens, z, examples = np.asarray(tokens), np.asarray(z), np.asarray(examples)
        self._check(tokens, z, examples)
        if z.ndim == 3:
            return self._read_once(tokens, z, examples)
        points, distinct, point, prompt = distinct_prompts(tokens, z)
        chosen = points[point]
        if len(points) == 1:  # one point for all prompts is projected once
            chosen = np.broadcast_to(points, chosen.shape)
        return self._read_once(distinct, chosen, examples)[prompt]

    def _read_once(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        shared = not z.strides[0]  # one point, broadcast to all prompts
        points = self._memory.asarray(z[:1] if shared else z, "float32")
        if shared:
            points = np.broadcast_to(points, z.shape)
        return self._memory.to_numpy(super().logits(self._memory.asarray(tokens, "int64"), points, examples))
