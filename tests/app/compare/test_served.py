"""zopog compare on a served model: one run after another, the wire said once, finished runs not asked again."""

import json
from pathlib import Path

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.app.conftest import Run
from tests.models.service import serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model

ROWS = ["a small furry animal", "a large city near the sea", "a person who works", "the food was terrible"]
SMALL = ["--methods", "none,bdpl", "--set", "bdpl.samples=4", "--settings", "embedded", "--n-positions", 2,
         "--n-candidates", 6, "--batch-size", 4, "--shots", 1, "--budget", 20, "--seeds", 1]  # fmt: skip


def write_task(folder: Path) -> Path:
    rows = [f"{text}\t{i // 2 % 2}" for i, text in enumerate(ROWS * 2)]
    (folder / "train.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    (folder / "mine.toml").write_text(
        'name = "mine"\ndescription = "x"\ntemplate = "{text} it was {mask}"\ntrain = "train.tsv"\nmetric = "accuracy"\n'
        '[labels]\n0 = "great"\n1 = "terrible"\n'
    )
    return folder / "mine.toml"


@pytest.mark.parametrize("answers", ["scores", "labels"])
def test_a_comparison_of_methods_at_an_endpoint(
    zopog: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    folder = write_decoder(tmp_path / "llama", "llama")
    monkeypatch.setenv("ONE_KEY", "sk-geheim-123456")
    out, task = tmp_path / "out", write_task(tmp_path)
    with serve(load_model(folder, threads=1)) as service:
        service.answer = lambda text: "great" if "a " in text else "terrible"
        asked = ["--answers", "labels", "--loss", "error"] if answers == "labels" else ["--top-logprobs", 1000]
        asked += ["--key-env", "ONE_KEY", "--price-in", 1, "--price-out", 1, "--budget-usd", 1]
        command = ["compare", "--model", f"chat+{service.chatting}", "--tokenizer", folder, *SMALL, *asked]
        command += ["--tasks", task, "--out", out]
        code, _, error = zopog(*command)
        assert code == 0, error
        assert "--budget-usd holds for all runs together: $0.0000 of $1 are spent" in error
        assert {headers["Authorization"] for headers in service.headers} == {"Bearer sk-geheim-123456"}
        before = service.asked
        code, _, error = zopog(*command)
        assert (code, service.asked) == (0, before), error
        code, _, error = zopog(*command, "--workers", 2)
        assert code == 2
        assert "--concurrency asks it several things" in error
    found = json.loads((out / "compare.json").read_text())
    assert found["model"]["name"] if isinstance(found.get("model"), dict) else found["format"] >= 1
    assert not any(b"sk-geheim" in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_the_cap_is_that_of_all_runs_together(zopog: Run, tmp_path: Path) -> None:
    """Priced so that one run fits under the cap and two do not: the second stops there, and a higher cap ends it."""
    folder, task, out = write_decoder(tmp_path / "llama", "llama"), write_task(tmp_path), tmp_path / "out"
    with serve(load_model(folder, threads=1)) as service:
        start = ["compare", "--model", f"chat+{service.chatting}", "--tokenizer", folder, *SMALL, "--tasks", task]
        start += [
            "--out",
            out,
            "--top-logprobs",
            1000,
            "--price-in",
            100,
            "--price-out",
            0,
            "--concurrency",
            1,
            "--budget",
            200,
        ]
        code, _, error = zopog(*start, "--executor", "serial", "--budget-usd", 100)
        assert code == 0, error
        finished = {path.parent.parent.name: json.loads(path.read_text()) for path in out.rglob("result.json")}
        usd = {method: result["spending"]["usd"] for method, result in finished.items()}
        assert set(usd) == {"none", "bdpl"}
        for path in sorted(out.rglob("*"), reverse=True):  # from the beginning, under less than both take
            path.rmdir() if path.is_dir() else path.unlink()
        cap = usd["none"] + usd["bdpl"] / 2
        assert max(usd.values()) > cap / 2
        code, _, error = zopog(*start, "--executor", "serial", "--budget-usd", cap)
        assert code == 1
        results = {path.parent.parent.name for path in out.rglob("result.json")}
        assert results == {"none"}
        spent = 0.0
        for log in out.rglob("requests.jsonl"):
            events = [json.loads(line) for line in log.read_text().splitlines()]
            spent += sum(event["usage"][0] * 100 / 1e6 for event in events if "usage" in event)
        assert usd["none"] < spent <= cap
        code, _, error = zopog(*start, "--executor", "serial", "--budget-usd", spent)  # nothing is left for it
        assert code == 1
        assert any("raise --budget-usd" in path.read_text() for path in out.rglob("error.txt"))
        code, _, error = zopog(*start, "--executor", "serial", "--budget-usd", 100)
        assert code == 0, error
        assert f"${spent:.4f} of $100 are spent" in error
        again = {path.parent.parent.name: json.loads(path.read_text()) for path in out.rglob("result.json")}
        assert {name: result["spending"]["usd"] for name, result in again.items()} == usd
