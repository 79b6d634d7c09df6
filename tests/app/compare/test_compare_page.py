"""The report and the statistics behind its marks: self-contained, escaped, well formed; ties are ties."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the command line needs onnxruntime (extra cpu)")
pytest.importorskip("tokenizers", reason="the command line needs tokenizers (extra cpu)")

from tests.test_mathematics import colours, contrast
from zopog_ref.app.compare import page as compare_page
from zopog_ref.app.compare import statistics as compare_statistics
from zopog_ref.app.compare import table as compare_table
from zopog_ref.app.compare.results import Comparison
from zopog_ref.app.compare.statistics import Scores, difference
from zopog_ref.app.errors import InputError
from zopog_ref.app.report.svg import Axes, Line, padded, panel, ticks

HOSTILE = "<script>alert(\"1\")</script> & 'quoted' </style>"
VOID = {"meta", "br", "circle", "path", "rect"}


def read(document: dict[str, Any]) -> Comparison:
    return Comparison.from_json(document, "compare.json")


def page(document: dict[str, Any]) -> str:
    return compare_page.page(read(document))


def table(document: dict[str, Any]) -> str:
    return compare_table.table(read(document))


def statistics(scores: dict[str, dict[int, Scores]], manual: str) -> dict[str, Any]:
    return compare_statistics.statistics(scores, manual).to_json()


# -- statistics ----------------------------------------------------------------------------------------------------


def runs(*right: float, seeds: tuple[int, ...] = (1, 2, 3), rows: int = 400, noise: int = 0) -> dict[int, Scores]:
    """Scores of a method with these accuracies by seed; which rows are right is drawn anew for each method."""
    rng, found = np.random.default_rng(noise), {}
    for seed, share in zip(seeds, right):
        hits = np.zeros(rows)
        hits[rng.permutation(rows)[: round(share * rows)]] = 1
        found[seed] = Scores(np.arange(rows), {"accuracy": hits, "nll": 2 - hits, "brier": 1 - hits})
    return found


def test_ties_are_marked_and_losers_are_not() -> None:
    scores = {
        "high": runs(0.70, 0.71, 0.705, noise=1),
        "near": runs(0.69, 0.70, 0.71, noise=2),
        "low": runs(0.40, 0.41, 0.405, noise=3),
        "manual": runs(0.5, 0.5, 0.5, noise=4),
    }
    found = statistics(scores, "manual")["metrics"]
    for metric in ("accuracy", "nll", "brier"):
        rows = found[metric]["methods"]
        assert found[metric]["best"] == "high"
        assert {name for name, row in rows.items() if row["among_best"]} == {"high", "near"}
        assert "against_manual" not in rows["manual"]
    gain = found["accuracy"]["methods"]["high"]["against_manual"]
    assert (gain["low"] > 0, gain["p_holm"] < 0.05) == (True, True)
    assert gain["mean"] == pytest.approx(0.705 - 0.5)
    assert [(e["wins"] - e["losses"]) / 400 for e in gain["each_seed"]] == pytest.approx([0.2, 0.21, 0.205])
    assert found["nll"]["methods"]["high"]["against_manual"]["mean"] == pytest.approx(0.5 - 0.705)
    assert found["accuracy"]["methods"]["low"]["against_best"]["high"] < 0
    assert found["accuracy"]["differences"][0][2]["mean"] == pytest.approx(0.705 - 0.405)


def test_seeds_that_disagree_are_a_tie_however_many_rows_there_are() -> None:
    """0.45, 0.60, 0.75 against 0.5: ten points higher on 20,000 rows, and still chance of the seeds."""
    scores = {"wild": runs(0.45, 0.60, 0.75, rows=20_000, noise=1), "manual": runs(0.5, 0.5, 0.5, rows=20_000)}
    found = statistics(scores, "manual")["metrics"]["accuracy"]["methods"]
    assert found["manual"]["among_best"]
    assert found["wild"]["against_manual"]["p"] > 0.1
    assert found["wild"]["against_manual"]["these_runs"]["p"] < 1e-6  # of these runs alone it is sure
    assert found["wild"]["high"] - found["wild"]["low"] > 0.3


def test_a_seed_that_failed_is_left_out_of_its_pairs_alone() -> None:
    a, b = runs(0.6, 0.7, seeds=(1, 2)), runs(0.5, 0.4, 0.9, seeds=(1, 2, 3))
    found = difference(a, b, "accuracy", True)
    assert found is not None
    assert found.mean == pytest.approx(0.2)
    assert difference(a, runs(0.5, seeds=(7,)), "accuracy", True) is None
    assert (
        statistics({"a": a, "c": runs(0.5, seeds=(7,))}, "manual")["metrics"]["accuracy"]["differences"][0][1] is None
    )


def test_runs_on_different_rows_are_not_paired() -> None:
    a, b = runs(0.6, 0.7), runs(0.5, 0.6)
    b[2] = Scores(b[2].rows + 1, b[2].of)
    with pytest.raises(InputError, match="seed 2 were tested on different rows"):
        difference(a, b, "accuracy", False)


def test_seeds_with_rows_of_their_own_count_as_seeds() -> None:
    scores = {
        name: runs(*shares, noise=i)
        for i, (name, shares) in enumerate({"a": (0.6, 0.7, 0.65), "b": (0.6, 0.6, 0.61)}.items())
    }
    for method in scores.values():
        method[2] = Scores(method[2].rows + 1000, method[2].of)
    found = statistics(scores, "manual")
    assert not found["same_test_rows"]
    assert found["metrics"]["accuracy"]["differences"][0][1]["freedom"] == 2


def test_a_difference_of_accuracies_is_at_most_a_hundred_points() -> None:
    wild, low = runs(0.99, 0.5, seeds=(1, 2)), runs(0.02, 0.4, seeds=(1, 2), noise=1)
    found = statistics({"wild": wild, "low": low, "manual": low}, "manual")["metrics"]
    for metric, most in (("accuracy", 1.0), ("brier", 2.0)):
        gain = found[metric]["methods"]["wild"]["against_manual"]
        higher = gain if metric == "accuracy" else {"low": -gain["high"], "high": -gain["low"]}
        assert higher["high"] == most
        assert -most <= higher["low"] < 0
    pair = found["accuracy"]["differences"][0][1]
    assert (pair["mean"], pair["high"]) == (pytest.approx(0.535), 1.0)


# -- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A real compare.json, of three runs; the written report is what page() makes of it."""
    from zopog_ref.app.command_line import main

    out = tmp_path_factory.mktemp("page")
    given = ["--methods", "zo-pog,bdpl", "--seeds", "1,2", "--n-positions", "3", "--n-candidates", "12", "--dim", "8", "--batch-size", "4",
             "--shots", "3", "--budget", "48", "--set", "zo-pog.policy_samples=4", "--set", "zo-pog.direction_pairs=2",
             "--set", "bdpl.samples=8", "--executor", "serial"]  # fmt: skip
    assert main(["compare", "--task", str(small_task), *given, "--out", str(out)]) == 0
    document: dict[str, Any] = json.loads((out / "compare.json").read_text("utf-8"))
    assert (out / "report.html").read_text("utf-8") == page(document)
    return document


