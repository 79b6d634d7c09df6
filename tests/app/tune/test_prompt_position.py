"""--prompt-position after and --label-words sum, from the command to the deployed prompt."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.conftest import SMALL, Run, same_run
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model, load_prompt
from zopog_models.frozen.model import FrozenModel
from zopog_models.prompts.predicting import predict
from zopog_models.runners.prefix import PrefixReuse
from zopog_models.tasks.task_files import load_task, read_rows
from zopog_ref.app.tune import learning as tune

TEMPLATE = ["--template", "{text} it is a kind of {mask}"]
AFTER = ["--prompt-position", "after"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "llama", "llama", max_position_embeddings=160)


def asked(task: Path, model: Path, *options: object) -> list[object]:
    return ["tune", "--task", task, "--model", model, *TEMPLATE, *SMALL, *options]


def test_tune_resume_predict(
    zopog: Run, small_task: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[np.ndarray | None] = []
    logits = FrozenModel.logits

    def seen(self: FrozenModel, *given: Any) -> np.ndarray:
        if given[2].shape[1]:
            places.append(given[6])
        return logits(self, *given)

    monkeypatch.setattr(FrozenModel, "logits", seen)
    code, _, error = zopog(*asked(small_task, decoder, *AFTER, "--out", tmp_path / "whole"))
    assert code == 0, error
    assert "the prompt stands after the text: keys and values of the rows take" in error
    assert len(places) > 10
    assert all(place is not None for place in places)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["task"]["position"] == "after"

    stops = iter([False] * 5 + [True])
    with monkeypatch.context() as patch:
        patch.setattr(tune, "stop_requests", lambda: nullcontext(stops.__next__))
        assert zopog(*asked(small_task, decoder, *AFTER, "--out", tmp_path / "cut"))[0] == 130
    code, _, error = zopog("tune", "--resume", tmp_path / "cut", *AFTER)
    assert code == 2
    assert "--prompt-position: fixed when the run was started" in error
    assert zopog("tune", "--resume", tmp_path / "cut", "--threads", "2")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "cut")

    prompt = load_prompt(tmp_path / "whole" / "prompt")
    assert (prompt.position, prompt.schema) == ("after", 3)
    code, out, error = zopog("predict", tmp_path / "whole" / "prompt", "--model", decoder, "--text", "a large city", "")
    assert code == 0, error
    text = [json.loads(line)["probabilities"] for line in out.splitlines()]
    with monkeypatch.context() as patch:  # the float64 forward pass of the row as it should be read
        task, model = load_task(small_task), load_model(decoder, threads=1)
        ids = [*model.tokenizer.encode("a large city", add_special_tokens=False).ids]
        tail = model.tokenizer.encode("it is a kind of", add_special_tokens=False).ids
        expected = by_hand(model, decoder, [model.cls_id, *ids, *prompt.ids[0], *tail], 1 + len(ids), prompt)
    assert [text[0][value] for value in task.labels] == pytest.approx(expected, abs=2e-5)

    code, _, error = zopog("bake", tmp_path / "whole", "--out", tmp_path / "baked.onnx")
    assert code == 2
    assert "this prompt stands after the text" in error


def by_hand(model: FrozenModel, folder: Path, row: list[int], place: int, prompt: Any) -> list[float]:
    from tests.models.numpy_llama import full_logits
    from zopog_models import load_checkpoint

    checkpoint = load_checkpoint(folder)
    soft = np.zeros((len(row), model.embedding_size))
    soft[place : place + prompt.n_positions] = prompt.offsets[0]
    scores = full_logits(checkpoint.config, checkpoint.tensors, row, [1] * len(row), soft)[-1][prompt.label_ids]
    return list(np.exp(scores - np.logaddexp.reduce(scores)))


def test_another_position_is_another_run(zopog: Run, small_task: Path, decoder: Path, tmp_path: Path) -> None:
    for name, options in (("before", ["--prompt-position", "before"]), ("after", AFTER), ("unsaid", [])):
        assert zopog(*asked(small_task, decoder, *options, "--out", tmp_path / name))[0] == 0
    assert same_run(tmp_path / "before", tmp_path / "unsaid")
    assert "position" not in json.loads((tmp_path / "before" / "config.json").read_text())["task"]
    assert load_prompt(tmp_path / "before" / "prompt").schema == 1
    one, other = ((tmp_path / name / "curve.jsonl").read_text() for name in ("before", "after"))
    assert one != other


def test_a_prompt_read_at_the_other_place_is_another_answer(
    zopog: Run, small_task: Path, decoder: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    assert zopog(*asked(small_task, decoder, *AFTER, "--out", tmp_path / "run"))[0] == 0
    prompt, model = load_prompt(tmp_path / "run" / "prompt"), load_model(decoder, threads=1)
    texts = [("a large city near the sea",)]
    right, wrong = (predict(model, p, texts).probabilities for p in (prompt, replace(prompt, position="before")))
    assert np.abs(right - wrong).max() > 1e-3


def test_who_cannot(zopog: Run, small_task: Path, tmp_path: Path, decoder: Path) -> None:
    code, _, error = zopog("tune", "--task", small_task, *SMALL, *AFTER, "--out", tmp_path / "run")
    assert code == 2
    assert "--prompt-position after: 'embedded' cannot, for it is an encoder, which reads in both directions" in error
    served = ["--tokenizer", decoder, "--out", tmp_path / "run"]
    for address, options, message in (
        ("kserve+http://127.0.0.1:9/v2/models/m", [], "what is served there is a graph that puts the prompt in front"),
        ("chat+http://127.0.0.1:9/v1#m", ["--prompt-in", "system"], "the prompt stands where no text is"),
        ("vllm+http://127.0.0.1:9/v1#m", [], "learn tokens alone there"),
    ):
        code, _, error = zopog(*asked(small_task, Path("x"), *AFTER, *served, *options)[:3], "--model", address,
                               *TEMPLATE, *SMALL[:-2], *AFTER, *served, *options)  # fmt: skip
        assert code == 2
        assert message in error
    assert not (tmp_path / "run").exists()


def test_a_cluster_of_prompts_keeps_its_place(
    zopog: Run, small_task: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is kept from call to call: each row is computed once in a run."""
    computed: list[int] = []
    one = PrefixReuse.computed
    monkeypatch.setattr(
        PrefixReuse, "computed", lambda self, texts, *rest: computed.append(len(texts)) or one(self, texts, *rest)
    )
    assert zopog(*asked(small_task, decoder, *AFTER, "--out", tmp_path / "run"))[0] == 0
    task = load_task(small_task)
    assert len(computed) <= len(read_rows(task.train, task).labels) + len(read_rows(task.test, task).labels)


