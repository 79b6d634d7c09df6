"""A tuned prompt on disk: all that deployment needs besides the model folder.

`prompt.safetensors` holds everything, numbers and settings, so it is replaced in one piece or not at all.
`prompt.json` beside it repeats the settings for human eyes; it is never read back.

Version 2 holds a readout of the scores, and where they differ a template for each prompt; without those a prompt is
written as version 1, which all programs read. Version 3 has a prompt that stands after the text, or label words that
are scored by all their tokens.

The format has a whole number as its version. Within one version a file may gain settings and tensors that an older
program does not know and can do without: it passes them over. What an older program would misread is a new version,
and refused. A hash of the settings and of every tensor is part of the file, so that a damaged one is refused too.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.checkpoints.hub import is_hub_id
from zopog_models.errors import PromptError, PromptMismatch, RepeatedKey, TensorFileError
from zopog_models.files.atomic import write_atomically
from zopog_models.files.quoting import quoted, quoted_names
from zopog_models.files.repeated_keys import parse_json
from zopog_models.files.tensor_file import read_metadata, read_tensors, write_tensors
from zopog_models.files.untrusted import check_regular
from zopog_models.prompts.checks import check_prompt
from zopog_models.prompts.prompt import SCHEMA, SCHEMA_WITH_POSITION, SCHEMA_WITH_READOUT, Prompt
from zopog_models.prompts.readout import TENSOR, PromptReadout

__all__ = ["Prompt", "PromptError", "PromptMismatch", "PromptReadout", "load_prompt", "save_prompt", "shared_source"]

_TENSORS = ("ids", "offsets", "weights", "label_ids")
_HASHED = "sha256"  # the setting `hash` of a file whose metadata hold the hash of its content
_LABEL_EMBEDDINGS = "label_embeddings"  # in place of label_ids, in the file of a sentence-embedding model's prompt


def shared_source(source: str) -> str:
    """A `source` that finds the model on any machine, "embedded" or org/name@commit; "" for a folder or an address."""
    return source if source == "embedded" or (is_hub_id(source) and not Path(source).exists()) else ""


def save_prompt(folder: str | Path, prompt: Prompt) -> None:
    """Write prompt.safetensors and prompt.json. Raises PromptError for a prompt that contradicts itself, OSError.

    Parameters
        folder: made where there is none; the prompt that it held is replaced
    """
    folder = Path(folder)
    check_prompt(prompt, str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "schema": prompt.schema,
        "hash": _HASHED,
        "template": prompt.template,
        "labels": dict(prompt.labels),
        "injection": prompt.injection,
        "model": prompt.model,
        "model_sha256": prompt.model_sha256,
        "tokenizer_sha256": prompt.tokenizer_sha256,
        "about": dict(prompt.about),
    }
    # Only where they say something: programs that do not know them can read all other files.
    usual = {"predict": "mean", "pooling": "", "source": "", "position": "before"}
    settings |= {name: getattr(prompt, name) for name, value in usual.items() if getattr(prompt, name) != value}
    tensors: dict[str, np.ndarray] = {
        "ids": np.asarray(prompt.ids, np.int64),
        "offsets": np.asarray(prompt.offsets, np.float32),
        "weights": np.asarray(prompt.weights, np.float64),
    }
    if np.asarray(prompt.label_ids).dtype.kind == "f":
        tensors[_LABEL_EMBEDDINGS] = np.asarray(prompt.label_ids, np.float32)
    else:
        tensors["label_ids"] = np.asarray(prompt.label_ids, np.int64)
    if prompt.readout is not None:
        more, about = prompt.readout.to_file()
        tensors |= more
        settings |= {"readout": about} | ({"templates": list(prompt.templates)} if prompt.templates else {})
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    write_tensors(folder / "prompt.safetensors", tensors, {"prompt": text, _HASHED: content_sha256(tensors, text)})
    write_atomically(folder / "prompt.json", [text.encode()])


def content_sha256(tensors: Mapping[str, np.ndarray], settings: str) -> str:
    """The hash of the settings' text and of each tensor, by name: a line with name, dtype, shape, then its bytes."""
    found = hashlib.sha256(settings.encode() + b"\n")
    for name, array in sorted(tensors.items()):
        found.update(f"{name} {array.dtype.str} {list(array.shape)}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def load_prompt(folder: str | Path) -> Prompt:
    """Read a saved prompt. Raises PromptError: no prompt there, a damaged file, an unknown version of the format.

    Settings and tensors that this program does not know are passed over, see above. Files from before there was a
    hash are read without one.
    """
    path = Path(folder) / "prompt.safetensors"
    if not path.is_file():
        raise PromptError(f"{folder} holds no tuned prompt (no prompt.safetensors)")
    check_regular(path)
    try:
        # Copied out of the file: a prompt in use must not change when the file is replaced.
        tensors = {name: np.array(array) for name, array in read_tensors(path).items()}
        metadata = read_metadata(path)
        settings = parse_json(metadata.get("prompt", "null"))
    except TensorFileError as error:
        raise PromptError(str(error)) from error
    except RepeatedKey as error:
        raise PromptError(f"{path}: in the settings {error}") from None
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{path}: the settings are not JSON: {error}") from None
    _check_version(settings, path)
    kind, hashed = settings.get("hash"), metadata.get(_HASHED)
    without = kind is None and hashed is None
    if not without and (kind != _HASHED or hashed != content_sha256(tensors, metadata["prompt"])):
        told = "its hash is missing" if hashed is None else f"its content has not the sha256 {hashed:.80}"
        raise PromptError(f"{path} is damaged: {told}; copy it again from where it was tuned")
    if _LABEL_EMBEDDINGS in tensors and "label_ids" not in tensors:
        tensors["label_ids"] = tensors.pop(_LABEL_EMBEDDINGS)
    if not set(_TENSORS) <= set(tensors):
        raise PromptError(f"{path}: expected the tensors {', '.join(_TENSORS)}, got {quoted_names(tensors)}")
    known = {item.name for item in fields(Prompt)}
    values = {name: value for name, value in {**settings, **tensors}.items() if name in known}
    try:
        prompt = Prompt(**values | _with_readout(settings, tensors))
    except (TypeError, PromptError) as error:
        raise PromptError(f"{path}: {error}") from None
    check_prompt(prompt, str(path))
    if prompt.schema > settings["schema"]:
        raise PromptError(
            f"{path}: a prompt at position {quoted(prompt.position)} with label_ids {np.shape(prompt.label_ids)} is of "
            f"version {prompt.schema} of the format, and the file says {settings['schema']}: it was edited"
        )
    return prompt


def _with_readout(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Of a file of version 2 its readout and its templates, of version 3 where it has them; version 1 has neither."""
    has_none = settings["schema"] == SCHEMA_WITH_POSITION and "readout" not in settings
    if settings["schema"] < SCHEMA_WITH_READOUT or has_none:
        return {"readout": None, "templates": ()}
    templates = settings.get("templates", [])
    if not isinstance(templates, list):
        raise PromptError(f"templates must be a list, got {templates!r:.100}")
    own = {name: array for name, array in tensors.items() if name.startswith(TENSOR)}
    return {"readout": PromptReadout.from_file(own, settings.get("readout")), "templates": tuple(templates)}


def _check_version(settings: Any, path: Path) -> None:
    found = settings.get("schema") if isinstance(settings, dict) else None
    if type(found) is not int or not SCHEMA <= found <= SCHEMA_WITH_POSITION:
        newer = type(found) is int and found > SCHEMA_WITH_POSITION
        advice = ": it was written by a newer program; pip install --upgrade zopog-ref" if newer else ""
        raise PromptError(
            f"{path}: format version {found!r:.50}, this program reads version {SCHEMA} to {SCHEMA_WITH_POSITION}"
            f"{advice}"
        )
