"""The documentation is true: its links lead somewhere, its Python runs, its settings are the shipped ones."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from zopog_ref.app.presets import PRESET_FIELDS, PRESETS
from zopog_ref.methods import METHODS

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").rglob("*.md")], key=lambda path: path.as_posix()
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


def dead_links(text: str, folder: Path) -> list[str]:
    return [
        target for target in LINK.findall(text) if "://" not in target and not (folder / target).resolve().exists()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page.read_text("utf-8"), page.parent) == []


def test_a_dead_link_is_caught() -> None:
    assert dead_links("[here](docs/no-such-page.md) [web](https://example.org)", ROOT) == ["docs/no-such-page.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert re.findall(r"@[A-Z_]+@|TODO|FIXME", page.read_text("utf-8")) == []


def test_the_readme_s_estimators_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    [estimators] = [block for block in blocks if "two_point_gradient" in block]
    code = estimators + "\nassert g_alpha.shape == (2, 3) and g_z.shape == (5,)\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


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


@pytest.mark.parametrize("method", ["zo-pog", "bdpl", "bbt", "catcma", "sspt", "random-search"])
def test_a_method_s_page_says_what_a_reader_looks_for(method: str) -> None:
    text = (ROOT / "docs" / f"{method}.md").read_text("utf-8")
    for heading in ("Paper", "Official code", "Where we differ, and why", "Settings"):
        assert f"\n## {heading}\n" in text, heading
