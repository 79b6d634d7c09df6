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


@pytest.mark.parametrize("answers", ["scores", "labels"])
def test_a_comparison_of_methods_at_an_endpoint(
    zopog: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    folder = write_decoder(tmp_path / "llama", "llama")
    rows = [f"{text}\t{i // 2 % 2}" for i, text in enumerate(ROWS * 2)]
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ndescription = "x"\ntemplate = "{text} it was {mask}"\ntrain = "train.tsv"\nmetric = "accuracy"\n'
        '[labels]\n0 = "great"\n1 = "terrible"\n'
    )
    monkeypatch.setenv("ONE_KEY", "sk-geheim-123456")
    out = tmp_path / "out"
    with serve(load_model(folder, threads=1)) as service:
        service.answer = lambda text: "great" if "a " in text else "terrible"
        asked = ["--answers", "labels", "--loss", "error"] if answers == "labels" else ["--top-logprobs", 1000]
        asked += ["--key-env", "ONE_KEY", "--price-in", 1, "--price-out", 1, "--budget-usd", 1]
        command = ["compare", "--model", f"chat+{service.chatting}", "--tokenizer", folder, *SMALL, *asked]
        command += ["--tasks", tmp_path / "mine.toml", "--out", out]
        code, _, error = zopog(*command)
        assert code == 0, error
        assert "--budget-usd holds for each run: $2 at most for the 2 that are not finished" in error
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
