"""The documentation is true: its links lead somewhere, its Python runs, its commands parse, its settings are the shipped
ones, its pictures are what the script makes, and the site has a place for every page."""

import argparse
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zopog_ref.app.command_line import COMMANDS
from zopog_ref.app.run.presets import PRESET_FIELDS, PRESETS
from zopog_ref.methods import METHODS, settings_class

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "models/**/*.md", "examples/*.md") for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


def dead_links(text: str, folder: Path) -> list[str]:
    return [target for target in LINK.findall(text) if "://" not in target and not (folder / target).resolve().exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page.read_text("utf-8"), page.parent) == []


def test_a_dead_link_is_caught() -> None:
    assert dead_links("[here](docs/no-such-page.md) [web](https://example.org)", ROOT) == ["docs/no-such-page.md"]


def said_twice(text: str, words: int = 12, near: int = 14) -> list[str]:
    """What a page says again, word for word, a few lines on: left over from an edit. Code and tables do not count."""
    prose, code = [], False
    for number, line in enumerate(text.split("\n")):
        code ^= line.startswith("```")
        if not code and not line.startswith(("|", "    ", "```")):
            prose += [(word, number) for word in line.split()]
    seen: dict[str, int] = {}
    again = []
    for i in range(len(prose) - words + 1):
        run, number = " ".join(word for word, _ in prose[i : i + words]), prose[i][1]
        if number - seen.get(run, -near - 1) <= near:
            again.append(run)
        seen[run] = number
    return again


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_said_twice(page: Path) -> None:
    assert said_twice(page.read_text("utf-8")) == []


def test_a_line_left_over_is_caught() -> None:
    line = "For bounds, both sides are printed, with the least and the largest share of the bound.\n"
    assert said_twice(f"A threshold is Bonferroni's. {line}{line}")
    assert said_twice(f"A threshold is Bonferroni's. {line}" + "".join(f"{i}.\n" for i in range(20)) + line) == []
    assert said_twice(f"```\n{line}{line}```\n") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert re.findall(r"@[A-Z_]+@|TODO|FIXME", page.read_text("utf-8")) == []


def emphasised_by_underscores(text: str) -> list[str]:
    """Paragraphs where the host of the code sets what stands between two indices, as in ∇_α f_{t, z}, in italics."""
    parse = pytest.importorskip("markdown_it", reason="reads Markdown as hosts of code do").MarkdownIt("commonmark")
    return [
        block.content
        for block in parse.enable("table").parse(text)
        if any(piece.type.endswith("_open") and piece.markup.startswith("_") for piece in block.children or [])
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_indices_are_not_emphasis(page: Path) -> None:
    assert emphasised_by_underscores(page.read_text("utf-8")) == []


def test_an_index_that_begins_emphasis_is_caught() -> None:
    assert emphasised_by_underscores("∇_α L and E_{t} f") == ["∇_α L and E_{t} f"]
    assert emphasised_by_underscores("∇\\_α L and E_{t} f, *this* is, `∇_α L E_{t}` not") == []


def outside_the_nav(config: str, pages: list[str]) -> list[str]:
    return sorted(set(pages) ^ set(re.findall(r"^ +- .*: (\S+\.md)$", config, re.MULTILINE)))


def test_the_site_has_a_place_for_every_page() -> None:
    """The build says so as well; here it is said without the site's packages."""
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = [*(path.relative_to(ROOT).as_posix() for path in PAGES), "docs/paper-in-twenty-cells.ipynb.md"]
    assert outside_the_nav(config, pages) == []
    assert outside_the_nav(config, [*pages, "docs/new.md"]) == ["docs/new.md"]
    assert outside_the_nav(config.replace("docs/bbt.md", "docs/bbbt.md"), pages) == ["docs/bbbt.md", "docs/bbt.md"]


def undocumented(things: list[Any]) -> list[str]:
    """Classes and functions with nothing to say in the API pages; a dataclass alone writes only its signature there."""
    signatures = [f"{thing.__name__}(" for thing in things]
    return [thing.__name__ for thing, its in zip(things, signatures) if (thing.__doc__ or its).startswith(its)]


def test_every_public_name_has_something_to_say_in_the_api_pages() -> None:
    pytest.importorskip("onnxruntime", reason="zopog_models imports it")
    for name in ("zopog_ref", "zopog_models", "zopog_kernels"):
        package = importlib.import_module(name)
        things = [getattr(package, symbol) for symbol in package.__all__]
        assert undocumented([thing for thing in things if callable(thing)]) == [], name
    classes = [getattr(importlib.import_module(entry.module), entry.cls) for entry in METHODS.values()]
    assert undocumented(classes) == []
    assert undocumented([settings_class(name) for name in METHODS]) == []
    assert undocumented([dataclass(type("Bare", (), {}))]) == ["Bare"]


def absent(package: str, pages: str) -> list[str]:
    """Public names of a package that its API page does not show: a module that is shown shows what it defines; a package
    also what it imports, but for names that a submodule has as well."""
    shown = set(re.findall(r"^::: (\S+)$(?!\n +options: \{members: false)", pages, re.MULTILINE))
    module = importlib.import_module(package)
    return [
        symbol
        for symbol in module.__all__
        if not {(its := getattr(module, symbol)).__module__, f"{its.__module__}.{symbol}"} & shown
        and (package not in shown or importlib.util.find_spec(f"{package}.{symbol}"))
    ]


def test_every_public_name_is_in_the_api_pages() -> None:
    pytest.importorskip("onnxruntime", reason="zopog_models imports it")
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    for package in ("zopog_ref", "zopog_models", "zopog_kernels"):
        assert absent(package, pages) == []
    assert absent("zopog_ref", re.sub(r"::: zopog_ref\.(objective|ledger)\b", "", pages)) == [
        "BudgetExhausted", "FunctionObjective", "Ledger", "ModelObjective", "Objective", "Oracle", "cross_entropy", "hinge",
    ]  # fmt: skip
    assert absent("zopog_ref", "::: zopog_ref") == ["policy_gradient"]
    assert all(f"::: {entry.module}\n" in pages for entry in METHODS.values())


def readme_s_python() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def run_python(code: str, folder: Path) -> str:
    """What it prints. Errors: CalledProcessError."""
    return subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, capture_output=True, text=True).stdout


