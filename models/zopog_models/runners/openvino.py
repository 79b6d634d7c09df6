"""A graph on OpenVINO's CPU plugin with bfloat16 products (extra `openvino`)."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.errors import ProviderError
from zopog_models.graph import GraphBuilder
from zopog_models.runners.each_once import EachOnce

__all__ = ["WEIGHTS_FILE", "OpenVINOSession"]

WEIGHTS_FILE = "weights.bin"  # the location that the graph's builder has to give its weights


class OpenVINOSession:
    """A graph on OpenVINO's CPU plugin with bfloat16 products. `run` may be called from several threads at once.

    OpenVINO reads files, so graph and weights pass through a temporary folder of the weights' size. each_once: as of a
    `Session`.
    Raises ProviderError: OpenVINO is missing, does not know an operator, or the processor has no bfloat16.
    """

    def __init__(
        self, model_bytes: bytes, graph: GraphBuilder, threads: int, each_once: EachOnce | None = None
    ) -> None:
        self._each_once = each_once
        try:
            import openvino
        except ImportError as error:
            raise ProviderError(f'bf16 needs OpenVINO ({error}): pip install "openvino>=2026.0"') from error
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
            with (Path(folder) / WEIGHTS_FILE).open("wb") as file:
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
        return np.array(request.infer(self._each_once(feeds) if self._each_once else feeds)[output])
