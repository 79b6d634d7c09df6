"""Those who watch a run: each is called with the Record of every step, and what one raises never ends the run.

A tracker is such a callback with `close(result)`, which gets result.json's content, or None of a run that did not end.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from zopog_ref.app.errors import InputError
from zopog_ref.app.packages import from_extra
from zopog_ref.methods import MissingPackage
from zopog_ref.search import Record

__all__ = ["TRACKERS", "Tracker", "Watchers", "check_installed", "metrics_of", "numbers_of", "tracked"]

TRACKERS = ("mlflow", "tensorboard", "wandb", "trackio")
_LOG = logging.getLogger(__name__)
Watcher = Callable[[Record], object]


class Tracker(Protocol):
    """An experiment tracker's side of a run."""

    def __call__(self, record: Record) -> None: ...
    def close(self, result: Mapping[str, Any] | None) -> None: ...


class Watchers:
    """Calls every watcher after each step. One that raises is dropped and `said`; every call stays paid and kept."""

    def __init__(self, watchers: Sequence[Watcher], said: Callable[[str], None]) -> None:
        self.watchers, self.said = list(watchers), said

    def __call__(self, record: Record) -> None:
        for watcher in tuple(self.watchers):
            self._guarded(watcher, watcher, record)

    def close(self, result: Mapping[str, Any] | None) -> None:
        """Tell those who want to know that the run is over."""
        for watcher in tuple(self.watchers):
            if hasattr(watcher, "close"):
                self._guarded(watcher, watcher.close, result)

    def _guarded(self, watcher: Watcher, call: Callable[[Any], object], given: object) -> None:
        try:
            call(given)
        except Exception as error:  # whatever somebody else's code raises
            self.watchers.remove(watcher)
            _LOG.debug("a callback raised", exc_info=True)
            name = getattr(watcher, "__qualname__", type(watcher).__qualname__)
            self.said(f"the callback {name} raised {type(error).__name__}: {error!s:.300}; the run goes on without it")


def metrics_of(record: Record) -> dict[str, float]:
    """What a tracker draws of a step, without what is not finite."""
    found = {"calls": record.calls, "dev_metric": record.dev_metric, "dev_loss": record.dev_loss, **record.diagnostics}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def numbers_of(result: Mapping[str, Any] | None) -> dict[str, float]:
    """result.json's own numbers, such as test_accuracy."""
    found = {} if result is None else result
    return {name: float(v) for name, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def check_installed(names: Sequence[str]) -> None:
    """Errors: MissingPackage, before anything is paid for."""
    from importlib.util import find_spec

    for name in names:
        if find_spec(name) is None:
            raise MissingPackage(f"--track {name} needs the package {name!r}: pip install {name}")


@contextmanager
def tracked(
    names: Sequence[str], folder: Path, settings: Mapping[str, Any], said: Callable[[str], None]
) -> Iterator[Watchers]:
    """The named trackers, opened before the first step. A run that fails is closed without a result.

    Errors: InputError where a tracker does not start.
    """
    opened: list[Watcher] = []
    try:
        for name in names:
            opened.append(_open(name, folder, settings))
    except (InputError, MissingPackage):
        Watchers(opened, said).close(None)
        raise
    watchers = Watchers(opened, said)
    try:
        yield watchers
    except BaseException:
        watchers.close(None)
        raise


def _open(name: str, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    from importlib import import_module

    with from_extra():
        module = import_module(f"zopog_ref.app.track.{name}")
    try:
        tracker: Tracker = module.open_tracker(folder, settings)
    except Exception as error:  # a server that is not there, a key that is wrong
        raise InputError(f"--track {name} does not start: {type(error).__name__}: {error!s:.300}") from error
    return tracker
