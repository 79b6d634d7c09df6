"""Philox against the published vectors, normals against float64, and the stream's promises."""

import numpy as np
import pytest

from zopog_ref import randomness
from zopog_ref.randomness import (
    Purpose,
    bits,
    cos_sin_turns,
    gumbel,
    log_float32,
    normal,
    permutation,
    philox4x32,
    uniform,
)

# Random123, kat_vectors, philox4x32 10: counter, key -> output
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


XOR_OF_NORMALS, SUM_OF_NORMALS = 159129810, 212845594109896


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    output = philox4x32(np.array([words(counter)], np.uint32), tuple(words(key)))
    assert output[0].tolist() == words(answer)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_one_round_less_is_caught(counter: str, key: str, answer: str) -> None:
    output = philox4x32(np.array([words(counter)], np.uint32), tuple(words(key)), rounds=9)
    assert output[0].tolist() != words(answer)


def test_stream_is_the_documented_counter() -> None:
    seed, step, purpose = 0x0123456789ABCDEF, 7, Purpose.DIRECTIONS
    counter = np.array([[3, 0, step, purpose]], np.uint32)
    block = philox4x32(counter, (0x89ABCDEF, 0x01234567))[0]
    assert bits(seed, step, purpose, 16)[12:16].tolist() == block.tolist()


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5, 65535])
def test_any_part_of_a_stream_can_be_regenerated(start: int) -> None:
    whole = bits(42, 1, 2, start + 11)
    assert bits(42, 1, 2, 11, start).tolist() == whole[start:].tolist()


def test_slices_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = normal(42, 1, 2, (1003,))
    monkeypatch.setattr(randomness, "_BLOCKS_AT_ONCE", 8)
    assert normal(42, 1, 2, (1003,)).tobytes() == whole.tobytes()
    assert bits(42, 1, 2, 500, 37).tolist() == bits(42, 1, 2, 537).tolist()[37:]  # several slices, not from the start


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (1 << 64, 0), (0, -1), (0, 1 << 32)])
def test_out_of_range_keys_are_named(seed: int, step: int) -> None:
    with pytest.raises(ValueError, match=r"needs 0 <= (seed|step)"):
        bits(seed, step, 0, 4)


def test_streams_differ_by_seed_step_and_purpose() -> None:
    streams = {bits(*key, 4).tobytes() for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1 << 32, 0, 0)]}
    assert len(streams) == 5


def test_uniforms_are_inside_the_open_interval_and_flat() -> None:
    u = uniform(5, 0, Purpose.TOKENS_POLICY, (200_000,))
    assert u.min() > 0
    assert u.max() < 1
    counts = np.bincount((u * 50).astype(int), minlength=50)
    chi_square = ((counts - 4000) ** 2 / 4000).sum()  # 49 degrees of freedom: mean 49, standard deviation 9.9
    assert chi_square < 49 + 4 * 9.9


def test_logarithm_to_one_ulp() -> None:
    u = np.concatenate([bits(1, 0, 0, 500_000).astype(np.float32) * np.float32(2**-32) + np.float32(2**-33),
                        np.float32(2) ** np.arange(-33, 1, dtype=np.float32)])  # fmt: skip
    exact = np.log(u.astype(np.float64))
    ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    assert (np.abs(log_float32(u) - exact) <= 1.0 * ulp).all()


def test_cosine_and_sine_of_turns() -> None:
    v = np.concatenate([uniform(2, 0, 0, (500_000,)), np.arange(9) / 8]).astype(np.float32)
    cosine, sine = cos_sin_turns(v)
    turns = 2 * np.pi * v.astype(np.float64)
    assert np.abs(cosine - np.cos(turns)).max() < 2**-23
    assert np.abs(sine - np.sin(turns)).max() < 2**-23


def test_lost_terms_of_the_series_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness, "_COSINE", randomness._COSINE[2:])
    v = uniform(2, 0, 0, (10_000,)).astype(np.float32)
    assert np.abs(cos_sin_turns(v)[0] - np.cos(2 * np.pi * v.astype(np.float64))).max() > 2**-23


def test_normals_have_the_moments_of_a_normal() -> None:
    x = normal(11, 3, Purpose.DIRECTIONS, (1_000_000,)).astype(np.float64)
    count = len(x)
    # moments 1, 2, 3, 4 of N(0,1) are 0, 1, 0, 3 with variances 1, 2, 15, 96
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((x**power).mean() - mean) < 4 * np.sqrt(variance / count)
    assert abs((x[:-1] * x[1:]).mean()) < 4 / np.sqrt(count)  # cosine and sine of a pair are uncorrelated


def test_normals_are_these_bits_on_every_machine() -> None:
    pattern = normal(42, 0, Purpose.DIRECTIONS, (100_000,)).view(np.uint32)
    assert int(np.bitwise_xor.reduce(pattern)) == XOR_OF_NORMALS
    assert int(pattern.sum(dtype=np.uint64)) == SUM_OF_NORMALS


def test_gumbel_mean_is_the_euler_constant() -> None:
    g = gumbel(7, 0, Purpose.GUMBEL_STEP, (400_000,))
    assert abs(g.mean() - np.euler_gamma) < 4 * np.pi / np.sqrt(6 * len(g))


def test_permutation_is_one() -> None:
    order = permutation(1, 2, Purpose.EPOCH, 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != permutation(1, 3, Purpose.EPOCH, 1000).tolist()