class Strict(HTMLParser):
    """Every tag closed in its place; collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID or (tag in ("circle", "path") and "/>" not in self.get_starttag_text()[-2:]):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def external(text: str) -> list[str]:
    """Whatever would make a browser fetch or run something."""
    found = re.findall(r"https?://|@import|url\(|javascript:|<script|<link|<iframe|<img|<object|<base", text)
    tags = Strict(text).tags
    return found + [
        f"{tag} {name}"
        for tag, attributes in tags
        for name, value in attributes.items()
        if (name in ("src", "href", "data") and not (value or "").startswith("#")) or name.startswith("on")
    ]


def test_the_page_is_well_formed_and_needs_nothing_else(found: dict[str, Any]) -> None:
    text = page(found)
    assert external(text) == []
    tags = [tag for tag, _ in Strict(text).tags]
    assert tags.count("h1") == 1
    assert tags.count("svg") > 10
    assert (
        "nan"
        not in " ".join(v or "" for _, attributes in Strict(text).tags for v in attributes.values()).lower().split()
    )


def test_the_check_finds_what_is_external() -> None:
    assert external('<p><a href="x">x</a></p>') == ["a href"]
    assert external('<p><a href="#s1">x</a></p>') == []
    assert "<script" in external("<p><script></script></p>")
    assert "https?://".replace("?", "") in external('<p title="https://x.org"></p>')
    with pytest.raises(AssertionError):
        Strict("<div><p></div>")


def test_what_is_read_is_what_was_written(found: dict[str, Any]) -> None:
    again = read(found).to_json()
    assert json.dumps(again) == json.dumps(found)  # the order of the names too
    assert [list(cell)[:7] for cell in again["tasks"][0]["methods"][-3]["cells"]] == 2 * [
        ["seed", "calls", "sequences", "tokens", "seconds", "prompts", "curve"]
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("budget"), "compare.json: budget is missing"),
        (lambda d: d.update(more=1), "compare.json: 'more' is not what is written there"),
        (lambda d: d.update(budget="48"), "compare.json: budget is '48'"),
        (lambda d: d.update(budget=True), "compare.json: budget is True"),
        (lambda d: d["tasks"][0]["methods"][0]["cells"][0].update(seed=None), "tasks: methods: cells: seed is None"),
        (lambda d: d["tasks"][0]["methods"][0]["cells"][0]["curve"].append([1]), "cells: curve is [1]"),
        (lambda d: d["tasks"][0]["statistics"]["metrics"]["nll"].pop("best"), "metrics: nll: best is missing"),
    ],
)
def test_a_file_that_is_no_comparison_is_named(found: dict[str, Any], change: Any, named: str) -> None:
    bad = copy.deepcopy(found)
    change(bad)
    with pytest.raises(InputError, match=re.escape(named)):
        read(bad)


def hostile(value: Any) -> Any:
    """The document with every name, token, label and message replaced by something nasty of its own."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, dict):
        return {k: v if k in _STRUCTURE else hostile(v) for k, v in value.items()}
    return [hostile(inner) for inner in value] if isinstance(value, list) else value


