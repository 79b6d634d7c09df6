"""Target: what a hub answers: a revision's commit, the list of files, the files; its client is huggingface_hub's own."""

import importlib
import importlib.util
import random
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.model_files import CONFIGS
from tests.fuzz.mutation import mutated_json
from tests.fuzz.target import Target, as_json
from zopog_models.checkpoints.hub import fetch
from zopog_models.families import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ("config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors")
_ABOUT = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in NAMES]}
_TREE = [{"type": "file", "path": name, "size": 2, "oid": "0" * 40} for name in NAMES]
ESCAPES = ("../../x_Pooling/config.json", "/tmp/x_Pooling/config.json", "model-/../../../../x-of-1.safetensors", "model-1-of-2.safetensors",
           "x\\..\\..\\y_Pooling/config.json", "./config.json", "config.json/", "a/../config.json")  # fmt: skip


def hub_answers(scratch: Path) -> list[Target]:
    """Empty where the client is not installed, or is one that nothing can be put under."""
    if _http() is None:
        return []
    files = {"about.json": as_json(_ABOUT), "tree.json": as_json(_TREE), "config.json": as_json(CONFIGS["bert"])}
    changed = {"about.json": _mutated_about, "tree.json": _mutated_tree, "config.json": mutated_json}
    return [Target("hub", files, changed, _fetch, (CheckpointError,), 0.05, ("cache/",))]


def _http() -> Any:
    """The package that huggingface_hub speaks HTTP with."""
    names = [name for name in ("huggingface_hub", "httpx2", "httpx") if importlib.util.find_spec(name)]
    if names[:1] != ["huggingface_hub"] or len(names) < 2:
        return None
    return (
        importlib.import_module(names[1]) if hasattr(importlib.import_module(names[0]), "set_client_factory") else None
    )


def _mutated_about(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return content.replace(
            COMMIT.encode(), rng.choice((b"../../../../x", b"..", b"x/y", b"", COMMIT[:7].encode(), b"F" * 40))
        )
    return mutated_json(rng, content)


def _mutated_tree(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.5:
        name, escape = rng.choice(NAMES).encode(), rng.choice(ESCAPES).encode().replace(b"\\", b"\\\\")
        content = content.replace(name, escape, 1)
    return mutated_json(rng, content) if rng.random() < 0.7 else content


@contextmanager
def _client(folder: Path) -> Iterator[None]:
    """huggingface_hub with a cache in the folder, answered from the folder's files."""
    import huggingface_hub
    from huggingface_hub import constants

    http = _http()
    if (trees := sys.modules.get("huggingface_hub._tree_cache")) is not None:  # it would not ask a second time
        vars(trees).get("_IN_MEMORY_TREE_CACHE", {}).clear()

    def answer(request: Any) -> Any:
        path, head = request.url.path, request.method == "HEAD"
        if path.startswith("/api/models/org/name"):
            name = "tree.json" if "/tree/" in path else "about.json"
            return http.Response(200, content=(folder / name).read_bytes())
        content = (folder / "config.json").read_bytes() if path.endswith("config.json") else b"{}"
        headers = {"ETag": f'"{zlib.crc32(content)}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}
        return http.Response(200, content=b"" if head else content, headers=headers)

    ours = {"HF_HUB_CACHE": str(folder / "cache"), "HF_TOKEN_PATH": str(folder / "cache" / "token"),
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": True, "HF_HUB_DISABLE_PROGRESS_BARS": True}  # fmt: skip
    before = {name: getattr(constants, name) for name in ours}
    vars(constants).update(ours)
    huggingface_hub.set_client_factory(lambda: http.Client(transport=http.MockTransport(answer)))
    try:
        yield
    finally:
        vars(constants).update(before)


def _fetch(folder: Path) -> None:
    with _client(folder):
        found = fetch("org/name")
    assert found.folder.resolve().is_relative_to(folder.resolve())
    assert found.folder.is_dir()