SUM = ["--label-words", "sum"]


def with_long_words(small_task: Path, folder: Path) -> Path:
    """The task with a second word behind every other label word; two of them begin alike."""
    lines, head = small_task.read_text().splitlines(), True
    for i, line in enumerate(lines):
        head = head and line != "[labels]"
        name, equals, word = line.partition(" = ")
        if equals and not head and i % 2:
            lines[i] = f'{name} = "large {json.loads(word)}"'
    for split in ("train", "test"):
        (folder / f"{split}.tsv").write_bytes((small_task.parent / f"{split}.tsv").read_bytes())
    (folder / "long.toml").write_text("\n".join(lines))
    return folder / "long.toml"


def test_sums_are_charged_and_deployed(zopog: Run, small_task: Path, decoder: Path, tmp_path: Path) -> None:
    small_task = with_long_words(small_task, tmp_path)
    code, _, error = zopog(*asked(small_task, decoder, "--out", tmp_path / "whole"))
    assert code == 2
    assert "or all of them, in more forward passes: --label-words sum" in error
    code, _, error = zopog(*asked(small_task, decoder, *SUM, *AFTER, "--out", tmp_path / "run"))
    assert code == 0, error
    prompt = load_prompt(tmp_path / "run" / "prompt")
    assert (prompt.schema, prompt.position) == (3, "after")
    model = load_model(decoder, threads=1)
    from zopog_models.tasks.label_words import forwards

    times = forwards(prompt.label_ids)
    assert times > 1
    assert (
        f"label words of several tokens: each prompt on a mini-batch is {times} forward passes, {times} calls" in error
    )
    curve = [json.loads(line) for line in (tmp_path / "run" / "curve.jsonl").read_text().splitlines()]
    calls = [line["calls"] for line in curve]
    assert calls[0] == times * (4 + 4)  # four policy samples, two pairs of directions
    assert curve[0]["sequences"] == 4 * calls[0]
    assert calls[-1] <= 120
    code, out, error = zopog("predict", tmp_path / "run", "--text", "a large city")
    assert code == 0, error
    found = json.loads(out)["probabilities"]
    ids = model.tokenizer.encode("a large city", add_special_tokens=False).ids
    tail = model.tokenizer.encode("it is a kind of", add_special_tokens=False).ids
    row = [model.cls_id, *ids, *prompt.ids[0], *tail]
    assert list(found.values()) == pytest.approx(summed(model, decoder, row, 1 + len(ids), prompt), abs=2e-5)


