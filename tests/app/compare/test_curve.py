"""`zopog compare --curve`: its numbers against run folders made by hand, frontier and bands against closed forms."""

import argparse
import csv
import io
import json
import math
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.compare.test_compare_page import HOSTILE, Strict, external
from tests.app.conftest import Run
from zopog_ref.app.compare.curve import gathering
from zopog_ref.app.compare.curve.frontier import on_frontier
from zopog_ref.app.compare.curve.page import page, verdicts
from zopog_ref.app.compare.curve.panels import frontier, pictures
from zopog_ref.app.compare.curve.plan import CurvePlan, Point
from zopog_ref.app.compare.curve.results import At, Curve, Row
from zopog_ref.app.compare.curve.table import as_csv, table
from zopog_ref.app.compare.options import add_arguments, make_curve
from zopog_ref.app.report.svg import Axes, Band, Frame
from zopog_ref.app.run.predictions import Answers, Predictions, save_predictions
from zopog_ref.app.run.presets import preset_of
from zopog_ref.app.tune import learning

ROWS, CLASSES = 40, 6
T2 = 4.302652729911275  # the 97.5% quantile of Student's t with 2 degrees of freedom
SEEDS = (1, 2, 3)
SMALL = ["--n-positions", "3", "--n-candidates", "12", "--dim", "8", "--batch-size", "4", "--shots", "3",
         "--set", "zo-pog.policy_samples=4", "--set", "zo-pog.direction-pairs=2", "--executor", "serial"]  # fmt: skip


def planned(task: Path, out: Path, *options: str) -> CurvePlan:
    """A curve of which a template costs 3 calls, bdpl at least 30 and zo-pog 46."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = ["--tasks", str(task), "--methods", "zo-pog,bdpl", "--seeds", ",".join(map(str, SEEDS)), "--out", str(out)]
    each, budgets = make_curve(parser.parse_args([*given, *options]))
    least = {(name, m): calls for name in each.tasks for m, calls in (("zo-pog", 46), ("bdpl", 30), ("none", 3))}
    return CurvePlan(each, budgets, least)


LABELS = np.arange(ROWS) % CLASSES


def answers(right: int, p: float) -> Answers:
    """The first `right` rows are answered right with probability p, the others wrong with p; the rest is shared."""
    best = np.where(np.arange(ROWS) < right, LABELS, (LABELS + 1) % CLASSES)
    table = np.full((ROWS, CLASSES), (1 - p) / (CLASSES - 1))
    table[np.arange(ROWS), best] = p
    return Answers(table[None], np.ones(1))


def write_run(point: Point, readings: dict[str, tuple[int, float, int]]) -> None:
    """A finished run's files: of each reading how many rows are right, with which probability, and the calls."""
    folder = point.cell.folder
    folder.mkdir(parents=True)
    found = {name: answers(right, p) for name, (right, p, _) in readings.items()}
    deployed = found[list(readings)[-1]]
    manual = answers(10, 0.5).per_prompt[0]
    rest = {name: value for name, value in found.items() if name != "manual"}
    save_predictions(folder, Predictions(deployed.per_prompt, deployed.weights, np.arange(ROWS), LABELS, manual, rest))
    said = [{"name": name, "calls": calls, "dev_nll": 1.0} for name, (_, _, calls) in readings.items()]
    metrics = {"rows": ROWS, "truncated": 0, "accuracy": 0.5, "majority": 0.175, "macro_f1": 0.5}
    result = {
        "method": point.cell.config.method, "calls": 77, "sequences": 1, "tokens": 1, "seconds": 1.0, "best_step": 1,
        "stop_reason": "budget", "dev_loss": None, "dev_accuracy": 0.5, "test_accuracy": 0.5, "test_metrics": metrics,
        "manual_metrics": metrics, "prompt_tokens": [], "answers": said,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))


