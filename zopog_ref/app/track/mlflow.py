"""MLflow: a run in the experiment "zopog" of the server or folder that MLFLOW_TRACKING_URI names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow

from zopog_ref.app.track.watchers import metrics_of, numbers_of
from zopog_ref.search import Record


class MlflowTracker:
    """Speaks to one run by its id, so that nothing global is changed."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.client = mlflow.MlflowClient()
        known = self.client.get_experiment_by_name("zopog")
        experiment = self.client.create_experiment("zopog") if known is None else known.experiment_id
        self.run = self.client.create_run(experiment, run_name=folder.name).info.run_id
        for name, value in settings.items():
            self.client.log_param(self.run, name, str(value)[:500])

    def __call__(self, record: Record) -> None:
        for name, value in metrics_of(record).items():
            self.client.log_metric(self.run, name, value, step=record.step)

    def close(self, result: Mapping[str, Any] | None) -> None:
        """The result's numbers; a run without one is marked as failed."""
        for name, value in numbers_of(result).items():
            self.client.log_metric(self.run, f"result.{name}", value)
        self.client.set_terminated(self.run, "FAILED" if result is None else "FINISHED")


open_tracker = MlflowTracker
