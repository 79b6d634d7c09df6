"""zopog doctor: what is installed, which providers really start, what clashes, and the line that mends it."""

import argparse
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any

import numpy as np

from zopog_models.graph import build_projection
from zopog_models.session import DEVICES, ProviderError, Session, require_device
from zopog_ref import __version__

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers", "cupy-cuda12x", "cupy-cuda13x", "onnx", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; exit code 0 when a model can be run here, 1 otherwise."""
    report = examine()
    if arguments.json:
        print(json.dumps(report, indent=2))  # noqa: T201
    else:
        print(_text(report))  # noqa: T201
    return 0 if report["ready"] else 1


def examine() -> dict[str, Any]:
    """Packages and their versions, each provider tried on a real session, problems with what mends them."""
    installed = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    problems = _clashes(installed)
    providers = _providers(problems)
    return {
        "zopog_ref": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": installed,
        "providers": providers,
        "problems": problems,
        "ready": any(outcome == "starts" for outcome in providers.values()) and "tokenizers" in installed,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _clashes(installed: dict[str, str]) -> list[str]:
    problems = []
    if {"onnxruntime", "onnxruntime-gpu"} <= installed.keys():
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install one of zopog-ref[cpu], zopog-ref[gpu]"
        )
    elif not {"onnxruntime", "onnxruntime-gpu"} & installed.keys():
        problems.append('no ONNX Runtime: pip install "zopog-ref[cpu]", or "zopog-ref[gpu]" on a machine with CUDA')
    elif _files_are_missing(next(name for name in ("onnxruntime", "onnxruntime-gpu") if name in installed)):
        problems.append(
            "ONNX Runtime is registered but its files are gone (removing onnxruntime also removes onnxruntime-gpu's): "
            'pip install --force-reinstall "zopog-ref[cpu]"'
        )
    if "tokenizers" not in installed:
        problems.append('tokenizers is missing: pip install "zopog-ref[cpu]"')
    if {"cupy-cuda12x", "cupy-cuda13x"} <= installed.keys():
        problems.append("cupy-cuda12x and cupy-cuda13x are both installed: pip uninstall the one your CUDA is not")
    gpu = installed.get("onnxruntime-gpu")
    if gpu is not None:
        major = 13 if tuple(map(int, gpu.split(".")[:2])) >= (1, 27) else 12
        other = f"cupy-cuda{25 - major}x"
        if other in installed:
            problems.append(
                f"onnxruntime-gpu {gpu} is built for CUDA {major} and {other} for CUDA {25 - major}: "
                f"pip uninstall -y {other} && pip install cupy-cuda{major}x"
            )
    return problems


def _files_are_missing(package: str) -> bool:
    files = distribution(package).files or []
    return any(str(file).endswith("onnxruntime/__init__.py") and not os.path.exists(file.locate()) for file in files)


def _providers(problems: list[str]) -> dict[str, str]:
    """Each provider that the installed ONNX Runtime offers, opened on a real small graph: "starts", or why not."""
    outcomes = {}
    for device, provider in DEVICES.items():
        try:
            require_device(device)
        except ProviderError as error:
            if device == "cpu" and not problems:  # without CUDA nothing is wrong; without a CPU provider everything is
                problems.append(str(error))
            continue
        try:
            graph, weights = build_projection(np.eye(2, dtype=np.float32))
            answer = Session(graph, weights, device).run("offset", {"z": np.ones((1, 2), np.float32)})
            outcomes[provider] = "starts" if (answer == 1).all() else f"starts, but answers {answer.tolist()}"
        except Exception as error:  # whatever a provider does, the others still get their turn
            outcomes[provider] = str(error)
            problems.append(f"{provider} does not start: {error}")
    return outcomes


def _text(report: dict[str, Any]) -> str:
    lines = [f"zopog-ref {report['zopog_ref']}, Python {report['python']}, {report['machine']}", "", "packages"]
    lines += [f"  {name:<16} {found}" for name, found in report["packages"].items()]
    lines += ["", "providers, each opened on a small graph"]
    lines += [f"  {name:<28} {outcome}" for name, outcome in report["providers"].items()] or ["  none"]
    lines += ["", *(f"! {problem}" for problem in report["problems"])]
    lines += ["ready: a model can be run here" if report["ready"] else "not ready: mend the lines marked !"]
    return "\n".join(lines)
