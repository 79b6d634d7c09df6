"""`--method auto`: its calls, its rounds, what it deploys, that it can be repeated and gone on with."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.app.conftest import Run, asked, without_times
from tests.models.families.test_sentence import as_sentence_transformers
from tests.models.service import serve
from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import load_model, load_prompt, load_task, predict, read_rows
from zopog_models.errors import TaskError
from zopog_models.frozen.model import FrozenModel
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import make_task
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.experiment import prepare
from zopog_ref.app.tune import arms, auto, learning
from zopog_ref.app.tune.arms import demonstrated, instructed, templates

AUTO = ["--method", "auto", "--shots", "8", "--threads", "1"]  # 48 rows: two calls a prompt


@pytest.fixture(scope="module")
def model() -> FrozenModel:
    return load_model(threads=1)


def tuned(zopog: Run, task: Path, out: Path, *more: object) -> dict[str, Any]:
    code, said, error = zopog("tune", "--task", task, "--out", out, "--json", *AUTO, *more)
    assert code == 0, error
    found: dict[str, Any] = json.loads(said)
    return found


@pytest.mark.parametrize("budget", [1, 2, 3, 10, 13, 21, 400])
def test_the_budget_is_never_overspent_and_is_accounted_for(
    zopog: Run, small_task: Path, tmp_path: Path, budget: int
) -> None:
    result = tuned(zopog, small_task, tmp_path / "run", "--budget", budget)
    about = result["auto"]
    assert result["calls"] == sum(-(-arm["rows"] // 32) for arm in about["arms"]) <= budget
    assert about["unspent"] == budget - result["calls"]
    assert result["sequences"] == sum(arm["rows"] for arm in about["arms"])
    assert result["stop_reason"] == ("nothing is left to ask" if budget == 400 else "budget")
    assert [row["name"] for row in result["answers"]][-2:] == ["tuned", "tuned + readout"]
    assert result["deployed"] == "tuned + readout"
    assert result["answers"][-1]["calls"] == result["calls"]
    assert sum(arm["rows"] for arm in about["arms"][:1]) == (32 if budget == 1 else 48)
    # What is deployed is what was measured: the prompt, read again, answers the test rows alike.
    task, prompt = load_task(small_task), load_prompt(tmp_path / "run" / "prompt")
    assert list(prompt.every_template) == [arm["template"] for arm in about["arms"] if arm["kept"]]
    assert task.test is not None
    rows = read_rows(task.test, task)
    p = predict(load_model(threads=1), prompt, rows.texts).probabilities
    assert (p.argmax(axis=1) == rows.labels).mean() == result["test_accuracy"]


def test_with_three_calls_it_is_the_template_with_its_readout(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    result = tuned(zopog, small_task, tmp_path / "auto", "--budget", "3")
    _, said, _ = zopog(
        "tune", "--task", small_task, "--out", tmp_path / "none", "--json", *AUTO[2:], "--method", "none"
    )
    alone = json.loads(said)
    assert result["manual_accuracy"] == alone["manual_accuracy"]
    assert result["test_accuracy"] == pytest.approx(alone["test_accuracy"], abs=0.03)  # tokens chosen on fewer rows


def test_it_is_repeated_and_gone_on_with_byte_for_byte(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    tuned(zopog, small_task, whole, "--budget", "40")
    asked_for, ask = 0, auto.Board._ask

    def dying(board: auto.Board, arm: int, rows: np.ndarray) -> np.ndarray:
        nonlocal asked_for
        asked_for += 1
        if asked_for == 17:
            raise KeyboardInterrupt
        return ask(board, arm, rows)

    with monkeypatch.context() as patch:
        patch.setattr(auto.Board, "_ask", dying)
        zopog("tune", "--task", small_task, "--out", cut, "--json", *AUTO, "--budget", "40")
    assert asked_for == 17
    assert not (cut / "result.json").exists()
    stops = iter([False] * 20 + [True])  # and then politely: the same command goes on
    with monkeypatch.context() as patch:
        patch.setattr(learning, "stop_requests", lambda: nullcontext(stops.__next__))
        code, _, error = zopog("tune", "--resume", cut, "--json", "--threads", "1")
    assert code == 130
    assert "stopped after 20 calls" in error
    assert len(list((cut / "answers").iterdir())) == 20
    paid = 0
    scores = auto.some_training_scores

    def counted(*given: Any) -> Any:
        nonlocal paid
        paid += 1
        return scores(*given)

    monkeypatch.setattr(auto, "some_training_scores", counted)
    code, _, error = zopog("tune", "--resume", cut, "--json", "--threads", "1")
    assert code == 0, error
    assert without_times(whole) == without_times(cut)
    assert paid == len(list((whole / "answers").iterdir())) - 20  # what was answered is not asked again
    for file in (whole / "answers").iterdir():
        assert file.read_bytes() == (cut / "answers" / file.name).read_bytes()
    for name in ("prompt/prompt.safetensors", "predictions.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()


def test_demonstrations_are_never_scored_on_their_own_rows(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[str]]] = []
    ask = auto.Board._ask

    def spying(board: auto.Board, arm: int, rows: np.ndarray) -> np.ndarray:
        if board.arms[arm].kind == "demonstrations":
            texts = [board.experiment.train.texts[row][0] for row in rows]
            seen.append((board.arms[arm].template, texts))
        return ask(board, arm, rows)

    monkeypatch.setattr(auto.Board, "_ask", spying)
    result = tuned(zopog, small_task, tmp_path / "run", "--budget", "40")
    sets = [arm for arm in result["auto"]["arms"] if arm["kind"] == "demonstrations"]
    assert len({row for arm in sets for row in arm["own"]}) == sum(len(arm["own"]) for arm in sets) >= 12
    assert len(seen) == 2 * len(sets)
    for template, texts in seen:
        assert not [text for text in texts if text in template]


def test_kinds_are_compared_on_dev_rows_and_arms_of_one_kind_by_press(
    zopog: Run, small_task: Path, tmp_path: Path
) -> None:
    result = tuned(zopog, small_task, tmp_path / "run", "--budget", "400")
    kinds = {i: arm["kind"] for i, arm in enumerate(result["auto"]["arms"])}
    for decision in result["auto"]["decisions"]:
        same = {kinds[i] for i in decision["now"]} == {kinds[i] for i in decision["then"]}
        assert decision["by"] == ("press" if same else "dev nll")
        enough = {"press": 1.0, "dev nll": 0.5}[decision["by"]]
        assert decision["accepted"] == (decision["gain"] > enough * decision["standard_error"])
    kept = [i for i, arm in enumerate(result["auto"]["arms"]) if arm["kept"]]
    last = next((d for d in reversed(result["auto"]["decisions"]) if d["accepted"]), None)
    assert kept == (sorted(last["then"]) if last else [0, 1, 2, 3, 4])
    arms = result["auto"]["arms"]
    whole = [i for i, arm in enumerate(arms) if arm["kind"] == "template" and arm["rows"] == arms[0]["rows"]]
    best = sorted(whole, key=lambda i: arms[i]["press"])[:5]  # of those that raced to the end and the first five
    raced = [i for d in result["auto"]["decisions"] for i in d["then"] if i in whole and i > 4]
    assert len(whole) > 5
    assert set(raced) <= set(best)
    assert {i for i in result["auto"]["decisions"][-1]["then"] if i in whole} == set(best)


@pytest.mark.parametrize(("kind", "by"), [("template", "press"), ("demonstrations", "dev nll")])
def test_what_lowers_the_loss_is_taken(kind: str, by: str) -> None:
    """By more than one standard error of the paired difference, on dev rows by more than half of one (0.74 is between);
    what raises it is not."""
    before, after = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 3.5])
    between = before - [1.0, -0.4, 0.3]
    losses = {(0,): before, (1,): after, (2,): between}
    board = object.__new__(auto.Board)
    board.arms, board.said = [SimpleNamespace(kind="template"), *[SimpleNamespace(kind=kind)] * 2], []
    board.race = SimpleNamespace(common=lambda arms: np.arange(3), press=lambda arms, rows: losses[tuple(arms)][rows])
    board.dev_losses = lambda arms: losses[tuple(arms)]
    board.ledger = SimpleNamespace(calls=7)
    assert board.better([0], [1])
    assert not board.better([1], [0])
    gain = before - after
    for said, sign in zip(board.said, (1, -1)):
        assert (said["by"], said["accepted"], said["calls"]) == (by, sign > 0, 7)
        np.testing.assert_allclose(said["gain"], sign * gain.mean())
        np.testing.assert_allclose(said["standard_error"], gain.std(ddof=1) / np.sqrt(3))
    assert board.better([0], [2]) == (by == "dev nll")


def test_test_rows_choose_nothing(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tuned(zopog, small_task, tmp_path / "a", "--budget", "30")
    draw = prepare.__globals__["draw"]

    def other_labels(*given: Any) -> Any:
        found = draw(*given)
        found.test.labels[:] = (found.test.labels + 1) % 6
        return found

    monkeypatch.setitem(prepare.__globals__, "draw", other_labels)
    second = tuned(zopog, small_task, tmp_path / "b", "--budget", "30")
    assert first["auto"] == second["auto"]
    assert first["test_accuracy"] != second["test_accuracy"]


def test_the_users_templates_come_first_and_instructions_are_theirs(
    zopog: Run, small_task: Path, tmp_path: Path
) -> None:
    file = tmp_path / "said.txt"
    file.write_text("Say {labels} \n\nsay what it is:\nSay {labels}\n")
    given = ["{text} : {mask} .", "a {mask} is {text} .", "{text} ( {mask} ) .", "{text} , {mask} ."]
    options = [word for one in given for word in ("--template", one)]
    result = tuned(zopog, small_task, tmp_path / "run", "--budget", "60", "--instructions", file, *options)
    found = result["auto"]["arms"]
    assert [arm["template"] for arm in found[:4]] == given
    assert found[4]["kind"] == "demonstrations"
    said = [arm["template"] for arm in found if arm["kind"] == "instruction"]
    best = min(found[:4], key=lambda arm: arm["press"])["template"]  # what demonstrations and instructions stand before
    assert all(arm["template"].endswith(best) for arm in found if arm["kind"] != "template")
    assert len(said) == 2
    assert any(one.startswith("Say animal, person, food, plant, place or object ") for one in said)
    assert [row["calls"] for row in result["answers"]][2] == 8  # the user's four, two calls each


@pytest.mark.parametrize(
    ("given", "text", "message"),
    [
        (["--method", "none"], "a", "--instructions is for --method auto, and the method is none"),
        (["--method", "auto"], " \n", "holds no instruction"),
        (["--method", "auto", "--n-positions", "3"], "a", "chooses among texts"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, given: list[str], text: str, message: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(InputError, match=message):
        asked([*given, "--instructions", str(tmp_path / "file")])
    with pytest.raises(InputError, match="No such file"):
        asked(["--method", "auto", "--instructions", str(tmp_path / "other")])


def rows_of(*texts: str, classes: int = 2) -> Rows:
    return Rows([(text,) for text in texts], np.arange(len(texts)) % classes)


def test_a_set_shows_a_row_of_each_class_with_its_word(model: FrozenModel) -> None:
    task = make_task("{text} . it is {mask} .", {"a": "animal", "b": "plant"})
    train = rows_of("a dog", "a tree", "a cat", "a shrub", "a cow", "a herb", "a bird", "a fern")
    found = demonstrated(task, model, task.template, train, seed=1)
    assert len(found) == arms.SETS
    assert len({row for arm in found for row in arm.own}) == 2 * arms.SETS
    for arm in found:
        assert sorted(train.labels[list(arm.own)]) == [0, 1]
        words = ["animal", "plant"]
        shown = [f"{train.texts[row][0]} . it is {words[train.labels[row]]} ." for row in arm.own]
        assert arm.template == " ".join([*shown, task.template])
    assert demonstrated(task, model, task.template, train, seed=1) == found


def test_texts_that_a_template_would_misread_are_not_shown(model: FrozenModel) -> None:
    task = make_task("{text} . it is {mask} .", {"a": "animal", "b": "plant"})
    train = rows_of("a {dog}", "a tree", "[MASK] cat", "a shrub", "a cow", "a } herb")
    [only] = demonstrated(task, model, task.template, train, seed=1)
    assert {train.texts[row][0] for row in only.own} <= {"a cow", "a tree", "a shrub"}
    with pytest.raises(TaskError, match="an instruction is text"):
        instructed(task, model, task.template, ["say {mask}"], train)


def test_what_does_not_fit_the_model_is_not_asked(model: FrozenModel) -> None:
    task, long = make_task("{text} . it is {mask} .", {"a": "animal", "b": "plant"}), " ".join(["word"] * 120)
    train = rows_of(long, long + " x", "a", "b")  # two of the longest are more than the 192 positions hold
    assert all(
        long not in arm.template or len(arm.template) < 192 * 5
        for arm in demonstrated(task, model, task.template, train, 1)
    )
    assert instructed(task, model, task.template, [f"{long} {long}"], rows_of("a", "b")) == []


def test_a_decoder_gets_templates_that_end_where_it_answers(tmp_path: Path) -> None:
    task = make_task("{text} {mask}", {"a": "animal", "b": "plant"})
    with load_model(write_decoder(tmp_path / "model", "gpt2"), threads=1) as decoder:
        found = templates(task, decoder, [task.template], rows_of("good", "bad"))
        assert all(arm.template.endswith("{mask}") for arm in found)
        assert len(found) > 3
        [one, *_] = demonstrated(task, decoder, task.template, rows_of("good x", "bad y"), seed=0, sets=1)
        assert one.template in (
            "good x animal\nbad y plant\n{text} {mask}",
            "bad y plant\ngood x animal\n{text} {mask}",
        )
        chat = "<|endoftext|> {text} {mask}"  # begins with a special token
        assert demonstrated(task, decoder, chat, rows_of("good", "bad"), seed=0) == []
        assert instructed(task, decoder, chat, ["say"], rows_of("good", "bad")) == []


@pytest.fixture
def endpoint_rows(tmp_path: Path) -> list[object]:
    rows = [f"{SENTENCES[i % 8]} {SENTENCES[(3 * i + 1) % 8]}\t{i % 2}" for i in range(44)]
    (tmp_path / "mine.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    return ["--train", tmp_path / "mine.tsv", "--shots", 8, "--method", "auto", "--budget", 30, "--batch-size", 8]


@pytest.mark.parametrize("access", ["top k", "labels alone"])
def test_an_endpoint_that_reads_text(zopog: Run, endpoint_rows: list[object], tmp_path: Path, access: str) -> None:
    pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")
    folder, out = write_decoder(tmp_path / "llama", "llama"), tmp_path / "run"
    with serve(
        load_model(folder, threads=1), answer=lambda text: "great" if "o" in text[-9:] else "terrible"
    ) as service:
        place = f"completions+{service.completions}" if access == "top k" else f"chat+{service.chatting}"
        alone = [] if access == "top k" else ["--answers", "labels"]
        given = ["--template", "{text} it was {mask}", "--labels", "0=terrible,1=great", "--tokenizer", folder, *alone]
        code, said, error = zopog("tune", *endpoint_rows, *given, "--model", place, "--out", out, "--json")
        assert code == 0, error
        result = json.loads(said)
        assert result["calls"] == sum(-(-arm["rows"] // 8) for arm in result["auto"]["arms"]) <= 30
        assert len(result["auto"]["arms"]) > 3
        assert "planned: at most" in error
        code, said, error = zopog("predict", out, "--model", place, "--text", "a large city")
        assert code == 0, error


def test_a_sentence_embedding_model(zopog: Run, endpoint_rows: list[object], tmp_path: Path) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "tiny", "bert"))
    labels = "0=the food was terrible,1=it was a great city"
    given = ["--template", "{text}", "--labels", labels, "--model", folder, "--out", tmp_path / "run", "--json"]
    code, said, error = zopog("tune", *endpoint_rows, *given)
    assert code == 0, error
    found = json.loads(said)["auto"]["arms"]
    assert {arm["kind"] for arm in found} == {"template", "instruction"}
    assert zopog("predict", tmp_path / "run", "--text", "the food was great")[0] == 0


def test_an_answer_to_another_question_is_refused(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    tuned(zopog, small_task, tmp_path / "run", "--budget", "6")
    first, second = sorted((tmp_path / "run" / "answers").iterdir())[1:3]
    (tmp_path / "run" / "result.json").unlink()
    first.write_bytes(second.read_bytes())
    code, _, error = zopog("tune", "--resume", tmp_path / "run", "--threads", "1")
    assert code == 2
    assert "is not the answer to this run's question" in error
    first.write_bytes(second.read_bytes()[:-9])
    assert "cannot be used" in zopog("tune", "--resume", tmp_path / "run", "--threads", "1")[2]
    first.unlink()
    first.symlink_to(second)
    assert "is a link" in zopog("tune", "--resume", tmp_path / "run", "--threads", "1")[2]


@pytest.mark.parametrize("budget", [3, 5, 20, 40, 300])
def test_words_of_several_tokens_cost_several_calls_a_mini_batch(zopog: Run, tmp_path: Path, budget: int) -> None:
    """Three here, since two words begin differently: what is planned is what the ledger charges."""
    folder = write_decoder(tmp_path / "llama", "llama")
    rows = [f"{SENTENCES[i % 8]} {SENTENCES[(3 * i + 1) % 8]}\t{i % 2}" for i in range(60)]
    (tmp_path / "mine.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    given = ["tune", "--model", folder, "--train", tmp_path / "mine.tsv", "--shots", 6, "--batch-size", 6, "--json"]
    given += ["--labels", "0=great food,1=terrible people", "--template", "{text} it was {mask}", "--method", "auto"]
    code, said, error = zopog(*given, "--label-words", "sum", "--budget", budget, "--out", tmp_path / "run")
    assert code == 0, error
    result = json.loads(said)
    assert result["calls"] + result["auto"]["unspent"] == budget
    assert result["calls"] % 3 == 0
    calls = {row["name"]: row["calls"] for row in result["answers"]}
    assert calls["manual + readout"] == (6 if budget >= 6 else 3)  # two mini-batches of twelve rows


def test_a_budget_below_one_mini_batch_is_refused(zopog: Run, tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "llama", "llama")
    rows = [f"{SENTENCES[i % 8]} {i}\t{i % 2}" for i in range(60)]
    (tmp_path / "mine.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    given = ["tune", "--model", folder, "--train", tmp_path / "mine.tsv", "--shots", 6, "--method", "auto"]
    given += ["--labels", "0=great food,1=terrible people", "--template", "{text} it was {mask}"]
    code, _, error = zopog(*given, "--label-words", "sum", "--budget", 2, "--out", tmp_path / "run")
    assert (code, "one prompt on one mini-batch costs 3 here" in error) == (2, True)
