"""`zopog tune` with a served model: the local run's result, whatever the wire does; each call charged once."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.app.conftest import SMALL, Run
from tests.models.real_servers import free_ports, llama_cpp, mlserver
from tests.models.service import Service, never, serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model
from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.frozen.model import EMBEDDED_MODEL
from zopog_models.served import transport

RUN = ["--settings", "embedded", *SMALL[:-4], "--readout", "none", "--budget", "64"]
WIRE = ["--tokenizer", EMBEDDED_MODEL, "--rows-per-request", "32", "--concurrency", "2"]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.005)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with serve(load_model("embedded", threads=1)) as service:
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    running.faults, running.asked, running.slow = never, 0, 0.02
    running.bodies.clear()
    running.headers.clear()
    return running


def tuned(zopog: Run, task: Path, out: Path, *arguments: object) -> dict[str, Any]:
    code, _, error = zopog("tune", "--task", task, *RUN, "--out", out, *arguments)
    assert code == 0, error
    return json.loads((out / "result.json").read_text())


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["diagnostics"]["loss"] for line in (folder / "curve.jsonl").read_text().splitlines()]


def same_numbers(a: Path, b: Path) -> bool:
    """Bit for bit: curve, prompt, and the result but for its times and requests, of which lost ones cost money too."""
    results, apart = [], ("seconds", "requests", "retries", "failures", "spending")
    for folder in (a, b):
        result = json.loads((folder / "result.json").read_text())
        results.append({k: v for k, v in result.items() if k not in apart})
    files = ("curve.jsonl", "prompt/prompt.safetensors")
    return results[0] == results[1] and all((a / name).read_bytes() == (b / name).read_bytes() for name in files)


def five_and_five(number: int) -> str | None:
    """5% of requests fail, in turn in every way that may pass; 5% are slow."""
    kinds = ("drop", "500", "half", "503", "429")
    return kinds[number // 20 % 5] if number % 20 == 7 else "slow" if number % 20 == 13 else None


def test_the_same_result_as_local_and_with_faults_the_same_again(
    zopog: Run, service: Service, small_task: Path, tmp_path: Path
) -> None:
    local = tuned(zopog, small_task, tmp_path / "local", "--threads", 1)
    address = ["--model", f"kserve+{service.kserve}", *WIRE]
    remote = tuned(zopog, small_task, tmp_path / "remote", *address)
    for name in ("calls", "sequences", "tokens", "prompt_tokens", "test_accuracy", "dev_accuracy", "best_step"):
        assert remote[name] == local[name], name
    assert np.abs(np.subtract(losses(tmp_path / "remote"), losses(tmp_path / "local"))).max() < 1e-5
    assert remote["retries"] == 0
    assert "requests" not in local
    service.asked, service.faults, service.retry_after = 0, five_and_five, "0"
    shaken = tuned(zopog, small_task, tmp_path / "shaken", *address)
    assert same_numbers(tmp_path / "remote", tmp_path / "shaken")
    assert shaken["calls"] == remote["calls"]  # a repeated call is charged once
    assert shaken["requests"] == service.asked == remote["requests"] + shaken["retries"]  # and reported twice
    assert shaken["retries"] == sum(shaken["failures"].values()) >= 0.04 * remote["requests"]
    config = json.loads((tmp_path / "shaken" / "config.json").read_text())
    assert config["remote"]["rows_per_request"] == 32
    code, out, error = zopog("predict", tmp_path / "shaken", *address[:2], "--text", "a cat with long fur")
    assert code == 0, error
    assert "label" in json.loads(out)


def test_a_server_that_goes_away_loses_nothing(zopog: Run, service: Service, small_task: Path, tmp_path: Path) -> None:
    """Down after 20 requests for longer than the retries last: exit code 1; resumed, nothing is asked a second time."""
    address = ["--model", f"kserve+{service.kserve}", *WIRE]
    whole = tuned(zopog, small_task, tmp_path / "whole", *address)
    service.asked, service.faults = 0, lambda number: "503" if number >= 20 else None
    command = ["tune", "--task", small_task, *RUN, "--out", tmp_path / "cut", *address, "--retries", 1]
    code, _, error = zopog(*command)
    assert code == 1
    assert "HTTP 503" in error
    assert "Nothing paid for is lost: zopog tune --resume" in error
    service.faults = never
    code, _, error = zopog("tune", "--resume", tmp_path / "cut", *address[:2], "--retries", 3)
    assert code == 0, error
    assert same_numbers(tmp_path / "whole", tmp_path / "cut")
    cut = json.loads((tmp_path / "cut" / "result.json").read_text())
    assert cut["requests"] == service.asked
    assert cut["requests"] - sum(cut["failures"].values()) == whole["requests"]  # every question answered once


def test_killed_and_resumed_no_answer_is_paid_twice(
    zopog: Run, service: Service, small_task: Path, tmp_path: Path
) -> None:
    address = ["--model", f"kserve+{service.kserve}", *WIRE]
    whole = tuned(zopog, small_task, tmp_path / "whole", *address)
    service.asked, service.slow, service.faults = 0, 0.1, lambda number: "slow"
    command = [sys.executable, "-m", "zopog_ref.app.command_line", "tune", "--task", small_task, *RUN, "--out",
               tmp_path / "killed", *address]  # fmt: skip
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while service.asked < 15 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    service.faults = never
    assert zopog("tune", "--resume", tmp_path / "killed", *address[:2])[0] == 0
    assert same_numbers(tmp_path / "whole", tmp_path / "killed")
    killed = json.loads((tmp_path / "killed" / "result.json").read_text())
    # What was under way at the kill (two at once) is asked again; what was answered is not.
    assert whole["requests"] <= killed["requests"] <= whole["requests"] + 2


def test_further_headers_are_sent_by_every_command(
    zopog: Run, service: Service, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`predict --header-env` ended with a traceback."""
    monkeypatch.setenv("ONE", "first-secret")
    monkeypatch.setenv("TWO", "second-secret")
    named = ["--header-env", "X-One=ONE", "--header-env", "X-Two=TWO"]
    tuned(zopog, small_task, tmp_path / "run", "--model", f"kserve+{service.kserve}", *WIRE, *named)
    before = len(service.headers)
    code, _, error = zopog(
        "predict", tmp_path / "run", "--model", f"kserve+{service.kserve}", *named, "--text", "a dog"
    )
    assert code == 0, error
    assert len(service.headers) > before
    assert {(sent["X-One"], sent["X-Two"]) for sent in service.headers} == {("first-secret", "second-secret")}