def summed(model: FrozenModel, folder: Path, row: list[int], place: int, prompt: Any) -> list[float]:
    """Enumeration by a plain loop: every token of every word with a whole forward pass of its own."""
    from tests.models.numpy_llama import full_logits
    from zopog_models import load_checkpoint

    checkpoint, scores = load_checkpoint(folder), []
    for word in prompt.label_ids.tolist():
        tokens, score = [token for token in word if token >= 0], 0.0
        for t, token in enumerate(tokens):
            longer = [*row, *tokens[:t]]
            soft = np.zeros((len(longer), model.embedding_size))
            soft[place : place + prompt.n_positions] = prompt.offsets[0]
            logits = full_logits(checkpoint.config, checkpoint.tensors, longer, [1] * len(longer), soft)[-1]
            score += logits[token] - np.logaddexp.reduce(logits)
        scores.append(score)
    return list(np.exp(np.array(scores) - np.logaddexp.reduce(scores)))


@pytest.mark.parametrize("kind", ["labels", "vocabulary"])
def test_a_readout_of_sums(zopog: Run, small_task: Path, decoder: Path, tmp_path: Path, kind: str) -> None:
    small_task = with_long_words(small_task, tmp_path)
    options = [
        *SUM,
        *AFTER,
        "--readout",
        kind,
        *(["--readout-tokens", "5"] if kind == "vocabulary" else []),
        "--budget",
        "400",
        "--deploy-tuned",
    ]
    code, _, error = zopog(*asked(small_task, decoder, *options, "--out", tmp_path / "run"))
    assert code == 0, error
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    answers = {row["name"]: row["calls"] for row in result["answers"]}
    assert answers["manual + readout"] % load_forwards(tmp_path / "run") == 0
    assert answers["manual + readout"] > 0
    code, out, error = zopog("predict", tmp_path / "run", "--text", "a large city")
    assert code == 0, error
    assert sum(json.loads(out)["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def load_forwards(run: Path) -> int:
    from zopog_models.tasks.label_words import forwards

    return forwards(load_prompt(run / "prompt").label_ids)


def test_who_cannot_sum(zopog: Run, small_task: Path, decoder: Path, tmp_path: Path) -> None:
    code, _, error = zopog("tune", "--task", small_task, *SMALL, *SUM, "--out", tmp_path / "run")
    assert code == 2
    assert "is a masked language model (bert), which fills in one token at a time" in error
    code, _, error = zopog("tune", "--task", small_task, "--model", "completions+http://127.0.0.1:9/v1#m", *TEMPLATE,
                           *SMALL[:-2], *SUM, "--tokenizer", decoder, "--zeroth-order", "off")  # fmt: skip
    assert code == 2
    assert "--label-words sum is for a decoder that is computed here" in error


def test_compare(zopog: Run, small_task: Path, decoder: Path, tmp_path: Path) -> None:
    task = with_long_words(small_task, tmp_path)
    options = ["--methods", "random-search", "--seeds", "42", "--budget", "200", "--shots", "3", "--batch-size", "4"]
    asked = ["compare", "--tasks", task, "--model", decoder, *TEMPLATE, *options, "--readout", "none", *AFTER, *SUM,
             "--workers", "1", "--executor", "serial", "--n-positions", "3"]  # fmt: skip
    code, _, error = zopog(*asked, "--out", tmp_path / "compare")
    assert code == 0, error
    [run] = (tmp_path / "compare" / "runs").glob("*/random-search/42")
    prompt = load_prompt(run / "prompt")
    assert (prompt.position, prompt.summed) == ("after", True)


def test_classifier(decoder: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="PromptClassifier needs scikit-learn (extra sklearn)")
    from zopog_ref import PromptClassifier

    texts = [f"{word} {i}" for i in range(6) for word in ("city", "food")]
    classes = ["a large city", "great food"] * 6
    sizes = {"n_positions": 3, "dim": 8, "n_candidates": 6, "policy_samples": 4, "direction_pairs": 2}
    asked: dict[str, Any] = {
        "model": str(decoder),
        "template": TEMPLATE[1],
        "budget": 60,
        "batch_size": 4,
        "threads": 1,
    }
    asked |= {"readout": "none", "method_options": sizes}
    found = PromptClassifier(**asked, prompt_position="after", label_words="sum").fit(texts, classes)
    assert (found.prompt_.position, found.prompt_.summed) == ("after", True)
    found.save(tmp_path / "kept")
    again = PromptClassifier.load(tmp_path / "kept")
    assert (again.prompt_position, again.label_words) == ("after", "sum")
    assert np.array_equal(again.predict_proba(texts), found.predict_proba(texts))
    for wrong, message in (
        ({"prompt_position": "behind", "label_words": "sum"}, "unknown position 'behind'"),
        ({"label_words": "all"}, "label_words is 'all'; choose one of whole, first-piece, sum"),
        ({"model": "embedded", "template": "{text} . {mask} .", "prompt_position": "after",
          "label_words": "first-piece"}, "'embedded' cannot, for it is an encoder"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            PromptClassifier(**asked | wrong).fit(texts, classes)
