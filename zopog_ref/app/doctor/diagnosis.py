"""From what is found on a machine to what is wrong with it, and the pip line that mends it. Looks at nothing itself."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

STARTS = "starts"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
CUPYS = {"cupy-cuda11x": 11, "cupy-cuda12x": 12, "cupy-cuda13x": 13}  # package -> CUDA major
FIRST_CUDA_13 = (1, 27)  # onnxruntime-gpu before it is built for CUDA 12

# extra -> the runtime it brings, by a name that pip finds from a clone as well
_RUNTIMES = {
    "cpu": '"onnxruntime>=1.25"',
    "gpu": '"onnxruntime-gpu[cuda,cudnn]>=1.27"',
    "gpu-cu12": '"onnxruntime-gpu[cuda,cudnn]>=1.25,<1.27"',
}

# The library an error names -> the package that carries it. CUDA 13's packages dropped the suffix that CUDA 12's have;
# cuDNN's kept it.
_LIBRARIES = {
    "cublas": "nvidia-cublas",
    "cudart": "nvidia-cuda-runtime",
    "cudnn": "nvidia-cudnn",
    "cufft": "nvidia-cufft",
    "curand": "nvidia-curand",
    "nvjitlink": "nvidia-nvjitlink",
    "nvrtc": "nvidia-cuda-nvrtc",
}
_NAMED = re.compile(r"(?:lib)?(" + "|".join(_LIBRARIES) + r")\w*(?:\.so(?:\.\d+)*|64_\d+\.dll)", re.IGNORECASE)


@dataclass(frozen=True)
class Facts:
    """What was found. driver: (major, minor) of the newest CUDA that the NVIDIA driver runs, None without a driver."""

    packages: dict[str, str] = field(default_factory=dict)  # name -> version, of those that pip knows
    emptied: tuple[str, ...] = ()  # runtimes that pip knows and whose files are gone
    outcomes: dict[str, str] = field(default_factory=dict)  # provider, if offered -> STARTS, or why it does not
    driver: tuple[int, int] | None = None
    cupy: str | None = None  # STARTS, or why CuPy does not; None where it is not installed


class Problem(NamedTuple):
    """What is wrong, and the line that mends it ("" where no line can)."""

    what: str
    mend: str


def diagnose(facts: Facts) -> list[Problem]:
    """All that is wrong, the causes before what they cause."""
    return [*_runtime(facts), *_cuda(facts), *_cupy(facts)]


def ready(facts: Facts) -> bool:
    """Whether a model can be run."""
    return STARTS in facts.outcomes.values() and "tokenizers" in facts.packages


def cuda_major(version: str) -> int:
    """The CUDA that a version of onnxruntime-gpu is built for."""
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    return 13 if tuple(numbers) >= FIRST_CUDA_13 else 12


def extra(facts: Facts) -> str:
    """The extra of zopog-ref that goes with the driver: cpu, gpu or gpu-cu12."""
    if facts.driver is None or facts.driver[0] < 12:
        return "cpu"
    return "gpu" if facts.driver[0] >= 13 else "gpu-cu12"


def _install(facts: Facts) -> str:
    return f"pip install {_RUNTIMES[extra(facts)]} tokenizers"


def _dotted(driver: tuple[int, int]) -> str:
    return ".".join(map(str, driver))


def _runtime(facts: Facts) -> Iterator[Problem]:
    installed = [name for name in RUNTIMES if name in facts.packages]
    why = facts.outcomes.get(CPU, "it is not offered")
    if len(installed) == 2:
        yield Problem(
            "onnxruntime and onnxruntime-gpu are both installed: they write the same folder, whichever came last is "
            "what runs, and removing one breaks the other",
            f"pip uninstall -y onnxruntime onnxruntime-gpu && {_install(facts)}",
        )
    elif not installed:
        yield Problem("ONNX Runtime is not installed", _install(facts))
    elif facts.emptied or why != STARTS:
        name = facts.emptied[0] if facts.emptied else installed[0]
        found = f"{name} {facts.packages[name]}"
        gone = f"pip knows {found}, but its files are gone (removed with the other's)"
        again = f"pip install --force-reinstall --no-deps {name}=={facts.packages[name]}"
        yield Problem(gone if facts.emptied else f"{CPU} does not start: {why}", again)
    if "tokenizers" not in facts.packages:
        yield Problem("tokenizers is not installed", "pip install tokenizers")


def _cuda(facts: Facts) -> Iterator[Problem]:
    version, why = facts.packages.get("onnxruntime-gpu"), facts.outcomes.get(CUDA, "it is not offered")
    if version is None:
        if "onnxruntime" in facts.packages and extra(facts) != "cpu":
            yield Problem(
                "this machine has an NVIDIA driver, and the ONNX Runtime that is installed knows the CPU only",
                f"pip uninstall -y onnxruntime && {_install(facts)}",
            )
        return
    if "onnxruntime" in facts.packages or facts.emptied or why == STARTS:
        return
    major = cuda_major(version)
    if facts.driver is None:
        yield Problem(
            f"onnxruntime-gpu {version} needs an NVIDIA driver for CUDA {major}, and none is found: install one (pip "
            "cannot), or take the smaller package for the CPU",
            f"pip uninstall -y onnxruntime-gpu && pip install {_RUNTIMES['cpu']} tokenizers",
        )
    elif facts.driver[0] < major:
        yield Problem(
            f"onnxruntime-gpu {version} is built for CUDA {major}, the NVIDIA driver runs up to CUDA "
            f"{_dotted(facts.driver)} (or install a newer driver)",
            f"pip uninstall -y onnxruntime-gpu && {_install(facts)}",
        )
    elif missing := missing_libraries(why, major):
        yield Problem(
            f"{CUDA} does not start, libraries of CUDA {major} or cuDNN are missing: {why}",
            "pip install " + " ".join(f'"{name}"' for name in missing),
        )
    else:
        again = f'pip install --force-reinstall "onnxruntime-gpu[cuda,cudnn]=={version}"'
        yield Problem(f"{CUDA} does not start: {why}", again)


def missing_libraries(error: str, major: int) -> list[str]:
    """Packages that carry the libraries an error names, for a CUDA major; sorted, none twice."""
    found = set()
    for match in _NAMED.finditer(error):
        stem = match.group(1).lower()
        suffix = f"-cu{major}" if stem == "cudnn" or major < 13 else ""
        version = ">=9,<10" if stem == "cudnn" else f">={major},<{major + 1}" if stem == "cublas" else ""
        found.add(f"{_LIBRARIES[stem]}{suffix}{version}")
    return sorted(found)


def _cupy(facts: Facts) -> Iterator[Problem]:
    installed = [name for name in CUPYS if name in facts.packages]
    runtime = facts.packages.get("onnxruntime-gpu")
    # The major that the rest of the machine has: ONNX Runtime's where it is for a GPU, else the driver's.
    wanted = cuda_major(runtime) if runtime is not None else facts.driver[0] if facts.driver is not None else None
    right = f"cupy-cuda{wanted}x"
    if not installed:
        return
    name, major = installed[0], CUPYS[installed[0]]
    if len(installed) > 1:
        keep = right if right in installed else installed[-1]
        yield Problem(
            f"{' and '.join(installed)} are installed, and write the same folder",
            f"pip uninstall -y {' '.join(installed)} && pip install {keep}",
        )
    elif runtime is not None and major != wanted:
        yield Problem(
            f"{name} is for CUDA {major} and onnxruntime-gpu {runtime} for CUDA {wanted}: one process cannot load both",
            f"pip uninstall -y {name} && pip install {right}",
        )
    elif facts.driver is not None and facts.driver[0] < major:
        yield Problem(
            f"{name} is for CUDA {major}, the NVIDIA driver runs up to CUDA {_dotted(facts.driver)}",
            f"pip uninstall -y {name} && pip install cupy-cuda{facts.driver[0]}x",
        )
    elif facts.cupy not in (None, STARTS):
        carried = missing_libraries(str(facts.cupy), major)
        again = "pip install " + " ".join([f'"{package}"' for package in carried] or ["--force-reinstall", name])
        yield Problem(f"{name} does not start: {facts.cupy}", again)
