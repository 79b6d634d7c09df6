"""Counter-based random streams: (seed, step, purpose) -> bits, uniforms, Gumbel noise, normals.

Nothing here holds state. Element e of a stream is a pure function of (seed, step, purpose, e), so a run that
resumes at step s draws exactly what an uninterrupted run draws, and a GPU can regenerate any element from its
index instead of storing it.

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: *Parallel random numbers: as easy as 1, 2, 3*, SC 2011):

    key     = (seed mod 2^32, seed div 2^32)
    counter = (block mod 2^32, block div 2^32, step, purpose),    block = e div 4
    word e  = output word (e mod 4) of that block

Normals are float32 and use only +, -, *, / and sqrt, each correctly rounded by IEEE 754, so every machine that
does not contract them into fused multiply-adds computes the same bits.
"""

import operator
from enum import IntEnum

import numpy as np

from zopog_ref.arrays import FLOAT32, FLOAT64, INT64, UINT32

__all__ = [
    "Purpose",
    "bits",
    "cos_sin_turns",
    "gumbel",
    "log_float32",
    "normal",
    "permutation",
    "philox4x32",
    "uniform",
]

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9  # golden ratio
_WEYL_1 = 0xBB67AE85  # sqrt(3) - 1
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_BLOCKS_AT_ONCE = 1 << 14  # the working arrays of one slice stay in cache


class Purpose(IntEnum):
    """What a stream is for: the last word of the counter. Saved runs depend on the numbers: append, never renumber."""

    PROJECTION = 1
    SPLIT = 2
    EPOCH = 3
    GUMBEL_STEP = 4
    GUMBEL_POLICY = 5
    GUMBEL_ZEROTH = 6
    TOKENS_POLICY = 7
    TOKENS_ZEROTH = 8
    DIRECTIONS = 9
    TOKENS_SEARCH = 10  # whole prompts of a search, or fixed ones
    Z_SEARCH = 11
    POSTERIOR_DRAWS = 12  # of a distribution over z: to estimate its loss, and to deploy it
    ANCESTORS = 13
    UNIT_MASK = 14
    LABEL_SHUFFLE = 15  # of the test whether scores tell labels
    READOUT_FOLDS = 16  # which rows a readout inside the objective never learns from
    DEMONSTRATIONS = 20  # which rows stand in a template, and in which order rows are asked


def philox4x32(counter: UINT32, key: tuple[int, int], rounds: int = 10) -> UINT32:
    """Philox4x32 of each counter. counter (M, 4) uint32, key two 32-bit words -> (M, 4) uint32."""
    c0, c1, c2, c3 = (counter[:, lane].astype(np.uint64) for lane in range(4))
    k0, k1 = key
    for _ in range(rounds):
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0 = (product_1 >> _WORD) ^ c1 ^ np.uint64(k0)
        c2 = (product_0 >> _WORD) ^ c3 ^ np.uint64(k1)
        c1, c3 = product_1 & _LOW_WORD, product_0 & _LOW_WORD
        k0, k1 = (k0 + _WEYL_0) & 0xFFFFFFFF, (k1 + _WEYL_1) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3), axis=1).astype(np.uint32)


def bits(seed: int, step: int, purpose: int, count: int, start: int = 0) -> UINT32:
    """Elements start .. start+count-1 of a stream as 32-bit words. -> (count,) uint32.

    Errors: ValueError when seed is not in [0, 2^64), or step or purpose not in [0, 2^32).
    """
    seed, step, purpose = (
        operator.index(seed),
        operator.index(step),
        operator.index(purpose),
    )  # NumPy's integers would overflow below
    for name, value, width in (("seed", seed, 64), ("step", step, 32), ("purpose", purpose, 32)):
        if not 0 <= value < 1 << width:
            raise ValueError(f"{name} is {value}; a stream needs 0 <= {name} < 2^{width}")
    if count < 0 or start < 0:
        raise ValueError(f"count is {count} and start is {start}; neither can be negative")
    key = (seed & 0xFFFFFFFF, seed >> 32)
    first, last = start // 4, (start + count + 3) // 4
    words = np.empty((last - first, 4), np.uint32)
    for block in range(first, last, _BLOCKS_AT_ONCE):
        index = np.arange(block, min(block + _BLOCKS_AT_ONCE, last), dtype=np.uint64)
        counter = np.empty((len(index), 4), np.uint32)
        counter[:, 0], counter[:, 1] = index & _LOW_WORD, index >> _WORD
        counter[:, 2], counter[:, 3] = step, purpose
        words[block - first : block - first + len(index)] = philox4x32(counter, key)
    offset = start - 4 * first
    return words.reshape(-1)[offset : offset + count]


