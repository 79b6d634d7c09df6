"""Targets: going on with a stranger's run, comparing it with others, and the report, in which every text is escaped."""

import json
import random
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutation import mutated_json, mutated_lines, mutated_tensors
from tests.fuzz.target import Target, as_json, tensor_bytes
from tests.fuzz.task_files import prompt_bytes
from zopog_models.files.tensor_file import TensorFileError
from zopog_models.prompts.bundle import PromptError
from zopog_models.tasks.task_files import EMBEDDED_TASKS
from zopog_models.tasks.template import TaskError, make_task
from zopog_ref.app.compare import gathering
from zopog_ref.app.compare import page as compare_page
from zopog_ref.app.compare.live import accuracy, calls
from zopog_ref.app.compare.plan import Plan, Variant, check_started
from zopog_ref.app.compare.table import table
from zopog_ref.app.errors import InputError
from zopog_ref.app.predict import prompt_and_model
from zopog_ref.app.run.config import Machine, read_run, versions
from zopog_ref.app.run.curve import as_line
from zopog_ref.app.run.experiment import method_of
from zopog_ref.app.run.predictions import READINGS
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.app.run.saved_run import read_result
from zopog_ref.app.run.typed_json import from_fields
from zopog_ref.app.tune.checks import check_numbers
from zopog_ref.app.tune.models import continued
from zopog_ref.app.tune.result import table as result_table
from zopog_ref.methods import MissingPackage
from zopog_ref.search import Record

WORDS = ["a", "text", "good", "<b>", "&amp;"]
METHODS = ("zo-pog", "bdpl")
_TASK = make_task("{text} . {mask} .", {"0": "bad", "1": "good"}, name="mine")
_PRESETS = {name: PRESETS[name, "embedded"].changed(n_positions=2, n_candidates=5, dim=3) for name in METHODS}
_REMOTE = {"tokenizer": "folder", "rows_per_request": 4, "encoding": "auto", "embedding_std": None, "top_logprobs": 5,
        "timeout": 60.0, "retries": 8, "concurrency": 4, "key_variable": None}  # fmt: skip


def comparisons(scratch: Path) -> list[Target]:
    versions()  # read once, outside the folders that are watched
    for preset in _PRESETS.values():  # so are the types of our own settings, whose names Python evaluates
        from_fields(type(preset.method), vars(preset.method))
    runs = {name: _run(scratch, name, readings=name == "zo-pog") for name in METHODS}  # with readouts, and without
    files = {f"runs/mine/{name}/1/{file}": content for name, run in runs.items() for file, content in run.items()}
    first, other = (f"runs/mine/{name}/1/" for name in METHODS)
    changed = {f"{first}result.json": mutated_json, f"{first}config.json": mutated_json, f"{first}curve.jsonl": mutated_lines,
               f"{first}predictions.safetensors": mutated_tensors, f"{first}checkpoint.safetensors": mutated_tensors,
               f"{other}result.json": _mutated_texts, f"{other}curve.jsonl": mutated_lines}  # fmt: skip
    plain = _run(scratch, "zo-pog", readings=False)
    alone = {name: plain[name] for name in ("config.json", "result.json")} | {
        "prompt/prompt.safetensors": prompt_bytes(scratch, 3)
    }
    return [
        Target("comparison", files, changed, _compare, (InputError, TaskError, TensorFileError), 0.3,
               own=(Path(compare_page.__file__).parents[1] / "report", EMBEDDED_TASKS)),
        Target("going on with a run", alone, {"config.json": mutated_json, "result.json": mutated_json}, _go_on,
               (InputError, TaskError, PromptError, MissingPackage), own=(EMBEDDED_TASKS,)),
    ]  # fmt: skip


def _config(name: str) -> dict[str, Any]:
    preset = asdict(_PRESETS[name])
    del preset["about"]
    return {
        "format": 1, "method": preset.pop("method_name"), "model": "embedded", "seed": 1, "shots": 4, "settings": "embedded",
        "task": {"name": "mine", "description": "", "template": _TASK.template, "labels": dict(_TASK.labels), "metric": "accuracy",
                 "text_columns": ["text"], "label_column": "label", "skip_labels": [], "train": "x.tsv", "dev": None, "test": None, "source": None},
        "preset": preset, "model_sha256": "0" * 64, "tokenizer_sha256": "1" * 64, "injection": "post_layernorm", "splits": {"train": {"file": "x.tsv", "sha256": "2" * 64, "rows": [0, 1]}},
        "candidates": list(range(5)), "label_ids": [1, 2], "backend": "numpy", "remote": _REMOTE, "precision": None, "readout": "auto",
    }  # fmt: skip


