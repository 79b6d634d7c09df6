"""What an installation brings is what the pages' commands need, and the lines that errors name are those of pyproject.toml."""

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import zopog_ref
from tests.test_docs import PAGES, commands_in
from zopog_ref.app.run.presets import SEARCHLESS
from zopog_ref.methods import METHODS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
README_INSTALLS = "cpu"


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0].lower()


def packages(extra: str) -> set[str]:
    """Names that an extra brings, its parts followed; the two ONNX Runtimes are one."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        if name_of(requirement) == "zopog-ref":
            found |= set().union(*map(packages, re.findall(r"[\w-]+", requirement.partition("[")[2])))
        else:
            found.add(name_of(requirement).replace("onnxruntime-gpu", "onnxruntime"))
    return found


def test_the_extras_are_what_the_readme_says() -> None:
    assert packages("deploy") == {"onnxruntime", "tokenizers"}
    assert packages("cpu") >= {
        "cma",
        "cmaes",
        "threadpoolctl",
        "jinja2",
        "rich",
        "scipy",
        "scikit-learn",
        *packages("deploy"),
    }
    for kind in ("gpu", "gpu-cu12"):
        assert packages(kind) == packages("cpu")
        assert packages(f"deploy-{kind}") == packages("deploy")
    assert {package for entry in METHODS.values() for package in entry.packages} <= packages("cpu")
    assert {entry.extra for entry in METHODS.values()} <= set(EXTRAS)


def test_every_requirement_has_a_floor() -> None:
    """A real version, which the build installs; no floor is a promise about versions nobody tried."""
    for requirement in [*PROJECT["project"]["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]:
        assert name_of(requirement) == "zopog-ref" or re.search(r">=\d+\.\d+", requirement), requirement


# -- the commands of the pages ----------------------------------------------------------------------------------------


def value(words: list[str], option: str) -> str:
    return next((after for word, after in pairwise(words) if word == option), "")


def needed(words: list[str]) -> set[str]:
    """The packages that a zopog command imports, from its name and options."""
    model = value(words, "--model")
    found = set() if words[0] in ("verify", "doctor", "methods", "models", "tasks") else packages("deploy")
    methods = ",".join([value(words, "--method"), value(words, "--methods")]).strip(",").split(",")
    for method in METHODS if "all" in methods else [name.partition(":")[0] for name in methods]:
        found |= set(METHODS[method].packages) if method not in ("", *SEARCHLESS) else set()
    if words[0] in ("tune", "compare"):
        found |= {"rich"}
    if words[0] == "compare":
        found |= {"jinja2", "scipy"}
    if words[0] == "verify" and "--out" in words:
        found |= {"jinja2"}
    if "ray" in words or (words[0] == "tune" and "--workers" in words):
        found |= {"ray"}
    if model.startswith(("kserve+", "completions+")):
        found |= {"urllib3"}
    elif re.fullmatch(r"[A-Z][\w.-]*/[\w.@-]+|[a-z][\w-]*-community/[\w.@-]+", model):
        found |= {"huggingface-hub"}
    if words[0] == "push" and "--dry-run" not in words:
        found |= {"huggingface-hub"}
    if tracker := value(words, "--track"):
        found |= {"mlflow-skinny" if tracker == "mlflow" else tracker}
    if value(words, "--precision") == "bf16":
        found |= {"openvino"}
    if value(words, "--backend") == "cupy":
        found |= {"cupy"}
    return found - {"numpy"}


def brought(extras: set[str]) -> set[str]:
    found = set().union(*map(packages, extras & set(EXTRAS)))
    return {re.sub(r"^cupy-cuda\d+x$", "cupy", name).replace("huggingface_hub", "huggingface-hub") for name in found}


def told(text: str) -> set[str]:
    """The extras that a text has named: in a line of pip, or as `extra name`."""
    lines = [name for names in re.findall(r"\.\[([\w,-]+)\]", text) for name in names.split(",")]
    return {README_INSTALLS, *lines, *re.findall(r"\bextra `?(\w+)", text)}


def missing(page: str) -> Iterator[tuple[str, set[str]]]:
    """(command, packages) of every zopog command whose packages nothing before it, nor its own block, has installed."""
    for block in re.finditer(r"```sh\n.*?```", page, re.DOTALL):
        for words in commands_in(block.group()):
            if lacking := needed(words) - brought(told(page[: block.end()])):
                yield " ".join(words), lacking


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_s_commands_run_after_what_it_installs(page: Path) -> None:
    assert list(missing(page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [("tune --workers 2", "ray", "cluster"), ("tune --model Org/name", "huggingface-hub", "hub"),
     ("tune --model kserve+http://h/v2/models/m", "urllib3", "remote"), ("tune --backend cupy", "cupy", "cupy-cu12"),
     ("tune --precision bf16", "openvino", "openvino"), ("push runs/mine org/name", "huggingface-hub", "hub"),
     ("tune --track mlflow", "mlflow-skinny", "mlflow"), ("tune --track trackio", "trackio", "trackio"), ("compare --executor ray", "ray", "cluster")],
)  # fmt: skip
def test_a_command_without_its_package_is_caught(command: str, package: str, extra: str) -> None:
    block = f"```sh\nzopog {command}\n```\n"
    assert [lacking for _, lacking in missing(block)] == [{package}]
    assert list(missing(f'`pip install ".[{extra}]"`\n{block}')) == []
    assert list(missing(f'{block}`pip install ".[{extra}]"`\n')) != []


def test_the_readme_s_methods_come_with_its_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: cpu without the strategies."""
    for kind in ("cpu", "gpu", "gpu-cu12"):
        monkeypatch.setitem(EXTRAS, kind, ["zopog-ref[deploy,report,sklearn]"])
    page = (ROOT / "README.md").read_text("utf-8")
    assert {package for _, lacking in missing(page) for package in lacking} == {"cma", "threadpoolctl"}


# -- the lines that errors name ---------------------------------------------------------------------------------------

INSTALLED = re.compile(r'"([a-z][\w-]+(?:\[[\w,]+\])?[<>=][\d.,<>=]+)"')


def test_errors_name_the_requirements_of_the_extras() -> None:
    requirements = {requirement for extra in EXTRAS.values() for requirement in extra}
    sources = [path for room in ("zopog_ref", "models/zopog_models", "kernels") for path in (ROOT / room).rglob("*.py")]
    named = {name for path in sources for name in INSTALLED.findall(path.read_text("utf-8"))}
    assert len(named) > 6
    assert named <= requirements


def test_what_is_named_when_it_is_missed_is_what_the_extra_asks_for() -> None:
    from zopog_ref.app.packages import REQUIREMENTS

    assert set(REQUIREMENTS.values()) == set(EXTRAS["report"]) | set(EXTRAS["completion"])


def test_no_error_names_an_extra_that_a_clone_cannot_use() -> None:
    """pip does not find zopog-ref[...] from a clone; only the command line's last resort names both lines."""
    sources = [path for room in ("zopog_ref", "models/zopog_models", "kernels") for path in (ROOT / room).rglob("*.py")]
    naming = [path.name for path in sources if "zopog-ref[" in path.read_text("utf-8")]
    assert naming == ["command_line.py"]


# -- one version ------------------------------------------------------------------------------------------------------


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert zopog_ref.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version = {{{version}}}" in (ROOT / "README.md").read_text("utf-8")
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[:2] == [
        "Unreleased",
        version,
    ]
