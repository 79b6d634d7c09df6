"""What the kernels promise, as checks of a backend against the NumPy reference: of the real source, and of mutants."""

import ctypes
from collections.abc import Iterable

import numpy as np

import zopog_ref.objective as objective
from zopog_kernels.backend import KernelBackend, Stream, rows_per_chunk
from zopog_ref.distribution import probabilities, sample
from zopog_ref.policy_gradient import policy_gradient
from zopog_ref.randomness import Purpose, bits, cos_sin_turns, gumbel, log_float32, normal, uniform
from zopog_ref.zeroth_order import perturb, two_point_gradient

KEYS = [(42, 0, Purpose.DIRECTIONS), (0x0123456789ABCDEF, 7, Purpose.GUMBEL_STEP), ((1 << 64) - 1, (1 << 32) - 1, 3)]
SHAPES = [(1, 1), (1, 3), (3, 4), (2, 5, 6), (7, 500), (2, 3, 501), (1, 502), (5, 1, 503), (33, 1029)]
EPSILON = np.finfo(np.float64).eps


def same_bits(given: np.ndarray, expected: np.ndarray) -> None:
    """Equal as bit patterns: -0 is not 0."""
    assert given.shape == expected.shape
    assert given.dtype == expected.dtype
    pattern = f"u{given.dtype.itemsize}"
    differ = np.flatnonzero(np.ravel(given).view(pattern) != np.ravel(expected).view(pattern))
    assert not differ.size, f"{differ.size} of {given.size} differ, first at {differ[:3]}"


def close(given: np.ndarray, expected: np.ndarray, allowed: np.ndarray | float) -> None:
    assert given.shape == expected.shape
    error = np.abs(given - expected)
    assert (error <= allowed).all(), f"largest error {np.nanmax(error)}, allowed {np.max(allowed)}"