_STRUCTURE = {"methods", "statistics", "reading"}  # the names that refer to one another are replaced below


def test_text_from_data_is_escaped(found: dict[str, Any]) -> None:
    bad = hostile(copy.deepcopy(found))
    bad["failed"] = [{"task": HOSTILE, "method": HOSTILE, "seed": 1, "error": HOSTILE}]
    renamed = {"zo-pog": "zo" + HOSTILE, "bdpl": "bdpl" + HOSTILE}
    renamed |= {f"{name} + readout": f"{new} + readout" for name, new in renamed.items()}
    renamed |= {name: name for name in ("manual", "manual + centred", "manual + readout")}
    bad["methods"] = [{k: v + HOSTILE if isinstance(v, str) else v for k, v in m.items()} for m in found["methods"]]
    for task, clean in zip(bad["tasks"], found["tasks"]):
        task["labels"] = {name + HOSTILE: word + HOSTILE for name, word in clean["labels"].items()}
        task["methods"] = [hostile(method) | {"name": renamed[method["name"]]} for method in clean["methods"]]
        task["statistics"]["methods"] = [renamed[name] for name in clean["statistics"]["methods"]]
        for metric in task["statistics"]["metrics"].values():
            metric["best"] = renamed[metric["best"]]
            metric["methods"] = {renamed[name]: row for name, row in metric["methods"].items()}
    text = page(bad)
    assert external(text) == []
    assert text.count("<script") == 0
    assert text.count("&lt;script&gt;") > 40
    assert HOSTILE in "".join(Strict(text).texts)
    assert "<script>" in table(bad)  # a terminal needs no escapes


