"""A model folder's weights: one model.safetensors, or the shards that model.safetensors.index.json lists."""

import hashlib
from pathlib import Path

import numpy as np

from zopog_models.errors import CheckpointError, UnusableFile
from zopog_models.files.json_file import read_value
from zopog_models.files.quoting import quoted
from zopog_models.files.tensor_file import read_tensors
from zopog_models.files.untrusted import refuse_pointer

__all__ = ["WEIGHTS", "WEIGHTS_INDEX", "read_weights", "weight_files", "weights_sha256"]

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, in the order of their names; model.safetensors where there is one.

    Raises CheckpointError: neither file is there, an index that is damaged, that lists no file, a file that does not
    exist, or a file outside the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    return [folder / name for name in sorted(set(_weight_map(folder).values()))]


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of the folder, as `read_tensors`. Raises CheckpointError (a wrong index) and TensorFileError."""
    for path in weight_files(folder):
        try:
            refuse_pointer(path)
        except UnusableFile as error:
            raise CheckpointError(str(error)) from None
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    if (folder / WEIGHTS).is_file():
        return read_tensors(folder / WEIGHTS)
    expected = _weight_map(folder)
    tensors: dict[str, np.ndarray] = {}
    for path in weight_files(folder):
        for name, array in read_tensors(path).items():
            if expected.get(name) != path.name:
                where = f"in {expected[name]!r}" if name in expected else "nowhere"
                raise CheckpointError(f"{path} holds {quoted(name)}, which {WEIGHTS_INDEX} has {where}")
            tensors[name] = array
    for name, file in expected.items():
        if name not in tensors:
            index = folder / WEIGHTS_INDEX
            raise CheckpointError(f"{index}: tensor {quoted(name)} is not in {file!r}, where it should be")
    return tensors


def weights_sha256(folder: Path) -> str:
    """What `sha256sum model.safetensors` prints; of several shards, what `sha256sum SHARDS | sha256sum` prints.

    (In the folder, the shards in the order of their names.)
    """
    hashes = []
    for path in weight_files(folder):
        with path.open("rb") as file:
            hashes.append((hashlib.file_digest(file, "sha256").hexdigest(), path.name))
    if (folder / WEIGHTS).is_file():
        return hashes[0][0]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in hashes).encode()).hexdigest()


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor name -> file name, every claim checked."""
    path = folder / WEIGHTS_INDEX
    if not path.is_file():
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {WEIGHTS_INDEX}")
    index = read_value(path)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"{path} must hold an object weight_map, tensor name -> file name")
    for name, file in files.items():
        if not isinstance(file, str) or not _is_plain_name(file):
            raise CheckpointError(
                f"{path}: tensor {quoted(name)} is said to be in {quoted(file)}; expected the name of a .safetensors "
                "file in the same folder"
            )
    for file in sorted(set(files.values())):
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder} has no {file}, which {WEIGHTS_INDEX} lists")
    return files


def _is_plain_name(file: str) -> bool:
    forbidden = {"/", "\\", ":", "\0"}
    return file.endswith(".safetensors") and len(file) < 256 and not forbidden & set(file) and not file.startswith(".")
