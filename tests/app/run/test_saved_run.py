"""A run folder from a stranger: going on with it, comparing it and reading its numbers, found by fuzzing. One error each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the command line needs onnxruntime (extra cpu)")
pytest.importorskip("tokenizers", reason="the command line needs tokenizers (extra cpu)")
pytest.importorskip("urllib3", reason="what is fuzzed beside it needs urllib3 (extra remote)")

from tests.fuzz import comparisons
from tests.fuzz.target import Target
from zopog_models.errors import SetupError
from zopog_models.files.tensor_file import write_tensors
from zopog_models.served.addresses import host_of
from zopog_ref.app.classifier.served import said_again
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import Machine, Served
from zopog_ref.app.run.curve import read_record
from zopog_ref.app.run.predictions import Answers, Predictions, load_predictions, save_predictions
from zopog_ref.app.tune.models import continued

HUGE = 10**400


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {target.name: target for target in comparisons.comparisons(tmp_path_factory.mktemp("made"))}


def written(target: Target, folder: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """The target's valid files, one JSON file changed."""
    for file, content in target.files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(json.dumps(change(json.loads(content))).encode() if file == name else content)
    return folder


@pytest.mark.parametrize(
    ("file", "changes", "named"),
    [
        ("config.json", {"seed": -1}, "seed is -1"), ("config.json", {"seed": True}, "seed is True"),
        ("config.json", {"shots": "many"}, "shots is 'many'"), ("config.json", {"preset": None}, "preset is None"),
        ("config.json", {"method": "nothing"}, "unknown method"), ("config.json", {"candidates": [HUGE]}, "candidates is"),
        ("config.json", {"task": {"template": 5, "labels": {}}}, "task: template is 5"), ("config.json", {"remote": []}, "remote is"),
        ("config.json", {"remote": {"timeout": "x"}}, "timeout is 'x'"), ("config.json", {"temperature": "hot"}, "temperature is"),
        ("config.json", {"model": None}, "model is None"), ("config.json", {"precision": 5}, "precision is 5"),
        ("result.json", {"test_metrics": {"rows": 4}}, "test_metrics: truncated is missing"), ("result.json", {"dev_accuracy": 1.5}, "dev_accuracy is"),
        ("result.json", {"calls": HUGE}, "calls is"), ("result.json", {"seconds": float("nan")}, "seconds is nan"),
        ("result.json", {"prompt_tokens": [[5]]}, "prompt_tokens is"), ("result.json", {"method": "\ud800"}, "method is"),
    ],
)  # fmt: skip
def test_what_a_run_does_not_write_is_named(
    found: dict[str, Target], tmp_path: Path, file: str, changes: dict[str, Any], named: str
) -> None:
    target = found["going on with a run"]
    target.read(written(target, tmp_path, "", lambda value: value))
    with pytest.raises(InputError) as caught:
        target.read(written(target, tmp_path, file, lambda value: value | changes))
    assert named in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_long_name_of_a_loss_is_quoted_briefly(found: dict[str, Target], tmp_path: Path) -> None:
    target = found["going on with a run"]
    with pytest.raises(InputError, match="--loss is 'xxx") as caught:
        target.read(
            written(
                target,
                tmp_path,
                "config.json",
                lambda value: value | {"preset": value["preset"] | {"loss": "x" * 9000}},
            )
        )
    assert len(str(caught.value)) < 1000


