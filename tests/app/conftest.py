"""A small task cut from the embedded one, and a small run, so that a whole `zopog tune` takes a second."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="the command line needs onnxruntime (extra cpu)")
pytest.importorskip("tokenizers", reason="the command line needs tokenizers (extra cpu)")

from zopog_models.tasks.task_files import load_task
from zopog_ref.app.command_line import main
from zopog_ref.app.run.config import Machine, RunConfig
from zopog_ref.app.tune.choices import chosen_machine, chosen_run
from zopog_ref.app.tune.options import add_arguments

SMALL = ["--budget", "120", "--policy-samples", "4", "--direction-pairs", "2", "--n-positions", "3", "--dim", "8",
         "--n-candidates", "12", "--batch-size", "4", "--shots", "3", "--readout", "none", "--threads", "1"]  # fmt: skip
Run = Callable[..., tuple[int, str, str]]


def asked(options: list[str]) -> tuple[RunConfig, Machine]:
    """What these options of `zopog tune` ask for."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    arguments = parser.parse_args(options)
    return chosen_run(arguments), chosen_machine(arguments)


@pytest.fixture
def zopog(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def small_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TOML with 25 rows a class to train on and 10 a class to test."""
    folder, full = tmp_path_factory.mktemp("task"), load_task("supersense")
    for split, count in (("train", 25), ("test", 10)):
        source = getattr(full, split)
        header, *rows = source.read_text("utf-8").splitlines()
        kept = [row for label in full.labels for row in [r for r in rows if r.endswith(f"\t{label}")][:count]]
        (folder / f"{split}.tsv").write_text("\n".join([header, *kept]) + "\n", "utf-8")
    labels = "\n".join(f"{value} = {json.dumps(word)}" for value, word in full.labels.items())
    (folder / "small.toml").write_text(
        f'name = "small"\ndescription = "a cut of supersense"\ntemplate = "{full.template}"\ntrain = "train.tsv"\n'
        f'test = "test.tsv"\nmetric = "accuracy"\n\n[labels]\n{labels}\n', "utf-8",
    )  # fmt: skip
    return folder / "small.toml"


def without_times(path: Path) -> dict[str, Any]:
    result = json.loads((path / "result.json").read_text("utf-8"))
    del result["seconds"]
    return result


def same_run(a: Path, b: Path) -> bool:
    """Same result (times aside), same curve, same prompt: bit for bit."""
    same_bytes = all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in ("curve.jsonl", "prompt/prompt.safetensors")
    )
    return same_bytes and without_times(a) == without_times(b)
