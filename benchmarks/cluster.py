"""Throughput of 1, 2, ... workers of one thread each against one process, the same bits, and what a call costs.

    python benchmarks/cluster.py --workers 1,2 --rows 512 --rounds 3
    python benchmarks/cluster.py --random 6,512,8,8192 --rows 160      # layers, width, heads, vocabulary

Rounds are taken in turn, so that what else runs on the machine hits all alike; a ratio is the median of the rounds'
ratios. `ping` is an empty call to a worker and back, `driver` the processor time that this process spends on a chunk:
no number of workers answers faster than one chunk in that time. `replaced` is what a SIGKILL in the middle adds.
`plain_processes` is the machine's own ceiling: as many processes without Ray as there are workers, each with the whole
question at the same time, against one alone.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models import load_model
from zopog_models.cluster.ray_connection import RayConnection
from zopog_models.cluster.runner import ClusterRunner, open_cluster
from zopog_models.frozen.model import FrozenModel
from zopog_ref.app.bench.random_model import Shape, write_random_model

N_POSITIONS, PROMPTS, CLASSES = 8, 8, 4


def question(model: FrozenModel, rows: int) -> tuple[object, ...]:
    """Rows of 8 to 40 tokens, 8 prompts with offsets."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, model.vocab_size, rng.integers(8, 41)) for _ in range(rows)]
    offsets = rng.normal(0, 0.02, (PROMPTS, N_POSITIONS, model.embedding_size)).astype(np.float32)
    return (
        texts, np.full(rows, 2), rng.integers(0, model.vocab_size, (PROMPTS, N_POSITIONS)), offsets,
        rng.integers(0, PROMPTS, rows), np.arange(5, 5 + CLASSES),
    )  # fmt: skip


def ping(model: FrozenModel, times: int = 300) -> float:
    """Seconds of an empty call, median."""
    assert isinstance(model.runner, ClusterRunner)
    ray, [handle, *_] = model.runner.connection.ray, model.runner.replicas.handles
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        ray.get(handle.about.remote())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def recovery(model: FrozenModel, asked: tuple[object, ...], expected: np.ndarray) -> float:
    """Seconds that a killed worker adds: a question with a kill in its middle, same bits."""
    assert isinstance(model.runner, ClusterRunner)
    killer = threading.Timer(0.2, os.kill, (model.runner.replicas.pids[0], signal.SIGKILL))
    start = time.perf_counter()
    killer.start()
    answer = model.logits(*asked)  # type: ignore[arg-type]
    taken = time.perf_counter() - start
    assert np.array_equal(answer, expected)
    assert model.runner.replicas.replaced == 1, "the question was answered before the kill: give more --rows"
    return taken


def alone(source: str, rows: int, rounds: int, together: Any, seconds: Any) -> None:
    """One plain process: a round's seconds, all processes beginning each round together."""
    model = load_model(source, threads=1)
    asked = question(model, rows)
    model.logits(*asked)  # type: ignore[arg-type]
    for _ in range(rounds):
        together.wait()
        start = time.perf_counter()
        model.logits(*asked)  # type: ignore[arg-type]
        seconds.put(time.perf_counter() - start)


def plain_processes(source: str, rows: int, rounds: int, count: int) -> float:
    """Questions a second of `count` processes without Ray, each asked the same."""
    spawn = multiprocessing.get_context("spawn")
    together, seconds = spawn.Barrier(count), spawn.Queue()
    running = [spawn.Process(target=alone, args=(source, rows, rounds, together, seconds)) for _ in range(count)]
    for process in running:
        process.start()
    taken = [seconds.get() for _ in range(rounds * count)]
    for process in running:
        process.join()
    return count / statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--random", help="a RoBERTa of random weights: layers,width,heads,vocabulary")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.random:
            write_random_model(Path(folder), Shape(*map(int, given.random.split(","))))
        measure(folder if given.random else given.model, given)


def measure(source: str, given: argparse.Namespace) -> None:
    one = load_model(source, threads=1)
    asked = question(one, given.rows)
    counts = [int(text) for text in given.workers.split(",")]
    chunks = -(-given.rows // one.chunk_rows)
    expected = one.logits(*asked)  # type: ignore[arg-type]
    ceiling = [plain_processes(source, given.rows, given.rounds, n) for n in (1, counts[-1])]
    with contextlib.ExitStack() as stack:
        stack.enter_context(RayConnection(cpus=sum(counts)))
        spread = {n: stack.enter_context(open_cluster(source, workers=n)) for n in counts}
        for model in spread.values():  # the first question opens what a session opens late
            model.logits(*asked)  # type: ignore[arg-type]
        seconds: dict[int, list[float]] = {n: [] for n in (0, *counts)}
        driver: list[float] = []
        for _ in range(given.rounds):
            for n in seconds:
                model = spread.get(n, one)
                start, spent = time.perf_counter(), time.process_time()
                answer = model.logits(*asked)  # type: ignore[arg-type]
                seconds[n].append(time.perf_counter() - start)
                assert np.array_equal(answer, expected), f"{n} workers give other bits"
                if n:
                    driver.append(time.process_time() - spent)
        base = seconds[counts[0]]
        found = {
            "model": given.random or given.model, "rows": given.rows, "chunks": chunks, "same_bits": True,
            "chunk_ms": 1e3 * statistics.median(seconds[0]) / chunks,
            "driver_ms": 1e3 * statistics.median(driver) / chunks,
            "ping_ms": 1e3 * ping(spread[counts[0]]),
            "rows_s": {n: given.rows / statistics.median(taken) for n, taken in seconds.items()},
            "over_first": {n: statistics.median(a / b for a, b in zip(base, seconds[n])) for n in counts},
            "over_one_process": {n: statistics.median(a / b for a, b in zip(seconds[0], seconds[n])) for n in counts},
            "plain_processes": {counts[-1]: ceiling[1] / ceiling[0]},
        }  # fmt: skip
        print(json.dumps(found, indent=2), flush=True)
        replaced = recovery(spread[counts[-1]], asked, expected) - statistics.median(seconds[counts[-1]])
        print(json.dumps({"replaced_s": replaced}))


if __name__ == "__main__":
    main()