def test_a_run_without_a_test_is_shown(found: dict[str, Target], tmp_path: Path) -> None:
    target = found["going on with a run"]
    target.read(written(target, tmp_path, "result.json", lambda value: value | {"test_metrics": None}))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"tau": "1"}, "tau is '1'"), ({"policy_samples": 2.5}, "policy_samples is 2.5"), ({"mu": HUGE}, "mu is"),
     ({"x": 1}, "'x' is not what is written there"), ({"policy": 1}, "policy is 1"), ({"tau": -1.0}, "tau is -1.0")],
)  # fmt: skip
def test_settings_of_another_kind(
    found: dict[str, Target], tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    target = found["going on with a run"]

    def change(config: dict[str, Any]) -> dict[str, Any]:
        config["preset"]["method"] |= settings
        return config

    with pytest.raises(InputError, match="holds no settings of a method") as caught:
        target.read(written(target, tmp_path, "config.json", change))
    assert named in str(caught.value)


def test_a_run_folder_s_key_is_sent_only_when_the_user_says_so() -> None:
    """The folder may be a stranger's, and so the address: a variable of the environment is not read on its word."""
    saved = Served(**comparisons._REMOTE | {"key_variable": "MY_SECRET"})
    address = "kserve+https://host.example:8080/v2/models/x"
    with pytest.raises(InputError, match=r"sends the key in the variable 'MY_SECRET' to 'other\.example'"):
        continued(saved, Machine(address="kserve+https://other.example/v2/models/x"), address)
    known = Machine(address=address, wire={"key_variable": "MY_SECRET"})
    assert continued(saved, known, address).key_variable == "MY_SECRET"
    assert continued(Served(**comparisons._REMOTE), Machine(address=address), address).key_variable is None
    with pytest.raises(InputError, match=r"served by 'host.example:8080' \('kserve'\)") as caught:
        continued(Served(**comparisons._REMOTE), Machine(), address)
    assert f"--model {address}" in str(caught.value)


def test_a_password_in_an_address_is_in_no_message() -> None:
    """Where the host was named, so was what stands before it: a key given as user:password@host was shown."""
    address, plain = "kserve+https://me:geheim17@host.example/v2/models/x", "kserve+https://host.example/v2/models/x"
    headers = Served(**comparisons._REMOTE | {"headers_env": ("X=MY_SECRET",)})
    asked: list[Callable[[], object]] = [
        lambda: continued(headers, Machine(address=address), plain),
        lambda: continued(headers, Machine(), address),
        lambda: said_again(None, None, address, named=False),
        lambda: said_again({"key_env": "MY_SECRET"}, None, address, named=True),
    ]
    for ask in asked:
        with pytest.raises(SetupError, match="holds a user, a password") as caught:
            ask()
        assert "geheim" not in str(caught.value)


def test_a_black_box_of_one_s_own_stands_at_what_it_likes() -> None:
    assert host_of("bag+here") == "'here'"
    assert host_of("bag+me:geheim17@here?key=geheim17") == "'here'"


FIRST = "runs/mine/zo-pog/1"


@pytest.mark.parametrize(
    ("file", "changes", "named"),
    [("result.json", {"tuned_tokens": [["nobody's"]]}, "tokens that are no candidates|no distribution"),
     ("config.json", {"candidates": [0, 1]}, "no distribution"), ("config.json", {"preset": {"method": {}}}, "no distribution"),
     ("config.json", {"model": "other"}, "was started with model 'other'")],
)  # fmt: skip
def test_a_run_that_cannot_be_compared(
    found: dict[str, Target], tmp_path: Path, file: str, changes: dict[str, Any], named: str
) -> None:
    target = found["comparison"]
    target.read(written(target, tmp_path, "", lambda value: value))
    if "preset" in changes:  # the comparison looks at the settings first
        (folder := tmp_path / FIRST).joinpath("checkpoint.safetensors").unlink()
        write_tensors(folder / "checkpoint.safetensors", {"state.alpha": -np.ones((2, 5))})
        file, changes = "config.json", {}
        with pytest.raises(InputError, match=named):
            target.read(tmp_path)
        return
    with pytest.raises(InputError, match=named):
        target.read(written(target, tmp_path, f"{FIRST}/{file}", lambda value: value | changes))


def predictions(**changes: Any) -> Predictions:
    p = np.array([[0.75, 0.25], [0.5, 0.5]])
    whole = {
        "rows": np.arange(2),
        "labels": np.array([0, 1]),
        "per_prompt": p[None],
        "weights": np.ones(1),
        "manual": p,
    }
    return Predictions(**(whole | changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"labels": np.array([0, 2])}, "labels go from 0 to 2 of 2"), ({"labels": np.array([-1, 0])}, "labels go from -1"),
     ({"labels": np.ones(2)}, "labels must be whole"), ({"rows": np.ones(2)}, "rows must be whole"),
     ({"manual": np.ones((2, 2))}, "manual must be probabilities"), ({"per_prompt": np.full((1, 2, 2), np.nan)}, "per_prompt must be"),
     ({"weights": np.array([-1.0])}, "weights must be"), ({"weights": np.array([np.nan])}, "weights must be"),
     ({"weights": np.array([1.5])}, "weights must be"),
     ({"readings": {"tuned": Answers(np.full((1, 2, 2), 0.4), np.ones(1))}}, "tuned.per_prompt must be probabilities"),
     ({"readings": {"tuned": Answers(np.full((1, 3, 2), 0.5), np.ones(1))}}, r"tuned.per_prompt has shape \(1, 3, 2\)"),
     ({"readings": {"tuned + readout": Answers(np.full((1, 2, 2), 0.5), np.ones(2))}}, "readout.weights has shape"),
     ({"readings": {"nobody's": Answers(np.full((1, 2, 2), 0.5), np.ones(1))}}, "unexpected keyword")],
)  # fmt: skip
def test_predictions_that_are_none(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    save_predictions(tmp_path, predictions())
    load_predictions(tmp_path)
    save_predictions(tmp_path, predictions(**changes))
    with pytest.raises(InputError, match=named):
        load_predictions(tmp_path)


def test_every_reading_comes_back(tmp_path: Path) -> None:
    readings = {"tuned": Answers(np.array([[[0.1, 0.9]] * 2, [[0.5, 0.5]] * 2]), np.array([0.25, 0.75]))}
    save_predictions(tmp_path, predictions(readings=readings))
    [(name, found)] = load_predictions(tmp_path).readings.items()
    assert name == "tuned"
    np.testing.assert_allclose(found.mean, [[0.4, 0.6]] * 2)


def test_predictions_of_another_name(tmp_path: Path) -> None:
    write_tensors(tmp_path / "predictions.safetensors", {"x" * 100_000: np.ones(1)})
    with pytest.raises(InputError, match="unexpected keyword") as caught:
        load_predictions(tmp_path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"calls": HUGE},
        {"dev_metric": float("nan")},
        {"diagnostics": {"loss": float("inf")}},
        {"x" * 100_000: 1},
        {"step": 2},
    ],
)
def test_a_step_of_the_curve_that_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    step = {"step": 1, "calls": 8, "sequences": 8, "tokens": 9, "dev_metric": 0.5, "dev_loss": None, "diagnostics": {}}
    assert read_record(tmp_path, 1, json.dumps(step).encode()).calls == 8
    with pytest.raises(InputError, match="line 1: not what was written") as caught:
        read_record(tmp_path, 1, json.dumps(step | changes).encode())
    assert len(str(caught.value)) < 1000
