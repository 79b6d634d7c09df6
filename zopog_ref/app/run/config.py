"""What a run is: everything that was chosen for it, and the config.json of that and of what it found (evidence.py).

    config = RunConfig(task, "supersense", "embedded", preset, "embedded", seed=42, shots=16)

The command line, `zopog compare`, `PromptClassifier` and a run folder each make one; whatever runs it reads it alone.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import FrozenModel
from zopog_models.tasks.task_files import embedded_tasks, load_task
from zopog_models.tasks.template import Task, make_task
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.evidence import Evidence
from zopog_ref.app.run.folder import read_json
from zopog_ref.app.run.presets import PRESET_FIELDS, Preset, settings_of
from zopog_ref.app.run.typed_json import Seed, Whole, damage_named, from_fields, plain

FORMAT = 1
_TASK = ("name", "description", "template", "labels", "metric", "text_columns", "label_column", "skip_labels")
WORD_SCORINGS = ("whole", "first-piece", "sum")  # of label words of several tokens
_LATER = {"quoting": "", "first_pieces": False, "summed_pieces": False, "position": "before"}  # written where unusual
_FILES = ("train", "dev", "test")
WIRE = (
    "timeout",
    "retries",
    "concurrency",
    "key_variable",
    "refused_share",
    "key_header",
    "headers_env",
    "query",
    "rpm",
    "tpm",
    "price_in",
    "price_out",
    "budget_usd",
)  # of a served model: may change when a run is continued
UNSAVED = ("allow_http", "cache")  # of a served model: said each time, for the folder may be a stranger's


@dataclass(frozen=True)
class Served:
    """How a served model is asked. What WIRE names may change on the way; the rest changes a result."""

    tokenizer: str  # a folder
    rows_per_request: Whole | None = None
    encoding: str = "auto"
    embedding_std: float | None = None
    top_logprobs: Whole = 5
    timeout: float = 60.0  # seconds
    retries: Whole = 8
    concurrency: Whole = 4
    key_variable: str | None = None  # the environment variable's name: the key itself is written nowhere
    refused_share: float = 0.05  # of texts that an endpoint may leave without an answer
    key_header: str = "Authorization"
    headers_env: tuple[str, ...] = ()  # HEADER=VARIABLE
    query: tuple[str, ...] = ()  # NAME=VALUE
    rpm: float | None = None  # requests a minute
    tpm: float | None = None  # tokens a minute
    price_in: float | None = None  # US dollars for a million tokens
    price_out: float | None = None
    budget_usd: float | None = None
    prompt_in: str = "user"  # of a conversation: where the prompt's tokens stand
    system: str = ""  # what the system says in every conversation
    answers: str = "scores"  # of a conversation; or the labels that are answered
    send: str = "text"  # of completions; or the ids of the tokens
    answer_tokens: Whole = 8  # of an answer that is read for its label


@dataclass(frozen=True)
class Precision:
    """Fewer bits for a run's questions, and how far their answers agreed with fp32 on its rows (tune/precision.py).

    policy: correlation of batch losses over prompts; zeroth_order: of what the method's other steps read, None where
    they stay fp32's; labels: share of rows that both give the same label; calls: how many were asked for it.
    """

    precision: str
    scope: str
    policy: float = 0.0
    zeroth_order: float | None = None
    labels: float = 0.0
    calls: Whole = 0
    threshold: float = 0.0
    anyway: bool = False

    @property
    def least(self) -> float:
        """The smaller correlation."""
        return self.policy if self.zeroth_order is None else min(self.policy, self.zeroth_order)

    def text(self) -> str:
        """A line for people."""
        second = "" if self.zeroth_order is None else f", {self.zeroth_order:.3f} in steps on z"
        return (
            f"{self.precision} against fp32 on this run's rows: correlation {self.policy:.3f} in policy steps{second}"
            f", the same label on {self.labels:.1%} of rows ({self.calls} calls, not charged)"
        )


@dataclass(frozen=True)
class Machine:
    """How a run is carried out here: nothing of it is part of what the run is. None: the default, or what was saved."""

    device: str = "cpu"
    threads: int | None = None
    workers: int | None = None  # Ray actors
    address: str | None = None  # of a continued run: where its model is now
    wire: Mapping[str, Any] = field(default_factory=dict)  # of a served model: what was given of WIRE and UNSAVED
    most: bool = False  # of a new run: ask a text endpoint for as many log-probabilities as it gives
    track: tuple[str, ...] = ()  # experiment trackers
    shorter: Path | None = None  # folder of the same run on a smaller budget, whose steps need not be taken again


@dataclass(frozen=True)
class RunConfig:
    """Everything that was chosen for a run. source: the task's embedded name or its TOML, where it has one."""

    task: Task
    source: str | None
    model: str  # embedded, a folder, org/name@revision, or an address
    preset: Preset  # with the method's settings
    settings: str  # name of the preset
    seed: Seed
    shots: Whole | None  # rows a class; None: all there are
    backend: str | None = None  # of the mathematics; None: NumPy, and not written
    pooling: str | None = None  # of a sentence-embedding model
    temperature: float | None = None  # of a sentence-embedding model; None: the default
    remote: Served | None = None
    precision: Precision | None = None  # None: fp32
    readout: str | None = None  # of the scores: none, centred, labels, vocabulary, auto; None: as in version 0.1.0
    readout_tokens: Whole | None = None  # that a readout reads besides the label words; None: the default
    templates: tuple[str, ...] | None = None  # of the manual prompts; None: one, which is task.template
    deploy: str | None = None  # tuned: whatever else was better; None: what is best
    instructions: tuple[str, ...] | None = None  # of `auto`; None: the generic ones
    refit: bool | None = None  # the readout learns from the dev rows too, once all is chosen; None: not, nor written

    @property
    def method(self) -> str:
        """The method's name."""
        return self.preset.method_name

    def opened(self, model: FrozenModel) -> "RunConfig":
        """With what the opened model says of itself in place of what was left to it."""
        pooled = model.pooling or None
        return replace(self, pooling=pooled, temperature=model.temperature if pooled else None)

    def named(self) -> dict[str, object]:
        """What two runs of one comparison have to agree in, by the names that a user knows."""
        fewer = self.precision
        return {
            **{name: getattr(self, name) for name in ("method", "model", "seed", "shots", "settings")},
            "template": self.task.template,
            "labels": dict(self.task.labels),
            "prompt_position": self.task.position,
            "label_words": word_scoring(self.task),
            "readout": self.readout or "none",
            "readout_tokens": self.readout_tokens,
            "templates": self.templates,
            **{name: value for name in ("instructions", "refit") if (value := getattr(self, name)) is not None},
            "precision": fewer.precision if fewer else "fp32",
            "precision_scope": fewer.scope if fewer else None,
            **vars(self.preset.method),
            **{name: getattr(self.preset, name) for name in PRESET_FIELDS},
        }

    # -- config.json -----------------------------------------------------------------------------------------------

    def to_json(self, found: Evidence) -> dict[str, Any]:
        """config.json: what was chosen, what was found, and the versions of all that a number could depend on."""
        chosen, seen = plain(self), plain(found)
        labels = ("pooling", "temperature") if found.label_ids is None else ("label_ids",)
        later = ("backend", "remote", "precision", "readout", "readout_tokens", "templates", "deploy", "instructions",
                 "refit")  # fmt: skip
        unusual = {name: value for name, usual in _LATER.items() if (value := getattr(self.task, name)) != usual}
        for name in ("readout_folds", "screen"):
            if not chosen["preset"]["method"].get(name, True):
                del chosen["preset"]["method"][name]  # as before there was one
        return {
            "format": FORMAT,
            "method": self.method,
            "model": self.model,
            "task": {name: chosen["task"][name] for name in (*_TASK, *_FILES)} | {"source": self.source} | unusual,
            **{name: chosen[name] for name in ("seed", "shots", "settings")},
            "preset": {name: chosen["preset"][name] for name in (*PRESET_FIELDS, "method")},
            **{name: seen[name] for name in ("model_sha256", "tokenizer_sha256", "injection", "splits", "candidates")},
            **{name: (chosen | seen)[name] for name in labels},
            "versions": versions(),
            **{name: chosen[name] for name in later if chosen[name] is not None},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], path: Path) -> "RunConfig":
        """What config.json says was chosen. Errors: InputError, TaskError, for what no run writes."""
        not_chosen = ("format", "versions", "method", *(f.name for f in fields(Evidence)))
        flat, name = {key: value for key, value in values.items() if key not in not_chosen}, values.get("method")
        task, preset = flat.get("task"), flat.get("preset")
        with damage_named(path):
            if values.get("format", FORMAT) != FORMAT:
                raise ValueError(f"format is {quoted(values['format'])}, this version reads {FORMAT}")
            if isinstance(task, dict):
                flat["source"] = task.get("source")
                flat["task"] = {"name": "custom"} | {key: value for key, value in task.items() if key != "source"}
            if isinstance(preset, dict) and isinstance(preset.get("method"), dict):
                flat["preset"] = preset | {"about": flat.get("settings"), "method_name": name}
            elif preset is not None:
                raise ValueError(f"preset is {quoted(preset)}")
            found = from_fields(cls, flat)
        return replace(found, task=_checked(found.task, found.source), preset=_with_settings(found.preset))


