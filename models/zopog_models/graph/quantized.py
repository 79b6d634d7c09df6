"""Linear maps in whole numbers: weights quantized once, a column each with its own scale, inputs as they come.

    x W ≈ s_x · s_j · Σ_i (X_i − Z) Q_ij        X = round(x / s_x) + Z in 0..255, one s_x and Z for the whole tensor
                                               Q = round(w / s_j)     in −127..127, s_j = max_i |w_ij| / 127

Processors with integer dot products (AVX-VNNI, AMX) multiply these several times as fast as floats. What it costs is
precision, and that rows of one chunk share s_x: a row's result depends on its neighbours in the last digits.
"""

import numpy as np


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W (in, out) -> Q (in, out), int8, and s (out,), float32, with W ≈ Q · s."""
    weight = np.asarray(weight, np.float32)
    scales = np.abs(weight).max(axis=0, initial=0.0) / 127
    scales = np.where(scales > 0, scales, 1).astype(np.float32)  # a column of zeros
    return np.ascontiguousarray(np.rint(weight / scales).astype(np.int8)), scales
