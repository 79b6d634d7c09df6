"""What may make the bound model faster and was never tried: other chunks, and one chunk as a CUDA graph."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.place import Place
from zopog_models import FrozenModel, load_model
from zopog_models.runners import local, session
from zopog_models.runners.bound import part
from zopog_models.runners.cutting import Cut
from zopog_ref.app.bench.random_model import SHAPES, Shape, write_random_inputs, write_random_model

# In tiles of 256 tokens x 128 columns, a product of width 1,024 takes the 132 multiprocessors of an H200 six turns with
# 213 rows of 116 tokens, seven with 253, and an eighth with 256.
CHUNKS = (128, 213, 253, 256, 320, 640, 1024)
GRAPHED = 213
POSITIONS, TEXT = 50, 66  # 116 tokens, as padded
REPEAT, CHAIN = 5, 3
MIXED = np.sort(np.tile(np.random.default_rng(0).integers(56, 121, 32), 20)) // 4 * 4  # tokens of rows


def try_all(place: Place) -> None:
    """Milliseconds: for 1,000 rows in chunks of each size; for 640 of unlike lengths, in chunks of 256 and in those for
    the fewest turns; for one chunk without and with a CUDA graph."""
    shape = Shape(1, 16, 2, 160) if place.rehearse else SHAPES["large"]
    n, length = (3, 8) if place.rehearse else (POSITIONS, TEXT)
    chunks, graphed_rows = ((4, 8), 8) if place.rehearse else (CHUNKS, GRAPHED)
    with tempfile.TemporaryDirectory(prefix="zopog-") as name:
        folder = Path(name)
        write_random_model(folder, shape)
        write_random_inputs(folder / "inputs.npz", shape, n, max(chunks), length)
        given = dict(np.load(folder / "inputs.npz"))
        memory = place.memory()
        model = load_model(folder, device=place.device, stream=memory.stream).reduced(place.reduced)
        for size in chunks:
            place.put(
                f"1,000 rows in chunks of {size}, ms",
                1e3 / size * _bound(model, memory, given, [(size, n + length)] * CHAIN) / CHAIN,
            )
        mixed = np.sort(MIXED[::40] // 8) + n if place.rehearse else MIXED
        for name, rule in (("whole", Cut(model.chunk_rows)), ("as cut", model.rule)):
            cut = [(stop - start, int(mixed[stop - 1])) for start, stop in rule.spans(mixed)]
            place.put(f"rows of unlike lengths, {name}, ms", _bound(model, memory, given, cut))
            place.put(f"rows of unlike lengths, {name}, chunks", cut)
        size = graphed_rows
        place.put(f"{size} rows, ms", _bound(model, memory, given, [(size, n + length)]))
        if not place.rehearse:
            session_options = session._on_stream
            session._on_stream = lambda provider, stream: (  # type: ignore[assignment]
                provider,
                {"user_compute_stream": str(stream), "enable_cuda_graph": "1"},
            )
            try:
                graphed = load_model(folder, device=place.device, stream=memory.stream).reduced(place.reduced)
                place.put(f"{size} rows as a CUDA graph, ms", _bound(graphed, memory, given, [(size, n + length)]))
            finally:
                session._on_stream = session_options
        place.put("CHUNK_ROWS", local.CHUNK_ROWS[place.device])


def _bound(model: FrozenModel, memory: Any, given: dict[str, np.ndarray], chunks: Sequence[tuple[int, int]]) -> float:
    """Median milliseconds of chunks of (rows, tokens of a row) in a row, each always from the same addresses."""
    n, width = given["prompt_offset"].shape[1:]
    held, runs = [], []  # arrays live as long as they are read
    for size, tokens in chunks:
        integers = {
            "text_ids": np.resize(given["text_ids"], (size, tokens - n)),
            "answer_position": np.resize(given["answer_position"] % (tokens - n), (size,)),
            "attention_mask": np.ones((size, tokens - n)),
            "prompt_ids": given["prompt_ids"],
            "prompt_index": np.zeros(size),
            "label_ids": given["label_ids"],
        }
        arrays = {name: memory.asarray(array, "int64") for name, array in integers.items()}
        arrays["prompt_offset"] = memory.asarray(given["prompt_offset"].reshape(1, n, width), "float32")
        out = memory.empty((size, len(given["label_ids"])), "float32")
        held += [*arrays.values(), out]
        inputs = {name: part(memory, array, 0, array.shape) for name, array in arrays.items()}
        runs.append((inputs, part(memory, out, 0, out.shape)))
    seconds = []
    for round_ in range(REPEAT + 2):
        start = time.perf_counter()
        for inputs, logits in runs:
            model.run_bound(inputs, logits)
        memory.to_numpy(held[-1])  # waits
        if round_ >= 2:
            seconds.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(seconds)), 3)
