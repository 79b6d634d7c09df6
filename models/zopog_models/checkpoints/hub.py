"""Model folders from the Hugging Face Hub: only the files that are read, at one commit, kept in the hub's own cache.

The client is `huggingface_hub` (extra `hub`); HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and its other settings hold here as
everywhere. Small files come first, so that an architecture this package cannot run is refused before its weights are
downloaded.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from zopog_models.errors import CheckpointError, HubError
from zopog_models.families import Config, family_of
from zopog_models.families.sentence import SETTINGS
from zopog_models.files.atomic import write_atomically
from zopog_models.files.gguf_file import is_gguf
from zopog_models.files.json_file import read_object
from zopog_models.files.quoting import quoted

__all__ = ["HubError", "HubModel", "fetch", "is_hub_id"]

# No part of a revision begins with a dot: it becomes the name of a file in the cache.
_HUB_ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w.+-]*(?:/\w[\w.+-]*)*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DESCRIPTION = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "*_Pooling/config.json",
    *SETTINGS,
    "config_sentence_transformers.json",
    "model.safetensors.index.json",
]
_WEIGHTS = ["model.safetensors", "model-*-of-*.safetensors"]


class HubModel(NamedTuple):
    """A fetched model: its folder in the cache, its name, and the commit that the revision stood for."""

    folder: Path
    name: str
    commit: str

    @property
    def pinned(self) -> str:
        """org/name@commit: the same files whenever it is fetched."""
        return f"{self.name}@{self.commit}"


def is_hub_id(source: str) -> bool:
    """Whether this reads as org/name or org/name@revision; folder/FILE.gguf is a file."""
    return _HUB_ID.fullmatch(source) is not None and not is_gguf(source)


def fetch(source: str) -> HubModel:
    """Fetch org/name, or org/name@revision (a branch, a tag or a commit; without one, the default branch).

    Without a network, or with HF_HUB_OFFLINE=1, what is in the cache is used. Raises HubError: no such model or
    revision, no access, nothing cached and no network, the package huggingface_hub missing; CheckpointError: an
    architecture that is not supported.
    """
    parts = _HUB_ID.fullmatch(source)
    if parts is None:
        raise HubError(f"{source!r} is not the name of a model on the hub; expected org/name or org/name@revision")
    name, revision = parts["name"], parts["revision"]
    with _told(name, revision):
        folder = _description(name, revision)
    config = folder / "config.json"
    if not config.is_file():
        raise HubError(f"{source} has no config.json: it is not a model in Hugging Face's format")
    family_of(Config(config, read_object(config)))
    commit = folder.name
    with _told(name, commit):
        folder = _snapshot(name, commit, [*_DESCRIPTION, *_WEIGHTS])
    return HubModel(folder, name, commit)


def _description(name: str, revision: str | None) -> Path:
    """The folder of the small files, of the commit that a revision stands for; without a network, of the cached one.

    The commit becomes the name of a folder and of files, and the client would follow a path: it has to be a hash.
    """
    from huggingface_hub import HfApi, errors

    if revision is not None and _COMMIT.fullmatch(revision):
        return _snapshot(name, revision, _DESCRIPTION)
    try:
        commit = HfApi().model_info(name, revision=revision).sha
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise
    except Exception as error:  # no network, a hub that is down, an answer that describes no model
        try:
            return _snapshot(name, revision, _DESCRIPTION, cached=True)
        except errors.LocalEntryNotFoundError:
            raise errors.LocalEntryNotFoundError(f"{type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise HubError(f"{name} cannot be fetched: the hub says that its commit is {quoted(commit)}")
    folder = _snapshot(name, commit, _DESCRIPTION)
    reference = folder.parent.parent / "refs" / (revision or "main")  # where the client looks without a network
    with suppress(OSError):  # a cache that can only be read
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(reference, [commit.encode()])
    return folder


def _snapshot(name: str, revision: str | None, patterns: list[str], *, cached: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=cached))


@contextmanager
def _told(name: str, revision: str | None) -> Iterator[None]:
    """The client's errors as HubError."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise HubError(
            f"{name!r} is no folder here, and fetching it from the hub needs the package huggingface_hub ({error}): "
            'pip install "huggingface_hub>=0.26"'
        ) from error
    asked = f"{name}@{revision}" if revision else name
    try:
        yield
    except CheckpointError:
        raise
    except errors.RevisionNotFoundError:
        raise HubError(f"{name} has no revision {revision!r} on the hub") from None
    except errors.GatedRepoError as error:
        raise HubError(
            f"{name} is gated: accept its terms on the hub and log in with `hf auth login` ({_first_line(error)})"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{name!r} is neither a folder here nor a model on the hub (a private one needs `hf auth login`): "
            f"{_first_line(error)}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise HubError(
            f"{asked} is not in the cache, and the hub cannot be reached ({_first_line(error)}); fetch it once with a "
            "network, or give the model's folder"
        ) from error
    except Exception as error:  # whatever the client makes of an answer that is not as it expects
        what = f"{type(error).__name__}: {_first_line(error)}"
        raise HubError(f"{asked} cannot be fetched from the hub: {what}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:500]
