"""One ONNX Runtime session on the device that was asked for, or an error that says what to install."""

import contextlib
import io
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from zopog_models.errors import ProviderError
from zopog_models.files.tensor_file import in_place
from zopog_models.runners.bound import Tensor
from zopog_models.runners.each_once import EachOnce
from zopog_models.runners.onnx_runtime import onnx_runtime

__all__ = ["DEVICES", "ProviderError", "Session", "installed_runtimes", "require_device"]

# SkipLayerNormFusion: measured slower than the plain operators it replaces. ConstantFolding: it would write out every
# transposed weight, where a product that reads its weight transposed needs no copy.
_NOT_ON_THE_CPU = ["SkipLayerNormFusion", "ConstantFolding"]
DEVICES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Session:
    """A graph with its weights. `run` may be called from several threads at once.

    prepack: keep the weights a second time, in the layout that is fastest to multiply with (ONNX Runtime's habit).
    stream: the address of the CUDA stream to compute on, which must outlive the session (default: one of its own).
    each_once: of a graph whose decoder is packed, whose inputs `run` and `run_both` then find of the others.
    Raises ValueError (unknown device) and ProviderError; never computes elsewhere than asked.
    """

    def __init__(
        self,
        model_bytes: bytes,
        weights: dict[str, np.ndarray],
        device: str,
        *,
        prepack: bool = True,
        stream: int | None = None,
        each_once: EachOnce | None = None,
    ) -> None:
        self._each_once = each_once
        ort = require_device(device)
        provider = DEVICES[device]
        self._device = device
        self._unsynchronised = ort.RunOptions()
        self._unsynchronised.add_run_config_entry("disable_synchronize_execution_providers", "1")
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what matters is raised
        options.intra_op_num_threads = 1  # whoever calls brings the threads
        options.inter_op_num_threads = 1
        if not prepack:
            options.add_session_config_entry("session.disable_prepacking", "1")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        folder, places = in_place(weights) if device == "cpu" else (None, {})
        if folder is not None and all((folder / file).is_file() for file, _ in places.values()):
            # ONNX Runtime maps these from the checkpoint's own file, and drops each as soon as it has packed it.
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
            weights = {name: array for name, array in weights.items() if name not in places}
        # The session reads the other arrays where they are (on the CPU), so they must live as long as it does.
        self._values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), self._values)
        try:
            self._session = ort.InferenceSession(
                model_bytes,
                options,
                providers=[provider] if device == "cpu" else [_on_stream(provider, stream), DEVICES["cpu"]],
                disabled_optimizers=_NOT_ON_THE_CPU if device == "cpu" else None,
            )
        except Exception as error:
            if device == "cpu":
                raise
            raise ProviderError(f"{provider} did not start ({installed_runtimes()}): {error}. {_ADVICE}") from error
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        if provider not in self.providers:  # ONNX Runtime would only log this and go on with another
            raise ProviderError(
                f"{provider} did not start ({installed_runtimes()}); what started instead: "
                f"{', '.join(self.providers)}. {_ADVICE}"
            )
        self._session.disable_fallback()

    def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        result: np.ndarray = self._session.run([output], self._each_once(feeds) if self._each_once else feeds)[0]
        return result

    def run_both(self, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """logits and keys_values of a decoder's graph that gives both."""
        feeds = self._each_once(feeds) if self._each_once else feeds
        logits, keys_values = self._session.run(["logits", "keys_values"], feeds)
        return logits, keys_values

    def run_bound(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Read and write tensors where they lie, on the session's device. Nothing is copied.

        On CUDA it returns when the work is in the stream that the session was opened on; what follows there finds the
        outputs written. Raises RuntimeError where a shape is not the graph's.
        """
        binding = self._session.io_binding()
        filled = next(tensor.address for tensor in outputs.values())
        for name, tensor in inputs.items():  # nothing is read at an empty tensor's address, but it must not be 0
            address = tensor.address or filled
            binding.bind_input(name, self._device, 0, tensor.dtype, tensor.shape, address)
        for name, tensor in outputs.items():
            binding.bind_output(name, self._device, 0, tensor.dtype, tensor.shape, tensor.address)
        self._session.run_with_iobinding(binding, self._unsynchronised)


def _on_stream(provider: str, stream: int | None) -> str | tuple[str, dict[str, str]]:
    return provider if stream is None else (provider, {"user_compute_stream": str(stream)})


def require_device(device: str) -> Any:
    """The onnxruntime module, if it offers the device. Raises ValueError (unknown device) and ProviderError."""
    if device not in DEVICES:
        raise ValueError(f"device must be one of {tuple(DEVICES)}, got {device!r}")
    try:
        ort = onnx_runtime()
    except ImportError as error:
        raise ProviderError(
            f'ONNX Runtime is missing ({error}); install it with: pip install "onnxruntime>=1.25" '
            '(or, for an NVIDIA GPU, "onnxruntime-gpu[cuda,cudnn]>=1.27")'
        ) from error
    available = ort.get_available_providers()
    if DEVICES[device] not in available:
        raise ProviderError(
            f"device {device!r} needs ONNX Runtime's {DEVICES[device]}, but {installed_runtimes()} "
            f"offers only {', '.join(available)}. {_ADVICE}"
        )
    if device == "cuda":
        _load_cuda_libraries(ort)
    return ort


@cache
def _load_cuda_libraries(ort: Any) -> None:
    """CUDA and cuDNN from the packages of pip, which the system's loader does not know; others are found without."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses; what matters is raised
            ort.preload_dlls()


def installed_runtimes() -> str:
    """The ONNX Runtime packages and versions that pip knows of."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return " and ".join(found) or "an ONNX Runtime of unknown origin"


_ADVICE = (
    'For an NVIDIA GPU: pip uninstall onnxruntime, then pip install "onnxruntime-gpu[cuda,cudnn]>=1.27" (CUDA 13) or '
    '"onnxruntime-gpu[cuda,cudnn]>=1.25,<1.27" (CUDA 12); the two ONNX Runtime packages exclude each other. '
    "Otherwise use device='cpu'."
)
