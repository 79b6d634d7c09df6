"""Linear maps in whole numbers: what quantize promises, and what ONNX Runtime computes from the graph."""

import numpy as np
import pytest

from zopog_models.graph import GraphBuilder
from zopog_models.graph.quantized import quantize
from zopog_models.runners.session import Session


def test_a_weight_is_off_by_half_a_step_at_most() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) * np.logspace(-3, 3, 7, dtype=np.float32)
    integers, scales = quantize(weight)
    assert (integers.dtype, scales.dtype, scales.shape) == (np.int8, np.float32, (7,))
    assert (np.abs(integers.astype(int)).max(axis=0) == 127).all()  # each column uses its range
    assert (np.abs(integers * scales - weight) <= scales * 0.5001).all()


def test_a_column_of_zeros() -> None:
    integers, scales = quantize(np.zeros((3, 2), np.float32))
    assert not integers.any()
    assert np.isfinite(scales).all()
    assert (scales > 0).all()


def dynamic(x: np.ndarray) -> np.ndarray:
    """What DynamicQuantizeLinear keeps of x, as ONNX defines it."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


@pytest.mark.parametrize("twin", [False, True])
def test_the_product_is_that_of_the_quantized_factors(twin: bool) -> None:
    """The twin takes one scale for all columns: the narrow columns are lost, and the test sees it."""
    rng = np.random.default_rng(1)
    weight = (rng.normal(size=(64, 5)) * [1, 10, 0.1, 1, 0.01]).astype(np.float32)
    x = rng.normal(size=(3, 4, 64)).astype(np.float32)
    g = GraphBuilder(precision="int8")
    first = g.product(g.input("x", np.float32, ("R", "S", 64)), "w", weight)
    g.output(g.op("Add", first, g.product("x", "v", weight)), "y", np.float32, ("R", "S", 5))
    if twin:
        g.initializers["w.scales"] = g.initializers["v.scales"] = np.full(5, g.initializers["w.scales"].max())
    computed = Session(g.model_bytes("product", {}), g.initializers, "cpu").run("y", {"x": x})
    integers, scales = quantize(weight)
    expected = 2 * dynamic(x) @ (integers * scales)
    off = np.abs(computed - expected).max(axis=(0, 1)) / np.abs(expected).max(axis=(0, 1))
    assert (off.max() < 1e-4) is not twin
    assert set(g.initializers) == {"w.int8", "w.scales", "v.int8", "v.scales"}  # nothing in floats besides
