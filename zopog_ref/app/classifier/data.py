"""From scikit-learn's X and y to what a run needs: texts, label words, split, experiment, its configuration."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.errors import RepeatedKey
from zopog_models.files.repeated_keys import once
from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.tasks.task_files import Rows
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import WIRE, Machine, RunConfig, Served
from zopog_ref.app.run.evidence import Evidence
from zopog_ref.app.run.experiment import Experiment, assemble, method_of
from zopog_ref.app.run.presets import (
    PRESET_FIELDS,
    SEARCHLESS,
    SETTINGS_NAMES,
    Preset,
    default_preset,
    preset_of,
)
from zopog_ref.app.run.splits import Drawn, Split, taken
from zopog_ref.app.tune.checks import check_served
from zopog_ref.app.tune.models import open_model
from zopog_ref.methods import entry_of
from zopog_ref.objective import LOSSES, Ledger
from zopog_ref.randomness import Purpose, permutation
from zopog_ref.search import step_price

INT64 = NDArray[np.int64]
Texts = list[tuple[str, ...]]
ORIGIN = "X and y of fit"  # where config.json says that the rows came from


def named_as(X: Any, slots: Sequence[str]) -> bool:
    """Whether X is a table whose columns bear the names of the template's slots, in whatever order."""
    return hasattr(X, "columns") and set(X.columns) == set(slots) and len(X.columns) == len(slots)


def by_slot_name(X: Any, slots: Sequence[str]) -> Any:
    """X with its columns in the order of the slots, where they bear their names; else X as it is."""
    return X[list(slots)] if named_as(X, slots) else X


def texts_of(X: Any, slots: int) -> Texts:
    """X as tuples of `slots` strings: a list, array or Series of texts, or two columns of them.

    Errors: ValueError for anything else, naming the first row that is no text.
    """
    if isinstance(X, str | bytes):
        raise ValueError(f"X is one string, {X[:60]!r}; give a list of texts, even if there is only one")
    if hasattr(X, "toarray"):
        raise ValueError("X is a sparse matrix; this classifier takes texts")
    rows = X.to_numpy() if hasattr(X, "to_numpy") else X
    array = np.asarray(rows, dtype=object)
    if array.ndim == 1 and slots == 1:
        array = array[:, None]
    if array.ndim != 2 or (len(array) and array.shape[1] != slots):
        wanted = "(rows,) or (rows, 1)" if slots == 1 else f"(rows, {slots})"
        raise ValueError(f"the template takes {slots} text(s), so X must have shape {wanted}; got {array.shape}")
    if not len(array):
        raise ValueError("X is empty (0 samples); at least one text is needed")
    for r, row in enumerate(array):
        for value in row:
            if not isinstance(value, str):
                raise ValueError(f"X must hold texts (strings); row {r} holds {value!r:.60} ({type(value).__name__})")
    return [tuple(map(str, row)) for row in array]


def label_words(classes: NDArray[Any], given: Mapping[Any, str] | None) -> dict[str, str]:
    """str(class) -> word, in the order of the classes; without `given`, a class's own name is its word.

    Errors: ValueError naming a class without a word, and classes that are written alike.
    """
    values = classes.tolist()
    if len({str(value) for value in values}) < len(values):
        raise ValueError(f"several classes are written alike: {values}")
    if given is None:
        return {str(value): str(value) for value in values}
    if not isinstance(given, Mapping):
        example = dict(zip(values, ("bad", "good", "fair")))
        raise ValueError(f"labels is {given!r:.80}; it must map each class to its label word, as {example!r}")
    try:
        words = once((str(value), word) for value, word in given.items())
    except RepeatedKey as error:  # 1 and "1", say
        raise ValueError(f"labels: {error}") from None
    if missing := [value for value in values if str(value) not in words]:
        raise ValueError(f"labels has no word for the class {missing[0]!r}; it has words for {', '.join(words)}")
    return {str(value): words[str(value)] for value in values}


def few_of_each(
    labels: INT64, names: Sequence[str], shots: int | None, fraction: float, order: INT64
) -> tuple[INT64, INT64]:
    """Rows to train on and rows to select on, at most `shots` of each class for either (None: no limit).

    Of a class's rows, `fraction` are set aside to select on, but at least one is, and one is left to train on.
    Errors: ValueError naming a class with fewer than two rows.
    """
    train, validation = [], []
    for c, name in enumerate(names):
        places = np.flatnonzero(labels[order] == c)
        if len(places) < 2:
            raise ValueError(
                f"class {name!r} has {len(places)} row(s); two are needed, one to train on and one to select on"
            )
        aside = min(max(1, int(len(places) * fraction + 0.5)), len(places) - 1)
        limit = len(places) if shots is None else shots
        train.append(places[: min(len(places) - aside, limit)])
        validation.append(places[len(places) - aside :][:limit])
    return order[np.sort(np.concatenate(train))], order[np.sort(np.concatenate(validation))]


