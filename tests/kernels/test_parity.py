"""The kernels, compiled as host C++, against NumPy: bits where bits are promised, indices, stated errors elsewhere."""

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest

from tests.kernels import parity
from tests.kernels.host_device import FLAGS, ORDERS, HostDevice, compiled, needs_compiler
from zopog_kernels import KernelBackend
from zopog_kernels import backend as backend_module
from zopog_kernels.source import module_source
from zopog_ref.randomness import Purpose, normal, uniform
from zopog_ref.zeroth_order import perturb


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    needs_compiler()


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("order", ORDERS)
def test_kernels_are_the_reference_whatever_the_order_of_threads(check, order: str) -> None:
    check(KernelBackend(HostDevice(order=order)))


def test_ten_million_normals_and_ten_million_uniforms() -> None:
    backend, count = KernelBackend(HostDevice()), 10_000_003
    key = parity.KEYS[1]
    given = backend.materialise(backend.normal(*key, (count,)))
    parity.same_bits(given, normal(*key, (count,)))
    # A uniform is its word plus a half, so this compares the words as well.
    parity.same_bits(backend.materialise(backend.uniform(*key, (count,))), uniform(*key, (count,)))


def test_ten_million_perturbed_points() -> None:
    backend, shape = KernelBackend(HostDevice()), (10, 32, 31_251)  # 10,000,320 normals, d not a multiple of 4
    z = np.linspace(-1, 1, shape[-1])
    points = backend.perturb(z, backend.normal(3, 4, Purpose.DIRECTIONS, shape), 0.01)
    u = normal(3, 4, Purpose.DIRECTIONS, shape)
    for given, expected in zip(points, perturb(z, u, 0.01)):
        parity.same_bits(given, expected.astype(np.float32))


def test_the_whole_vocabulary() -> None:
    backend = KernelBackend(HostDevice())
    parity.check_sample(backend, [(3, 2, 50_265)])
    parity.check_probabilities(backend, [(2, 50_265)])
    parity.check_policy_gradient(backend, [(4, 2, 50_265)])


def test_threads_that_take_several_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_PERTURB_THREADS", 2)
    monkeypatch.setattr(backend_module, "_GRADIENT_THREADS", 4)
    backend = KernelBackend(HostDevice())
    parity.check_perturb(backend)
    parity.check_gradient(backend)


def test_rows_beyond_the_grid() -> None:
    backend = KernelBackend(HostDevice())
    parity.check_perturb(backend, [(70_000, 1)])
    shape = (2_000_000, 1)
    ones = np.ones(shape[:1])
    gradient = backend.two_point_gradient(ones, -ones, backend.normal(1, 2, 3, shape), 0.5)
    np.testing.assert_allclose(gradient, 2 * normal(1, 2, 3, shape).astype(np.float64).mean(axis=0), rtol=1e-9)


def test_partial_sums_stay_small() -> None:
    for rows, dim in [(320, 500), (6400, 500), (640, 51_200), (100_000, 51_200), (1 << 22, 4)]:
        chunks = -(-rows // backend_module.rows_per_chunk(rows, dim))
        assert chunks * dim * 8 <= max(16 * 2**20 + 8 * dim, 8 * dim)
        assert chunks * dim * 8 <= rows * dim * 4 / 10 or chunks == 1
        assert chunks <= 65535


def test_halves_round_as_numpy_does() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(every[np.isfinite(every)])
    middle = (finite[1:].astype(np.float64) + finite[:-1]).astype(np.float32) / np.float32(2)
    numbers = np.concatenate([
        every[~np.isnan(every)], middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf)),
        np.array([65519.996, 65520, 65520.004, 1e9, -1e9, 2**-25, -(2**-25), 2**-24, 1e-30], np.float32),
    ])  # fmt: skip
    out = np.empty(len(numbers), np.float16)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (numbers, out))
    compiled(module_source()).halves(next(pointers), ctypes.c_longlong(len(numbers)), next(pointers))
    with np.errstate(over="ignore"):
        parity.same_bits(out, numbers.astype(np.float16))


def test_contraction_would_show() -> None:
    """The twin of -ffp-contract=off: with fused multiply-adds the normals are other numbers."""
    processor = Path("/proc/cpuinfo")
    if not processor.exists() or not re.search(r"\bfma\b", processor.read_text("utf-8")):
        pytest.skip("this processor has no fused multiply-add, or does not say")
    flags = tuple("-ffp-contract=fast" if flag.startswith("-ffp-contract") else flag for flag in FLAGS)
    with pytest.raises(AssertionError):
        parity.check_normals(KernelBackend(HostDevice(flags=(*flags, "-mfma"))))
