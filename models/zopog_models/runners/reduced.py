"""The same frozen model in fewer bits: whole numbers or bfloat16 on a CPU, half precision on CUDA.

What it saves depends on the processor, and what it costs on the model and the data. So nothing here is used unasked,
and `zopog tune` measures on its own rows what a step would read before it lets a reduced model answer.
"""

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.errors import ProviderError
from zopog_models.graph import GraphBuilder, build
from zopog_models.runners.session import Session

__all__ = ["REDUCED", "OpenVINOSession", "Runner", "open_reduced"]

# precision -> the device it is for
REDUCED = {"int8": "cpu", "bf16": "cpu", "fp16": "cuda"}
_WEIGHTS = "weights.bin"


class Runner(Protocol):
    """What computes a graph."""

    def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray: ...


def open_reduced(
    checkpoint: Checkpoint,
    weights: Mapping[str, np.ndarray],
    precision: str,
    *,
    injection: str,
    first: int,
    reuse: bool,
    device: str,
    threads: int,
    stream: int | None = None,
) -> Runner:
    """The model's graph in another precision. weights: of the full one, shared where they stay as they are.

    Raises ValueError (an unknown precision, or one that is not for this device) and ProviderError.
    """
    if precision not in REDUCED:
        raise ValueError(f"precision must be one of {', '.join(REDUCED)}, got {precision!r}")
    if REDUCED[precision] != device:
        raise ValueError(
            f"precision {precision!r} is for device {REDUCED[precision]!r}, and this model is on {device!r}"
        )
    if precision == "bf16":
        graph = GraphBuilder(weights, location=_WEIGHTS)
    else:
        graph = GraphBuilder(weights if precision == "int8" else None, precision=precision)
    content, arrays = build(checkpoint, injection, first=first, reuse=reuse, graph=graph)
    if precision == "bf16":
        return OpenVINOSession(content, graph, threads)
    return Session(content, arrays, device, stream=stream)


class OpenVINOSession:
    """A graph on OpenVINO's CPU plugin with bfloat16 products. `run` may be called from several threads at once.

    OpenVINO reads files, so graph and weights pass through a temporary folder of the weights' size.
    Raises ProviderError: OpenVINO is missing, does not know an operator, or the processor has no bfloat16.
    """

    def __init__(self, model_bytes: bytes, graph: GraphBuilder, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ProviderError(f"bf16 needs OpenVINO ({error}): pip install 'zopog-ref[openvino]'") from error
        core = openvino.Core()
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ProviderError("this processor has no bfloat16 arithmetic (AVX512-BF16 or AMX): take fp32 or int8")
        # One stream a thread: whoever calls brings the threads, as with `Session`. Left to itself OpenVINO pins them to
        # the first cores while it computes, and so every process of a comparison to the same ones.
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        with tempfile.TemporaryDirectory(prefix="zopog-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model_bytes)
            with (Path(folder) / _WEIGHTS).open("wb") as file:
                for offset, array in graph.external_data():
                    file.seek(offset)
                    file.write(np.ascontiguousarray(array).data)
            try:
                self._model = core.compile_model(core.read_model(path), "CPU", settings)
            except RuntimeError as error:
                raise ProviderError(f"OpenVINO {openvino.__version__} cannot run this model: {error}") from error
        self.providers = ("OpenVINO CPU bf16",)
        self._requests = threading.local()

    def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        request: Any = getattr(self._requests, "request", None)
        if request is None:  # one a thread: a request holds its own inputs and outputs
            request = self._requests.request = self._model.create_infer_request()
        return np.array(request.infer(feeds)[output])
