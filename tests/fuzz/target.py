"""What a target is: valid files, how they are mutated, the parser that reads them, the errors it may raise."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.tensor_file import write_tensors

Mutate = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """files: name -> content, all written before `read`; changed: which are mutated, and how.

    read: returns, or raises one of `errors` with a message that is short. share: of the inputs of a short run. keep:
    files that the parser itself may add, and folders ("x/"); writes: whether it may replace those that are there. own:
    folders of the package that it opens files of.
    """

    name: str
    files: dict[str, bytes]
    changed: dict[str, Mutate]
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    share: float = 1.0
    keep: tuple[str, ...] = field(default=())
    writes: bool = False
    own: tuple[Path, ...] = ()

    def input(self, seed: int, number: int) -> dict[str, bytes]:
        """Input `number` of a seed, the same whenever it is asked for; number 0 is the valid files."""
        files = dict(self.files)
        if number:
            rng = random.Random(f"{seed} {self.name} {number}")
            names = list(self.changed)
            for name in rng.sample(names, 1 if rng.random() < 0.8 else rng.randint(1, len(names))):
                files[name] = self.changed[name](rng, files[name])
        return files


def as_json(value: Any) -> bytes:
    """A valid file of JSON."""
    return json.dumps(value).encode()


def tensor_bytes(folder: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """A valid .safetensors file; it is written in `folder` to be read back."""
    write_tensors(folder / "made", tensors, metadata)
    return (folder / "made").read_bytes()
