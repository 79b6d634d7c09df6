"""CONTRIBUTING.md is true: its method and its row run, join as the page says, and its files exist."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.methods.test_matrix import SYNTHETIC, check_charges, check_result, check_resumes
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.lines import evaluate
from zopog_ref.method import Method
from zopog_ref.methods import METHODS, method_class, settings_class

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def blocks(heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def mutation(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Method]]:
    """The page's method, where the page says that its file stands, named as the page names it."""
    written, joined = blocks("A method")
    module = ModuleType("zopog_ref.methods.mutation")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(written, "CONTRIBUTING.md", "exec"), vars(module))
    exec(joined, {})
    yield method_class("mutation")
    del METHODS["mutation"]


@pytest.mark.parametrize("problem", SYNTHETIC)
@pytest.mark.parametrize("check", [check_charges, check_result, check_resumes])
def test_the_method_passes_what_every_method_passes(mutation: type[Method], problem: str, check) -> None:
    check(mutation, SYNTHETIC[problem])


def test_the_method_s_settings_are_checked(mutation: type[Method]) -> None:
    assert settings_class("mutation") is mutation.Settings
    assert mutation.Settings().samples == 10
    for setting in ({"samples": 0}, {"sigma": float("nan")}, {"sigma": -1.0}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            mutation.Settings(**setting)


def test_the_row_holds_and_catches_a_broken_estimator() -> None:
    [written] = blocks("A row of the theory")
    names: dict = {}
    exec(compile(written, "CONTRIBUTING.md", "exec"), names)
    line = names["LINE"]
    assert f"[{line.label}]" in line.function.__doc__
    assert [result.holds for result in evaluate([line], Bench(effort=TINY))] == [True]

    def bdpl(losses, tokens, alpha, p, tau):
        drawn = tokens[..., None] == range(alpha.shape[1])
        return ((losses - losses.mean())[:, None, None] * (2.0 * drawn - 1.0) / p).sum(axis=0) / (len(losses) - 1)

    assert [result.holds for result in evaluate([line], Bench(effort=TINY, policy=bdpl))] == [False]


def test_the_files_of_the_tables_exist() -> None:
    """Each path in a table's first column, but for those that hold a NAME or a pattern, which have a folder."""
    cells = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    named = [path for cell in cells for path in re.findall(r"`([\w/.*]+)`", cell)]
    assert len(named) > 20
    for path in named:
        looked_for = path if not re.search(r"NAME|\*", path) else str(Path(path).parent)
        found = [base / looked_for for base in (ROOT, ROOT / "tests" / "models", ROOT / "docs")]
        assert any(place.exists() for place in found), path
