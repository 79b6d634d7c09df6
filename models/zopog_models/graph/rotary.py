"""Rotary positions in a graph (Su et al. 2021): at position p the pair (x_i, x_{i + w/2}) is turned by p · f_i."""

import math
from typing import NamedTuple

import numpy as np

from zopog_models.families.rotary import Rotary
from zopog_models.graph import onnx_format
from zopog_models.graph.builder import GraphBuilder

STRIDE = 256  # positions from one row of the coarse tables to the next


class Waves(NamedTuple):
    """Cosines and sines of p · f, (T, w/2), by the names of their values."""

    cosines: str
    sines: str
    width: int | None  # of a head that is turned; None: all of it


def frequencies(rotary: Rotary, head_width: int) -> np.ndarray:
    """f_i = θ^(−2i/w), (w/2,), float64; rescaled as config.json says.

    "linear": f_i / factor. "llama3": waves of more than context / low_freq_factor positions are slowed down by
    factor, those of fewer than context / high_freq_factor stay, between them the two are mixed linearly in
    context / wavelength. "yarn": those that turn fewer than beta_slow times in the context are slowed down, those that
    turn more than beta_fast times stay, between them the two are mixed linearly in i. "longrope": f_i / divisor_i.
    """
    f = rotary.theta ** (-np.arange(0, head_width, 2) / head_width)  # (w/2,)
    if rotary.kind == "linear":
        return f / rotary.factor
    if rotary.kind == "llama3":
        turns = rotary.original_max_positions * f / (2 * math.pi)  # in the context the model was first trained on
        low, high = rotary.low_freq_factor, rotary.high_freq_factor
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return kept * f + (1 - kept) * f / rotary.factor
    if rotary.kind == "yarn":
        first, last = _ramp(rotary, head_width)
        slowed = np.clip((np.arange(len(f)) - first) / (last - first), 0, 1)
        return (1 - slowed) * f + slowed * f / rotary.factor
    if rotary.kind == "longrope":
        return f / np.array(rotary.divisors)
    return f


def _ramp(rotary: Rotary, head_width: int) -> tuple[float, float]:
    """The i that turn beta_fast and beta_slow times in the context: where YaRN's ramp begins and ends."""

    def turning(times: float) -> float:
        context = rotary.original_max_positions / (2 * math.pi * times)
        return head_width * math.log(context) / (2 * math.log(rotary.theta))

    first, last = turning(rotary.beta_fast), turning(rotary.beta_slow)
    if rotary.whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_width - 1)
    return first, last + 0.001 if first == last else last


def wave_tables(waves: np.ndarray, positions: int) -> dict[str, np.ndarray]:
    """cos and sin of p · f for p = 0, STRIDE, 2 STRIDE, ... below `positions`, and for p = 0 ... STRIDE − 1, float64.

    cos((a + b) f) = cos a f cos b f − sin a f sin b f, sin((a + b) f) = sin a f cos b f + cos a f sin b f: every
    position to about 1e-16, from tables of a few hundred rows.
    """
    far = np.arange(0, positions, STRIDE)[:, None] * waves  # (positions / STRIDE, w/2)
    near = np.arange(STRIDE)[:, None] * waves  # (STRIDE, w/2)
    return {"cos_far": np.cos(far), "sin_far": np.sin(far), "cos_near": np.cos(near), "sin_near": np.sin(near)}


def add_waves(g: GraphBuilder, rotary: Rotary, width: int, positions: int, total: str, name: str = "rotary") -> Waves:
    """The waves of positions 0 ... total − 1, for a model of `positions` positions. name: of the tables."""
    # In float64: at position 100,000 an angle in float32 is off by 0.004 of a radian. From tables of two scales,
    # p = STRIDE · far + near, since not every ONNX Runtime has a cosine of float64.
    tables = wave_tables(frequencies(rotary, rotary.width or width), positions)
    scaled = {key: table * (rotary.attention_factor if "far" in key else 1) for key, table in tables.items()}
    cos_far, sin_far, cos_near, sin_near = (g.doubles(f"{name}_{key}", table) for key, table in scaled.items())
    places = g.op("Range", g.scalar(0), g.op("Squeeze", total), g.scalar(1))  # (T,)
    far = g.op("Div", places, g.scalar(STRIDE))
    near = g.op("Sub", places, g.op("Mul", far, g.scalar(STRIDE)))
    c, s = (g.op("Gather", table, far) for table in (cos_far, sin_far))  # (T, w/2)
    d, t = (g.op("Gather", table, near) for table in (cos_near, sin_near))
    cosines = g.op("Sub", g.op("Mul", c, d), g.op("Mul", s, t))
    sines = g.op("Add", g.op("Mul", s, d), g.op("Mul", c, t))
    cosines, sines = (g.from_float32(g.op("Cast", wave, to=onnx_format.FLOAT)) for wave in (cosines, sines))
    return Waves(cosines, sines, rotary.width)


def turned(g: GraphBuilder, x: str, waves: Waves, positions: str, heads: int) -> str:
    """x (R, S, heads · w), each head turned by its positions (R, S)."""
    part = {} if waves.width is None else {"rotary_embedding_dim": waves.width}
    return g.op("RotaryEmbedding", x, waves.cosines, waves.sines, positions, num_heads=heads, **part)
