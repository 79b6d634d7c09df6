"""DeviceOracle: what a step of ZO-PoG copies to the host and how often it waits, by the profiler; and its time."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import kernels as script
from benchmarks.gpu.place import Place
from tests.kernels.device_array import StrictDevice
from zopog_kernels import KernelBackend
from zopog_ref.app.bench.random_model import SHAPES, Shape

STEPS = 5
WAITS = ("Synchronize", "cudaMemcpy_")  # of the runtime's calls; cudaMemcpyAsync to pageable memory waits as well
TO_HOST = "copies to the host"


def trace(place: Place) -> None:
    """Copies and waits of one step after two that warm up: one copy, one wait."""
    shape = Shape(1, 16, 2, 160) if place.rehearse else SHAPES["base"]
    step = _search(place, shape, None)
    for _ in range(2):
        step()
    counted = _on_host(step) if place.rehearse else _on_gpu(step)
    place.put("a step", counted)
    if counted[TO_HOST] != 1:
        raise AssertionError(f"a step copied {counted[TO_HOST]} times to the host; one was promised")
    place.put("promised", "one copy to the host a step")


def times(place: Place) -> None:
    """Milliseconds of a whole step of RoBERTa-large's shape, bound by address, 40 calls of 32 rows."""
    shape = Shape(1, 16, 2, 160) if place.rehearse else SHAPES["large"]
    for precision in (place.reduced, None):
        step = _search(place, shape, precision)
        for _ in range(2 if precision else 1):
            step()
        seconds = []
        for _ in range(STEPS if precision else 1):  # fp32 takes seconds
            start = time.perf_counter()
            step()  # it waits for the device once, at its end
            seconds.append(time.perf_counter() - start)
        place.put(f"bound step, {precision or 'fp32'}, ms", round(1e3 * float(np.median(seconds)), 2))
        if not place.rehearse:
            place.put(f"where a step goes, {precision or 'fp32'}", longest(_events(step)))


def _search(place: Place, shape: Shape, reduced: str | None) -> Callable[[], None]:
    """A function that takes one step of ZO-PoG after the other."""
    if place.rehearse:
        script.POSITIONS, script.BATCH, script.TEXT = 3, 4, 8
    memory: Any = StrictDevice() if place.rehearse else place.memory()
    backend = KernelBackend(memory)
    with tempfile.TemporaryDirectory(prefix="zopog-") as name:
        method, objective, _ = script.bound_search(memory, backend, Path(name), shape, reduced)
    kept = {"state": method.init()}

    def step() -> None:
        kept["state"] = method.step(kept["state"], objective, np.arange(script.BATCH))

    return step


def _on_host(step: Callable[[], None]) -> dict[str, Any]:
    """How often the stand-ins' values were looked at."""
    from tests.kernels.device_array import DeviceArray

    before = DeviceArray.waits
    step()
    return {TO_HOST: DeviceArray.waits - before, "waits": {"stand-in": DeviceArray.waits - before}}


def _on_gpu(step: Callable[[], None]) -> dict[str, Any]:
    return count_events(_events(step))


def longest(events: list[dict[str, Any]], shown: int = 16) -> dict[str, Any]:
    """Milliseconds from the first kernel to the last, of all kernels, and of those that take longest by name."""
    kernels = [e for e in events if e.get("cat") == "kernel"]
    spent: Counter[str] = Counter()
    for e in kernels:
        spent[e["name"][:120]] += e["dur"] / 1e3
    first, last = min(e["ts"] for e in kernels), max(e["ts"] + e["dur"] for e in kernels)
    return {
        "span_ms": (last - first) / 1e3,
        "kernels_ms": sum(spent.values()),
        "by_name": dict(spent.most_common(shown)),
    }


def _events(step: Callable[[], None]) -> list[dict[str, Any]]:
    """What CUPTI saw of the whole process, CuPy and ONNX Runtime included, through PyTorch's profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    with tempfile.TemporaryDirectory(prefix="zopog-") as folder:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]):
            pass  # the first profile sets CUPTI up
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            step()
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text("utf-8", "replace"))["traceEvents"]
    return events


def count_events(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a Chrome trace: copies by kind, copies to the host, calls of CUDA that wait, kernels."""
    copies = Counter(e["name"] for e in events if e.get("cat") == "gpu_memcpy")
    calls = Counter(e["name"] for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver"))
    waits = {name: n for name, n in calls.items() if any(word in f"{name}_" for word in WAITS)}
    return {
        TO_HOST: sum(n for name, n in copies.items() if "DtoH" in name),
        "waits": waits,  # the profiler's own cudaDeviceSynchronize at its end is among them
        "copies": dict(copies),
        "calls": dict(calls),
        "kernels": sum(e.get("cat") == "kernel" for e in events),
    }