@pytest.mark.parametrize(
    ("means", "p", "said"),
    [
        ((0.031, -0.02), (0.001, 0.02), ["zo-pog + readout’s 37 calls bought +3.1 points (+2.1 to +4.1) over manual + readout at 5 calls",
            "The other methods’ calls bought nothing over", "1 of 2 methods end below it", "nearest is bdpl + readout, 37 calls: −2.0 points"]),
        ((0.031, 0.0), (0.2, 0.9), ["No method’s calls bought anything over manual + readout at 5 calls", "is zo-pog + readout, 37 calls: +3.1"]),
        ((-0.031, None), (0.2, None), ["zo-pog + readout’s 37 calls bought nothing over manual + readout at 5 calls"]),
        ((0.031, None), (0.2, None), ["zo-pog + readout’s 37 calls bought nothing that is more than chance over",
            "+3.1 points (+2.1 to +4.1); that interval leaves out zero, but is of this one difference: corrected for all, p is 0.20."]),
        ((0.009, -0.031), (0.2, 0.04), ["more than chance, after Holm’s correction.", "+0.9 points (−0.1 to +1.9)."]),
    ],
)  # fmt: skip
def test_what_the_calls_bought_is_said(
    found: dict[str, Any], means: tuple[float, float | None], p: tuple[float, float | None], said: list[str]
) -> None:
    bought = copy.deepcopy(found)
    [task] = bought["tasks"]
    standings = task["statistics"]["metrics"]["accuracy"]["methods"]
    for name, mean, chance in zip(("zo-pog + readout", "bdpl + readout"), means, p):
        if mean is None:
            task["methods"] = [m for m in task["methods"] if m["of"] != "bdpl"]
            continue
        standings[name]["against_readout"] |= {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "p_holm": chance}
        next(m for m in task["methods"] if m["name"] == name)["accuracy"]["mean"] = 0.9 + mean
    text = re.sub("<[^>]+>", "", page(bought).split("In short</h2>")[1].split("</section>")[0])
    for sentence in said:
        assert sentence in text
    assert ("bought nothing" in text) == any("bought nothing" in sentence for sentence in said)


def test_in_short_counts_what_is_tied_centred_and_deployed(found: dict[str, Any]) -> None:
    some = copy.deepcopy(found)
    [task] = some["tasks"]
    standings, own = task["statistics"]["metrics"]["accuracy"], ("zo-pog", "bdpl")
    standings["best"] = "bdpl"
    for name, row in standings["methods"].items():
        row["among_best"] = name in (*own, "manual")
        row["mean"] = {"manual + centred": 0.5, "zo-pog": 0.6, "bdpl": 0.7}.get(name, 0.1)
    runs = [run for method in task["methods"] if method["of"] != "manual" for run in method["cells"]]
    for run in runs:
        run["deployed"] = False
    runs[0]["deployed"] = True
    text = re.sub("<[^>]+>", "", page(some).split("In short</h2>")[1].split("</section>")[0])
    [tied] = re.findall("not significantly worse: ([^.]+)\\.", text)
    assert set(tied.split(", ")) == {"zo-pog", "manual"}
    assert "gives 50.0%: 2 of 2 end higher." in text
    assert "By the dev rows 1 of 4 runs deploy what was searched for." in text


def test_every_search_is_shown_with_and_without_its_readout(found: dict[str, Any]) -> None:
    text = page(found)
    for name in ("manual + centred", "manual + readout", "zo-pog", "zo-pog + readout", "bdpl", "bdpl + readout"):
        assert f'<span class="name">{name}</span>' in text
        assert re.search(rf"^[* ] {{2}}{re.escape(name)} +\d", table(found), re.MULTILINE)
    assert text.count('<tr class="among manual">') + text.count('<tr class=" manual">') == 3
    assert len(table(found).splitlines()[1]) <= 100


