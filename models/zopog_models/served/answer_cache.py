"""Answers kept across runs, seeds and methods: a question that anybody asked before is not paid for again.

A file an answer, under the hash of the server, the model and the question. It holds numbers alone: no text and no key.
Deleting the folder forgets everything. Several runs may share it at once: a file appears whole or not at all.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zopog_models.errors import SetupError, UnusableFile
from zopog_models.files.atomic import write_atomically
from zopog_models.files.untrusted import read_untrusted

__all__ = ["AnswerCache"]

_MOST = 1 << 26  # bytes of an answer


class AnswerCache:
    """Answers of one server, in a folder. Raises SetupError for a folder that cannot be made.

    model: the hash of the one that answers, as far as it is known; whoever opens it says it. notify: as of `Requests`.
    """

    def __init__(self, folder: Path, url: str, notify: Callable[[str], None] = lambda message: None) -> None:
        self.folder, self._url, self._notify, self.model = folder, url, notify, ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"--cache {folder}: {error}") from error

    def get(self, identity: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The answer to this question, if it is here, whole and of this shape."""
        try:
            found = json.loads(read_untrusted(self._file(identity), _MOST))
            scores = np.array(found["scores"], np.float32).reshape(found["shape"])
        except (UnusableFile, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        return scores if scores.shape == shape and bool(np.isfinite(scores).all()) else None

    def put(self, identity: str, scores: np.ndarray) -> None:
        """Keep it. A folder that cannot be written to keeps nothing, which is said once, and the run goes on."""
        path = self._file(identity)
        content = json.dumps({"shape": list(scores.shape), "scores": scores.ravel().tolist()}).encode()
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, [content])
        except OSError as error:
            self._notify(f"--cache {self.folder}: answers are not kept there ({error.strerror})")
            self._notify = lambda message: None

    def _file(self, identity: str) -> Path:
        name = hashlib.sha256(f"{self._url}\n{self.model}\n{identity}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.json"
