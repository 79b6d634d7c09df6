"""What CuPyDevice asks of CuPy, by a stand-in as strict as CuPy: the first GPU refused what another had taken."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zopog_kernels import device
from zopog_kernels.device import CuPyDevice


class OnDevice(np.ndarray):
    """CuPy's ndarray: not NumPy's."""


def ascontiguousarray(array: Any, dtype: Any) -> Any:
    if not isinstance(array, OnDevice):
        raise TypeError(f"expected cupy._core.core._ndarray_base, got {type(array).__name__}")
    return array


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> CuPyDevice:
    def asarray(array: Any, dtype: Any = None, order: str = "K") -> OnDevice:
        return np.array(array, dtype, order=order).view(OnDevice)

    def module(code: str, options: tuple[str, ...]) -> SimpleNamespace:
        return SimpleNamespace(get_function=lambda name: name)

    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(id=0))
    given = {"ndarray": OnDevice, "asarray": asarray, "ascontiguousarray": ascontiguousarray, "RawModule": module}
    monkeypatch.setattr(device, "_require_cupy", lambda: SimpleNamespace(**given, cuda=cuda))
    return CuPyDevice()


def test_arrays_of_the_host_are_uploaded(cupy: CuPyDevice) -> None:
    for given in (np.arange(6).reshape(2, 3).T, [1, 2], 3.0):
        found = cupy.asarray(given, "float64")
        assert isinstance(found, OnDevice)
        assert found.dtype == np.float64
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(np.asarray(found), given)


def test_an_array_that_is_there_stays(cupy: CuPyDevice) -> None:
    there = cupy.asarray(np.zeros((2, 3)), "float64")
    assert cupy.asarray(there, "float64") is there
    assert cupy.asarray(there, "float32") is not there
    assert cupy.asarray(there.T, "float64").flags.c_contiguous