def test_what_failed_is_on_the_page(found: dict[str, Any]) -> None:
    part = copy.deepcopy(found)
    part["failed"] = [{"task": "small", "method": "bdpl", "seed": 2, "error": "out of luck"}]
    part["tasks"][0]["methods"][1]["cells"].pop()
    text = page(part)
    assert "out of luck" in text
    assert "3 of 4" in text
    nothing = copy.deepcopy(found)
    nothing["tasks"][0] |= {"methods": [], "statistics": None}
    assert external(page(nothing)) == []


def test_without_test_rows_there_are_curves_and_prompts(found: dict[str, Any]) -> None:
    bare = copy.deepcopy(found)
    task = bare["tasks"][0]
    task |= {
        "statistics": None,
        "rows": 0,
        "majority": None,
        "methods": [m for m in task["methods"] if m["of"] != "manual"],
    }
    for method in task["methods"]:
        for name in (
            "accuracy",
            "macro_f1",
            "matthews",
            "confusion",
            "ece",
            "nll",
            "brier",
            "auroc_errors",
            "rejection_area",
            "entropy",
        ):
            method.pop(name)
        for cell in method["cells"]:
            del cell["test"], cell["uncertainty"]
    text = page(bare)
    assert "no test rows" in text
    assert "How it learns" in text
    assert "zo-pog" in table(bare)


def test_what_is_sent_names_no_folder_of_the_machine(found: dict[str, Any]) -> None:
    sent = copy.deepcopy(found) | {"model": "/home/me/my models/roberta"}
    error = "see /home/me/runs/compare/workers.log, or ~/x/y.toml; it asked https://host/v1/chat"
    sent["failed"] = [{"task": "small", "method": "bdpl", "seed": 2, "error": error}]
    text = page(sent)
    assert "/home/me" not in text
    assert "<em>roberta</em>" in text
    assert "--model roberta" in text
    assert "see workers.log, or y.toml; it asked https://host/v1/chat" in text
    assert "<em>org/name</em>" in page(found | {"model": "org/name"})


@pytest.mark.parametrize("mode", [0, 1])
def test_numbers_on_the_darkest_tint_can_be_read(found: dict[str, Any], mode: int) -> None:
    extreme = copy.deepcopy(found)
    for method in extreme["tasks"][0]["methods"]:
        method["confusion"] = [[9 if j == 0 else 0 for j in range(len(row))] for row in method["confusion"]]
    css = (Path(compare_page.__file__).parents[1] / "report" / "style.css").read_text("utf-8")
    light, dark = (colours(block) for block in re.findall(r":root\{(.*?)\}", css, re.DOTALL)[:2])
    c = light | dark if mode else light
    faint = mixed(c["ink"], c["panel"], 72)
    mixes = re.findall(r"<(\w+)([^>]*)color-mix\(in srgb,var\(--(\w+)\) (\d+)%,var\(--(\w+)\)\)", page(extreme))
    assert {("good", 40), ("c2", 40)} <= {(colour, int(share)) for _, _, colour, share, _ in mixes}
    for _, about, colour, share, ground in mixes:
        ink = faint if 'class="faint"' in about else c["ink"]
        assert contrast(ink, mixed(c[colour], c[ground], int(share))) >= 4.5, (colour, share)
    assert not re.search(r"\.chip i\{[^}]*color", css)  # as dark as the token before it


def mixed(a: str, b: str, share: int) -> str:
    """color-mix(in srgb, a share%, b)."""
    parts = ((int(a[i : i + 2], 16) * share + int(b[i : i + 2], 16) * (100 - share)) / 100 for i in (1, 3, 5))
    return "#" + "".join(f"{round(part):02x}" for part in parts)


def test_few_seeds_are_said_in_the_terminal_too(found: dict[str, Any]) -> None:
    assert "too few seeds (2) for intervals to trust" in table(found)
    assert "too few" not in table(found | {"seeds": [1, 2, 3, 4, 5]})


def test_settings_of_what_searches_nothing_have_no_name(found: dict[str, Any]) -> None:
    alone = copy.deepcopy(found)
    alone["methods"].append(alone["methods"][0] | {"name": "auto", "method": "auto", "settings": "paper", "n": 0})
    assert "<td>paper</td>" not in page(alone)
    assert "<td>embedded</td>" in page(alone)