def test_the_readme_s_examples_are_for_three_readers_and_short() -> None:
    examples = readme_s_python()
    assert len(examples) == 3
    assert all(len([line for line in example.splitlines() if line]) <= 10 for example in examples)


def test_the_researcher_s_example_runs(tmp_path: Path) -> None:
    example = readme_s_python()[0]
    run_python(example, tmp_path)
    with pytest.raises(subprocess.CalledProcessError) as failed:  # as with 1/I in place of 1/(I-1)
        run_python(example.replace("* policy_gradient", "* 0.5 * policy_gradient"), tmp_path)
    assert "AssertionError" in failed.value.stderr


def test_the_tester_s_example_runs(tmp_path: Path) -> None:
    checks = "assert g_alpha.shape == (2, 3)\nassert abs(g_z - 2 * z).max() < 1, g_z\n"
    run_python(readme_s_python()[1] + checks, tmp_path)


def test_the_engineer_s_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the example runs a model")
    from zopog_models import Prompt, label_ids, load_model, load_task, save_prompt

    model, task = load_model("embedded"), load_task("supersense")
    prompt = Prompt(
        np.full((1, 2), 100), np.zeros((1, 2, model.embedding_size), np.float32), np.ones(1), label_ids(task, model),
        task.template, dict(task.labels), model.injection, model.name, model.sha256, model.tokenizer_sha256,
    )  # fmt: skip
    save_prompt(tmp_path / "runs" / "mine" / "prompt", prompt)
    lines = run_python(readme_s_python()[2], tmp_path).splitlines()
    assert [line.split()[0] in task.labels for line in lines] == [True, True]


@pytest.mark.parametrize(("signal", "kind"), [(3.0, "vocabulary"), (0.0, "centred")])
def test_the_readout_page_s_example_runs_whatever_is_chosen(signal: float, kind: str) -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "readout.md").read_text("utf-8"), re.DOTALL)
    rng, labels = np.random.default_rng(0), np.arange(96) % 6
    scores = rng.normal(size=(96, 500))
    scores[np.arange(96), 100 + labels] += signal
    there: dict[str, Any] = {
        "scores": scores,
        "labels": labels,
        "label_word_ids": np.arange(6),
        "new_scores": scores[:3],
    }
    exec(f"{example.rstrip()}\n".replace("choice.fit.readout.predict(", "p = choice.fit.readout.predict("), there)
    assert there["p"].shape == (3, 6)
    assert there["choice"].kind == kind


def commands_in(text: str) -> list[list[str]]:
    """The words of each zopog command in a page's shell blocks; no comments, redirections, `...`; variables are 1."""
    commands = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            for part in re.findall(r"(?:^|[;&]|\bdo) *(?:[A-Z_]+=\S+ +)*zopog +([^;&>]*)", line):
                words = re.sub(r"\$(\w+|\{[^}]*\})", "1", re.sub(r"[\[\]]| \.\.\.(?= |$)", "", part))
                commands.append([word.partition("|")[0] for word in shlex.split(words, comments=True)])
    return commands


