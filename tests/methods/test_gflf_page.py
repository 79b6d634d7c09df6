"""docs/gflf.md has three settings tables: each is the code's."""

from dataclasses import fields
from pathlib import Path

import pytest

presets = pytest.importorskip("zopog_ref.app.run.presets")
TEXT = (Path(__file__).parents[2] / "docs" / "gflf.md").read_text("utf-8").partition("## Settings")[2]


def table(title: str) -> dict[str, list[str]]:
    """setting -> its two cells, of the table under `title:`."""
    rows: dict[str, list[str]] = {}
    for line in TEXT.partition(f"\n{title}:\n")[2].lstrip().splitlines():
        if not line.startswith("|"):
            break
        if line.startswith("| `"):
            names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            values = [[value.replace(",", "") for value in cell.split(", ")] for cell in cells[:2]]
            for i, name in enumerate(names.replace("`", "").split(", ")):
                rows[name] = [value[min(i, len(value) - 1)] for value in values]
    return rows


@pytest.mark.parametrize(
    ("title", "method"), [("Ensembles", "ensembles"), ("CMA-ELBO", "cma-elbo"), ("ABC-SMC", "abc-smc")]
)
@pytest.mark.parametrize(("column", "settings"), [(0, "embedded"), (1, "paper")])
def test_the_settings_tables_are_the_code(title: str, method: str, column: int, settings: str) -> None:
    rows, shipped = table(title), presets.PRESETS[method, settings]
    names = [name for name in presets.PRESET_FIELDS if name != "loss"] + [
        field.name for field in fields(shipped.method)
    ]
    assert set(rows) == set(names)
    for name in names:
        value = getattr(shipped if name in presets.PRESET_FIELDS else shipped.method, name)
        shown = rows[name][column]
        assert shown == ("on" if value else "off") if isinstance(value, bool) else float(shown) == value, name