def test_nan_from_the_server_ends_the_run_with_its_name(
    zopog: Run, service: Service, small_task: Path, tmp_path: Path
) -> None:
    service.faults = lambda number: "nan" if number == 9 else None
    address = ["--model", f"kserve+{service.kserve}", *WIRE]
    code, _, error = zopog("tune", "--task", small_task, *RUN, "--out", tmp_path / "run", *address)
    assert code == 1
    assert "not finite" in error
    assert "Traceback" not in error


def test_the_key_is_in_no_file_and_no_message(
    zopog: Run, service: Service, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    service.faults = lambda number: "400" if number == 12 else None
    address = ["--model", f"kserve+{service.kserve}", *WIRE, "--key-env", "MY_KEY"]
    code, out, error = zopog("tune", "--task", small_task, *RUN, "--out", tmp_path / "run", *address)
    assert code == 1
    assert "Bearer ***" in error
    assert service.headers[0]["Authorization"] == "Bearer secret-123"
    assert "secret-123" not in out + error
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"config.json", "requests.jsonl"} <= {path.name for path in files}
    assert not any(b"secret-123" in path.read_bytes() for path in files)


KSERVE = ["--model", "kserve+http://127.0.0.1:9/v2/models/x"]
COMPLETIONS = ["--model", "completions+http://127.0.0.1:9/v1#x", "--tokenizer", EMBEDDED_MODEL]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (KSERVE, ["needs --tokenizer FOLDER"]),
        ([*KSERVE, "--tokenizer", "/no/folder"], ["/no/folder", "no folder"]),
        ([*KSERVE, "--tokenizer", EMBEDDED_MODEL, "--threads", 2], ["--threads is the server's affair"]),
        ([*KSERVE, "--tokenizer", EMBEDDED_MODEL, "--timeout", 0], ["--timeout is 0"]),
        (["--retries", 3], ["--retries is for a served model"]),
        (COMPLETIONS, ["zo-pog learns a continuous prompt", "--zeroth-order off"]),
        ([*COMPLETIONS, "--method", "random-search"], ["add --sigma 0"]),
        ([*COMPLETIONS, "--method", "sspt"], ["sspt learns a continuous prompt", "bdpl"]),
        ([*COMPLETIONS, "--method", "bdpl"], ["folder of an encoder"]),
    ],
)
def test_unusable_options(zopog: Run, small_task: Path, tmp_path: Path, arguments: list, words: list[str]) -> None:
    code, _, error = zopog("tune", "--task", small_task, "--shots", 3, "--out", tmp_path / "run", *arguments)
    assert code == 2
    assert "Traceback" not in error
    for word in words:
        assert word in error
    assert not (tmp_path / "run").exists()