def words(backend: KernelBackend, key: tuple[int, int, int], count: int) -> np.ndarray:
    out = backend.device.empty((count,), "uint32")
    if count:
        backend.device.launch("zopog_words", (-(-count // 512), 1), (*key, count, out))
    return backend.to_numpy(out)


def check_words(backend: KernelBackend, counts: Iterable[int] = (0, 1, 2, 3, 4, 5, 511, 512, 513, 20_001)) -> None:
    for count in counts:
        for key in KEYS:
            same_bits(words(backend, key, count), bits(*key, count))


def check_uniforms(backend: KernelBackend, count: int = 20_003) -> None:
    for key in KEYS:
        same_bits(backend.to_numpy(backend.materialise(backend.uniform(*key, (count,)))), uniform(*key, (count,)))


def check_gumbel(backend: KernelBackend, count: int = 20_003) -> None:
    """Two logarithms: each within an ulp or two of NumPy's, which is 4 ulp of max(|g|, 1) after the second."""
    for key in KEYS:
        expected = gumbel(*key, (count,))
        allowed = 4 * EPSILON * np.maximum(np.abs(expected), 1)
        close(backend.to_numpy(backend.materialise(backend.gumbel(*key, (count,)))), expected, allowed)


def check_normals(backend: KernelBackend, count: int = 20_003) -> None:
    for key in KEYS:
        for size in (0, 1, 2, 3, 5, count):
            same_bits(backend.to_numpy(backend.materialise(backend.normal(*key, (size,)))), normal(*key, (size,)))


def normals_at(key: tuple[int, int, int], first: int, count: int) -> np.ndarray:
    """Elements of NumPy's stream that no array reaches from its start."""
    even = first - first % 2
    pairs = bits(*key, count + 2, even).reshape(-1, 2)
    u, v = (pairs[:, side].astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33) for side in (0, 1))
    radius = np.sqrt(np.float32(-2) * log_float32(u))
    return np.stack([radius * half for half in cos_sin_turns(v)], axis=1).ravel()[first - even :][:count]


def check_far_elements(backend: KernelBackend) -> None:
    """From element 2^34 on the block's number needs the second word of the counter. Host builds only."""
    library = backend.device.library  # type: ignore[attr-defined]
    for key in KEYS:
        for first in [5, (1 << 34) - 2, (1 << 34) + 1, (1 << 61) + 3, 12_345_678_901_234]:
            address = (
                ctypes.c_uint64(key[0]),
                ctypes.c_uint32(key[1]),
                ctypes.c_uint32(key[2]),
                ctypes.c_uint64(first),
            )
            floats, integers = np.empty(4, np.float32), np.empty(4, np.uint32)
            library.far_normals(*address, ctypes.c_void_p(floats.ctypes.data))
            library.far_words(*address, ctypes.c_void_p(integers.ctypes.data))
            same_bits(floats, normals_at(key, first, 4))
            same_bits(integers, bits(*key, 4, first))


def check_perturb(backend: KernelBackend, shapes: Iterable[tuple[int, ...]] = SHAPES) -> None:
    """The rounding of NumPy's float64 points, bit for bit, in float32 and float16."""
    for key in KEYS[:2]:
        for shape in shapes:
            z = normal(1, 2, 3, shape[-1:]).astype(np.float64) * 1.7
            expected = np.stack(perturb(z, normal(*key, shape), 0.03)).astype(np.float32)
            stream = backend.normal(*key, shape)
            for points, dtype in (("float32", np.float32), ("float16", np.float16)):
                given = KernelBackend(backend.device, points).perturb(z, stream, 0.03)
                same_bits(backend.to_numpy(given), expected.astype(dtype))


def gradient_in_order(slope: np.ndarray, u: np.ndarray, chunk: int) -> np.ndarray:
    """The documented order: row after row within a chunk, then chunk after chunk."""
    total = np.zeros(u.shape[1])
    for first in range(0, len(u), chunk):
        partial = np.zeros(u.shape[1])
        for row in range(first, min(first + chunk, len(u))):
            partial = partial + slope[row] * u[row]
        total = total + partial
    return total / len(u)


def check_gradient(
    backend: KernelBackend, shapes: Iterable[tuple[int, ...]] = (*SHAPES, (4, 13, 22), (101, 8))
) -> None:
    for key in KEYS[:2]:
        for shape in shapes:
            plus, minus = uniform(5, 6, 7, shape[:-1]), uniform(8, 9, 10, shape[:-1])
            u = normal(*key, shape)
            given = backend.to_numpy(backend.two_point_gradient(plus, minus, backend.normal(*key, shape), 0.03))
            rows = u.reshape(-1, shape[-1]).astype(np.float64)
            slope = ((plus - minus) / (2 * 0.03)).ravel()
            same_bits(given, gradient_in_order(slope, rows, rows_per_chunk(*rows.shape)))
            allowed = 2 * len(rows) * EPSILON * (np.abs(slope) @ np.abs(rows)) / len(rows)
            close(given, two_point_gradient(plus, minus, u, 0.03), allowed)


def check_probabilities(
    backend: KernelBackend,
    shapes: Iterable[tuple[int, ...]] = ((1, 1), (3, 2), (2, 127), (2, 128), (3, 129), (5, 200), (4, 2, 7)),
) -> None:
    """p within a rounding of each operation: (16 + 4 largest |exponent| / tau) eps relative, the sum to N eps."""
    for shape in shapes:
        alpha = uniform(11, 0, 0, shape[-2:]) + 1e-3
        for key in KEYS:
            for tau, noise in ((1.0, True), (0.3, True), (1.0, False), (2.5, False)):
                if not noise and len(shape) == 3:
                    continue
                expected = probabilities(alpha, tau, gumbel(*key, shape) if noise else None)
                given = backend.to_numpy(
                    backend.probabilities(alpha, tau, backend.gumbel(*key, shape) if noise else None)
                )
                close(given, expected, (64 + 80 / tau) * EPSILON * expected)
                close(given.sum(axis=-1), np.ones(shape[:-1]), shape[-1] * EPSILON)


def check_sample(
    backend: KernelBackend,
    sizes: Iterable[tuple[int, int, int]] = ((1, 1, 1), (20, 1, 2), (7, 3, 5), (129, 4, 31), (20, 50, 200)),
) -> None:
    """The same indices as NumPy for the same p: rows that do not sum to 1, and zeros, among them."""
    for samples, n, n_candidates in sizes:
        for key in KEYS:
            p = uniform(12, 0, 0, (n, n_candidates)) ** 4
            p[:, ::3] *= np.arange(n_candidates)[::3] > 0
            p[:, -1] += 0.25
            own = uniform(13, 0, 0, (samples, n, n_candidates))
            for given in (p, own):
                tokens = backend.to_numpy(backend.sample(given, backend.uniform(*key, (samples, n))))
                expected = sample(given, uniform(*key, (samples, n)))
                assert tokens.dtype == np.int64
                assert (tokens == expected).all(), f"{(tokens != expected).sum()} of {tokens.size} tokens differ"


def check_sample_ties(backend: KernelBackend) -> None:
    """A threshold that meets a cumulative sum exactly belongs to the next candidate."""
    key = KEYS[0]
    u = uniform(*key, (1, 6))[0]
    p = np.stack([u, 1 - u], axis=1)  # (6, 2), exact
    assert (backend.to_numpy(backend.sample(p, backend.uniform(*key, (1, 6)))) == 1).all()
    certain = np.zeros((6, 9))
    certain[:, 8] = 1
    assert (backend.to_numpy(backend.sample(certain, backend.uniform(*key, (5, 6)))) == 8).all()
    broken = np.full((2, 3), np.nan)
    assert (backend.to_numpy(backend.sample(broken, backend.uniform(*key, (4, 2)))) < 3).all()  # stays inside the table


def check_policy_gradient(
    backend: KernelBackend, sizes: Iterable[tuple[int, int, int]] = ((2, 1, 1), (4, 1, 2), (8, 3, 5), (20, 50, 200))
) -> None:
    for samples, n, n_candidates in sizes:
        alpha = uniform(14, 0, 0, (n, n_candidates)) + 0.01
        tokens = (uniform(15, 0, 0, (samples, n)) * n_candidates).astype(np.int64)
        losses = uniform(16, 0, 0, (samples,)) * 3
        exact = np.round(losses * 2**20) / 2**20  # sums of these are exact, in any order
        shared, own = probabilities(alpha), probabilities(alpha, 0.7, gumbel(1, 1, 1, (samples, n, n_candidates)))
        given = backend.to_numpy(backend.policy_gradient(losses, tokens, alpha, shared, 0.7))
        close(given, policy_gradient(losses, tokens, alpha, shared, 0.7), 8 * samples * EPSILON * 3 / (0.7 * alpha))
        given = backend.to_numpy(backend.policy_gradient(losses, tokens, alpha, own, 0.7))
        close(given, policy_gradient(losses, tokens, alpha, own, 0.7), 8 * samples * EPSILON * 3 / (0.7 * alpha))
        if samples & (samples - 1) == 0:  # a mean of I = 2^m numbers is then exact as well
            expected = policy_gradient(exact, tokens, alpha, shared, 0.7)
            same_bits(backend.to_numpy(backend.policy_gradient(exact, tokens, alpha, shared, 0.7)), expected)
            moved, gradient = backend.policy_step(exact, tokens, alpha, shared, 0.7, 0.3, 0.02)
            same_bits(backend.to_numpy(gradient), expected)
            same_bits(backend.to_numpy(moved), np.maximum(alpha - 0.3 * expected, 0.02))


def check_losses(
    backend: KernelBackend,
    sizes: Iterable[tuple[int, int, int]] = ((1, 1, 1), (3, 1, 2), (2, 5, 3), (4, 33, 6), (1, 7, 40)),
) -> None:
    for k, batch, classes in sizes:
        logits = normal(17, 0, 0, (k, batch, classes)) * np.float32(5)
        labels = (uniform(18, 0, 0, (batch,)) * classes).astype(np.int64)
        expected = objective.cross_entropy(logits, labels)
        allowed = 16 * EPSILON * (np.abs(logits).max(axis=-1) + 1)
        close(backend.to_numpy(backend.cross_entropy(logits, labels)), expected, allowed)
        same_bits(backend.to_numpy(backend.hinge(logits, labels)), objective.hinge(logits, labels))
        logits[0, 0, -1] = np.nan
        for losses in (backend.cross_entropy(logits, labels), backend.hinge(logits, labels)):
            assert np.isnan(backend.to_numpy(losses)[0, 0])


def check_empty(backend: KernelBackend) -> None:
    assert backend.to_numpy(backend.sample(np.ones((2, 3)), backend.uniform(1, 1, 1, (0, 2)))).shape == (0, 2)
    assert backend.to_numpy(backend.perturb(np.zeros(4), backend.normal(1, 1, 1, (0, 4)), 0.1)).shape == (2, 0, 4)
    assert backend.to_numpy(backend.perturb(np.zeros(0), backend.normal(1, 1, 1, (3, 0)), 0.1)).shape == (2, 3, 0)
    assert backend.to_numpy(backend.materialise(Stream("normal", 1, 1, 1, (0, 5)))).shape == (0, 5)
    assert backend.to_numpy(backend.cross_entropy(np.ones((0, 2, 3)), np.zeros(2))).shape == (0, 2)
    assert backend.to_numpy(backend.probabilities(np.ones((0, 4)))).shape == (0, 4)


CHECKS = [
    check_words, check_uniforms, check_gumbel, check_normals, check_far_elements, check_perturb, check_gradient, check_probabilities,
    check_sample, check_sample_ties, check_policy_gradient, check_losses, check_empty,
]  # fmt: skip
