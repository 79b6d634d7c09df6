"""Of several manual templates the best one, as somebody would take it who tries them all: a row of its own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the page needs jinja2 (extra report)")

from tests.app.conftest import Run
from zopog_models.prompts.bundle import Prompt
from zopog_models.prompts.predicting import predict
from zopog_models.tasks.task_files import Rows
from zopog_ref.app.tune.readings import Scored, best_template

# The first is the worst of the three.
TEMPLATES = ("{mask} : {text} .", "{text} . {mask} .", "{text} . this is a {mask} .")
OPTIONS = [word for one in TEMPLATES for word in ("--template", one)]


def scored(scores: list[list[list[float]]]) -> Scored:
    """Three templates' scores of two classes on the same rows, as training and as dev rows."""
    m, given = len(scores), [np.array(one, float) for one in scores]
    nothing = np.zeros((m, 0), np.int64)
    prompt = Prompt(
        nothing, np.zeros((m, 0, 4), np.float32), np.full(m, 1 / m), np.array([5, 6]), TEMPLATES[0],
        {"a": "a", "b": "b"}, "input", "toy", "0" * 64, "0" * 64, templates=TEMPLATES[:m],
    )  # fmt: skip
    return Scored(prompt, tuple(np.array([5, 6]) + 10 * m for m in range(len(scores))), given, given, None, 0, 9)


def test_the_most_right_wins_and_of_equals_the_more_probable() -> None:
    rows = Rows([("x",), ("y",), ("z",)], np.array([0, 1, 1]))
    wrong, right, surer = ([[9, 0]] * 3, [[0.1, 0], [0, 0.1], [0, 0.1]], [[2, 0], [0, 2], [0, 2]])
    assert best_template(scored([wrong, right, wrong]), rows, rows) == 1
    assert best_template(scored([wrong, right, surer]), rows, rows) == 2
    assert best_template(scored([surer, right, surer]), rows, rows) == 0  # the first of equals
    sure_and_once_wrong = [[99.0, 0], [0, 99], [1, 0]]  # the surest of all
    assert best_template(scored([right, sure_and_once_wrong]), rows, rows) == 0
    assert scored([right, surer]).one(1).columns[0].tolist() == [15, 16]


def test_the_row_is_that_template_s_own_answer_and_costs_what_all_of_them_do(
    zopog: Run, small_task: Path, tmp_path: Path
) -> None:
    from zopog_models import load_model, load_prompt, load_task
    from zopog_models.tasks.task_files import read_rows

    more = ["--method", "none", "--readout", "labels", "--shots", 3, "--threads", 1, "--batch-size", 4]
    code, out, error = zopog("tune", "--task", small_task, *OPTIONS, *more, "--out", tmp_path / "run")
    assert code == 0, error
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    named = {row["name"]: row for row in result["answers"]}
    assert list(named) == ["manual", "manual, best template", "manual + centred", "manual + readout"]
    best = named["manual, best template"]
    assert best["calls"] == named["manual + readout"]["calls"] == 15  # 18 rows in calls of 4, three times
    assert f"the best template, by the labelled rows: {best['template']}" in out
    assert "the frozen model: embedded" in out
    assert "manual, best template" in (tmp_path / "run" / "prompt" / "README.md").read_text("utf-8")
    model, test = (
        load_model("embedded", threads=1),
        read_rows(load_task(str(small_task)).test, load_task(str(small_task))),
    )
    found = load_prompt(tmp_path / "run" / "prompt")

    def right_of(template: str) -> float:
        nothing, none = found.ids[:1], found.offsets[:1]
        one = replace(
            found, ids=nothing, offsets=none, weights=np.ones(1), readout=None, templates=(), template=template
        )
        return float((predict(model, one, test.texts).probabilities.argmax(1) == test.labels).mean())

    assert best["template"] != TEMPLATES[0]
    assert named["manual"]["accuracy"] == pytest.approx(right_of(TEMPLATES[0]))
    assert best["accuracy"] == pytest.approx(right_of(best["template"]))
    assert best["template"] in (tmp_path / "run" / "report.html").read_text("utf-8").replace("&#39;", "'")
