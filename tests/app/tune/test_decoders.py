"""The whole path with a decoder as the black box: tune with its own template, stop and resume, predict."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.app.conftest import SMALL, Run, same_run
from tests.models.tiny_decoders import write_decoder
from zopog_models.runners.prefix import PrefixReuse
from zopog_ref.app.tune import learning as tune

TEMPLATE = ["--template", "{text} it is a kind of {mask}"]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    longest = {"n_positions" if request.param == "gpt2" else "max_position_embeddings": 160}
    return write_decoder(tmp_path_factory.mktemp("models") / request.param, request.param, **longest)


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are computed apart from two rows on: here they would cost more than the few tokens they save."""
    monkeypatch.setattr(PrefixReuse, "each_once", property(lambda self: False, lambda self, value: None), raising=False)


def test_tune_resume_predict(
    zopog: Run, small_task: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reused: list[bool] = []
    as_on_a_gpu(monkeypatch)
    pays = PrefixReuse.pays
    monkeypatch.setattr(PrefixReuse, "pays", lambda self, *a: reused.append(pays(self, *a)) or reused[-1])
    asked = ["tune", "--task", small_task, "--model", decoder, *TEMPLATE, *SMALL]
    code, _, error = zopog(*asked, "--out", tmp_path / "whole")
    assert code == 0, error
    assert True in reused  # the policy step
    assert False in reused  # per-example directions: a prompt for every row
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["injection"] == "word_embedding"
    assert config["task"]["template"] == TEMPLATE[1]

    # Stopped in the middle and resumed: the same bits.
    stops = iter([False] * 5 + [True])
    with monkeypatch.context() as patch:
        patch.setattr(tune, "stop_requests", lambda: nullcontext(stops.__next__))
        assert zopog(*asked, "--out", tmp_path / "cut")[0] == 130
    assert zopog("tune", "--resume", tmp_path / "cut", "--threads", "1")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "cut")

    code, out, error = zopog("predict", tmp_path / "whole", "--text", "a large city near the sea", "")
    assert code == 0, error
    answers = [json.loads(line) for line in out.splitlines()]
    assert [set(answer["probabilities"]) for answer in answers] == 2 * [set(config["task"]["labels"])]


def test_an_encoders_template_is_refused(zopog: Run, small_task: Path, decoder: Path, tmp_path: Path) -> None:
    code, _, error = zopog("tune", "--task", small_task, "--model", decoder, *SMALL, "--out", tmp_path / "run")
    assert code == 2
    assert "is a decoder" in error
    assert "as in '{text} . it is a kind of {mask}'" in error


def test_shared_directions_reuse_prefixes(
    zopog: Run, small_task: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reused: list[bool] = []
    as_on_a_gpu(monkeypatch)
    pays = PrefixReuse.pays
    monkeypatch.setattr(PrefixReuse, "pays", lambda self, *a: reused.append(pays(self, *a)) or reused[-1])
    asked = ["tune", "--task", small_task, "--model", decoder, *TEMPLATE, *SMALL, "--directions", "shared"]
    code, _, error = zopog(*asked, "--budget", "24", "--out", tmp_path / "run")
    assert code == 0, error
    assert all(reused[:6])  # three steps: policy and zeroth-order


def test_template_of_a_named_task(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """Of an encoder too: the task's rows and labels with another template, kept for resuming."""
    template = "{text} , a {mask} ."
    asked = ["tune", "--task", small_task, "--template", template, *SMALL, "--out", tmp_path / "run"]
    assert zopog(*asked)[0] == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["task"]["template"] == template
    assert zopog("tune", "--resume", tmp_path / "run")[0] == 0
    code, _, error = zopog("tune", "--task", small_task, "--labels", "a=b", *SMALL, "--out", tmp_path / "other")
    assert code == 2
    assert "--labels describes your own data" in error
