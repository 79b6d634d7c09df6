"""What may make the bound model faster and was never tried: other chunk sizes, and one chunk as a CUDA graph."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.place import Place
from zopog_models import FrozenModel, load_model
from zopog_models.runners import local, session
from zopog_models.runners.bound import part
from zopog_ref.app.bench.random_model import SHAPES, Shape, write_random_inputs, write_random_model

# A product of width 1,024 in tiles of 256 tokens x 128 columns fills the 132 processors of an H200 just under six times
# with 213 rows of 116 tokens, just under seven times with 253, and begins an eighth time with 256.
CHUNKS = (128, 213, 253, 256, 320, 640, 1024)
GRAPHED = 213
POSITIONS, TEXT = 50, 66  # 116 tokens, as padded
REPEAT, CHAIN = 5, 3


def try_all(place: Place) -> None:
    """Milliseconds for 1,000 rows in chunks of each size, then of one chunk without and with a CUDA graph."""
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
            place.put(f"1,000 rows in chunks of {size}, ms", 1e3 / size * _bound(model, memory, given, size))
        size = graphed_rows
        place.put(f"{size} rows, ms", _bound(model, memory, given, size))
        if not place.rehearse:
            session_options = session._on_stream
            session._on_stream = lambda provider, stream: (  # type: ignore[assignment]
                provider,
                {"user_compute_stream": str(stream), "enable_cuda_graph": "1"},
            )
            try:
                graphed = load_model(folder, device=place.device, stream=memory.stream).reduced(place.reduced)
                place.put(f"{size} rows as a CUDA graph, ms", _bound(graphed, memory, given, size))
            finally:
                session._on_stream = session_options
        place.put("CHUNK_ROWS", local.CHUNK_ROWS[place.device])


def _bound(model: FrozenModel, memory: Any, given: dict[str, np.ndarray], size: int) -> float:
    """Median milliseconds of a chunk of `size` rows, of CHAIN in a row from the same addresses."""
    resized = {name: np.resize(given[name], (size, *given[name].shape[1:])) for name in ("text_ids", "answer_position")}
    n, width = given["prompt_offset"].shape[1:]
    integers = {
        **resized,
        "attention_mask": np.ones((size, given["text_ids"].shape[1])),
        "prompt_ids": given["prompt_ids"],
        "prompt_index": np.zeros(size),
        "label_ids": given["label_ids"],
    }
    arrays = {name: memory.asarray(array, "int64") for name, array in integers.items()}
    arrays["prompt_offset"] = memory.asarray(given["prompt_offset"].reshape(1, n, width), "float32")
    out = memory.empty((size, len(given["label_ids"])), "float32")
    inputs = {name: part(memory, array, 0, array.shape) for name, array in arrays.items()}
    seconds = []
    for round_ in range(REPEAT + 2):
        start = time.perf_counter()
        for _ in range(CHAIN):
            model.run_bound(inputs, part(memory, out, 0, out.shape))
        memory.to_numpy(out)  # waits
        if round_ >= 2:
            seconds.append((time.perf_counter() - start) / CHAIN)
    return round(1e3 * float(np.median(seconds)), 3)
