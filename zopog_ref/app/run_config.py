"""A run's config.json: everything needed to repeat the run, and what would show that it cannot be repeated."""

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zopog_models.template import Task
from zopog_ref.app.errors import InputError
from zopog_ref.app.experiment import Experiment
from zopog_ref.app.presets import Preset
from zopog_ref.methods import settings_class


def configuration(experiment: Experiment, *, model: str, shots: int | None, settings: str) -> dict[str, Any]:
    """config.json: everything needed to repeat the run, and what would show that it cannot be repeated."""
    task, frozen = experiment.task, experiment.model
    preset = asdict(experiment.preset)
    del preset["about"]
    return {
        "format": 1,
        "method": preset.pop("method_name"),
        "model": model,
        "task": {
            "name": task.name,
            "description": task.description,
            "template": task.template,
            "labels": dict(task.labels),
            "metric": task.metric,
            "text_columns": list(task.text_columns),
            "label_column": task.label_column,
            "skip_labels": list(task.skip_labels),
            **{name: None if path is None else str(path) for name, path in _files(task).items()},
        },
        "seed": experiment.seed,
        "shots": shots,
        "settings": settings,
        "preset": preset,
        "model_sha256": frozen.sha256,
        "tokenizer_sha256": frozen.tokenizer_sha256,
        "injection": frozen.injection,
        "splits": {name: asdict(split) for name, split in experiment.splits.items()},
        "candidates": experiment.candidates.tolist(),
        **_labels(experiment),
        "versions": versions(),
    }


def _labels(experiment: Experiment) -> dict[str, Any]:
    """Token ids of the label words; of a sentence-embedding model, what turns their phrases into scores."""
    model = experiment.model
    if not model.pooling:
        return {"label_ids": experiment.labels.tolist()}
    return {"pooling": model.pooling, "temperature": model.temperature}


def preset_of(config: dict[str, Any]) -> Preset:
    """The preset a run was started with, from its config.json."""
    saved, name = dict(config["preset"]), config["method"]
    method = settings_class(name)(**saved["method"])
    return Preset(about=config["settings"], **(saved | {"method": method, "method_name": name}))


def check_repeatable(config: dict[str, Any], experiment: Experiment) -> None:
    """Errors: InputError when model, tokenizer, data or candidates are no longer those the run was started with."""
    now = {
        "model": experiment.model.sha256,
        "tokenizer": experiment.model.tokenizer_sha256,
        **{f"{name} rows": asdict(split) for name, split in experiment.splits.items()},
        "candidates": experiment.candidates.tolist(),
    }
    then = {
        "model": config["model_sha256"],
        "tokenizer": config["tokenizer_sha256"],
        **{f"{name} rows": split for name, split in config["splits"].items()},
        "candidates": config["candidates"],
    }
    changed = [name for name in then if then[name] != now.get(name)]
    if changed:
        raise InputError(
            f"this run cannot be continued: {', '.join(changed)} changed since it was started; restore them, "
            "or start a new run"
        )


def versions() -> dict[str, str]:
    """Of Python and of every package that a number could depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("zopog-ref", "numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers", "cma", "cmaes"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _files(task: Task) -> dict[str, Path | None]:
    return {"train": task.train, "dev": task.dev, "test": task.test}
