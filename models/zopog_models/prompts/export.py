"""A model folder as an ONNX file for any runtime: FILE.onnx, and FILE.onnx.data with the weights beside it.

Weights are always in the second file, whatever their size: one rule for all models (a single ONNX file ends at 2 GB),
the graph can be looked at, and a runtime can map the weights instead of reading them. Inputs and outputs are those of
`graph.build`; the tokenizer stays in the model's folder.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint, load_checkpoint
from zopog_models.checkpoints.tokenizer import beginning_id, open_tokenizer
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.files.atomic import discard, write_atomically
from zopog_models.frozen.model import locate_model
from zopog_models.graph import PRECISIONS, GraphBuilder, build

__all__ = ["Exported", "export", "write_weights"]


@dataclass(frozen=True)
class Exported:
    """What was written: both files and their sizes in bytes; of which model, and the sha256 of its weights."""

    model: Path
    data: Path
    model_bytes: int
    data_bytes: int
    family: str
    precision: str
    injection: str
    source: str
    sha256: str


def export(
    source: str | Path,
    out: str | Path,
    *,
    precision: str = "fp32",
    injection: str | None = None,
    pooling: str | None = None,
) -> Exported:
    """Write a model as ONNX: the graph, and its weights beside it.

    Both files are whole or not there: the data is written first, the model last. Raises CheckpointError and
    TensorFileError (the source), ValueError (out, precision, injection), OSError.

    Parameters
        source, injection, pooling: as in `load_model`
        out: the .onnx file
        precision: "fp32"; or "fp16", which halves the weights and computes in half precision (on a CPU, runtimes widen
            most of it again), while inputs and outputs stay float32; default "fp32"
    """
    out = Path(out)
    if out.suffix != ".onnx":
        raise ValueError(f"the file must end in .onnx, got {str(out)!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    folder, _, pinned = locate_model(source)
    checkpoint = load_checkpoint(folder, pooling)
    graph, data = GraphBuilder(precision=precision, location=f"{out.name}.data"), out.with_name(f"{out.name}.data")
    injection = checkpoint.family.injections[0] if injection is None else injection
    content, _ = build(checkpoint, injection, first=_first_tokens(checkpoint), graph=graph)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)  # an old graph must not meet new weights
    size = write_weights(data, graph)
    write_atomically(out, [content])
    return Exported(
        out, data, len(content), size, checkpoint.family.name, precision, injection, pinned, checkpoint.model_sha256
    )


def _first_tokens(checkpoint: Checkpoint) -> int:
    """How many tokens stand before the prompt: 1, but for a decoder whose texts begin at once."""
    if not isinstance(checkpoint.architecture, DecoderArchitecture):
        return 1
    return 0 if beginning_id(checkpoint, open_tokenizer(checkpoint)) is None else 1


def write_weights(path: Path, graph: GraphBuilder) -> int:
    """A builder's weights, one after the other, straight from where it is, under another name until all is there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            for offset, array in graph.external_data():
                file.seek(offset)
                file.write(np.ascontiguousarray(array).data)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(temporary, path)
    except BaseException as error:
        discard(temporary, path, error)
        raise
    return size
