"""The folder of a served model: config.json and tokenizer.json, which say how texts become rows. No weights.

A GGUF file says both, too: what llama.cpp and Ollama serve is its own tokenizer.
"""

from pathlib import Path

from zopog_models.checkpoints.checkpoint import Checkpoint, GgufCheckpoint
from zopog_models.checkpoints.gguf import gguf_place, open_gguf
from zopog_models.errors import SetupError
from zopog_models.families import Config, family_of
from zopog_models.families.sentence import as_published
from zopog_models.files.json_file import read_object

__all__ = ["without_weights"]


def without_weights(folder: str | Path, pooling: str | None = None) -> Checkpoint:
    """The checkpoint of a folder of which config.json and tokenizer.json are enough, or of a GGUF file's first part.

    pooling: as in `load_checkpoint`. Raises SetupError and CheckpointError.
    """
    place = gguf_place(folder)
    if place is not None and place[0].is_file():
        found = open_gguf(*place, weights=False)
        return GgufCheckpoint(
            found.family, found.config, {}, place[0], found.architecture, found.tokenizer, found.settings
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise SetupError(
            f"the tokenizer's folder {str(folder)!r} is no folder; give one with config.json and tokenizer.json, or a "
            "GGUF file"
        )
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SetupError(f"{folder} has no {name}; a tokenizer's folder needs config.json and tokenizer.json")
    config = Config(folder / "config.json", read_object(folder / "config.json"))
    family = family_of(config)
    architecture = as_published(family.read(config), folder, pooling)
    return Checkpoint(family, dict(config.values), {}, folder, architecture)
