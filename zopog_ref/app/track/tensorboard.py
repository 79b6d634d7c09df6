"""TensorBoard: event files in RUN/tensorboard, for `tensorboard --logdir runs`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.summary import Writer

from zopog_ref.app.track.watchers import metrics_of, numbers_of
from zopog_ref.search import Record


class TensorboardTracker:
    """Scalars alone; the settings are in the run folder beside them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.writer, self.step = Writer(str(folder / "tensorboard")), 0

    def __call__(self, record: Record) -> None:
        self.step = record.step
        for name, value in metrics_of(record).items():
            self.writer.add_scalar(name, value, step=record.step)

    def close(self, result: Mapping[str, Any] | None) -> None:
        """The result's numbers, at the last step."""
        for name, value in numbers_of(result).items():
            self.writer.add_scalar(f"result/{name}", value, step=self.step)
        self.writer.close()


open_tracker = TensorboardTracker
