"""RunConfig: written and read back it is the same, of every method; no file below a command knows of options."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="the command line needs onnxruntime (extra cpu)")
pytest.importorskip("tokenizers", reason="the command line needs tokenizers (extra cpu)")

import zopog_ref.app
from zopog_models.tasks.task_files import load_task
from zopog_models.tasks.template import make_task
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import Precision, RunConfig, Served
from zopog_ref.app.run.evidence import Evidence
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.app.run.splits import Split

PATH = Path("config.json")
FOUND = Evidence("0" * 64, "1" * 64, {"train": Split("train.tsv", "2" * 64, [3, 1])}, (5, 7), "post_layernorm", (9, 8))
OWN = make_task("{text_a} {mask} {text_b}", {"0": "no", "1": "yes"}, "a.tsv", None, "b.tsv", name="own", metric="matthews",
                text_columns=("s1", "s2"), label_column="gold", skip_labels=("-",))  # fmt: skip
CONFIG = RunConfig(load_task("supersense"), "supersense", "embedded", PRESETS["zo-pog", "embedded"], "embedded", 42, 16)


def written_and_read(config: RunConfig, found: Evidence = FOUND) -> tuple[RunConfig, Evidence]:
    values = json.loads(json.dumps(config.to_json(found)))
    return RunConfig.from_json(values, PATH), Evidence.from_json(values, PATH)


@pytest.mark.parametrize(("method", "settings"), PRESETS)
def test_of_every_method(method: str, settings: str) -> None:
    config = replace(CONFIG, preset=PRESETS[method, settings], settings=settings)
    assert written_and_read(config) == (config, FOUND)
    assert config.method == method


@pytest.mark.parametrize(
    "changes",
    [
        {"task": OWN, "source": None},
        {"task": replace(OWN, quoting="double"), "source": "own.toml"},
        {"shots": None, "backend": "cupy"},
        {"seed": 2**64 - 1, "model": "org/name@0123"},
        {"precision": Precision("int8", "all", 0.99, 0.95, 0.75, 96, 0.9, anyway=True)},
        {"model": "kserve+http://x", "remote": Served("folder", 4, "json", 0.5, 9, 1.5, 0, 1, "KEY")},
    ],
)
def test_of_every_choice(changes: dict) -> None:
    config = replace(CONFIG, **changes)
    assert written_and_read(config) == (config, FOUND)


def test_of_a_sentence_embedding_model() -> None:
    config, found = replace(CONFIG, pooling="mean", temperature=20.0), replace(FOUND, label_ids=None)
    assert written_and_read(config, found) == (config, found)
    assert "label_ids" not in config.to_json(found)
    assert "pooling" not in CONFIG.to_json(FOUND)


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (replace(FOUND, model_sha256="3" * 64), "model changed"),
        (replace(FOUND, tokenizer_sha256="3" * 64), "tokenizer changed"),
        (replace(FOUND, candidates=(7, 5)), "candidates changed"),
        (replace(FOUND, splits={"train": Split("train.tsv", "2" * 64, [1, 3])}), "train rows changed"),
        (replace(FOUND, splits={}), "train rows changed"),
    ],
)
def test_a_run_is_the_same_where_the_same_is_found(now: Evidence, named: str) -> None:
    FOUND.check_same(replace(FOUND, splits={"train": replace(FOUND.splits["train"], file="/elsewhere/train.tsv")}))
    with pytest.raises(InputError, match=named):
        FOUND.check_same(now)


def test_below_a_command_nobody_knows_of_options() -> None:
    """Only what parses knows argparse: the commands, and the files that turn options into a run or a plan."""
    app, parses = Path(zopog_ref.app.__file__).parent, {"command.py", "options.py", "choices.py", "served.py"}
    rooms = ("run", "tune", "compare", "classifier", "bench", "report", "scores")
    found = {path for room in rooms for path in (app / room).rglob("*.py") if "argparse" in path.read_text("utf-8")}
    assert {path.name for path in found} == parses, found