def parse(words: list[str]) -> None:
    """Errors: SystemExit, from argparse."""
    parser = argparse.ArgumentParser(prog=f"zopog {words[0]}")
    importlib.import_module(f"zopog_ref.app.{COMMANDS[words[0]][0]}").add_arguments(parser)
    parser.parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_have_these_options(page: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the command line imports the models' package")
    for words in commands_in(page.read_text("utf-8")):
        parse(words)


def test_a_command_that_is_gone_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="the command line imports the models' package")
    page = "```sh\nfor seed in 1 2; do zopog tune ... --seed $seed \\\n   --no-such-option 3; done   # a comment\n```"
    [words] = commands_in(page)
    assert words == ["tune", "--seed", "1", "--no-such-option", "3"]
    with pytest.raises(SystemExit):
        parse(words)
    assert "--no-such-option" in capsys.readouterr().err


def pictures() -> Any:
    """docs/pictures/make.py, which is no package."""
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs" / "pictures" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_terminal_picture_shows_the_recorded_run() -> None:
    make = pictures()
    cast = make.CAST.read_text("utf-8")
    shown = (ROOT / "docs" / "pictures" / "terminal.svg").read_text("utf-8")
    assert "[2K" not in shown  # no code that steers a terminal
    assert "tuned + readout (vocabulary)" in shown
    pytest.importorskip("pyte", reason="a terminal in memory reads the recorded run")
    assert shown == make.svg(make.texts_of(cast))
    assert shown != make.svg(make.texts_of(cast.replace("supersense", "subsense")))
    result = re.search(r"tuned \(zo-pog\) +(\d\d\.\d%)", shown)
    assert result is not None
    assert f"| ZO-PoG, `--settings embedded` | {result[1]} |" in (ROOT / "docs" / "zo-pog.md").read_text("utf-8")


def settings_table(method: str) -> dict[str, list[str]]:
    """The rows of the table in a method's page: setting -> cells."""
    lines = (ROOT / "docs" / f"{method}.md").read_text("utf-8").partition("## Settings")[2].splitlines()
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("| `"):
            names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            values = [[value.strip().replace(",", "") for value in cell.split(", ")] for cell in cells[:2]]
            for i, name in enumerate(names.replace("`", "").split(", ")):
                rows[name] = [value[min(i, len(value) - 1)] for value in values]
    return rows


@pytest.mark.parametrize("method", [name for name in METHODS if (ROOT / "docs" / f"{name}.md").exists()])
@pytest.mark.parametrize(("column", "settings"), [(0, "embedded"), (1, "paper")])
def test_the_settings_tables_are_the_code(column: int, settings: str, method: str) -> None:
    rows, shipped = settings_table(method), PRESETS[method, settings]
    names = [*(name for name in PRESET_FIELDS if name != "loss"), *(field.name for field in fields(shipped.method))]
    for name in names:
        value = getattr(shipped if name in PRESET_FIELDS else shipped.method, name)
        shown = rows[name][column]
        if isinstance(value, bool):
            assert shown == ("on" if value else "off")
        else:
            assert shown == value if isinstance(value, str) else float(shown) == value, name


MEASURED = re.compile(r"^\| \**\[([^\]]+)\]\(([\w-]+\.md)\)\**[^|]*\| \**([\d.]+%)\** \|", re.M)


def compared() -> list[tuple[str, str, str]]:
    """(method, its page, mean test accuracy) of the first comparison in which-method.md."""
    text = (ROOT / "docs" / "which-method.md").read_text("utf-8")
    return MEASURED.findall(text.split("\n## ")[1])


def not_on_its_page(name: str, mean: str, page: str) -> str:
    """What the page's "Measured here" lacks of the comparison: a row of the method with that mean."""
    _, heading, measured = page.partition("\n## Measured here\n")
    if not heading:
        return "no such heading"
    rows = [line for line in measured.splitlines() if line.startswith(f"| {name}")]
    return "" if any(f"| **{mean}** |" in row for row in rows) else f"no row of {name} with {mean}"


def test_the_comparison_is_of_every_method_and_each_page_says_the_same() -> None:
    assert len(compared()) == len(METHODS)
    for name, page, mean in compared():
        assert not_on_its_page(name, mean, (ROOT / "docs" / page).read_text("utf-8")) == "", page


def test_another_number_on_a_page_is_caught() -> None:
    page = "# BBT\n\n## Measured here\n\n| BBT, settings | 50.0% | **54.2%** | |\n"
    assert not_on_its_page("BBT", "54.2%", page) == ""
    assert not_on_its_page("BBT", "54.3%", page) == "no row of BBT with 54.3%"
    assert not_on_its_page("BBT", "54.2%", "# BBT\n") == "no such heading"


@pytest.mark.parametrize("method", ["zo-pog", "bdpl", "bbt", "catcma", "sspt", "random-search"])
def test_a_method_s_page_says_what_a_reader_looks_for(method: str) -> None:
    text = (ROOT / "docs" / f"{method}.md").read_text("utf-8")
    for heading in ("Paper", "Official code", "Where we differ, and why", "Settings"):
        assert f"\n## {heading}\n" in text, heading