def readings_of(point: Point) -> dict[str, tuple[int, float, int]]:
    """Of hand-made runs: more right with more calls, and with the seed."""
    seed, budget = point.cell.seed, point.budget
    if point.cell.method == "none":
        m = point.templates
        return {
            "manual": (10, 0.5, 0),
            "manual + centred": (16, 0.5, 3 * m),
            "manual + readout": (20 + m, 0.5 + 0.05 * seed, 3 * m),
        }
    step = {"zo-pog": 8, "bdpl": 2}[point.cell.method]
    right = step + budget // 50 + seed
    return {"tuned": (right, 0.5, budget - 6), "tuned + readout": (min(ROWS, right + 14), 0.6, budget - 3)}


@pytest.fixture(scope="module")
def made(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> CurvePlan:
    five = ["{text} . {mask} .", "a {mask} is {text} .", "{mask} : {text} .", "{text} {mask} .", "{mask} {text} ."]
    options = [word for template in five for word in ("--template", template)]
    plan = planned(small_task, tmp_path_factory.mktemp("made"), "--budgets", "3,15,50,200", *options)
    for point in plan.points():
        write_run(point, readings_of(point))
    return plan


@pytest.fixture(scope="module")
def found(made: CurvePlan) -> Curve:
    return gathering.document(made, {})


def row(found: Curve, name: str) -> Row:
    return next(row for row in found.tasks[0].rows if row.name == name)


def on(found: Curve, name: str, budget: int) -> At:
    at = row(found, name).on(budget)
    assert at is not None
    return at


# -- which runs there are ------------------------------------------------------------------------------------------


def test_settings_auto_are_made_for_each_budget(small_task: Path, tmp_path: Path) -> None:
    """And what was said of single settings stays. The embedded model's own are the same on all."""
    plan = planned(small_task, tmp_path, "--budgets", "50,200,800", "--settings", "auto", "--scale", "7")
    for budget in plan.budgets:
        for variant in plan.at(budget).variants:
            if variant.method == "none":
                continue
            auto = preset_of(variant.method, "auto", budget)
            assert (variant.preset.budget, variant.preset.scale) == (budget, 7)
            assert variant.preset.method == auto.method
    own = planned(small_task, tmp_path, "--budgets", "50,200")
    assert [v.preset.method for v in own.at(50).variants] == [v.preset.method for v in own.at(200).variants]


def test_a_run_for_every_budget_that_pays_it(made: CurvePlan) -> None:
    runs = [(p.cell.method, p.budget, p.templates) for p in made.points() if p.cell.seed == 1]
    assert runs == [
        ("none", 3, 1), ("none", 15, 5), ("zo-pog", 50, 1), ("bdpl", 50, 1), ("zo-pog", 200, 1), ("bdpl", 200, 1),
    ]  # fmt: skip
    for point in made.points():
        config = point.cell.config
        assert config.preset.budget == point.budget
        assert len(config.templates or [""]) == point.templates
        assert point.cell.folder.parts[-5:-4] == (f"calls-{point.budget}",)
    names = [cell.name for cell in made.cells()]
    assert len(set(names)) == len(names) == 18


@pytest.mark.parametrize(("budget", "templates"), [(2, 0), (3, 1), (8, 2), (9, 3), (15, 5), (1000, 5)])
def test_the_template_alone_reads_as_many_templates_as_are_paid_for(
    made: CurvePlan, budget: int, templates: int
) -> None:
    alone = next(v for v in made.each.variants if v.method == "none")
    assert made.templates("small", alone, budget) == templates


def test_a_run_begins_with_that_of_the_budget_before(made: CurvePlan) -> None:
    by_place = {(p.cell.method, p.cell.seed, p.budget): p.cell for p in made.points()}
    for (method, seed, budget), cell in by_place.items():
        before = by_place.get((method, seed, 50)) if budget == 200 else None
        assert cell.machine.shorter == (before.folder if before and method != "none" else None)


# -- the numbers ---------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_run_folders(found: Curve, made: CurvePlan) -> None:
    [task] = found.tasks
    assert (task.test_rows, task.unfinished, found.budgets, found.seeds) == (ROWS, {}, [3, 15, 50, 200], [1, 2, 3])
    assert {r.name: [at.budget for at in r.at] for r in task.rows} == {
        "manual": [3, 15, 50, 200], "manual + centred": [3, 15, 50, 200], "manual + readout": [3, 15, 50, 200],
        "zo-pog": [50, 200], "zo-pog + readout": [50, 200], "bdpl": [50, 200], "bdpl + readout": [50, 200],
    }  # fmt: skip
    for point in made.points():
        for reading, (right, p, calls) in readings_of(point).items():
            name = reading if point.cell.method == "none" else reading.replace("tuned", point.cell.method)
            at = on(found, name, point.budget)
            place = at.seeds.index(point.cell.seed)
            assert at.accuracy.each[place] == pytest.approx(right / ROWS)
            wrong = -math.log((1 - p) / (CLASSES - 1))
            nll = (right * -math.log(p) + (ROWS - right) * wrong) / ROWS
            assert at.nll.each[place] == pytest.approx(nll)
            run = (3, 1) if name == "manual" else (point.budget, point.templates)
            assert (at.calls, at.run, at.templates) == (calls, *run)
    for r in task.rows:
        for at in r.at:
            for mean in (at.accuracy, at.nll):
                assert mean.mean == pytest.approx(np.mean(mean.each))
                assert 0 <= mean.low <= mean.mean <= mean.high
            assert at.accuracy.high <= 1


def test_a_baseline_keeps_what_it_has_on_larger_budgets(found: Curve) -> None:
    kept = [on(found, "manual + readout", budget) for budget in (15, 50, 200)]
    assert [(at.run, at.calls, at.templates) for at in kept] == [(15, 15, 5)] * 3
    assert on(found, "manual + readout", 3).run == 3
    assert [on(found, "manual", budget).run for budget in found.budgets] == [3] * 4


def test_a_gain_is_the_paired_difference_on_the_same_budget(found: Curve) -> None:
    for name, budget in (("zo-pog", 50), ("bdpl + readout", 200)):
        at, base = on(found, name, budget), on(found, "manual + readout", budget)
        assert at.against_readout.mean == pytest.approx(at.accuracy.mean - base.accuracy.mean)
        assert at.against_readout.low <= at.against_readout.mean <= at.against_readout.high
    assert on(found, "manual", 3).against_readout.mean == pytest.approx((10 - 21) / ROWS)


def test_the_band_is_student_s_interval_over_the_seeds_where_the_rows_are_alike(
    small_task: Path, tmp_path: Path
) -> None:
    """All rows right with probability p_s: the loss is -log p_s on every row, so only the seeds differ."""
    plan = planned(small_task, tmp_path, "--budgets", "3")
    p = {1: 0.6, 2: 0.7, 3: 0.9}
    for point in plan.points():
        write_run(point, {"manual": (10, 0.5, 0), "manual + readout": (ROWS, p[point.cell.seed], 3)})
    at = on(gathering.document(plan, {}), "manual + readout", 3)
    losses = [-math.log(p[seed]) for seed in SEEDS]
    reach = T2 * np.std(losses, ddof=1) / math.sqrt(3)
    assert at.nll.mean == pytest.approx(np.mean(losses))
    assert at.nll.high == pytest.approx(np.mean(losses) + reach)
    assert np.mean(losses) - reach < 0 == at.nll.low  # no loss is below 0
    assert (at.accuracy.low, at.accuracy.mean, at.accuracy.high) == (1, 1, 1)


def test_no_accuracy_is_above_one(small_task: Path, tmp_path: Path) -> None:
    plan = planned(small_task, tmp_path, "--budgets", "3")
    for point in plan.points():
        right = 34 if point.cell.seed == 1 else ROWS
        write_run(point, {"manual": (10, 0.5, 0), "manual + readout": (right, 0.6, 3)})
    accuracy = on(gathering.document(plan, {}), "manual + readout", 3).accuracy
    assert accuracy.mean + T2 * np.std(accuracy.each, ddof=1) / math.sqrt(3) > 1 == accuracy.high


def test_tied_is_who_is_not_surely_lower(found: Curve) -> None:
    """Paired and nested: 10 of 40 rows against 21 is a sure difference, 25 against 28 of other seeds' spread is not."""
    for budget in found.budgets:
        rows = [(r.name, at) for r in found.tasks[0].rows if (at := r.on(budget))]
        best = max(rows, key=lambda pair: pair[1].accuracy.mean)
        assert best[1].accuracy.tied
        assert not on(found, "manual", budget).accuracy.tied
    at = on(found, "manual + readout", 3)
    assert at.accuracy.tied
    assert [v.best.name for v in verdicts(found.tasks[0], found.budgets)] == [
        "manual + readout", "manual + readout", "manual + readout", "zo-pog + readout",
    ]  # fmt: skip
    assert [v.search and v.search.name for v in verdicts(found.tasks[0], found.budgets)] == [
        None, None, "zo-pog + readout", "zo-pog + readout",
    ]  # fmt: skip


def test_what_is_not_run_is_said(made: CurvePlan, small_task: Path, tmp_path: Path) -> None:
    plan = planned(small_task, tmp_path, "--budgets", "3,50")
    points = plan.points()
    for point in points:
        if point.cell.seed != 3 and point.cell.method != "bdpl":
            write_run(point, readings_of(point))
    found = gathering.document(plan, {points[-1].cell: "out of luck"})
    assert found.tasks[0].unfinished == {"3": 1, "50": 4}
    assert on(found, "zo-pog", 50).seeds == [1, 2]
    text = page(found)
    assert "out of luck" in text
    assert "1 run of 3 calls" in text
    assert "4 runs of 50 calls" in text
    assert "failed: small, bdpl, seed 3: out of luck" in table(found)
    (points[0].cell.folder / "result.json").unlink()
    nothing = planned(small_task, tmp_path / "empty", "--budgets", "3,50")
    assert external(page(gathering.document(nothing, {}))) == []


# -- frontier ------------------------------------------------------------------------------------------------------


def test_the_frontier_of_a_staircase_with_points_below_it() -> None:
    points = [(0, 0.3), (3, 0.7), (15, 0.8), (40, 0.5), (50, 0.8), (60, 0.75), (200, 0.9), (200, 0.85), (15, 0.8)]
    on = [True, True, True, False, False, False, True, False, True]
    assert on_frontier(points, higher=True) == on
    assert on_frontier([(calls, -score) for calls, score in points], higher=False) == on
    assert on_frontier([], higher=True) == []


def test_the_frontier_is_the_running_maximum() -> None:
    """Over all assignments of three scores to four points: on it is who equals the best of all that cost no more."""
    for scores in product((0.1, 0.2, 0.3), repeat=4):
        points = list(zip((1, 1, 2, 5), scores))
        best = [max(s for c, s in points if c <= calls) for calls, _ in points]
        cheapest = [min(c for c, s in points if s >= score) for _, score in points]
        wanted = [s == b and c == first for (c, s), b, first in zip(points, best, cheapest)]
        assert on_frontier(points, higher=True) == wanted


def test_the_marks_of_the_table_are_the_frontier(found: Curve) -> None:
    [task] = found.tasks
    rise = frontier(task.rows, "accuracy")
    assert rise == [(0, 10 / ROWS), (3, 21 / ROWS), (15, 25 / ROWS), (197, pytest.approx(28 / ROWS))]
    assert on(found, "zo-pog + readout", 200).accuracy.frontier
    assert not on(found, "manual + readout", 200).accuracy.frontier  # the run of 15 calls is
    assert not on(found, "zo-pog + readout", 50).accuracy.frontier
    falls = frontier(task.rows, "nll")
    assert [y for _, y in falls] == sorted((y for _, y in falls), reverse=True)


# -- what is shown -------------------------------------------------------------------------------------------------


def test_a_band_lies_between_its_curves_on_a_logarithmic_axis() -> None:
    """A picture of 100 x 100 without margins: x from 1 to 100 calls, y from 0 to 1."""
    axes = Axes((0, 2), (0, 1), "calls", log_x=True, frame=Frame(100, 100, 0, 0, 0, 0, ruled=False))
    band = Band([(1, 0.2), (10, 0.3), (100, 0.4)], [(1, 0.6), (10, 0.7), (100, 0.8)], "c1")
    [drawn] = band.drawn(axes)
    assert 'd="M0.0 80.0L50.0 70.0L100.0 60.0L100.0 20.0L50.0 30.0L0.0 40.0Z"' in drawn
    assert 'class="band c1"' in drawn
    assert list(Band([(1, 0.2)], [(1, 0.6)], "c1").drawn(axes)) == []


def test_the_pictures_have_a_ring_for_every_point_of_the_frontier(found: Curve) -> None:
    [task] = found.tasks
    drawn = pictures(task, found.budgets)
    for metric in ("accuracy", "nll"):
        rings = [point for point in frontier(task.rows, metric) if point[0] > 0]
        assert drawn.large[metric].svg.count('class="dot ring"') == len(rings)
        assert [name for name, _, _ in drawn.small[metric]] == ["zo-pog", "bdpl"]
    assert "manual + readout, 15 calls: 62.5% (" in drawn.large["accuracy"].svg
    assert not re.search(r'[" L]-?(nan|inf)', drawn.large["nll"].svg)


def test_the_page_is_one_file_and_says_every_number(found: Curve) -> None:
    text = page(found)
    assert external(text) == []
    assert [tag for tag, _ in Strict(text).tags].count("h1") == 1
    for r in found.tasks[0].rows:
        for at in r.at:
            assert f"{100 * at.accuracy.mean:.1f}" in text
            assert f"{100 * at.accuracy.low:.1f}–{100 * at.accuracy.high:.1f}" in text
            assert f"{at.nll.mean:.3f}" in text
    assert text.count(">–</td>") == 2 * 2 * 4  # two budgets pay no search: accuracy and loss
    assert "needs 46 calls" in text


def test_text_from_data_is_escaped(found: Curve) -> None:
    [task] = found.tasks
    bad = replace(
        found, model=HOSTILE, methods=[replace(m, name=HOSTILE, about=HOSTILE) for m in found.methods],
        tasks=[replace(task, name=HOSTILE, description=HOSTILE, templates=[HOSTILE], labels={HOSTILE: HOSTILE},
                       rows=[replace(r, name=r.name + HOSTILE, of=r.of + HOSTILE) for r in task.rows])],
    )  # fmt: skip
    text = page(bad)
    assert external(text) == []
    assert text.count("<script") == 0
    assert text.count("&lt;script&gt;") > 20


def test_what_is_read_is_what_was_written(found: Curve) -> None:
    saved = json.loads(json.dumps(found.to_json()))
    assert Curve.from_json(saved, "curve.json").to_json() == saved


def test_the_csv_has_a_line_for_every_point(found: Curve) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    points = [(r, at) for r in found.tasks[0].rows for at in r.at]
    assert len(lines) == len(points)
    for line, (r, at) in zip(lines, points):
        assert (line["row"], int(line["budget"]), float(line["calls"])) == (r.name, at.budget, at.calls)
        assert float(line["accuracy"]) == pytest.approx(at.accuracy.mean, abs=1e-6)
        assert float(line["nll_high"]) == pytest.approx(at.nll.high, abs=1e-6)
        assert (line["seeds"], line["accuracy_frontier"]) == ("1 2 3", str(int(at.accuracy.frontier)))


def test_the_table_of_the_terminal(found: Curve) -> None:
    lines = table(found).splitlines()
    assert lines[1].split()[-4:] == ["3", "15", "50", "200"]
    best = next(line for line in lines if line.startswith("zo-pog + readout"))
    assert best.split() == ["zo-pog", "+", "readout", "-", "-", "*", "62.5", "*!", "70.0"]


# -- as a user meets it --------------------------------------------------------------------------------------------


def curve(task: Path, out: Path, *more: object, budgets: str = "10,40,80") -> list[object]:
    return ["compare", "--curve", "--tasks", task, "--methods", "ZO-PoG", "--seeds", "1,2", "--budgets", budgets,
            "--out", out, *SMALL, *more]  # fmt: skip


def test_the_same_command_goes_on_and_runs_nothing_twice(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    code, said, error = zopog(*curve(small_task, out, budgets="40,5"))
    assert code == 0, error
    assert "zo-pog + readout" in said
    first = json.loads((out / "curve.json").read_text("utf-8"))
    [task] = first["tasks"]
    assert {r["name"]: [at["budget"] for at in r["at"]] for r in task["rows"]} == {
        "manual": [5, 40], "manual + centred": [5, 40], "manual + readout": [5, 40],
        "zo-pog": [40], "zo-pog + readout": [40],
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in out.glob("calls-*/**/*") if path.is_file()}
    code, said, error = zopog(*curve(small_task, out, budgets="5,40,80"))
    assert code == 0, error
    assert "6 runs: 2 methods, 1 task, 2 seeds, budgets 5, 40, 80; 4 finished already" in error
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for budget in (40, 80):
        for seed in (1, 2):
            result = json.loads((out / f"calls-{budget}/runs/small/zo-pog/{seed}/result.json").read_text())
            assert result["calls"] <= budget == result["budget"]
    whole = json.loads((out / "curve.json").read_text("utf-8"))
    monkeypatch.setattr(learning, "learn", None)
    code, said, error = zopog(*curve(small_task, out, "--json", budgets="5,40,80"))
    assert (code, json.loads(said)) == (0, whole)
    # One budget is an ordinary comparison, of the runs that are there.
    one = ["compare", "--tasks", small_task, "--methods", "zo-pog", "--seeds", "1,2", "--budget", 80, *SMALL]
    code, _, error = zopog(*one, "--out", out / "calls-80")
    assert code == 0, error
    assert "2 finished already" in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--curve", "--budget", "80"], "--curve takes several budgets: --budgets 50,200,800 in place of --budget"),
        (["--budgets", "80"], "--budgets is for --curve"),
        (["--curve", "--budgets", "0,80"], "--budgets: 0 calls; a budget is at least 1"),
        (["--curve", "--budgets", "many"], "--budgets: 'many' is not a whole number; expected something like 3,15,50"),
        (["--curve", "--budgets", "80,80"], "--budgets names 80 twice"),
        (["--curve", "--budgets", "2,4"], "--budgets ends with 4 calls, and the cheapest of these runs costs 5"),
        (["--curve", "--set", "bbt.popsize=5"], "--set names bbt"),
        (["--methods", "zo-pgo"], "unknown method 'zo-pgo' in --methods; there are zo-pog, bdpl"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    options: list[str], said: str, zopog: Run, small_task: Path, tmp_path: Path
) -> None:
    given: list[object] = ["compare", "--tasks", small_task, *SMALL, "--out", tmp_path / "out"]
    given += [] if "--methods" in options else ["--methods", "zo-pog"]
    code, _, error = zopog(*given, *options)
    assert code == 2
    assert said in error
    assert not (tmp_path / "out").exists()


def test_own_data_as_in_tune_and_names_in_any_case(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    folder, labels = small_task.parent, "animal=animal,person=person,food=food,plant=plant,place=place,object=object"
    own: list[Any] = ["--train", folder / "train.tsv", "--test", folder / "test.tsv", "--labels", labels]
    own += ["--template", "{text} . it is a kind of {mask} ."]
    given = ["--methods", "ZO_PoG", "--seeds", "1", *SMALL[:10], "--set", "ZO-PoG.policy_samples=4", "--set",
             "zo-pog.direction-pairs=2", "--executor", "serial", "--budget", "40"]  # fmt: skip
    code, _, error = zopog("compare", *own, *given, "--out", tmp_path / "own")
    assert code == 0, error
    assert zopog("compare", "--tasks", small_task, *given, "--out", tmp_path / "task")[0] == 0
    results = [
        json.loads(next((tmp_path / name).glob("runs/*/zo-pog/1/result.json")).read_text()) for name in ("own", "task")
    ]
    assert results[0]["test_accuracy"] == results[1]["test_accuracy"]
    for options, said in (
        ([*own, "--tasks", "supersense"], "--tasks and --train were both given"),
        (own[:2], "--train needs --template"),
        (own[2:4], "--test describes your own data, but --train is missing"),
    ):
        code, _, error = zopog("compare", *options, *given, "--out", tmp_path / "no")
        assert code == 2
        assert said in error
