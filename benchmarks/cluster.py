"""Throughput of 1, 2, ... workers of one thread each against one process, the same bits, and what a call costs.

    python benchmarks/cluster.py --workers 1,2 --rows 512 --rounds 3

Rounds are taken in turn, so that what else runs on the machine hits all alike; medians are reported. `ping` is an empty
call to a worker and back, `driver` the processor time that this process spends on a chunk: no number of workers answers
faster than one chunk in that time. `replaced` is what a SIGKILL in the middle adds to a question.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import threading
import time

import numpy as np

from zopog_models import load_model
from zopog_models.cluster import ClusterModel, open_cluster
from zopog_models.runtime import FrozenModel

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


def ping(model: ClusterModel, times: int = 300) -> float:
    """Seconds of an empty call, median."""
    ray, [handle, *_] = model._connection.ray, model.replicas.handles
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        ray.get(handle.about.remote())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def recovery(model: ClusterModel, asked: tuple[object, ...], expected: np.ndarray) -> float:
    """Seconds that a killed worker adds: a question with a kill in its middle, same bits."""
    killer = threading.Timer(0.2, os.kill, (model.replicas.pids[0], signal.SIGKILL))
    start = time.perf_counter()
    killer.start()
    answer = model.logits(*asked)  # type: ignore[arg-type]
    taken = time.perf_counter() - start
    assert np.array_equal(answer, expected)
    assert model.replicas.replaced == 1, "the question was answered before the kill: give more --rows"
    return taken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    one = load_model(given.model, threads=1)
    asked = question(one, given.rows)
    counts = [int(text) for text in given.workers.split(",")]
    chunks = -(-given.rows // one.chunk_rows)
    expected = one.logits(*asked)  # type: ignore[arg-type]
    found: dict[str, dict[str, float]] = {}
    for count in counts:
        start = time.perf_counter()
        with open_cluster(given.model, workers=count) as model:
            opened = time.perf_counter() - start
            same = bool(np.array_equal(model.logits(*asked), expected))  # type: ignore[arg-type]
            local, spread, driver = [], [], []
            for _ in range(given.rounds):
                start = time.perf_counter()
                one.logits(*asked)  # type: ignore[arg-type]
                local.append(time.perf_counter() - start)
                start, spent = time.perf_counter(), time.process_time()
                model.logits(*asked)  # type: ignore[arg-type]
                spread.append(time.perf_counter() - start)
                driver.append(time.process_time() - spent)
            mine, theirs = statistics.median(local), statistics.median(spread)
            row = {
                "open_s": opened, "same_bits": same, "one_process_rows_s": given.rows / mine,
                "rows_s": given.rows / theirs, "ratio": mine / theirs,
                "best_ratio": min(local) / min(spread), "chunk_ms": 1e3 * mine / chunks,
                "driver_ms": 1e3 * statistics.median(driver) / chunks, "ping_ms": 1e3 * ping(model),
            }  # fmt: skip
            if count == counts[-1]:
                row["replaced_s"] = recovery(model, asked, expected) - theirs
        found[f"{count} workers"] = row
        print(count, {name: round(float(value), 3) for name, value in row.items()}, file=sys.stderr, flush=True)
    print(json.dumps({"model": given.model, "rows": given.rows, "chunks": chunks, **found}, indent=2))


if __name__ == "__main__":
    main()
