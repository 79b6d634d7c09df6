"""The projection A z as a graph of one product, so that it runs in the same threads as the model.

NumPy's BLAS would bring its own threads, which keep spinning for a while after each product and slow down the model's.
"""

import numpy as np

from zopog_models.graph.builder import GraphBuilder


def build_projection(projection: np.ndarray) -> tuple[bytes, dict[str, np.ndarray]]:
    """z (U, d) -> offset (U, n·D), offset = z Aᵀ, for A (n·D, d)."""
    rows, dim = projection.shape
    g = GraphBuilder()
    z = g.input("z", np.float32, ("U", dim))
    offset = g.op("MatMul", z, g.weight("projection.T", projection.T))
    g.output(offset, "offset", np.float32, ("U", rows))
    return g.model_bytes("projection", {}), g.initializers