def _run(scratch: Path, name: str, readings: bool) -> dict[str, bytes]:
    """The files of a finished run."""
    scores = {"rows": 4, "truncated": 0, "accuracy": 0.5, "majority": 0.5, "macro_f1": 0.4}
    result = {
        "method": name, "calls": 8, "sequences": 32, "tokens": 100, "seconds": 1.5, "stop_reason": "budget", "best_step": 1, "dev_accuracy": 0.5,
        "dev_loss": 0.7, "test_accuracy": 0.5, "test_metrics": scores, "manual_metrics": scores, "prompt_tokens": [["a", "text"], ["good", "<b>"]],
    }  # fmt: skip
    if readings:
        read = {"calls": 8, "dev_nll": 0.7, "readout": "labels"}
        names = ("manual", *READINGS)
        result |= {
            "tuned_tokens": result["prompt_tokens"],
            "deployed": "manual + readout",
            "answers": [{"name": n} | read for n in names],
        }
    curve = [Record(step, 8 * step, 32 * step, 100 * step, 0.5, 0.7, {"loss": 0.6}) for step in (1, 2)]
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])
    kept = {
        "rows": np.arange(4),
        "labels": np.array([0, 1, 0, 1]),
        "per_prompt": np.stack([p, p[::-1]]),
        "weights": np.array([0.75, 0.25]),
        "manual": p,
    }
    if readings:
        parts = {"per_prompt": kept["per_prompt"], "weights": kept["weights"]}
        kept |= {f"{reading}.{part}": value for reading in READINGS for part, value in parts.items()}
    state = {"state.alpha" if name == "zo-pog" else "state.p": np.full((2, 5), 0.2), "state.step": np.array(2)}
    return {
        "config.json": as_json(_config(name)), "result.json": as_json(result), "curve.jsonl": b"".join(as_line(r).encode() + b"\n" for r in curve),
        "predictions.safetensors": tensor_bytes(scratch, kept), "checkpoint.safetensors": tensor_bytes(scratch, state, {"step": "2"}),
    }  # fmt: skip


def _mutated_texts(rng: random.Random, content: bytes) -> bytes:
    hostile = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=y>',
        "</style>",
        "&lt;",
        "'",
        "\0",
        "\u2028",
        "--></title>",
    )
    return content.replace(b'"budget"', as_json(rng.choice(hostile))).replace(b'"text"', as_json(rng.choice(WORDS)))


class _Tags(HTMLParser):
    """Every tag with the names of its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        own = {(tag, name) for name, value in attributes if (tag, name) != ("a", "href") or (value or "")[:1] != "#"}
        self.seen |= own | {(tag, "")}  # a link within the page is none


def _compare(folder: Path) -> None:
    variants = [Variant(name, name, "embedded", _PRESETS[name]) for name in METHODS]
    plan = Plan(folder, {"mine": ("mine.toml", _TASK)}, variants, [1], 4, 8, "embedded", readout="auto")
    for cell in plan.cells():
        assert type(calls(cell.folder)) is int
        assert accuracy(cell)
    check_started(plan.cells())
    gathering.versions = lambda: {"python": "3"}  # which reads what is installed
    found = gathering.document(plan, {plan.cells()[0]: "<script>"}, lambda i: WORDS[i] if i < len(WORDS) else None)
    json.dumps(found.to_json(), allow_nan=False)  # as compare.json is written
    assert table(found)
    html = compare_page.page(found)
    html.encode()
    tags = {tag for tag, _ in _Tags(html).seen}
    names = {name for _, name in _Tags(html).seen}
    assert not tags & {"script", "img", "b<", "iframe", "link", "object", "base", "form"}, tags
    assert not [name for name in names if name.startswith("on") or name in ("src", "href", "action")], names


def _go_on(folder: Path) -> None:
    config, found = read_run(folder)
    check_numbers(config)
    method_of(config.preset, config.seed)
    if config.remote is not None:
        continued(config.remote, Machine(address="kserve+https://host.example/v2/models/x"), config.model)
    json.dumps(config.to_json(found), allow_nan=False)  # what was read can be written
    prompt_and_model(folder, None)
    assert result_table(read_result(folder), folder)