def test_several_tasks_have_an_overview(found: dict[str, Any]) -> None:
    two = copy.deepcopy(found)
    two["tasks"].append(copy.deepcopy(two["tasks"][0]) | {"name": "other"})
    assert "Across tasks" in page(two)
    assert "On other, " in page(two)
    assert "Across tasks" not in page(found)


def test_calls_of_different_sizes_are_said_to_be_so(found: dict[str, Any]) -> None:
    other = copy.deepcopy(found)
    other["methods"][1]["batch_size"] = 128
    assert "A call is not the same for all" in page(other)
    assert "A call is not the same for all" not in page(found)


# -- panels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 4000), (0.21, 0.38), (0, 1), (-3, 7), (0.4123, 0.4127), (0, 240)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 5
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    step = found[1] - found[0]
    assert float(f"{step:.0e}"[0]) in (1, 2, 5)


def test_curves_stay_inside_their_panel() -> None:
    points = [(0.0, 0.31), (120.0, 0.42), (400.0, 0.47)]
    axes = Axes((0, 400), padded([y for _, y in points]), "calls")
    [path] = re.findall(r'class="curve main" d="M([^"]+)"', panel(axes, [Line(points, "main", steps=True)]))
    places = [tuple(map(float, place.split())) for place in path.split("L")]
    assert len(places) == 5  # a staircase: two corners for every further point
    assert all(38 <= x <= 290 and 8 <= y <= 162 for x, y in places)


def test_the_csv_has_a_line_for_every_run_as_it_was_read(found: dict[str, Any]) -> None:
    import csv

    from zopog_ref.app.compare.csv_file import csv_of

    lines = list(csv.DictReader(csv_of(read(found)).splitlines()))
    runs = [(task, method, run) for task in found["tasks"] for method in task["methods"] for run in method["cells"]]
    assert len(lines) == len(runs) > 0
    for line, (task, method, run) in zip(lines, runs):
        assert (line["task"], line["method"], int(line["seed"])) == (task["name"], method["of"], run["seed"])
        assert float(line["test_accuracy"]) == run["test"]["accuracy"]
        assert float(line["nll"]) == run["uncertainty"]["mean"]["nll"]
        assert line["folder"] == run.get("folder", "")
        assert line["dev_loss"] == ("" if run.get("dev_loss") is None else str(run["dev_loss"]))


def test_the_page_has_contents_a_date_a_command_and_runs_to_deploy(found: dict[str, Any]) -> None:
    import argparse
    import shlex
    from html import unescape

    from zopog_ref.app.compare.options import add_arguments

    text = page(found)
    places = re.findall(r'<a href="#(s\d+)">', text)
    assert places == re.findall(r'<h2 id="(s\d+)">', text)
    assert len(places) > 2
    assert re.search(r"<footer><p>\d{4}-\d\d-\d\d\. ", text)
    [command] = re.findall(r'with these settings:</p><pre class="source">(.*?)</pre>', text)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    asked = parser.parse_args(shlex.split(unescape(command))[2:])
    assert (asked.budget, asked.shots) == (found["budget"], found["shots"])
    assert asked.seeds == ",".join(map(str, found["seeds"]))
    deployed = re.findall(r"<tr><td>([^<]+)</td><td>\d+</td><td><code>zopog predict (\S+)", text)
    assert len(deployed) == sum(m["reading"].startswith("tuned") for task in found["tasks"] for m in task["methods"])
    for name, folder in deployed:
        [method] = [m for task in found["tasks"] for m in task["methods"] if m["name"] == name]
        assert folder == min(method["cells"], key=lambda run: run["dev_loss"])["folder"]
    assert ">tied<" not in text
    assert "Too few seeds" in text
    assert [tag for tag in re.findall(r"<th[ >][^>]*", text) if "scope=" not in tag] == []
