"""A Hugging Face folder (config.json, *.safetensors, tokenizer.json) as plain arrays with canonical names.

Published checkpoints differ in harmless ways: a tied output matrix that is stored or not, pooler and next-sentence
heads, LayerNorm parameters called gamma and beta. All that is settled here, once, with what `families` says of each
architecture; whoever reads a `Checkpoint` finds exactly the tensors that the architecture needs, with the shapes that
config.json promises.
"""

import hashlib
import json
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.checkpoints.gguf import gguf_place, open_gguf
from zopog_models.checkpoints.other_formats import how_to_convert
from zopog_models.checkpoints.weights import WEIGHTS, WEIGHTS_INDEX, read_weights, weights_sha256
from zopog_models.errors import CheckpointError
from zopog_models.families import Architecture, Config, Family, family_of
from zopog_models.families.sentence import as_published, pooled
from zopog_models.files.json_file import read_object
from zopog_models.files.scratch import Scratch

__all__ = ["Architecture", "Checkpoint", "CheckpointError", "GgufCheckpoint", "load_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by their canonical names (`Family.shapes`), float32 or float16, views into the file."""

    family: Family
    config: dict[str, Any]
    tensors: dict[str, np.ndarray] = field(repr=False)
    folder: Path
    architecture: Architecture

    @property
    def word_embeddings(self) -> np.ndarray:
        """The word embedding table (V, E)."""
        return self.tensors[self.family.word_embeddings(self.architecture)]

    @property
    def pooling(self) -> str:
        """ "mean" or "cls" of a sentence-embedding model; "" for a model with a head."""
        return getattr(self.architecture, "pooling", "")

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / "tokenizer.json"

    def settle(self) -> None:
        """What opened it has mapped its weights: temporary files are no longer needed by name."""

    @cached_property
    def model_sha256(self) -> str:
        """What `sha256sum model.safetensors` prints (of shards: see `weights.weights_sha256`)."""
        return weights_sha256(self.folder)

    @cached_property
    def tokenizer_sha256(self) -> str:
        """What `sha256sum tokenizer.json` prints."""
        return _sha256(self.tokenizer_path)

    @cached_property
    def embedding_std(self) -> float:
        """The standard deviation of all entries of the word embedding matrix."""
        words = self.word_embeddings
        blocks = range(0, len(words), 4096)  # in float64, but never the whole matrix at once
        with np.errstate(invalid="ignore"):  # of infinite weights: their scores are an error soon
            mean = sum(words[i : i + 4096].sum(dtype=np.float64) for i in blocks) / words.size
            squares = sum(np.square(words[i : i + 4096].astype(np.float64) - mean).sum() for i in blocks)
        return float(np.sqrt(squares / words.size))


@dataclass(frozen=True)
class GgufCheckpoint(Checkpoint):
    """The same from a GGUF file (`folder` is the file): tensors dequantised, the tokenizer built from its own lists."""

    tokenizer: dict[str, Any] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    scratch: Scratch | None = field(default=None, repr=False)  # where tensors were dequantised

    def settle(self) -> None:
        if self.scratch is not None:
            self.scratch.forget()

    @property
    def tokenizer_path(self) -> Path:
        return self.folder

    @cached_property
    def model_sha256(self) -> str:
        """What `sha256sum FILE.gguf` prints."""
        return _sha256(self.folder)

    @cached_property
    def tokenizer_sha256(self) -> str:
        """Of the tokenizer.json that was built, and of whether a text begins with a BOS token."""
        told = json.dumps([self.tokenizer, self.settings], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()


def load_checkpoint(folder: str | Path, pooling: str | None = None) -> Checkpoint:
    """Open a model folder and check it against its own config.json.

    An output matrix or bias that is stored and that config.json denies is read, with a warning.
    Raises CheckpointError (no folder, a missing file, an unsupported architecture, tensors that are missing, unknown
    or of the wrong shape) and TensorFileError (damaged weights).

    Parameters
        folder: with config.json, *.safetensors and tokenizer.json; or FILE.gguf, or FILE.gguf#FOLDER with the folder
            of its tokenizer
        pooling: "mean" or "cls" makes an encoder a sentence-embedding model; default: what the folder's modules.json
            says (`families.sentence`), and without one it is a model with a head
    """
    place = gguf_place(folder)
    if place is not None and not Path(folder).is_dir():
        return _from_gguf(*place, pooling)
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"model {str(folder)!r} is not a folder; give 'embedded' or a folder with config.json, "
            "model.safetensors and tokenizer.json, or a GGUF file"
        )
    for name in ("config.json", WEIGHTS, "tokenizer.json"):
        if not (folder / name).is_file() and not (name == WEIGHTS and (folder / WEIGHTS_INDEX).is_file()):
            raise CheckpointError(
                f"{folder} has no {name}; a model folder needs config.json, model.safetensors and "
                f"tokenizer.json (the files that Hugging Face's save_pretrained writes){how_to_convert(folder, name)}"
            )
    config = Config(folder / "config.json", read_object(folder / "config.json"))
    family = family_of(config)
    architecture = as_published(family.read(config), folder, pooling)
    tensors, architecture = _canonical_tensors(folder, family, architecture)
    return Checkpoint(family, dict(config.values), tensors, folder, architecture)


def _from_gguf(path: Path, tokenizer: Path | None, pooling: str | None) -> Checkpoint:
    found = open_gguf(path, tokenizer)
    if pooling is not None:
        pooled(found.architecture, pooling)
    return GgufCheckpoint(
        found.family, found.config, found.tensors, path, found.architecture, found.tokenizer, found.settings,
        found.scratch,
    )  # fmt: skip


def _canonical_tensors(
    folder: Path, family: Family, architecture: Architecture
) -> tuple[dict[str, np.ndarray], Architecture]:
    """The tensors by their canonical names, and the architecture as the file has it: perhaps with a head of its own."""
    path = folder / (WEIGHTS if (folder / WEIGHTS).is_file() else WEIGHTS_INDEX)  # for messages
    stored = read_weights(folder)
    if note := family.note(stored, architecture):
        warnings.warn(f"{path}: {note}", stacklevel=4)
    architecture = _with_stored_head(path, stored, family, architecture)
    shapes = family.shapes(architecture)
    tensors: dict[str, np.ndarray] = {}
    spelled: dict[str, str] = {}  # canonical name -> the stored one
    surplus: list[str] = []
    for spelling, array in stored.items():
        name = family.canonical(spelling, architecture)
        if name is None:
            continue
        if name not in shapes:
            surplus.append(spelling)
        elif name in tensors and not np.array_equal(tensors[name], array):
            read = family.read_of_two(spelled[name], spelling, architecture)
            if read is None:
                raise CheckpointError(f"{path}: {name} is stored twice with different values")
            warnings.warn(
                f"{path}: {spelled[name]} and {spelling} differ, where one tensor is expected; {read} is read, as "
                "transformers does",
                stacklevel=4,
            )
            tensors[name] = tensors[name] if read == spelled[name] else array
        else:
            tensors[name], spelled[name] = array, spelling
    if missing := [name for name in shapes if name not in tensors]:
        raise CheckpointError(f"{path}: missing tensors: {_listed(missing)}{family.missing_hint(missing)}")
    if surplus:
        raise CheckpointError(
            f"{path}: tensors that a {family.name} with this config.json does not have: {_listed(surplus)}"
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise CheckpointError(f"{path}: {name} has shape {tensors[name].shape}, config.json says {shape}")
        if tensors[name].dtype not in (np.float32, np.float16):
            raise CheckpointError(f"{path}: {name} has dtype {tensors[name].dtype}, expected float32, float16 or BF16")
    return tensors, architecture


def _with_stored_head(
    path: Path, stored: dict[str, np.ndarray], family: Family, architecture: Architecture
) -> Architecture:
    """The architecture, untied where config.json ties the output matrix and the file has another one.

    Training may untie the two and leave config.json as it was. transformers computes with the stored matrix.
    """
    output = family.output_matrix(architecture)
    if not architecture.tied or output is None or output not in stored:
        return architecture
    words = family.word_embeddings(architecture)
    table = next((array for name, array in stored.items() if family.canonical(name, architecture) == words), None)
    if table is None or np.array_equal(table, stored[output]):
        return architecture
    warnings.warn(
        f"{path}: config.json says tie_word_embeddings, but {output} is stored and is not the word embedding; the "
        "stored matrix is read, as transformers does",
        stacklevel=5,
    )
    return replace(architecture, tied=False)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
