"""Trackio: a run in the project "zopog", kept where TRACKIO_DIR says; `trackio show` draws it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trackio

from zopog_ref.app.track.watchers import metrics_of, numbers_of
from zopog_ref.search import Record


class TrackioTracker:
    """Local, on this machine alone."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.run = trackio.init(project="zopog", name=folder.name, config=dict(settings), embed=False)

    def __call__(self, record: Record) -> None:
        self.run.log(metrics_of(record), step=record.step)

    def close(self, result: Mapping[str, Any] | None) -> None:
        """The result's numbers, as one more entry."""
        if found := numbers_of(result):
            self.run.log({f"result.{name}": value for name, value in found.items()})
        self.run.finish()


open_tracker = TrackioTracker
