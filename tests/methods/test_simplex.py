"""The projection onto the simplex: exact, whatever the row; never 0, never NaN."""

from itertools import combinations

import numpy as np
import pytest

from zopog_ref.methods.simplex import project


def by_elimination(rows: np.ndarray, floor: float) -> np.ndarray:
    """Michelot's algorithm: spread the excess over the active entries, drop those that fall under the floor, repeat."""
    active, mass = np.ones(rows.shape, bool), 1 - rows.shape[1] * floor
    while True:
        theta = (np.where(active, rows, 0).sum(axis=1) - mass) / active.sum(axis=1)
        kept = active & (rows > theta[:, None])
        kept |= active & ~kept.any(axis=1, keepdims=True)  # nothing left to share out: the row is done
        if (kept == active).all():
            return floor + np.where(active, np.maximum(rows - theta[:, None], 0), 0)
        active = kept


def by_every_support(row: np.ndarray, floor: float) -> np.ndarray:
    """The nearest feasible point over all 2^N - 1 sets of entries above the floor."""
    best, nearest = np.inf, row
    for size in range(1, len(row) + 1):
        for support in map(list, combinations(range(len(row)), size)):
            q = np.full(len(row), floor)
            rest = 1 - floor * (len(row) - size)
            q[support] = row[support] - (row[support].sum() - rest) / size
            if q.min() >= floor - 1e-12 and ((q - row) ** 2).sum() < best:
                best, nearest = ((q - row) ** 2).sum(), q
    return nearest


def random_rows(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Rows of many scales, a third of them with ties, some already on the simplex."""
    rows = rng.standard_normal((count, size)) * 10.0 ** rng.integers(-6, 4, (count, 1))
    rows[::3] = np.round(rows[::3], 1)
    rows[1::7] = rng.dirichlet(np.full(size, 0.3), len(rows[1::7]))
    return rows


@pytest.mark.parametrize(("size", "floor"), [(1, 0.0), (2, 0.1), (7, 0.0), (20, 1e-8), (100, 1e-4), (50, 0.02)])
def test_ten_thousand_rows_equal_another_algorithm(size: int, floor: float) -> None:
    rows = random_rows(np.random.default_rng(size), 10_000, size)
    q = project(rows, floor)
    np.testing.assert_allclose(q, by_elimination(rows, floor), rtol=0, atol=1e-11)
    check(q, floor)


def check(q: np.ndarray, floor: float) -> None:
    """On the simplex above the floor: no NaN, and no 0 where the floor is positive."""
    assert np.isfinite(q).all()
    assert (q >= floor).all()
    assert not floor or (q > 0).all()
    np.testing.assert_allclose(q.sum(axis=-1), 1, rtol=0, atol=1e-12)


def test_the_nearest_of_all_feasible_points() -> None:
    rng = np.random.default_rng(5)
    for floor in (0.0, 0.05):
        for row in random_rows(rng, 60, 5):
            np.testing.assert_allclose(project(row, floor), by_every_support(row, floor), rtol=0, atol=1e-9)


BIG = 1.7e308


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0], [0.25] * 4),
        ([BIG, BIG, -BIG, 0.0], [0.49, 0.49, 0.01, 0.01]),
        ([-BIG, -BIG, -BIG, -BIG], [0.25] * 4),
        ([5e-324, 0.0, 0.0, 0.0], [0.25] * 4),
        ([1e16, 1e16 + 2, 1e16, 1e16], [0.01, 0.97, 0.01, 0.01]),
        ([0.97, 0.01, 0.01, 0.01], [0.97, 0.01, 0.01, 0.01]),
        ([3.0, 2.5, -9.0, 0.0], [0.74, 0.24, 0.01, 0.01]),
        ([-1e-300, 0.0, 1e-300, 0.0], [0.25] * 4),
    ],
)
def test_edges_by_hand(row: list[float], expected: list[float]) -> None:
    q = project(row, 0.01)
    np.testing.assert_allclose(q, expected, rtol=0, atol=1e-12)
    check(q, 0.01)


def test_a_floor_of_one_over_n_leaves_one_point() -> None:
    np.testing.assert_allclose(project([[3.0, 1.0], [0.0, -7.0]], 0.5), 0.5)


@pytest.mark.parametrize(("row", "floor", "words"), [([1.0, 2.0], 0.6, "0 <= floor <= 0.5"), ([1.0, 2.0], -0.1, "floor is -0.1"),
                                                     ([1.0, np.nan], 0.1, "1 of 2 values"), ([np.inf, 0.0], 0.1, "not finite")])  # fmt: skip
def test_what_cannot_be_projected(row: list[float], floor: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        project(row, floor)


def bisection(rows: np.ndarray, floor: float) -> np.ndarray:
    """As the official code: 20 halvings until the sum is within 1e-3, entries clamped to [0, 1], no floor."""
    low, high = np.zeros((len(rows), 1)), rows.max(axis=1, keepdims=True)
    for _ in range(20):
        middle = (low + high) / 2
        under = np.clip(rows - middle, 0, 1).sum(axis=1, keepdims=True) < 1
        low, high = np.where(under, low, middle), np.where(under, middle, high)
    return np.clip(rows - middle, 0, 1)


def renormalised(rows: np.ndarray, floor: float) -> np.ndarray:
    clipped = np.maximum(rows, floor)
    return clipped / clipped.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("twin", [bisection, renormalised])
def test_a_projection_that_is_none_is_caught(twin) -> None:
    rows = random_rows(np.random.default_rng(3), 1000, 20)
    assert np.abs(twin(rows, 1e-4) - by_elimination(rows, 1e-4)).max() > 1e-2
    with pytest.raises(AssertionError):
        check(twin(rows, 1e-4), 1e-4)
