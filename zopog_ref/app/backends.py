"""Where a run's mathematics happens, by name: NumPy, or the GPU kernels. The kernels are imported when asked for."""

from typing import Any

from zopog_ref.app.errors import InputError
from zopog_ref.backend import NUMPY
from zopog_ref.method import Method
from zopog_ref.objective import Objective

BACKENDS = ("numpy", "cupy")


def on_backend(name: str, method: Method, objective: Objective) -> tuple[Method, Objective]:
    """The method and its objective with the mathematics on the backend; the model stays where its own device is.

    Errors: InputError when the method runs in NumPy only, or CuPy or a GPU is missing (it says what to install).
    """
    backend = open_backend(name, method)
    if backend is NUMPY:
        return method, objective
    from zopog_kernels import HostObjective

    method.backend = backend  # type: ignore[attr-defined]
    return method, HostObjective(objective, backend)


def open_backend(name: str, method: Method) -> Any:
    """The backend, if the method can run there. Cheap: nothing is compiled yet. Errors: as on_backend."""
    if name == "numpy":
        return NUMPY
    if not hasattr(method, "backend"):
        raise InputError(f"--backend {name}: {type(method).__name__} runs in NumPy only; zo-pog has kernels")
    from zopog_kernels import BackendUnavailable, cupy_backend

    try:
        return cupy_backend()
    except BackendUnavailable as error:
        raise InputError(str(error)) from error