# -- text alone ----------------------------------------------------------------------------------------------------

METHODS = {
    "zo-pog": ["--zeroth-order", "off", "--policy-samples", "4"],
    "bdpl": ["--samples", "4"],
    "random-search": ["--samples", "4", "--sigma", "0"],
}
ROWS = ["a small furry animal that likes to sleep", "a large city near the sea", "a person who works in a large city",
        "the food was terrible", "a plant with green leaves", "an object made of wood"]  # fmt: skip


def completions_run(place: Path, folder: Path, method: str) -> list[object]:
    rows = [f"{text}\t{i % 2}" for i, text in enumerate(ROWS * 2)]
    (place / "mine.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    task = ["--train", place / "mine.tsv", "--template", "{text} it was {mask}", "--labels", "0=great,1=terrible"]
    return [*task, "--settings", "embedded", "--method", method, *METHODS[method], "--readout", "none", "--budget", 16,
            "--n-positions", 2, "--n-candidates", 8, "--batch-size", 4, "--shots", 2, "--tokenizer", folder]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_token_methods_against_a_text_endpoint(zopog: Run, tmp_path: Path, method: str) -> None:
    """All log-probabilities: what the run sees is what the model says. Faults: the same bits, the same calls."""
    folder = write_decoder(tmp_path / "llama", "llama")
    options = completions_run(tmp_path, folder, method)
    with serve(load_model(folder, threads=1)) as service:
        service.retry_after, service.slow = "0", 0.02
        address = ["--model", f"completions+{service.completions}", "--top-logprobs", 5]
        for name, faults in (("sound", never), ("shaken", five_and_five)):
            service.faults, service.asked = faults, 0
            code, _, error = zopog("tune", *options, *address, "--out", tmp_path / name)
            assert code == 0, error
        assert same_numbers(tmp_path / "sound", tmp_path / "shaken")
        result = json.loads((tmp_path / "shaken" / "result.json").read_text())
        assert result["calls"] == 16
        assert result["requests"] == service.asked
        assert result["label_words"]["rows"] > 0
        assert set(result["label_words"]["not_returned"]) == {"great", "terrible"}


def test_a_chat_model_and_what_it_costs(zopog: Run, tmp_path: Path) -> None:
    """A run in conversations: shaken, it gives the same bits; a cap ends it, and a higher one goes on with it."""
    folder = write_decoder(tmp_path / "llama", "llama")
    options = [*completions_run(tmp_path, folder, "bdpl"), "--system", "Be brief.", "--price-in", 1, "--price-out", 2]
    options += ["--top-logprobs", 1000]
    with serve(load_model(folder, threads=1)) as service:
        service.retry_after, service.slow = "0", 0.02
        address = ["--model", f"chat+{service.chatting}"]
        for name, faults in (("sound", never), ("shaken", five_and_five)):
            service.faults, service.asked = faults, 0
            code, _, error = zopog("tune", *options, *address, "--out", tmp_path / name)
            assert code == 0, error
        assert "the endpoint was asked about one row twice: its label words great, terrible are among" in error
        assert same_numbers(tmp_path / "sound", tmp_path / "shaken")
        spending = {
            name: json.loads((tmp_path / name / "result.json").read_text())["spending"] for name in ("sound", "shaken")
        }
        spent = spending["sound"]["usd"]
        assert spending["shaken"].pop("answers_without_usage") > 0  # those that were lost
        assert spending["shaken"]["usd"] > spent
        service.faults = never
        code, _, error = zopog("tune", *options, *address, "--out", tmp_path / "poor", "--budget-usd", 0.9 * spent)
        assert code == 1
        assert "raise --budget-usd to go on. Nothing paid for is lost: zopog tune --resume" in error
        again = ["--resume", tmp_path / "poor", *address]
        code, _, error = zopog("tune", *again)
        assert code == 1  # the cap is kept
        code, _, error = zopog("tune", *again, "--budget-usd", 1)
        assert code == 0, error
        assert same_numbers(tmp_path / "sound", tmp_path / "poor")
        assert json.loads((tmp_path / "poor" / "result.json").read_text())["spending"] == spending["sound"]


def test_what_is_said_before_the_first_step_and_after_it(zopog: Run, tmp_path: Path) -> None:
    """At most so many requests, which is at least what was sent, and their price; words that are never returned."""
    folder = write_decoder(tmp_path / "llama", "llama")
    options = [*completions_run(tmp_path, folder, "bdpl"), "--price-in", 1e6, "--price-out", 0, "--budget-usd", 1e4]
    with serve(load_model(folder, threads=1), top=1) as service:
        address = ["--model", f"chat+{service.chatting}"]
        code, _, error = zopog("tune", *options, *address, "--out", tmp_path / "run")
        assert code == 0, error
        found = re.search(
            r"planned: at most ([\d,]+) requests, about ([\d,]+) tokens read and ([\d,]+) written, \$([\d,.]+)\n", error
        )
        assert found is not None, error
        requests, read, written = (int(found[place].replace(",", "")) for place in (1, 2, 3))
        # 4 steps of 4 prompts on 4 rows, 4 dev rows for each prompt of an epoch, then all rows for two prompts
        assert requests == written == 4 * 4 * 4 + 4 * 4 + 2 * (4 + 4 + 4)
        assert service.asked - 1 <= requests  # the probe asks twice
        assert read / requests == pytest.approx(10, abs=3)
        assert float(found[4].replace(",", "")) == read
        rows = error.partition("did not return: ")[2].partition(";")[0]
        assert "great in " in rows
        assert "terrible in " in rows
        service.top = None
        options[options.index("--budget-usd") + 1] = 400
        code, _, error = zopog("tune", *options, *address, "--top-logprobs", 1000, "--out", tmp_path / "poor")
        assert code == 1
        assert "--budget-usd is 400" in error, error
        assert "did not return" not in error


def test_what_a_server_puts_around_a_row_is_planned_for(zopog: Run, tmp_path: Path) -> None:
    """Its `usage` of the probe says it: 100 tokens more a request, 100 times as many requests more are said."""
    folder, read = write_decoder(tmp_path / "llama", "llama"), {}
    options = completions_run(tmp_path, folder, "bdpl")
    with serve(load_model(folder, threads=1)) as service:
        for more in (100, 200):
            service.around = more
            address = ["--model", f"chat+{service.chatting}", "--top-logprobs", 1000, "--out", tmp_path / str(more)]
            code, _, error = zopog("tune", *options, *address)
            assert code == 0, error
            found = re.search(r"planned: at most ([\d,]+) requests, about ([\d,]+) tokens read", error)
            assert found is not None
            requests, read[more] = (int(found[place].replace(",", "")) for place in (1, 2))
    assert read[200] - read[100] == pytest.approx(100 * requests, abs=2)
    assert read[100] > 100 * requests


def test_who_learns_no_z_needs_no_scale_of_it(zopog: Run, service: Service, small_task: Path, tmp_path: Path) -> None:
    """A server that is not ours says no embedding_std; and it counts no tokens."""
    service.extra = {"parameters": {}}
    try:
        address = ["--model", f"kserve+{service.kserve}", *WIRE, "--settings", "embedded", "--readout", "none"]
        some = ["--n-positions", 2, "--n-candidates", 20, "--shots", 3]
        for number, method in enumerate((["bdpl", *some], ["none"], ["zo-pog", "--zeroth-order", "off", *some])):
            code, _, error = zopog(
                "tune",
                "--task",
                small_task,
                *address,
                "--budget",
                60,
                "--out",
                tmp_path / str(number),
                "--method",
                *method,
            )
            assert code == 0, error
        code, _, error = zopog(
            "tune", "--task", small_task, *address, "--method", "bbt", *some, "--out", tmp_path / "z"
        )
        assert code == 2
        assert "--embedding-std" in error
        money = ["--price-in", 1, "--price-out", 1, "--budget-usd", 1]
        code, _, error = zopog("tune", "--task", small_task, *address, *money, "--out", tmp_path / "m")
        assert code == 2
        assert "this protocol counts no tokens" in error
    finally:
        service.extra = {}


def test_labels_alone_are_learned_from(zopog: Run, tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "llama", "llama")
    options = [*completions_run(tmp_path, folder, "bdpl"), "--answers", "labels"]
    with serve(load_model(folder, threads=1)) as service:
        service.answer = lambda text: "great" if "animal" in text else "terrible, I think"
        address = ["--model", f"anthropic+{service.chatting}"]
        code, _, error = zopog("tune", *options, *address, "--out", tmp_path / "run")
        assert code == 2
        assert "the loss is error" in error
        assert service.asked == 0
        code, _, error = zopog("tune", *options, *address, "--loss", "error", "--out", tmp_path / "run")
        assert code == 0, error
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["label_words"]["not_returned"] == {"great": 0, "terrible": 0}
    assert result["spending"]["tokens_written"] == 2 * result["requests"]


def test_zo_pog_whole_over_embeddings(zopog: Run, tmp_path: Path) -> None:
    """The default method against vLLM's and SGLang's doubles: the local run's prompt."""
    folder = write_decoder(tmp_path / "llama", "llama")
    options = completions_run(tmp_path, folder, "zo-pog")
    options = [90 if option == 16 else option for option in options if option not in ("--zeroth-order", "off")]
    served = options[: options.index("--tokenizer")]
    code, _, error = zopog("tune", *served, "--model", folder, "--out", tmp_path / "local")
    assert code == 0, error
    expected = json.loads((tmp_path / "local" / "result.json").read_text())
    model = load_model(folder, threads=1)
    with serve(model, words=load_checkpoint(folder).word_embeddings) as service:
        for kind, url in (("vllm", f"{service.url}/exact/v1#m"), ("sglang", f"{service.url}#m")):
            code, _, error = zopog("tune", *options, "--model", f"{kind}+{url}", "--out", tmp_path / kind)
            assert code == 0, error
            found = json.loads((tmp_path / kind / "result.json").read_text())
            for name in ("prompt_tokens", "calls", "dev_accuracy", "best_step"):
                assert found[name] == expected[name]
            assert np.allclose(losses(tmp_path / kind), losses(tmp_path / "local"), atol=1e-3)


# -- real servers -------------------------------------------------------------------------------------------------


def test_a_real_mlserver(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """MLServer with our runtime; its sessions are not ours, so the numbers are the same to float32's accuracy."""
    from zopog_models.serving import write_mlserver_folder

    port = free_ports()
    folder = write_mlserver_folder("embedded", tmp_path / "frozen", "frozen", port=port)
    with mlserver(folder, port) as address:
        local = tuned(zopog, small_task, tmp_path / "local", "--threads", 1)
        remote = tuned(zopog, small_task, tmp_path / "remote", "--model", f"kserve+{address}", *WIRE)
    for name in ("calls", "tokens", "prompt_tokens", "test_accuracy", "best_step"):
        assert remote[name] == local[name], name
    assert np.abs(np.subtract(losses(tmp_path / "remote"), losses(tmp_path / "local"))).max() < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_a_real_llama_cpp(zopog: Run, tmp_path: Path, method: str) -> None:
    """Its completions endpoint and ours, the same model, all log-probabilities: the same prompt, the same calls."""
    folder = write_decoder(tmp_path / "llama", "llama")
    options = completions_run(tmp_path, folder, method)
    found = {}
    with llama_cpp(folder) as theirs, serve(load_model(folder, threads=1)) as ours:
        for name, address in (("theirs", theirs), ("ours", ours.completions)):
            given = ["--model", f"completions+{address}", "--top-logprobs", 1000, "--out", tmp_path / name]
            code, _, error = zopog("tune", *options, *given)
            assert code == 0, error
            found[name] = json.loads((tmp_path / name / "result.json").read_text())
    for (
        one
    ) in found.values():  # theirs says the drawn token's probability after sampling, which is noticed and not used
        one["label_words"].pop("contradictions", None)
    for name in ("calls", "prompt_tokens", "best_step", "label_words"):  # requests: theirs may have to be drawn again
        assert found["theirs"][name] == found["ours"][name], name
    assert found["theirs"]["retries"] == 0
    assert np.abs(np.subtract(losses(tmp_path / "theirs"), losses(tmp_path / "ours"))).max() < 1e-3
