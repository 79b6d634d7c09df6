"""Targets: tasks (TOML and data files), texts to label, tuned prompts, predictions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.fuzz.mutation import mutated, mutated_lines, mutated_tensors
from tests.fuzz.target import Target, tensor_bytes
from zopog_models.files.tensor_file import read_metadata, read_tensors
from zopog_models.prompts.bundle import Prompt, PromptError, load_prompt, save_prompt
from zopog_models.tasks.published_tasks import FOLDER, load_published
from zopog_models.tasks.task_files import load_task, read_rows
from zopog_models.tasks.template import TaskError, make_task
from zopog_ref.app.errors import InputError
from zopog_ref.app.predict import _lines, _rows
from zopog_ref.app.run.predictions import load_predictions

ROWS = make_task("{text} . {mask} .", {"0": "bad", "1": "good"})

_TOML = b"""name = "mine"
description = "some texts"
template = "{text_a} ? {mask} , {text_b}"
train = "train.tsv"
test = 'below/test.tsv'
metric = "macro_f1"
text_columns = ["first", "second"]

[labels]
0 = "no"
"yes" = "yes"
"""
LINES = "\n".join(json.dumps({"text": f"text {i} ü", "label": str(i % 2), "n": [i]}) for i in range(4)).encode()


_SST2 = b"sentence\tlabel\nfine food \t1\nbad food \t0\nlast food \t1\n"


def task_files(scratch: Path) -> list[Target]:
    table = b"text\tlabel\tmore\nfine \xc3\xbc\t1\tx\r\nbad\t0\ty\n\nlast\t1\tz"
    quoted = b'label,text\n1,"fine, ""very"""\r\n0,"two\nlines"\n'
    return [
        Target("task.toml", {"task.toml": _TOML, "train.tsv": b"x"}, {"task.toml": mutated}, _read_task, (TaskError,)),
        *(Target(name, {f"rows.{name}": content}, {f"rows.{name}": change}, _reader(name), (TaskError,))
          for name, content, change in (("tsv", table, mutated), ("csv", quoted, mutated), ("jsonl", LINES, mutated_lines))),
        Target("published task", {"train.tsv": _SST2, "dev.tsv": _SST2}, {"train.tsv": mutated, "dev.tsv": mutated}, _read_published, (TaskError,), own=(FOLDER,)),
        Target("predict's texts", {"rows.jsonl": LINES}, {"rows.jsonl": mutated_lines}, _read_texts, (InputError,)),
    ]  # fmt: skip


def _read_task(folder: Path) -> None:
    task = load_task(folder / "task.toml")
    for file in (task.train, task.dev, task.test):
        assert file is None or file.resolve().is_relative_to(folder.resolve()), file
    assert "/" not in task.name


def _read_published(folder: Path) -> None:
    task = load_published("sst2", folder)
    for file in (task.train, task.test):
        assert file is not None
        read_rows(file, task)


def _reader(kind: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        texts, labels = read_rows(folder / f"rows.{kind}", ROWS)
        assert len(texts) == len(labels) > 0
        assert all(text.encode() is not None for row in texts for text in row)

    return read


def _read_texts(folder: Path) -> None:
    for row, _ in _rows(_lines(folder / "rows.jsonl"), "rows.jsonl", (("text",),) * 2, None):
        assert row[0].encode() is not None


def artefacts(scratch: Path) -> list[Target]:
    """What a run ends with."""
    kept = {"rows": np.arange(2), "labels": np.arange(2), "per_prompt": np.ones((1, 2, 2)) / 2, "weights": np.ones(1),
            "manual": np.ones((2, 2)) / 2}  # fmt: skip
    return [
        Target("prompt", {"prompt.safetensors": prompt_bytes(scratch, 3)},
               {"prompt.safetensors": lambda rng, data: mutated_tensors(rng, data, "prompt")}, load_prompt, (PromptError,)),
        Target("predictions", {"predictions.safetensors": tensor_bytes(scratch, kept)},
               {"predictions.safetensors": mutated_tensors}, load_predictions, (InputError,)),
    ]  # fmt: skip


def prompt_bytes(scratch: Path, width: int) -> bytes:
    """A valid prompt.safetensors without its hash: with it, nearly every change would be found at once."""
    prompt = Prompt(
        ids=np.array([[1, 2]]), offsets=np.ones((1, 2, width), np.float32), weights=np.ones(1), label_ids=np.array([5, 6]),
        template="{text} . {mask} .", labels={"0": "bad", "1": "good"}, injection="post_layernorm", model="m",
        model_sha256="0" * 64, tokenizer_sha256="1" * 64, about={"seed": 1},
    )  # fmt: skip
    save_prompt(scratch, prompt)
    settings = json.loads(read_metadata(scratch / "prompt.safetensors")["prompt"])
    settings.pop("hash", None)
    arrays = {name: np.array(array) for name, array in read_tensors(scratch / "prompt.safetensors").items()}
    return tensor_bytes(scratch, arrays, {"prompt": json.dumps(settings)})
