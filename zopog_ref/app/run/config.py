"""A run's config.json: everything needed to repeat the run, and what would show that it cannot be repeated."""

import platform
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_models.tasks.template import Task
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.presets import Preset
from zopog_ref.app.run.saved_values import number
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
    """The preset a run was started with, from its config.json. Errors: InputError for settings that cannot be."""
    saved, name = dict(config["preset"]), config["method"]
    try:
        kind = settings_class(name)
        method = kind(**_typed(kind, saved.pop("method")))
        return Preset(about=config["settings"], **_typed(Preset, saved), method=method, method_name=name)
    except (ValueError, TypeError) as error:
        what = f"{str(error)[:300]}: it was edited or damaged"
        raise InputError(f"the run's config.json holds no settings of a method: {what}") from None


def _typed(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values, each of the type of its field's default. Errors: ValueError."""
    for field in fields(kind):
        if field.name in values and isinstance(field.default, (bool, int, float, str)):
            value, wanted = values[field.name], type(field.default)
            if not (wanted is float or type(value) is wanted) or not (wanted is str or wanted is bool or number(value)):
                raise ValueError(f"{field.name} is {quoted(value)}, expected a {wanted.__name__}")
    return values


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
