"""Weights & Biases: a run in the project "zopog", or in WANDB_PROJECT; WANDB_MODE=offline stays here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from zopog_ref.app.track.watchers import metrics_of, numbers_of
from zopog_ref.search import Record


class WandbTracker:
    """Its files lie in the run folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        project = os.environ.get("WANDB_PROJECT", "zopog")
        self.run = wandb.init(project=project, name=folder.name, dir=str(folder), config=dict(settings))

    def __call__(self, record: Record) -> None:
        self.run.log(metrics_of(record), step=record.step)

    def close(self, result: Mapping[str, Any] | None) -> None:
        """The result's numbers, as the run's summary; exit code 1 of a run without one."""
        for name, value in numbers_of(result).items():
            self.run.summary[f"result.{name}"] = value
        self.run.finish(exit_code=1 if result is None else 0)


open_tracker = WandbTracker
