"""A baked file in the layout of an inference server's model repository (NVIDIA Triton, ONNX Runtime backend).

    DIR/NAME/config.pbtxt      names, types and dimensions, dynamic batching
    DIR/NAME/labels.txt        the label of each probability, for the server's classification extension
    DIR/NAME/1/model.onnx      the baked file (and its weights' file, if it has one)

Rows of one request, or of requests that are batched together, have one length: pad to a few fixed lengths.
"""

import re
import shutil
from pathlib import Path

from zopog_models.errors import BakeError
from zopog_models.files.atomic import write_atomically
from zopog_models.prompts.baking import Baked

__all__ = ["config_pbtxt", "write_repository"]

MAX_BATCH = 64
_DELAY_MICROSECONDS = 500  # how long a request waits for others


def write_repository(folder: str | Path, name: str, baked: Baked) -> Path:
    """Write FOLDER/NAME, and answer with it. The model comes last, so that a server never sees half of it.

    Raises BakeError (a name that is no plain file name), OSError.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise BakeError(f"a model's name in a repository has letters, digits, '_', '-' and '.', got {name!r:.120}")
    place = Path(folder) / name
    version = place / "1"
    version.mkdir(parents=True, exist_ok=True)
    write_atomically(place / "config.pbtxt", [config_pbtxt(name, baked).encode()])
    lines = [re.sub(r"\s+", " ", label) for label in baked.labels]
    write_atomically(place / "labels.txt", [("\n".join(lines) + "\n").encode()])
    if baked.data is not None:
        _copy(baked.data, version / baked.data.name)  # the model knows it by this name
    _copy(baked.path, version / "model.onnx")
    return place


def config_pbtxt(name: str, baked: Baked) -> str:
    """The model's configuration. Dimensions are those of one row; the server puts the batch in front."""
    classes, prompts = len(baked.labels), baked.prompts
    outputs = [_tensor("output", "probabilities", "TYPE_FP32", f"[ {classes} ]", 'label_filename: "labels.txt"')]
    if prompts > 1:
        # One number a row: the format has no dimensions for it, so it is given one and told to drop it.
        outputs.append(_tensor("output", "entropy", "TYPE_FP32", "[ 1 ]", "reshape: { shape: [ ] }"))
        outputs.append(_tensor("output", "per_prompt", "TYPE_FP32", f"[ {prompts}, {classes} ]"))
    row = f"[ {len(baked.rows)}, -1 ]" if baked.rows else "[ -1 ]"
    inputs = [_tensor("input", name, "TYPE_INT64", row) for name in ("input_ids", "attention_mask")]
    return (
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {MAX_BATCH}\n'
        + "".join(inputs + outputs)
        + f"dynamic_batching {{\n  max_queue_delay_microseconds: {_DELAY_MICROSECONDS}\n}}\n"
    )


def _tensor(kind: str, name: str, data_type: str, dims: str, more: str = "") -> str:
    lines = [f'name: "{name}"', f"data_type: {data_type}", f"dims: {dims}", *([more] if more else [])]
    return f"{kind} [\n  {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n]\n"


def _copy(source: Path, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, unfinished)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
