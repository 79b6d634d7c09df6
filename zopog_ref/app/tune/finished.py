"""A finished run, read back from its folder: what its report, its card and `zopog show` say."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.errors import TaskError, TensorFileError, UnusableFile
from zopog_models.files.tensor_file import read_tensors
from zopog_models.files.untrusted import check_regular
from zopog_models.tasks.task_files import read_rows
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import RunConfig, read_run
from zopog_ref.app.run.curve import read_curve, read_record
from zopog_ref.app.run.evidence import Evidence
from zopog_ref.app.run.folder import read_json
from zopog_ref.app.run.predictions import PREDICTIONS, Predictions, load_predictions
from zopog_ref.app.run.presets import TEMPLATE_ALONE
from zopog_ref.app.run.saved_run import Result
from zopog_ref.app.tune.worth import wilson
from zopog_ref.distribution import probabilities
from zopog_ref.search import Record


@dataclass(frozen=True)
class Finished:
    """result: result.json; tokens: the tuned prompt's words, each with its probability where the method has one."""

    folder: Path
    config: RunConfig
    found: Evidence
    result: dict[str, Any]
    curve: list[Record]
    tokens: list[tuple[str, float | None]]
    z_norm: float | None

    @property
    def name(self) -> str:
        """Of the deployed prompt."""
        return str(self.result.get("deployed", "tuned"))

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Every way to read the prompts: of a run without readouts, the manual prompt and the tuned one."""
        if "answers" in self.result:
            return list(self.result["answers"])
        rows = []
        for name, metrics, calls in (
            ("manual", self.result["manual_metrics"], 0),
            ("tuned", self.result["test_metrics"], self.result["calls"]),
        ):
            row: dict[str, Any] = {"name": name, "calls": calls}
            if metrics is not None:
                mean = metrics["uncertainty"]["mean"]
                right = round(metrics["accuracy"] * metrics["rows"])
                row |= {"accuracy": metrics["accuracy"], "interval": list(wilson(right, metrics["rows"]))}
                row |= {"nll": mean["nll"], "ece": mean["ece"]}
            rows.append(row)
        return rows

    @cached_property
    def predictions(self) -> Predictions | None:
        """On the test rows; None of a run without any. Errors: InputError for a damaged file."""
        return load_predictions(self.folder) if (self.folder / PREDICTIONS).exists() else None

    @cached_property
    def texts(self) -> list[tuple[str, ...]] | None:
        """Of the test rows; None where their file is gone or has changed."""
        split, predictions = self.found.splits.get("test"), self.predictions
        if split is None or predictions is None:
            return None
        try:
            rows = read_rows(split.file, self.config.task)
        except TaskError:
            return None
        places = predictions.rows
        if len(rows.texts) <= places.max() or not np.array_equal(rows.labels[places], predictions.labels):
            return None
        return [rows.texts[place] for place in places]

    def probabilities(self) -> dict[str, np.ndarray]:
        """Of the test rows, by the names of `answers`."""
        kept = self.predictions
        if kept is None:
            return {}
        found = {"manual": kept.manual, **{name: given.mean for name, given in kept.readings.items()}}
        return found | ({} if self.name in found else {self.name: kept.mean})

    def warnings(self) -> list[str]:
        """What somebody should know before this prompt is used."""
        said, result = [], self.result
        classes = list(self.config.task.labels)
        if not result.get("learned", True):
            said.append("Nothing was learned: these scores tell the labels no better than chance does.")
        if self.config.method != TEMPLATE_ALONE and not self.name.startswith("tuned"):
            said.append(
                f"Tuning did not help: on the dev rows the tuned prompt is not clearly better than {self.name}."
            )
        still = sum(record.diagnostics.get("alpha_gradient_norm") == 0 for record in self.curve)
        if still:
            why = "all prompts sampled in the step were the same"
            steps = f"{still} of {len(self.curve)} steps had a token gradient of 0 and moved no token"
            said.append(f"{steps}: {why}, or had equal losses.")
        if (metrics := result["test_metrics"]) is not None:
            given = np.sum(metrics["confusion"], axis=0)
            if never := [name for name, count in zip(classes, given) if not count]:
                said.append(f"Never answered on the test rows: {', '.join(never)}.")
            if metrics["truncated"]:
                said.append(f"{metrics['truncated']} test texts were cut to the model's positions.")
            if metrics["rows"] < 200:
                said.append(f"The test has {metrics['rows']} rows: the intervals are wide.")
        else:
            said.append("No rows were left for a test.")
        return said


def read_finished(folder: Path) -> Finished:
    """Errors: InputError for a folder without a finished run, or with files that a run does not write."""
    path = folder / "result.json"
    result = read_json(path, f"{folder} holds no finished run: go on with zopog tune --resume {folder}")
    Result.from_json(result, path)
    config, found = read_run(folder)
    lines = folder / "curve.jsonl"
    try:
        curve = [read_record(lines, step, line) for step, line in enumerate(read_curve(lines), start=1)]
        tokens, norm = _tokens(folder, config, result)
        return Finished(folder, config, found, result, curve, tokens, norm)
    except (UnusableFile, TensorFileError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder} is not what a run writes ({error!s:.200}): it was edited or damaged") from None


def _tokens(
    folder: Path, config: RunConfig, result: dict[str, Any]
) -> tuple[list[tuple[str, float | None]], float | None]:
    """The heaviest tuned prompt's words with their probabilities, and ||z||; no words of a run that tuned nothing."""
    texts = result.get("tuned_tokens", result["prompt_tokens"])
    path = folder / "checkpoint.safetensors"
    if not texts or not path.exists():
        return [], None
    check_regular(path)
    state = read_tensors(path)
    words = [str(word) for word in texts[0]]
    norm = float(np.linalg.norm(state["best.z"][0])) if "best.z" in state else None
    alpha, chosen = state.get("state.alpha"), state.get("best.tokens")
    p = state.get("state.p") if alpha is None else probabilities(alpha, config.preset.method.tau)
    if p is None or chosen is None or len(words) != len(p):
        return [(word, None) for word in words], norm
    return [(word, float(row[place])) for word, row, place in zip(words, p, chosen[0])], norm
