"""The kernels as one piece of source text: what CuPy loads is what the tests compile and compare."""

import re
from functools import cache
from importlib.resources import files

__all__ = ["BLOCK", "EXACT", "FILES", "OPTIONS", "kernels", "module_source"]

FILES = ("streams.cu", "continuous.cu", "discrete.cu", "losses.cu")
# Bits are promised: nothing contracted, division and square root correctly rounded, subnormal numbers kept.
EXACT = ("--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false")
OPTIONS = ("--std=c++17", *EXACT)
BLOCK = 128  # THREADS of portable.cuh

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)
_KERNEL = re.compile(r"^(THREAD|BLOCK)_KERNEL (\w+)\(([^)]*)\)", re.MULTILINE)


@cache
def module_source() -> str:
    """All kernels in one text, every header once where it is first included (so that a compiler's cache sees it)."""
    here, seen = files(__package__), set[str]()

    def expand(name: str) -> str:
        def included(match: re.Match[str]) -> str:
            if match[1] in seen:
                return ""
            seen.add(match[1])
            return expand(match[1])

        return _INCLUDE.sub(included, (here / name).read_text("utf-8"))

    return "".join(expand(name) for name in FILES)


@cache
def kernels() -> dict[str, tuple[str, ...]]:
    """Kernel -> the C++ types of its parameters."""
    return {
        name: tuple(parameter.strip().rpartition(" ")[0].strip() for parameter in parameters.split(","))
        for _, name, parameters in _KERNEL.findall(module_source())
    }