def check_numbers(config: RunConfig, validation_fraction: float) -> None:
    """Errors: ValueError for what cannot be, in the words of the classifier's parameters."""
    searches = config.method not in SEARCHLESS
    for name in (*(("n_positions", "n_candidates", "dim") if searches else ()), "batch_size", "budget"):
        value = getattr(config.preset, name)
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    if config.preset.loss not in LOSSES:
        raise ValueError(f"loss is {config.preset.loss!r}; choose one of {', '.join(LOSSES)}")
    if config.shots is not None and (not isinstance(config.shots, int | np.integer) or config.shots < 1):
        raise ValueError(f"shots is {config.shots!r}; it must be a whole number of at least 1, or None for all rows")
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}; it must lie between 0 and 1")


def chosen_preset(
    method: str,
    settings: str | None,
    model: str,
    budget: int,
    batch_size: int | None,
    options: Mapping[str, Any] | None,
) -> tuple[str, Preset]:
    """The named settings of a method with what was given in their place, and their name. Errors: ValueError."""
    if method not in SEARCHLESS:
        entry_of(method)
    name = settings or default_preset(model, method)
    if name not in SETTINGS_NAMES:
        raise ValueError(f"settings is {name!r}; choose one of {', '.join(SETTINGS_NAMES)}")
    changes = dict(options or {})
    for own, value in (("budget", budget), ("batch_size", batch_size)):
        if own in changes:
            raise ValueError(f"{own} is a parameter of its own; it cannot stand among method_options")
        if value is not None:
            changes[own] = value
    if wrong := [key for key in changes if not isinstance(key, str)]:
        raise ValueError(f"method_options must map names of settings to values; {wrong[0]!r} is no name")
    for key in PRESET_FIELDS:  # whole numbers may be NumPy's; JSON wants Python's
        if isinstance(changes.get(key), np.generic):
            changes[key] = changes[key].item()
    return name, preset_of(method, name, budget).changed(**changes)


def opened(model: str, machine: Machine, remote: Served | None = None, fresh: bool = False) -> FrozenModel:
    """The frozen model; the last one stays open, so that cross-validation and a fitted copy share it.

    fresh: one that nobody shares, for whoever closes it.
    """
    opener = _opened.__wrapped__ if fresh else _opened
    return opener(model, machine.device, machine.threads, remote, tuple(sorted(machine.wire.items())))


@lru_cache(maxsize=1)
def _opened(
    model: str, device: str, threads: int | None, remote: Served | None, wire: tuple[tuple[str, Any], ...]
) -> FrozenModel:
    if remote is None:
        return load_model(model, device=device, threads=threads)
    try:
        return open_model(model, Machine(wire=dict(wire)), remote=remote)
    except InputError as error:
        raise ValueError(f"served: {error}") from None


def experiment_of(
    texts: Texts, labels: INT64, config: RunConfig, validation_fraction: float, machine: Machine, fresh: bool
) -> tuple[Experiment, dict[str, Any]]:
    """The run on these rows, and what its config.json holds. labels (rows,) are class numbers; fresh: as of `opened`.

    Errors: ValueError for rows, label words or settings that cannot be used, and for a budget under one step, all but
    the label words before the model is opened.
    """
    check_numbers(config, validation_fraction)
    try:
        check_served(config, machine)
    except InputError as error:
        raise ValueError(str(error)) from None
    preset, seed = config.preset, config.seed
    order = permutation(seed, 0, Purpose.SPLIT, len(labels))
    train, dev = few_of_each(labels, list(config.task.labels), config.shots, validation_fraction, order)
    ledger = Ledger(preset.budget, batch_size=preset.batch_size)
    searches = config.method not in SEARCHLESS
    price = step_price(method_of(preset, seed), ledger, len(train), preset.batch_size) if searches else 0
    if preset.budget < price:
        raise ValueError(f"budget is {preset.budget} calls and one step costs {price}: raise it, or use fewer samples")
    digest = hashlib.sha256(json.dumps([texts, labels.tolist()], ensure_ascii=False).encode()).hexdigest()
    rows = Rows(texts, labels)
    drawn = Drawn(
        taken(rows, train),
        taken(rows, dev),
        test=None,
        splits={"train": Split(ORIGIN, digest, train.tolist()), "dev": Split(ORIGIN, digest, dev.tolist())},
        texts=[" ".join(row) for row in texts],
    )
    model = opened(config.model, machine, config.remote, fresh)
    try:
        experiment = assemble(model, config.task, preset, seed, drawn, fewer=True)
    except InputError as error:
        raise ValueError(str(error)) from error
    if experiment.preset.n_candidates < preset.n_candidates:
        asked, found = preset.n_candidates, experiment.preset.n_candidates
        warnings.warn(f"{asked} candidate tokens were asked for, the texts hold {found}: N is {found}", stacklevel=3)
    config = replace(config, preset=experiment.preset)
    return experiment, config.opened(model).to_json(Evidence.of(experiment))


def fingerprint(config: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of all that a run's result depends on: not of versions, nor of how a server is reached."""
    kept = {name: value for name, value in config.items() if name != "versions"}
    if "remote" in kept:
        kept["remote"] = {name: value for name, value in kept["remote"].items() if name not in WIRE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]
