"""zopog doctor: what is installed, which providers really start, what clashes, and the pip line that mends it."""

import argparse
import ctypes
import importlib
import os
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.graph import build_projection
from zopog_models.runners.cores import usable_cores
from zopog_models.runners.onnx_runtime import onnx_runtime
from zopog_models.runners.session import DEVICES, ProviderError, Session, require_device
from zopog_models.served.addresses import is_served
from zopog_ref import __version__
from zopog_ref.app.doctor.diagnosis import CUDA, CUPYS, RUNTIMES, STARTS, Facts, diagnose, ready
from zopog_ref.app.doctor.endpoint import add_endpoint_arguments, endpoint_text, examine_endpoint, task_asked
from zopog_ref.app.doctor.local import examine_model, model_text
from zopog_ref.app.output import show, show_json

_OTHERS = ("huggingface_hub", "openvino", "cma", "cmaes", "threadpoolctl", "scikit-learn", "onnx", "torch")
PACKAGES = ("numpy", *RUNTIMES, "tokenizers", *CUPYS, *_OTHERS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable")
    add_endpoint_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; exit code 0 when a model can be run here, 1 otherwise. Of a model: what it is or returns."""
    if arguments.model is not None and not is_served(arguments.model):
        about = examine_model(arguments, task_asked(arguments))
        if arguments.json:
            show_json(about, indent=2)
        else:
            show(model_text(about))
        return 0
    if arguments.model is not None:
        found = examine_endpoint(arguments)
        if arguments.json:
            show_json(found, indent=2)
        else:
            show(endpoint_text(found))
        return 0 if found["returned"] else 1
    report = report_of(examine())
    if arguments.json:
        show_json(report, indent=2)
    else:
        show(_text(report))
    return 0 if report["ready"] else 1


def report_of(facts: Facts) -> dict[str, Any]:
    """The findings with what follows from them, as JSON has it."""
    return {
        "zopog_ref": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} usable cores",
        **asdict(facts),
        "problems": [problem._asdict() for problem in diagnose(facts)],
        "ready": ready(facts),
    }


def examine() -> Facts:
    """Packages and their versions, and each provider tried on a session."""
    packages = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    return Facts(
        packages=packages,
        emptied=tuple(name for name in RUNTIMES if name in packages and files_are_missing(name)),
        outcomes=try_providers(),
        driver=cuda_driver(),
        cupy=try_cupy() if set(CUPYS) & packages.keys() else None,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def files_are_missing(package: str) -> bool:
    """Whether pip's record of an ONNX Runtime names files that are no longer there."""
    files = distribution(package).files or []
    return any(str(file).endswith("onnxruntime/__init__.py") and not os.path.exists(file.locate()) for file in files)


def cuda_driver() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver runs, (13, 0) for instance; None where there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        number = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def try_providers() -> dict[str, str]:
    """Each provider that the installed ONNX Runtime offers, opened on a graph of two nodes: STARTS, or why not."""
    outcomes = {}
    for device, provider in DEVICES.items():
        try:
            require_device(device)
        except ProviderError:  # not offered: the packages say why
            continue
        except Exception as error:  # half an installation: whatever importing it raises
            outcomes[provider] = str(error)
            continue
        try:
            graph, weights = build_projection(np.eye(2, dtype=np.float32))
            answer = Session(graph, weights, device).run("offset", {"z": np.ones((1, 2), np.float32)})
            outcomes[provider] = STARTS if (answer == 1).all() else f"it starts, but answers {answer.tolist()}"
        except Exception as error:  # whatever a provider does, the others still get their turn
            outcomes[provider] = _why_cuda() or str(error) if provider == CUDA else str(error)
    return outcomes


def _why_cuda() -> str:
    """The library that ONNX Runtime's CUDA provider cannot load; it would only log that. "" when it loads."""
    runtime = onnx_runtime()
    folder = Path(str(runtime.__file__)).parent / "capi"
    names = ("providers_shared", "providers_cuda")
    prefix, suffix = ("onnxruntime_", ".dll") if sys.platform == "win32" else ("libonnxruntime_", ".so")
    try:
        for name in names:  # the second needs the first
            ctypes.CDLL(str(folder / f"{prefix}{name}{suffix}"), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return ""


def try_cupy() -> str:
    """A kernel on CuPy's device: STARTS, or why not."""
    try:
        cupy = importlib.import_module("cupy")
        answer = cupy.asnumpy(cupy.ones(2) + 1)
    except Exception as error:  # whatever CuPy raises is what there is to say
        return f"{type(error).__name__}: {error}"
    return STARTS if (answer == 2).all() else f"it starts, but answers {answer.tolist()}"


def _text(report: dict[str, Any]) -> str:
    driver = "none" if report["driver"] is None else f"runs up to CUDA {'.'.join(map(str, report['driver']))}"
    lines = [f"zopog-ref {report['zopog_ref']}, Python {report['python']}, {report['machine']}"]
    lines += [f"NVIDIA driver: {driver}", "", "packages"]
    lines += [f"  {name:<16} {found}" for name, found in report["packages"].items()]
    tried = report["outcomes"] | ({} if report["cupy"] is None else {"CuPy": report["cupy"]})
    lines += ["", "opened on a graph of two nodes"]
    lines += [f"  {name:<24} {outcome}" for name, outcome in tried.items()] or ["  nothing"]
    lines += [""]
    for problem in report["problems"]:
        lines += [f"! {problem['what']}"] + [f"  {problem['mend']}"] * bool(problem["mend"])
    lines += ["ready: a model can be run here" if report["ready"] else "not ready: mend what is marked !"]
    return "\n".join(lines)
