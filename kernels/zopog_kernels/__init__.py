"""The prompt-learning mathematics on a GPU: CUDA kernels through CuPy, with the bits of the NumPy reference.

Importing this package imports NumPy only; CuPy is needed when cupy_backend() is called.
"""

from zopog_kernels.backend import KernelBackend, Stream, cupy_backend
from zopog_kernels.device import BackendUnavailable, CuPyDevice, Device
from zopog_kernels.objective import DeviceObjective, HostObjective

__all__ = [
    "BackendUnavailable", "CuPyDevice", "Device", "DeviceObjective", "HostObjective", "KernelBackend", "Stream",
    "cupy_backend",
]  # fmt: skip


def __dir__() -> list[str]:
    """What completion offers."""
    return sorted(__all__)