def _checked(task: Task, source: str | None) -> Task:
    """The task as it is found today: an embedded one by its name, any other by its files. Errors: TaskError."""
    if source in {known.name for known in embedded_tasks()}:
        return load_task(str(source))
    about = {name: getattr(task, name) for name in (*_TASK, *_LATER) if name not in ("template", "labels")}
    return make_task(task.template, task.labels, *(getattr(task, name) for name in _FILES), **about)


def _with_settings(preset: Preset) -> Preset:
    """The preset with the object of its method's settings read. Errors: InputError for settings that cannot be."""
    try:
        return replace(preset, method=from_fields(settings_of(preset.method_name), preset.method))
    except (ValueError, TypeError) as error:
        what = f"{str(error)[:300]}: it was edited or damaged"
        raise InputError(f"the run's config.json holds no settings of a method: {what}") from None


def word_scoring(task: Task) -> str:
    """How label words of several tokens are scored, as --label-words has it."""
    return "first-piece" if task.first_pieces else "sum" if task.summed_pieces else "whole"


def read_run(folder: Path) -> tuple[RunConfig, Evidence]:
    """A run's config.json. Errors: InputError, TaskError, for one that is missing or is not what a run writes."""
    path = folder / "config.json"
    values = read_json(path, f"{path} is missing")
    return RunConfig.from_json(values, path), Evidence.from_json(values, path)


@cache
def versions() -> dict[str, str]:
    """Of Python and of every package that a number could depend on. Nobody changes the answer, which is kept."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("zopog-ref", "numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers", "cma", "cmaes"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
