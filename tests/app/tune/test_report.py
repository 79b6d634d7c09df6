"""What a run leaves for people: report.html, the card beside the prompt, `zopog show`."""

import json
import re
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the page needs jinja2 (extra report)")

from tests.app.conftest import SMALL, Run
from zopog_models.prompts.bundle import load_prompt
from zopog_ref.app import show
from zopog_ref.app.report.svg import Axes
from zopog_ref.app.run.predictions import load_predictions
from zopog_ref.app.scores.uncertainty import reliability
from zopog_ref.app.tune.card import card as card_of
from zopog_ref.app.tune.finished import read_finished
from zopog_ref.app.tune.meanings import meaning_of, symbol_of
from zopog_ref.app.tune.page import page


@pytest.fixture(scope="module")
def run(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zopog_ref.app.command_line import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    options = [*SMALL[: SMALL.index("--readout")], "--readout", "labels", "--threads", "1"]
    assert main(["tune", "--task", str(small_task), *options, "--out", str(folder)]) == 0
    return folder


def test_the_page_says_what_result_json_says_and_nothing_is_fetched(run: Path) -> None:
    text, result = (run / "report.html").read_text("utf-8"), json.loads((run / "result.json").read_text())
    assert re.search(r'(src|href)="(?!#)|url\(', text) is None
    for row in result["answers"]:
        low, high = row["interval"]
        assert row["name"] in text
        assert f"{row['accuracy']:.1%}" in text
        assert f"{low:.1%} to {high:.1%}" in text
    for token in result["tuned_tokens"][0]:
        assert f">{token}<" in text
    assert "--policy-samples" in text


def test_every_term_of_the_tables_is_explained_where_it_stands(run: Path) -> None:
    text, card = (run / "report.html").read_text("utf-8"), (run / "prompt" / "README.md").read_text("utf-8")
    for term in ("Centred", "NLL", "ECE", "Macro F1", "Training loss"):
        assert re.search(rf"{term}: \w", text)
    assert "Dev rows are labelled rows that choose" in text
    assert re.search(r"^NLL: .*ECE: ", card, re.MULTILINE)


def test_the_errors_are_wrong_rows_with_their_own_texts(run: Path, small_task: Path) -> None:
    found = read_finished(run)
    assert found.texts is not None
    kept = load_predictions(run)
    lines = (small_task.parent / "test.tsv").read_text("utf-8").splitlines()[1:]
    assert found.texts == [(lines[row].split("\t")[0],) for row in kept.rows]
    wrong = int((kept.mean.argmax(1) != kept.labels).sum())
    text = (run / "report.html").read_text("utf-8").rpartition("Its surest errors")[2].partition(">Settings</h2>")[0]
    assert text.count("<tr>") - 1 == min(20, wrong)
    assert text.count('<table class="errors">') == 1  # on a phone a text has the whole width
    css = (Path(show.__file__).parent / "report" / "style.css").read_text("utf-8")
    assert "table.errors td:first-child{display:block" in css.partition("@media (max-width:760px){.rank")[2]
    sure, classes = kept.mean.max(1), list(found.config.task.labels)
    order = [i for i in np.argsort(-sure, kind="stable") if kept.mean[i].argmax() != kept.labels[i]][:20]
    assert [
        unescape(re.sub(r"<[^>]+>", "|", row)).split("||") for row in re.findall(r"<tr><td>(.*?)</td></tr>", text)
    ] == [[found.texts[i][0], classes[kept.labels[i]], classes[kept.mean[i].argmax()], f"{sure[i]:.0%}"] for i in order]


def test_every_number_of_the_page_stands_at_its_place(run: Path) -> None:
    found, text = read_finished(run), (run / "report.html").read_text("utf-8")
    shown = dict(re.findall(r'<span class="name">([^<]+)</span>(.*?)</tr>', text, re.DOTALL))
    for row in found.answers:
        its = shown[row["name"]]
        assert f'data-label="calls">{row["calls"]:,}<' in its
        assert f'data-label="NLL">{row["nll"]:.3f}<' in its
        assert f"<span>ECE {row['ece']:.3f}</span>" in text
        deployed = row["name"] == found.name
        assert (">deployed<" in its, 'class="mean best"' in its) == (deployed, deployed)
    records = [replace(found.curve[0], step=i, calls=i, dev_metric=y) for i, y in enumerate((0.25, None, 0.75, 0.5), 1)]
    assert "<span>best 75.0%</span>" in page(replace(found, curve=records))
    classes = list(found.config.task.labels)
    for name in ("manual_metrics", "test_metrics"):
        for true, counts in zip(classes, found.result[name]["confusion"]):
            for answer, n in zip(classes, counts):
                assert f'title="{true} answered as {answer}: {n / max(1, sum(counts)):.1%}"' in text
    assert f"<td>{escape(meaning_of('policy_samples', 'zo-pog'))}</td>" in text
    for line in found.warnings():
        assert f"<li>{escape(line)}</li>" in text


def test_what_somebody_should_know_before_it_is_used(run: Path) -> None:
    found = read_finished(run)
    never = [
        n
        for n, counts in zip(found.config.task.labels, zip(*found.result["test_metrics"]["confusion"]))
        if not sum(counts)
    ]
    said = " ".join(found.warnings())
    assert ("Never answered on the test rows: " + ", ".join(never) + "." in said) == bool(never)
    metrics = found.result["test_metrics"]
    assert (f"The test has {metrics['rows']} rows" in said) == (metrics["rows"] < 200)
    few = replace(
        found, result=found.result | {"test_metrics": metrics | {"rows": 199, "truncated": 7}, "learned": False}
    )
    assert {"The test has 199 rows: the intervals are wide.", "7 test texts were cut to the model's positions."} <= set(
        few.warnings()
    )
    assert few.warnings()[0].startswith("Nothing was learned")
    assert "Nothing was learned" not in " ".join(replace(found, result=found.result | {"learned": True}).warnings())
    confusion = [[0] * (len(row) - 1) + [sum(row)] for row in metrics["confusion"]]
    one = replace(found, result=found.result | {"test_metrics": metrics | {"confusion": confusion}})
    names = list(found.config.task.labels)
    assert f"Never answered on the test rows: {', '.join(names[:-1])}." in one.warnings()


def test_report_writes_the_same_page_again_and_show_the_same_table(zopog: Run, run: Path) -> None:
    before = (run / "report.html").read_text("utf-8")
    (run / "report.html").unlink()
    assert zopog("report", run)[:2] == (0, f"{run / 'report.html'}\n")
    assert (run / "report.html").read_text("utf-8") == before
    code, out, _ = zopog("show", run)
    assert code == 0
    assert "manual + readout" in out
    assert json.loads(zopog("show", run, "--json")[1]) == json.loads((run / "result.json").read_text())
    assert json.loads(zopog("show", run / "prompt", "--json")[1])["readout"] in ("labels", "none")


def test_warnings_count_the_steps_without_a_gradient(run: Path) -> None:
    found = read_finished(run)
    still = sum(record.diagnostics["alpha_gradient_norm"] == 0 for record in found.curve)
    said = [line for line in found.warnings() if "token gradient" in line]
    assert said == [] if not still else said[0].startswith(f"{still} of {len(found.curve)} steps")
    for record in found.curve:
        record.diagnostics["alpha_gradient_norm"] = 0.0
    assert f"{len(found.curve)} of {len(found.curve)} steps" in " ".join(found.warnings())


def test_what_is_sent_names_no_folder_of_the_machine(run: Path, small_task: Path) -> None:
    found = read_finished(run)
    assert found.folder.is_absolute()
    moved = replace(found, config=replace(found.config, model="/home/me/models/tiny"))
    for text in (page(moved), card_of(moved)):
        assert str(small_task.parent) not in text
        assert str(run.parent) not in text
        assert "/home/me" not in text
        assert "tiny" in text
        assert "test.tsv" in text
    assert "zopog predict run --text" in page(moved)
    assert "for the folder that holds this run" in page(moved)


def test_settings_are_shown_as_they_are_given(run: Path) -> None:
    text = page(read_finished(run)).rpartition('class="settings"')[2].partition("</table>")[0]
    assert "<td>on</td>" in text
    assert not re.search("<td>(True|False|)</td>", text)


def test_the_card_has_the_hashes_and_the_intervals(run: Path) -> None:
    card, config = (run / "prompt" / "README.md").read_text("utf-8"), json.loads((run / "config.json").read_text())
    for digest in (config["model_sha256"], *(split["sha256"] for split in config["splits"].values())):
        assert digest in card
    assert card.count("(this prompt)") == 1
    found = read_finished(run)
    for row in found.answers:
        low, high = row["interval"]
        name = f"**{row['name']}** (this prompt)" if row["name"] == found.name else row["name"]
        scores = f"{row['accuracy']:.1%} | {low:.1%} to {high:.1%} | {row['nll']:.3f} | {row['ece']:.3f} |"
        assert f"| {name} | {row['calls']} | {scores}" in card
    for line in found.warnings():
        assert f"- {line}" in card
    task = replace(found.config.task, labels={"0": "bad", "1": "good"})
    assert "Labels: '0' = 'bad', '1' = 'good'." in card_of(replace(found, config=replace(found.config, task=task)))


def test_the_card_says_what_made_the_prompt(run: Path) -> None:
    found = read_finished(run)
    text = card_of(replace(found, result=found.result | {"calls": 4321, "deployed": "manual + centred"}))
    assert "\nMethod zo-pog, seed 42, 4321 calls. Deployed: manual + centred.\n" in text
    evidence = found.found
    assert f"sha256 `{evidence.model_sha256}`; tokenizer sha256 `{evidence.tokenizer_sha256}`." in text
    for name, split in evidence.splits.items():
        assert f"- {name}: {len(split.rows)} rows of '{Path(split.file).name}', sha256 `{split.sha256}`" in text
    untested = {"test_metrics": None, "answers": [{"name": "manual", "calls": 0}], "dev_accuracy": 0.625}
    bare = card_of(replace(found, result=found.result | untested))
    assert "\n## Scores\n\nNo test rows were left. Accuracy on dev: 62.5%.\n" in bare


def test_the_page_s_pictures_stand_for_its_numbers(run: Path) -> None:
    found, text = read_finished(run), (run / "report.html").read_text("utf-8")
    assert f"<span>last {found.curve[-1].diagnostics['loss']:.3f}</span>" in text
    [manual] = [row for row in found.answers if row["name"] == "manual"]
    measured = [row for row in found.answers if "accuracy" in row]
    assert text.count(f"<title>manual, {manual['accuracy']:.1%}</title>") == len(measured)
    assert f"<td><code>--policy-samples</code></td><td>{symbol_of('policy_samples', 'zo-pog')}</td><td>4</td>" in text
    axes = Axes((0, 1), (0, 1), "confidence", percent_x=True)
    for name, p in found.probabilities().items():
        of = reliability(p, load_predictions(run).labels)
        picture = text.partition(f'aria-label="{name}: accuracy against confidence"')[2].partition("</svg>")[0]
        places = [axes.place(c, a) for n, c, a in zip(of.rows, of.confidence, of.accuracy) if n]
        dots = re.findall(r'<circle class="dot c1" cx="([\d.]+)" cy="([\d.]+)"', picture)
        assert dots == [(f"{x:.1f}", f"{y:.1f}") for x, y in places]


def test_show_says_the_tokens_the_warnings_and_what_a_prompt_is(
    zopog: Run, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = read_finished(run), zopog("show", run)[1]
    assert "learned tokens: " + " ".join(word for word, _ in found.tokens) in out
    assert out.startswith("small, zo-pog, model embedded, seed 42\n")
    assert all(line in out for line in found.warnings())
    assert json.loads(zopog("report", run, "--json")[1]) == {"report": str(run / "report.html")}
    prompt = load_prompt(run / "prompt")
    offsets = np.full((2, 3, 4), 0.5, np.float32)
    offsets[0] = 1.5
    made = replace(
        prompt, ids=np.zeros((2, 3), np.int64), offsets=offsets, weights=np.ones(2), readout=None, templates=None
    )
    monkeypatch.setattr(show, "load_prompt", lambda folder: made)
    said = json.loads(zopog("show", run / "prompt", "--json")[1])
    assert (said["prompts"], said["readout"]) == (2, "none")
    assert (said["model"], said["model_sha256"]) == ("embedded", prompt.model_sha256)
    assert said["offset_rms"] == pytest.approx(1.25**0.5)


def test_a_test_file_that_changed_gives_a_page_without_texts(run: Path, small_task: Path) -> None:
    file = small_task.parent / "test.tsv"
    before = file.read_text("utf-8")
    try:
        header, *rows = before.splitlines()
        file.write_text("\n".join([header, *rows[::-1]]) + "\n", "utf-8")
        assert read_finished(run).texts is None
    finally:
        file.write_text(before, "utf-8")


@pytest.mark.parametrize("command", ["show", "report"])
def test_folders_without_a_finished_run_are_refused(zopog: Run, command: str, tmp_path: Path) -> None:
    assert zopog(command, tmp_path)[0] == 2
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "result.json").write_text('{"answers": 3}')
    assert zopog(command, tmp_path)[0] == 2


def test_token_probabilities_are_those_of_the_tokens(run: Path) -> None:
    found = read_finished(run)
    p = np.array([p for _, p in found.tokens])
    assert ((p > 0) & (p <= 1)).all()
    assert [word for word, _ in found.tokens] == found.result["tuned_tokens"][0]


def test_the_table_fits_eighty_columns(run: Path) -> None:
    from zopog_ref.app.tune.result import table

    result = json.loads((run / "result.json").read_text())
    text = table(result, run).partition(" test rows")[0]
    lines = text.splitlines()[:-1]
    assert len(lines) == 1 + len(result["answers"])
    assert max(map(len, lines)) <= 80
    for row in result["answers"]:  # the widest that these numbers can be
        row |= {"accuracy": 1.0, "interval": [0.999, 1.0], "nll": 36.044, "calls": 999_999, "readout": "vocabulary"}
    assert max(len(line) for line in table(result, run).splitlines()[: len(lines)]) <= 80


def test_changed_answers_are_said_in_a_line_each(run: Path) -> None:
    from zopog_ref.app.tune.result import examples_said

    found = read_finished(run)
    object.__setattr__(found, "texts", [["two\nlines\t" + "x" * 99]] * len(found.texts))
    kept = found.predictions
    kept.manual[:] = np.eye(kept.manual.shape[1])[(found.probabilities()[found.name].argmax(1) + 1) % 2]
    lines = examples_said(found, count=2)
    assert len(lines) == 3
    assert all(line.startswith(f"  two lines {'x' * 49}…: ") for line in lines[1:])
    assert not any("\n" in line for line in lines)
