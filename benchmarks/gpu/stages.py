"""The stages in the order in which they run, their limits (540 s in all), and what each calls."""

import importlib
import os
import platform
import shutil
import subprocess
import time
from importlib import metadata

from benchmarks.gpu.place import Place
from benchmarks.gpu.runner import Stage

TOTAL = 540.0
NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
STAGES = (
    Stage("machine", "card, driver, versions, what ONNX Runtime loads", 20),
    Stage("parity", "every kernel against NumPy", 15),
    Stage("provider", "encoder, decoder, sentence model against the CPU; the nodes' providers", 30),
    Stage("provider-no-tf32", "the same with TF32 off", 30, NO_TF32),
    Stage("refuse", "a hidden library is an error, never the CPU in silence", 20),
    Stage("trace", "copies to the host and waits of one step", 30),
    Stage("large", "RoBERTa-large's shape against PyTorch SDPA", 190),
    Stage("step", "a whole step of that shape, bound by address", 60),
    Stage("kernels", "times against the floors and plain CuPy", 25),
    Stage("agnews", "4,000 calls of ZO-PoG on AG News", 60),
    Stage("variants", "chunk sizes, a CUDA graph", 45),
    Stage("sanitize", "the parity run under compute-sanitizer", 15),
)
WORK = {  # module: function; imported by the stage's own process, so that one that does not import fails alone
    "parity": "kernels:check", "small-parity": "kernels:small", "kernels": "kernels:measure",
    "sanitize": "kernels:sanitize", "provider": "provider:compare", "provider-no-tf32": "provider:compare",
    "refuse": "provider:refuse", "trace": "oracle:trace", "step": "oracle:times", "large": "large:measure",
    "agnews": "tuning:tune", "variants": "variants:try_all", "machine": "stages:machine",
}  # fmt: skip
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "cupy-cuda13x", "torch", "transformers", "tokenizers", "gguf")


def run_stage(name: str, place: Place, fault: str | None = None) -> None:
    """One stage in this process. fault: "fail" or "hang", for rehearsals: after a first result."""
    if fault is not None:
        place.put("before the fault", fault)
        if fault == "hang":
            time.sleep(86400)
        raise RuntimeError("made to fail")
    module, function = WORK[name].split(":")
    getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(place)


def machine(place: Place) -> None:
    """What was measured on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    place.put("versions", versions | {"python": platform.python_version()})
    for name, command in {
        "card": ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
        "nvcc": ["nvcc", "--version"],
    }.items():
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            place.put(name, (done.stdout or done.stderr).strip().splitlines()[-1:])
    from zopog_models.runners.onnx_runtime import onnx_runtime

    ort = onnx_runtime()
    place.put("LD_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))
    place.put("onnxruntime", {"file": ort.__file__, "providers": ort.get_available_providers()})
    if not place.rehearse:
        ort.preload_dlls()  # prints what it misses, into the log
        if place.provider not in ort.get_available_providers():
            raise RuntimeError(f"this ONNX Runtime has no {place.provider}: give --site, or install onnxruntime-gpu")
