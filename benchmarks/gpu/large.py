"""RoBERTa-large's shape: a loss evaluation, an iteration, a run; PyTorch SDPA in turn; the GPU's own peak."""

import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.place import Place
from zopog_ref.app.bench.random_model import LABEL_WORDS, SHAPES, write_random_inputs, write_random_model
from zopog_ref.app.bench.sides import Side, in_turn, spread
from zopog_ref.app.bench.worker import evaluation_flops

TORCH_PEER = Path(__file__).parents[1] / "torch_peer.py"
POSITIONS, BATCH, TEXT = 50, 32, 64
RUNS = {"bbt": 8000, "zo-pog": 4000}  # calls of the published runs
MEASURED = {"bbt": 800, "zo-pog": 400}  # calls measured in turn; the published number is extrapolated from them
GEMM = 8192


def measure(place: Place) -> None:
    """Everything in turn, what matters most first: a stage that is killed has written what it had."""
    name = "mini" if place.rehearse else "large"
    rounds, shape = (2 if place.rehearse else 7), SHAPES[name]
    measured = {"bbt": 20, "zo-pog": 40} if place.rehearse else MEASURED
    sizes = (4, 2, 16) if place.rehearse else (POSITIONS, BATCH, TEXT)
    peak = _peak(place)
    place.put("peak", peak)
    flops = evaluation_flops(shape, sizes[1], sizes[0] + sizes[2], LABEL_WORDS)
    with tempfile.TemporaryDirectory(prefix="zopog-") as folder:
        write_random_model(Path(folder), shape)
        write_random_inputs(Path(folder) / "inputs.npz", shape, *sizes)
        for method, budget in measured.items():
            with ExitStack() as stack:
                sides = {}
                for side, command in _commands(place, folder, name, sizes[0], method, budget).items():
                    try:
                        sides[side] = stack.enter_context(Side(command))
                    except Exception as error:  # a peer that does not start is no reason to measure nothing
                        place.put(f"{side} ({method})", f"did not start: {error}")
                if method == "bbt":
                    _put_loss(place, sides, rounds, flops, peak)
                _put_iteration(place, sides, method, flops, peak)
                _put_run(place, sides, method, budget, flops, peak)
            if method == "bbt":
                _put_whole_run(place, _commands(place, folder, name, sizes[0], "bbt", RUNS["bbt"]), flops, peak)


def _commands(
    place: Place, folder: str, shape: str, n_positions: int, method: str, budget: int
) -> dict[str, list[str]]:
    shared = [f"--worker={folder}", f"--n-positions={n_positions}", f"--device={place.device}", "--threads=1"]
    shared += [f"--method={method}", f"--budget={budget}"]
    bench = [sys.executable, "-m", "zopog_ref.app.command_line", "bench", "loss", f"--shape={shape}"]
    python = shlex.split(place.peer_python) or [sys.executable]
    peer = [*python, str(TORCH_PEER), *shared, "--attention=sdpa"]
    kinds: tuple[str, ...] = ("float16",)
    kinds = ("bfloat16",) if place.rehearse else kinds  # a CPU's fp16 is emulated
    backend = "numpy" if place.rehearse else "cupy"
    return {
        "zopog": [*bench, f"--precision={place.reduced}", "--precision-scope=all", f"--backend={backend}", *shared],
        **{f"PyTorch SDPA {kind}": [*peer, f"--dtype={kind}"] for kind in kinds},
    }


def _rate(seconds: float, calls: float, flops: int, peak: dict[str, Any]) -> dict[str, float]:
    rate = calls * flops / seconds / 1e12
    return {"tflops": rate, "share_of_peak": rate / peak["tflops"]}


def _seconds(sides: dict[str, Side], what: str, rounds: int, warm_up: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Spreads of each side's seconds and of the ratios of pairs; the last answers."""
    answers = in_turn(sides, what, rounds, warm_up)
    seconds = {name: [answer["seconds"] for answer in found] for name, found in answers.items()}
    ours = seconds.get("zopog", [])
    ratios = {
        name: spread([peer / own for peer, own in zip(values, ours)])
        for name, values in seconds.items()
        if name != "zopog" and ours
    }
    spreads = {name: spread(values) for name, values in seconds.items()}
    return {"seconds": spreads, "ratios": ratios}, {name: found[-1] for name, found in answers.items()}


def _put_loss(place: Place, sides: dict[str, Side], rounds: int, flops: int, peak: dict[str, Any]) -> None:
    found, last = _seconds(sides, "loss", rounds, 3)
    logits = {name: np.array(answer["logits"]) for name, answer in last.items()}
    ours = logits.get("zopog")
    if ours is not None:
        found |= _rate(found["seconds"]["zopog"]["median"], 1, flops, peak)
        found["differences"] = {n: float(np.abs(x - ours).max()) for n, x in logits.items() if n != "zopog"}
    place.put("loss", found)


def _put_iteration(place: Place, sides: dict[str, Side], method: str, flops: int, peak: dict[str, Any]) -> None:
    found, _ = _seconds(sides, "iteration", 3, 1)
    calls = 20 if method == "bbt" else 40
    if "zopog" in sides:
        found |= _rate(found["seconds"]["zopog"]["median"], calls, flops, peak)
    place.put(f"iteration {method}", found | {"calls": calls})


def _put_run(place: Place, sides: dict[str, Side], method: str, budget: int, flops: int, peak: dict[str, Any]) -> None:
    """`budget` calls, and the seconds of the published number at that rate: extrapolated, and called so."""
    found, last = _seconds(sides, "run", 1, 0)
    published = RUNS[method]
    found["extrapolated_seconds"] = {name: one["median"] * published / budget for name, one in found["seconds"].items()}
    if "zopog" in sides:
        sequences = last["zopog"]["sequences"] / last["zopog"]["calls"]
        found |= {"sequences_a_call": sequences}
        found |= _rate(found["seconds"]["zopog"]["median"], budget, flops, peak)
    place.put(f"run {method}", found | {"measured_calls": budget, "published_calls": published})


def _put_whole_run(place: Place, commands: dict[str, list[str]], flops: int, peak: dict[str, Any]) -> None:
    """BBT's 8,000 calls, ours alone, nothing extrapolated."""
    if place.rehearse:
        place.put("whole run bbt", "rehearsed by the run above")
        return
    with Side(commands["zopog"]) as ours:
        ours.ask("loss")
        answer = ours.ask("run")
    rate = _rate(answer["seconds"], answer["calls"], flops, peak)
    place.put("whole run bbt", {"seconds": answer["seconds"], "calls": answer["calls"], **rate})


def _peak(place: Place) -> dict[str, Any]:
    """TFLOP/s of one large product, random numbers, the best of five."""
    if place.rehearse:
        import time

        a = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
        start = time.perf_counter()
        a @ a
        return {"tflops": 2 * 512**3 / (time.perf_counter() - start) / 1e12, "side": 512, "dtype": "float32"}
    import torch

    found = {}
    for dtype in ("float16", "bfloat16", "float32"):
        a = torch.randn(GEMM, GEMM, device="cuda", dtype=getattr(torch, dtype))
        times = []
        for _ in range(8):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            a @ a
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        found[dtype] = 2 * GEMM**3 / min(times[3:]) / 1e12
    return {"tflops": found["float16"], "all": found, "side": GEMM, "dtype": "float16"}
