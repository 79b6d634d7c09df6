"""`zopog tune` as a user meets it: the run folder, the result, the errors, interruption and resuming."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import SMALL, Run, same_run, without_times
from zopog_ref.app.errors import Interrupted
from zopog_ref.app.report.progress import Progress
from zopog_ref.app.tune import learning as tune
from zopog_ref.search import Record


@pytest.fixture
def finished(zopog: Run, small_task: Path, tmp_path: Path) -> Path:
    code, _, error = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "run")
    assert code == 0, error
    return tmp_path / "run"


def test_the_run_folder_holds_all_that_was_promised(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    promised = {"method", "task", "model", "seed", "budget", "calls", "sequences", "tokens", "seconds", "stop_reason",
                "manual_accuracy", "dev_accuracy", "test_accuracy", "test_metrics", "prompt_tokens", "n", "N", "d"}  # fmt: skip
    assert promised <= result.keys()
    assert (result["calls"], result["budget"], result["stop_reason"]) == (120, 120, "budget")
    assert (result["n"], result["N"], result["d"]) == (3, 12, 8)
    assert [len(tokens) for tokens in result["prompt_tokens"]] == [3]
    assert result["test_metrics"]["rows"] == 60
    curve = [json.loads(line) for line in (finished / "curve.jsonl").read_text().splitlines()]
    assert [line["calls"] for line in curve] == list(range(8, 121, 8))
    assert curve[-1]["sequences"] == result["sequences"]
    assert {"loss", "alpha_gradient_norm", "z_gradient_norm"} == curve[0]["diagnostics"].keys()
    config = json.loads((finished / "config.json").read_text())
    assert {"model_sha256", "tokenizer_sha256", "splits", "versions", "preset", "candidates"} <= config.keys()
    assert len(config["splits"]["train"]["rows"]) == 18
    assert not set(config["splits"]["train"]["rows"]) & set(config["splits"]["dev"]["rows"])
    assert (finished / "prompt" / "prompt.json").exists()
    assert (finished / "checkpoint.safetensors").exists()


def test_the_terminal_shows_manual_and_tuned(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, out, error = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "run")
    assert code == 0
    assert "manual (template alone)" in out
    assert "tuned (zo-pog)" in out
    assert "best dev" in error
    assert "left" in error


def test_json_is_the_result_and_nothing_else(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, out, _ = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "run" / "result.json").read_text())


def test_the_same_command_gives_the_same_bits_and_another_seed_others(
    zopog: Run, small_task: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert zopog("tune", "--task", small_task, *SMALL, "--seed", seed, "--out", tmp_path / name)[0] == 0
    assert same_run(tmp_path / "a", tmp_path / "b")
    assert not same_run(tmp_path / "a", tmp_path / "c")


def test_the_number_of_threads_does_not_change_a_bit(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    for threads in (1, 2):
        arguments = [*SMALL[:-1], threads]
        assert zopog("tune", "--task", small_task, *arguments, "--out", tmp_path / str(threads))[0] == 0
    assert same_run(tmp_path / "1", tmp_path / "2")


def test_manual_and_tuned_are_what_predict_answers(zopog: Run, finished: Path, small_task: Path) -> None:
    rows = (small_task.parent / "test.tsv").read_text("utf-8").splitlines()[1:]
    texts = [json.dumps({"text": row.split("\t")[0]}) for row in rows]
    (finished / "texts.jsonl").write_text("\n".join(texts) + "\n", "utf-8")
    code, out, _ = zopog("predict", finished, finished / "texts.jsonl")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    right = np.mean([answer["label"] == row.split("\t")[1] for answer, row in zip(answers, rows)])
    assert right == pytest.approx(without_times(finished)["test_accuracy"])
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5) for answer in answers)


# -- interruption --------------------------------------------------------------------------------------------------


def test_stopping_politely_saves_and_resumes(
    zopog: Run, finished: Path, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = iter([False] * 5 + [True])
    real = tune.stop_requests
    monkeypatch.setattr(tune, "stop_requests", lambda: _Asked(stops.__next__))
    code, _, error = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "again")
    assert code == 130
    assert "after 40 calls" in error
    assert "--resume" in error
    monkeypatch.setattr(tune, "stop_requests", real)
    assert zopog("tune", "--resume", tmp_path / "again")[0] == 0
    assert same_run(finished, tmp_path / "again")


class _Asked:
    def __init__(self, answer) -> None:
        self.answer = answer

    def __enter__(self):
        return self.answer

    def __exit__(self, *_: object) -> None:
        return None


def test_signals_ask_for_a_stop() -> None:
    with tune.stop_requests() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert issubclass(Interrupted, Exception)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "zopog_ref.app.command_line", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def steps(folder: Path) -> int:
    curve = folder / "curve.jsonl"
    return curve.read_bytes().count(b"\n") if curve.exists() else 0


def test_six_kills_of_the_command_change_nothing(small_task: Path, tmp_path: Path) -> None:
    """SIGKILL a random number of steps after each start (not at a time: starting takes as long as it takes); after the
    last resume: same result, same curve, same prompt. Every method and SIGTERM: tests/faults."""
    options = ["--task", small_task, *SMALL, "--budget", "640"]  # 80 steps
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start("tune", *options, "--out", whole).wait() == 0
    rng = np.random.default_rng(0)
    for _ in range(6):
        known = (killed / "config.json").exists()
        process = start("tune", *(["--resume", killed] if known else [*options, "--out", killed]))
        wanted = steps(killed) + rng.integers(1, 12)
        while steps(killed) < wanted and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)
        if process.returncode == 0:  # it outran the killer
            break
    assert start("tune", "--resume", killed).wait() == 0
    assert same_run(whole, killed)


def test_losses_paid_before_a_kill_are_not_paid_again(
    zopog: Run, finished: Path, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two halves of a step: the policy half's losses come from the journal."""
    from zopog_models.frozen.oracle import FrozenModelOracle

    real, queries = FrozenModelOracle.logits, []

    def counted(self, tokens, z, examples):
        if len(tokens) == 4 and len(queries) == 9 and np.ndim(z) == 3:
            raise KeyboardInterrupt
        if len(examples) <= 4:
            queries.append(len(tokens))
        return real(self, tokens, z, examples)

    monkeypatch.setattr(FrozenModelOracle, "logits", counted)
    assert zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "cut")[0] == 130
    assert len(queries) == 9
    assert (tmp_path / "cut" / "journal" / "000004.jsonl").exists()
    queries[:] = [-1] * 100
    assert zopog("tune", "--resume", tmp_path / "cut")[0] == 0
    assert len(queries) - 100 == 30 - 9  # 15 steps of two queries, 9 of them paid before
    assert same_run(finished, tmp_path / "cut")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    zopog: Run, finished: Path, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = iter([False] * 5 + [True])
    monkeypatch.setattr(tune, "stop_requests", lambda: _Asked(stops.__next__))
    folder = tmp_path / "cut"
    zopog("tune", "--task", small_task, *SMALL, "--out", folder)
    monkeypatch.undo()
    data = (folder / "checkpoint.safetensors").read_bytes()
    (folder / "checkpoint.safetensors").write_bytes(data[: len(data) // 2])
    code, _, error = zopog("tune", "--resume", folder)
    assert code == 0
    assert "going back to the checkpoint before it" in error
    assert same_run(finished, folder)


def test_falling_back_a_checkpoint_pays_for_nothing_twice(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal of the last step outlives its checkpoint: 5 of 15 steps done, so 20 of 30 queries are left."""
    from zopog_models.frozen.oracle import FrozenModelOracle

    stops, folder, queries = iter([False] * 5 + [True]), tmp_path / "cut", []
    with monkeypatch.context() as patch:
        patch.setattr(tune, "stop_requests", lambda: _Asked(stops.__next__))
        zopog("tune", "--task", small_task, *SMALL, "--out", folder)
    (folder / "checkpoint.safetensors").write_bytes(b"damaged")
    real = FrozenModelOracle.logits

    def counted(self, tokens, z, examples):
        if len(examples) <= 4:  # a mini-batch; dev has more rows
            queries.append(len(tokens))
        return real(self, tokens, z, examples)

    monkeypatch.setattr(FrozenModelOracle, "logits", counted)
    assert zopog("tune", "--resume", folder)[0] == 0
    assert len(queries) == 20


def test_what_a_run_was_started_with_cannot_be_changed_on_resume(zopog: Run, finished: Path) -> None:
    refused(zopog("tune", "--resume", finished, "--budget", 8000), "--budget", "fixed when the run was started")


def test_a_finished_run_answers_again(zopog: Run, finished: Path) -> None:
    code, out, error = zopog("tune", "--resume", finished, "--json")
    assert code == 0
    assert "finished already" in error
    assert json.loads(out)["calls"] == 120


# -- errors --------------------------------------------------------------------------------------------------------


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    code, out, error = outcome
    assert (code, out) == (2, "")
    assert "Traceback" not in error
    for word in words:
        assert word in error


def test_a_folder_in_use_is_not_overwritten(zopog: Run, finished: Path, small_task: Path) -> None:
    refused(zopog("tune", "--task", small_task, *SMALL, "--out", finished), "already holds a run", "--resume")


def test_two_runs_on_one_folder_are_refused(zopog: Run, finished: Path) -> None:
    (finished / "result.json").unlink()
    from zopog_ref.app.run.folder import RunFolder

    folder, _ = RunFolder.open(finished)
    try:
        refused(zopog("tune", "--resume", finished), "another process is running")
    finally:
        folder.close()


def test_nothing_to_resume(zopog: Run, tmp_path: Path) -> None:
    refused(zopog("tune", "--resume", tmp_path), "holds no run")


def test_changed_data_cannot_be_resumed(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    task = tmp_path / "small.toml"
    for file in small_task.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert zopog("tune", "--task", task, *SMALL, "--out", tmp_path / "run")[0] == 0
    (tmp_path / "run" / "result.json").unlink()
    with open(tmp_path / "train.tsv", "a") as file:
        file.write("one more text\tanimal\n")
    refused(zopog("tune", "--resume", tmp_path / "run"), "train rows", "changed since")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", 7], ["--budget is 7", "one step costs 8"]),
        (["--shots", 500], ["500", "rows"]),
        (["--shots", 0], ["--shots is 0"]),
        (["--seed", -1], ["--seed is -1"]),
        (["--n-candidates", 100000], ["100000"]),
        (["--mu", 0], ["mu is 0.0"]),
        (["--gumbel", "often"], ["per_sample, per_step, none"]),
        (["--policy", "off", "--zeroth-order", "off"], ["nothing would be learned"]),
        (["--model", "/no/such/folder"], ["/no/such/folder"]),
        (["--device", "cuda"], ["CUDA"]),
        (["--policy", "maybe"], ["expected on or off"]),
    ],
)
def test_unusable_numbers(zopog: Run, small_task: Path, tmp_path: Path, arguments: list, words: list[str]) -> None:
    refused(zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "run", *arguments), *words)
    assert not (tmp_path / "run" / "config.json").exists()


def own_data(folder: Path, content: bytes | None = None) -> list[object]:
    path = folder / "mine.tsv"
    rows = [f"a text about number {i}\t{i % 2}" for i in range(40)]
    path.write_bytes(content if content is not None else ("text\tlabel\n" + "\n".join(rows) + "\n").encode())
    return ["--train", path, "--template", "{text} . {mask} .", "--labels", "0=bad,1=good", "--out", folder / "run"]


def test_own_data_without_dev_and_test_uses_its_other_rows(zopog: Run, tmp_path: Path) -> None:
    code, _, error = zopog("tune", *own_data(tmp_path), *SMALL)
    assert code == 0, error
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    rows = [config["splits"][name]["rows"] for name in ("train", "dev", "test")]
    assert [len(r) for r in rows] == [6, 6, 28]
    assert len({row for part in rows for row in part}) == 40


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["mine.tsv", "empty"]),
        (b"text\tlabel\n", ["mine.tsv"]),
        (b"text\tlabel\nfine\t0\nnot \xff utf\t1\n", ["mine.tsv", "UTF-8"]),
        (b"words\tlabel\nfine\t0\n", ["text", "words"]),
        (b"text\tlabel\nfine\t0\nodd\t7\n", ["3", "7", "0, 1"]),
    ],
)
def test_unusable_files(zopog: Run, tmp_path: Path, content: bytes, words: list[str]) -> None:
    refused(zopog("tune", *own_data(tmp_path, content), *SMALL), *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--template": "{text} ."}, ["{mask}"]),
        ({"--labels": "0=bad,1=wonderfulness"}, ["wonderfulness"]),
        ({"--labels": "0,1"}, ["VALUE=WORD"]),
        ({"--train": "/no/such/file.tsv"}, ["/no/such/file.tsv"]),
    ],
)
def test_unusable_descriptions(zopog: Run, tmp_path: Path, changes: dict, words: list[str]) -> None:
    arguments = own_data(tmp_path)
    for option, value in changes.items():
        arguments[arguments.index(option) + 1] = value
    refused(zopog("tune", *arguments, *SMALL), *words)


def test_own_data_must_be_described(zopog: Run, tmp_path: Path, small_task: Path) -> None:
    train = own_data(tmp_path)[1]
    refused(zopog("tune", "--train", train), "--template")
    refused(zopog("tune", "--train", train, "--task", small_task), "both given")
    refused(zopog("tune", "--labels", "0=a"), "--train is missing")


# -- any method ----------------------------------------------------------------------------------------------------

SEARCH = ["--budget", "60", "--n-positions", "3", "--dim", "8", "--n-candidates", "12", "--batch-size", "8", "--shots",
          "3", "--readout", "none", "--threads", "1", "--method", "random-search", "--samples", "4"]  # fmt: skip


def test_another_method_runs_is_charged_for_every_row_and_resumes(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 training rows in mini-batches of 8 are 3 calls a prompt: 12 a step of 4 prompts, 5 steps."""
    assert zopog("tune", "--task", small_task, *SEARCH, "--out", tmp_path / "whole")[0] == 0
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert (result["method"], result["calls"], result["sequences"]) == ("random-search", 60, 5 * 4 * 18)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["preset"]["method"] == {"samples": 4, "sigma": 1.0}
    stops = iter([False] * 2 + [True])
    monkeypatch.setattr(tune, "stop_requests", lambda: _Asked(stops.__next__))
    assert zopog("tune", "--task", small_task, *SEARCH, "--out", tmp_path / "cut")[0] == 130
    monkeypatch.undo()
    assert zopog("tune", "--resume", tmp_path / "cut")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "random-search", "--eta-z", 1], ["--eta-z is no setting of random-search", "--samples, --sigma"]),
        (["--samples", 3], ["--samples is no setting of zo-pog", "--eta-alpha"]),
        (["--method", "random-search", "--budget", 59], ["--budget is 59", "one step costs 60"]),
        (["--method", "abc-smc", "--loss", "hinge"], ["--loss is 'hinge'", "abc-smc", "'error'"]),
        (["--method", "bdpl", "--floor", 0.5], ["floor is 0.5", "100 candidates allow 0.01"]),
        (["--loss", "squared"], ["--loss is 'squared'", "cross_entropy, hinge, error"]),
    ],
)
def test_settings_belong_to_their_method(
    zopog: Run, small_task: Path, tmp_path: Path, arguments: list, words: list[str]
) -> None:
    options = ["--shots", 3, "--batch-size", 8, "--threads", 1]
    refused(zopog("tune", "--task", small_task, *options, *arguments, "--out", tmp_path / "run"), *words)


