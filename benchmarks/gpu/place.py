"""Where the stages run: on a GPU, or rehearsed on the host, NumPy in place of CuPy and the CPU in place of CUDA."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.runner import Results


@dataclass(frozen=True)
class Place:
    """rehearse: on the host, small sizes; results: where they go; model: of the run on AG News, data: its files;
    peer_python: a Python with PyTorch and transformers; tune: further options of that run."""

    rehearse: bool
    results: Results
    model: str = ""
    data: Path | None = None
    peer_python: str = ""
    tune: str = ""

    @property
    def device(self) -> str:
        return "cpu" if self.rehearse else "cuda"

    @property
    def provider(self) -> str:
        return "CPUExecutionProvider" if self.rehearse else "CUDAExecutionProvider"

    @property
    def reduced(self) -> str:
        """The precision that is half as wide, or what the CPU has in its place."""
        return "int8" if self.rehearse else "fp16"

    def memory(self) -> Any:
        """The kernels' device."""
        if self.rehearse:
            from tests.kernels.host_device import HostDevice

            return HostDevice()
        from zopog_kernels import CuPyDevice

        return CuPyDevice()

    def put(self, name: str, value: Any) -> None:
        self.results.put(name, value)
