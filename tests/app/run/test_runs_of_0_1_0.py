"""Run folders that version 0.1.0 wrote: gone on with to the same bits, predicted from, read as the run they are.

`zopog tune --task hyponym --seed 7` and the options of SMALL. `finished` ran to its end; `interrupted` is the same run,
killed in step 7 after its first query, with half a line of the second in the journal. Paths of the tasks' files are
those of another machine.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import SMALL, Run, asked, without_times
from zopog_models.files.tensor_file import read_tensors
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import RunConfig, read_run

OLD = Path(__file__).parent / "fixtures-0.1.0"
TEXTS = ["an animal that barks", "dog: a member of the genus Canis"]


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "interrupted", tmp_path / "interrupted"))


def same_arithmetic(folder: Path) -> bool:
    """Whether this machine computes the manual prompt's predictions, which no run changes, to the bits of that one."""
    then, now = (read_tensors(place / "predictions.safetensors") for place in (OLD / "finished", folder))
    return np.array_equal(then["manual"], now["manual"])


def test_an_interrupted_run_ends_as_it_would_have(zopog: Run, interrupted: Path) -> None:
    code, _, error = zopog("tune", "--resume", interrupted, "--threads", 1)
    assert code == 0, error
    then, now = (without_times(folder) for folder in (OLD / "finished", interrupted))
    for name in ("calls", "sequences", "tokens", "stop_reason", "budget", "n", "N", "d", "task", "settings"):
        assert now[name] == then[name], name
    curves = [(folder / "curve.jsonl").read_text().splitlines() for folder in (OLD / "finished", interrupted)]
    assert curves[0][:6] == curves[1][:6]  # the steps before the interruption are not computed again
    losses = [[json.loads(line)["diagnostics"]["loss"] for line in curve] for curve in curves]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    if same_arithmetic(interrupted):  # as where the fixture was made: bit for bit
        assert now == then
        assert curves[1] == curves[0]
        for name in ("prompt/prompt.safetensors", "predictions.safetensors"):
            assert (interrupted / name).read_bytes() == (OLD / "finished" / name).read_bytes(), name


def test_a_finished_run_predicts(zopog: Run) -> None:
    code, out, error = zopog("predict", OLD / "finished", "--text", *TEXTS)
    assert code == 0, error
    answer = json.loads(out)
    assert answer["label"] in ("yes", "no")
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_it_is_the_run_that_its_options_ask_for() -> None:
    wanted, _ = asked(["--task", "hyponym", "--seed", "7", *SMALL])
    config, found = read_run(OLD / "finished")
    assert config == wanted  # from JSON and from options: the same run
    saved = json.loads((OLD / "finished" / "config.json").read_text())
    written = config.to_json(found)
    assert list(written) == list(saved)
    today = ("train", "dev", "test", "description")  # an embedded task's are those of this version
    for values in (written, saved):
        values.pop("versions")
        for name in today:
            values["task"].pop(name)
    assert json.dumps(written) == json.dumps(saved)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda values: values | {"colour": 1}, "'colour' is not what is written there"),
        (lambda values: values | {"format": 2}, "format is 2, this version reads 1"),
        (lambda values: {k: v for k, v in values.items() if k != "model"}, "model is missing"),
        (lambda values: values | {"task": values["task"] | {"labels": {"yes": 1}}}, "yes"),
        (lambda values: values | {"preset": values["preset"] | {"dim": 8.5}}, "dim is 8.5"),
        (
            lambda values: values | {"preset": values["preset"] | {"depth": 8}},
            "preset: 'depth' is not what is written there",
        ),
    ],
)
def test_what_is_no_run_is_named(change, named: str) -> None:
    path = OLD / "finished" / "config.json"
    values = json.loads(path.read_text())
    RunConfig.from_json(values, path)
    with pytest.raises(InputError, match="edited or damaged") as caught:
        RunConfig.from_json(change(values), path)
    assert named in str(caught.value)


def test_a_run_of_other_rows_is_not_continued(zopog: Run, interrupted: Path) -> None:
    path = interrupted / "config.json"
    values = json.loads(path.read_text())
    values["splits"]["dev"]["sha256"] = "0" * 64
    path.write_text(json.dumps(values))
    code, _, error = zopog("tune", "--resume", interrupted)
    assert code == 2
    assert "dev rows changed since it was started" in error