def test_a_run_that_ends_before_its_budget_ends_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress(budget=100, price=10)
    for step in (1, 2):
        progress(Record(step, 10 * step, 0, 0, 0.5, 1.0, {"loss": 0.7}))
    assert not capsys.readouterr().err.endswith("\n")
    progress.close()
    progress.close()
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err).endswith("\n")
    assert sys.stderr.isatty()  # and stderr is what it was


def test_a_missing_package_says_what_to_install(zopog: Run, small_task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from zopog_ref.methods import METHODS

    monkeypatch.setitem(METHODS, "random-search", replace(METHODS["random-search"], packages=("no_such_package",)))
    refused(
        zopog("tune", "--task", small_task, "--method", "random-search"),
        "pip install no_such_package (the extra methods has it)",
    )


@pytest.mark.parametrize("labels", ["0=bad,0=good", "0=bad,1=good, 0 =fine"])
def test_a_label_given_twice_is_named(zopog: Run, tmp_path: Path, labels: str) -> None:
    """The last one won, and nobody was told."""
    (tmp_path / "mine.tsv").write_text("text\tlabel\na film\t0\n", "utf-8")
    options = ["--train", tmp_path / "mine.tsv", "--template", "{text} {mask}", "--labels", labels]
    code, _, error = zopog("tune", *options, "--out", tmp_path / "run")
    assert code == 2
    assert "--labels: the key '0' is there twice" in error
