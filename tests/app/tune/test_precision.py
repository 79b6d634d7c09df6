"""Fewer bits have to earn their place: measured on the run's rows, refused below the threshold, kept with the run."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.conftest import SMALL, Run, asked, same_run
from tests.models.tiny_decoders import write_decoder
from zopog_models.frozen.model import FrozenModel
from zopog_ref.app.tune import precision
from zopog_ref.app.tune.precision import THRESHOLD, correlation


@pytest.fixture
def bad_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reduced model whose answers have nothing to do with the full one's."""
    real = FrozenModel.reduced

    def reduced(self: FrozenModel, name: str) -> FrozenModel:
        model, rng = real(self, name), np.random.default_rng(0)

        def logits(
            text_ids: Any, at: Any, ids: Any, offsets: Any, index: Any, label_ids: Any, *more: Any
        ) -> np.ndarray:
            return rng.normal(size=(len(text_ids), len(label_ids))).astype(np.float32)

        model.logits = logits  # type: ignore[method-assign]
        return model

    monkeypatch.setattr(FrozenModel, "reduced", reduced)


def tune(zopog: Run, task: Path, out: Path, *options: object) -> tuple[int, dict[str, Any], str]:
    code, answer, error = zopog("tune", "--task", task, *SMALL, "--out", out, "--json", *options)
    return code, json.loads(answer) if answer else {}, error


def test_what_was_measured_is_said_and_kept(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, result, error = tune(zopog, small_task, tmp_path / "a", "--precision", "int8")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert code == 0
    assert re.search(r"int8 against fp32 on this run's rows: correlation [01]\.\d+ in policy steps", error)
    kept = config["precision"]
    assert kept == result["precision"]
    assert (kept["precision"], kept["scope"]) == ("int8", "policy")
    assert kept["zeroth_order"] is None
    assert THRESHOLD <= kept["policy"] < 1
    assert 0.5 < kept["labels"] <= 1
    assert kept["calls"] == 2 * precision.BATCHES * precision.PROMPTS
    assert result["calls"] <= result["budget"]  # the run's own calls; what was measured is not among them


def test_the_full_run_and_the_reduced_one_differ_and_repeat(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    full = tune(zopog, small_task, tmp_path / "full")[1]
    assert "precision" not in full
    for name in ("a", "b"):
        assert tune(zopog, small_task, tmp_path / name, "--precision", "int8", "--precision-scope", "all")[0] == 0
    assert same_run(tmp_path / "a", tmp_path / "b")
    curves = [(tmp_path / name / "curve.jsonl").read_bytes() for name in ("full", "a")]
    assert curves[0] != curves[1]


def test_a_resumed_run_goes_on_in_the_same_precision(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    from zopog_ref.app.errors import Interrupted
    from zopog_ref.app.tune.learning import learn

    options = ["--task", str(small_task), *SMALL, "--precision", "int8"]
    assert zopog("tune", *options, "--out", tmp_path / "whole", "--json")[0] == 0
    stops = iter([False, True])
    with pytest.raises(Interrupted):
        learn(*asked(options), tmp_path / "parts", lambda: next(stops, True), quiet=True)
    assert zopog("tune", "--resume", tmp_path / "parts", "--threads", "1", "--json")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.usefixtures("bad_rounding")
def test_below_the_threshold_it_is_refused(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """The twin of all the above: a model that rounds its answers away is noticed before it answers the run."""
    code, _, error = tune(zopog, small_task, tmp_path / "refused", "--precision", "int8")
    assert code == 2
    assert f"Below {THRESHOLD} it is refused: take fp32" in error  # an encoder's activations have no such channels
    assert not (tmp_path / "refused").exists()
    code, result, _ = tune(zopog, small_task, tmp_path / "anyway", "--precision", "int8", "--precision-anyway")
    assert code == 0
    assert result["precision"]["policy"] < THRESHOLD
    assert result["precision"]["anyway"] is True


@pytest.mark.usefixtures("bad_rounding")
def test_of_a_decoder_the_refusal_of_int8_says_what_it_often_fails_by(zopog: Run, tmp_path: Path) -> None:
    model = write_decoder(tmp_path / "model", "qwen2")
    train = tmp_path / "train.tsv"
    train.write_text("text\tlabel\n" + "".join(f"a dog {i}\t{i % 2}\n" for i in range(24)), encoding="utf-8")
    data = ["--train", train, "--labels", "0=a,1=b", "--template", "{text} {mask}", "--label-words", "first-piece"]
    rest = ["--shots", "4", "--n-positions", "2", "--n-candidates", "5", "--precision", "int8", "--threads", "1"]
    code, _, error = zopog("tune", "--model", model, *data, *rest, "--out", tmp_path / "run")
    assert code == 2
    assert "it is refused (int8 has one scale for all channels that a map reads, and decoders often" in error


def test_small_differences_are_really_lost(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """Nothing simulated: with a narrow projection and a small radius, whole numbers round the differences away."""
    options = ["--settings", "paper", "--scale", 0.1, "--precision", "int8"]
    code, _, error = tune(zopog, small_task, tmp_path / "all", *options, "--precision-scope", "all")
    assert code == 2
    assert "keep --precision-scope policy, or use it all the same with --precision-anyway" in error
    assert tune(zopog, small_task, tmp_path / "policy", *options)[0] == 0


@pytest.mark.parametrize("method", ["zo-pog", "sspt", "random-search"])
def test_the_steps_on_z_are_measured_where_they_are_asked_for(
    zopog: Run, small_task: Path, tmp_path: Path, method: str
) -> None:
    own = SMALL if method == "zo-pog" else [o for i, o in enumerate(SMALL) if i not in range(2, 6)]
    code, answer, error = zopog(
        "tune", "--task", small_task, *own, "--method", method, "--precision", "int8", "--precision-scope", "all",
        "--precision-anyway", "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert code == 0, error
    found = json.loads(answer)["precision"]
    assert -1 <= found["zeroth_order"] <= 1
    assert "in steps on z" in error
    assert found["calls"] == 2 * precision.BATCHES * (precision.PROMPTS + 2 * precision.PAIRS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "fp16"], "--precision fp16 is for --device cuda; on cpu there is: int8, bf16"),
        (["--precision-scope", "all"], "say how --precision is used"),
        (["--precision", "fp32", "--precision-anyway"], "say how --precision is used"),
    ],
)
def test_what_does_not_fit_together(
    zopog: Run, small_task: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    code, _, error = tune(zopog, small_task, tmp_path / "run", *options)
    assert code == 2
    assert words in error


def test_a_resumed_run_takes_no_other_precision(zopog: Run, tmp_path: Path) -> None:
    code, _, error = zopog("tune", "--resume", tmp_path, "--precision", "int8")
    assert code == 2
    assert "--precision: fixed when the run was started" in error


def test_correlation_by_hand() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(size=50)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, 3 * a + 2) == pytest.approx(1)
    assert correlation(a, np.zeros(50)) == 0.0
