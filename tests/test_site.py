"""docs/site/hooks.py: which pages the site has, and where their links lead."""

import importlib.util
from types import ModuleType, SimpleNamespace

import pytest

from tests.test_mathematics import SITE


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    for package in ("mkdocs", "nbformat", "nbclient", "nbconvert"):
        pytest.importorskip(package, reason="the site is built with it (group docs)")
    spec = importlib.util.spec_from_file_location("hooks", SITE / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_to_source_files_and_the_notebook_lead_to_their_pages(hooks: ModuleType) -> None:
    page = "[a](../zopog_ref/readout.py) [b](x.ipynb#s1) [c](https://e.org/x.py) [d](#here) [e](y.md) ∇_α x"
    led = "[a](../zopog_ref/readout.py.md) [b](x.ipynb.md#s1) [c](https://e.org/x.py) [d](#here) [e](y.md) ∇\\_α x"
    assert hooks.on_page_markdown(page) == led


def test_a_listing_is_the_whole_file_and_is_not_searched(hooks: ModuleType) -> None:
    page = hooks.listing("examples/own_function.py")
    assert (SITE.parents[1] / "examples" / "own_function.py").read_text("utf-8") in page
    assert "search: {exclude: true}" in page
    assert "{.python linenums" in page


def test_mathematics_is_set_on_pages_and_not_in_listings(hooks: ModuleType) -> None:
    def shown(place: str) -> str:
        return str(hooks.on_page_content("<p>E_t</p>", SimpleNamespace(file=SimpleNamespace(src_uri=place))))

    assert shown("docs/theory.md") == "<p>E<sub>t</sub></p>"
    assert {shown(place) for place in ("docs/api/x.md", "a.py.md", "b.mjs.md")} == {"<p>E_t</p>"}


def test_every_page_and_picture_of_the_repository_is_carried(hooks: ModuleType) -> None:
    root = SITE.parents[1]
    carried = {path for pattern in hooks.CARRIED for path in root.glob(pattern)}
    wanted = {
        *root.glob("docs/**/*.md"),
        *root.glob("docs/pictures/*.[sp][vn]g"),
        root / "README.md",
        root / "SECURITY.md",
    }
    assert {path.relative_to(root).as_posix() for path in wanted - carried} == set()