def uniform(seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> FLOAT64:
    """Uniforms strictly inside (0, 1): (word + 1/2) / 2^32, exact in float64."""
    words = bits(seed, step, purpose, int(np.prod(shape)))
    return ((words.astype(np.float64) + 0.5) * 2.0**-32).reshape(shape)


def gumbel(seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> FLOAT64:
    """Gumbel(0, 1) noise: -log(-log u)."""
    return -np.log(-np.log(uniform(seed, step, purpose, shape)))


def permutation(seed: int, step: int, purpose: int, count: int) -> INT64:
    """A random order of 0 .. count-1: the stable argsort of 64-bit keys."""
    words = bits(seed, step, purpose, 2 * count).astype(np.uint64).reshape(count, 2)
    return np.argsort((words[:, 0] << _WORD) | words[:, 1], kind="stable").astype(np.int64)


def normal(seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> FLOAT32:
    """Standard normals by Box-Muller, float32.

    Words (a, b) of a half block give  r cos(2 pi v), r sin(2 pi v)  with u, v = (a, b + 1/2) / 2^32 rounded to
    float32 and r = sqrt(-2 log u). Largest value: sqrt(-2 log 2^-33) = 6.76.
    """
    count = int(np.prod(shape))
    values = np.empty(count + count % 2, np.float32)
    for start in range(0, len(values), 4 * _BLOCKS_AT_ONCE):
        piece = values[start : start + 4 * _BLOCKS_AT_ONCE]
        words = bits(seed, step, purpose, len(piece), start).reshape(-1, 2)
        radius = np.sqrt(np.float32(-2) * log_float32(_unit_float32(words[:, 0])))
        cosine, sine = cos_sin_turns(_unit_float32(words[:, 1]))
        piece[0::2], piece[1::2] = radius * cosine, radius * sine
    return values[:count].reshape(shape)


def _unit_float32(words: UINT32) -> FLOAT32:
    """(word + 1/2) / 2^32 in float32: in [2^-33, 1]."""
    return words.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)


_LN2_HIGH = np.float32(0.693359375)  # 9 bits: a multiple of it by a whole exponent is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_ATANH = [np.float32(2.0 / k) for k in (9, 7, 5, 3)]
_TWO_PI = np.float32(2.0 * np.pi)
_SINE = [np.float32(c) for c in (1 / 362880, -1 / 5040, 1 / 120, -1 / 6)]
_COSINE = [np.float32(c) for c in (-1 / 3628800, 1 / 40320, -1 / 720, 1 / 24, -1 / 2)]


def log_float32(u: FLOAT32) -> FLOAT32:
    """Natural logarithm of positive normal float32 numbers: log(m 2^e) = e log 2 + 2 atanh((m-1)/(m+1))."""
    pattern = u.view(np.uint32)
    # m in [0.7071, 1.4142]: subtracting the pattern of sqrt(1/2) before the shift rounds the exponent there
    exponent = (pattern.view(np.int32) - np.int32(0x3F3504F3)) >> np.int32(23)
    mantissa = (pattern.view(np.int32) - (exponent << np.int32(23))).view(np.float32)
    fraction = mantissa - np.float32(1)
    s = fraction / (np.float32(2) + fraction)
    square = s * s
    series = np.full_like(square, _ATANH[0])
    for coefficient in _ATANH[1:]:
        series = series * square + coefficient
    # 2 atanh s = 2s + s^3 (2/3 + ...), and 2s = fraction - s * fraction keeps the leading bits
    log_mantissa = fraction - s * (fraction - square * series)
    scale = exponent.astype(np.float32)
    return scale * _LN2_HIGH + (scale * _LN2_LOW + log_mantissa)


def cos_sin_turns(v: FLOAT32) -> tuple[FLOAT32, FLOAT32]:
    """cos(2 pi v), sin(2 pi v) for v in [0, 1] float32: exact reduction to an eighth of a turn, then Taylor series."""
    quarter = np.floor(np.float32(4) * v + np.float32(0.5))
    x = (v - quarter * np.float32(0.25)) * _TWO_PI  # the subtraction is exact, |x| <= pi/4
    square = x * x
    sine_series, cosine_series = np.full_like(square, _SINE[0]), np.full_like(square, _COSINE[0])
    for coefficient in _SINE[1:]:
        sine_series = sine_series * square + coefficient
    for coefficient in _COSINE[1:]:
        cosine_series = cosine_series * square + coefficient
    sine = x + x * (square * sine_series)
    cosine = np.float32(1) + square * cosine_series
    turn = quarter.astype(np.int32) & 3
    swap = (turn & 1).astype(bool)
    cosine, sine = np.where(swap, sine, cosine), np.where(swap, cosine, sine)
    cosine = np.where((turn == 1) | (turn == 2), -cosine, cosine)
    sine = np.where(turn >= 2, -sine, sine)
    return cosine, sine
