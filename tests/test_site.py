"""docs/site/hooks.py: which pages the site has, and where their links lead."""

import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.test_mathematics import SITE, of_the_site


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    for package in ("mkdocs", "nbformat", "nbclient", "nbconvert"):
        pytest.importorskip(package, reason="the site is built with it (group docs)")
    return of_the_site("hooks")


def test_links_to_source_files_and_the_notebook_lead_to_their_pages(hooks: ModuleType) -> None:
    page = "[a](../zopog_ref/readout.py) [b](x.ipynb#s1) [c](https://e.org/x.py) [d](#here) [e](y.md)"
    led = "[a](../zopog_ref/readout.py.md) [b](x.ipynb.md#s1) [c](https://e.org/x.py) [d](#here) [e](y.md)"
    assert hooks.on_page_markdown(page) == led


def test_an_index_begins_no_emphasis(hooks: ModuleType) -> None:
    from markdown import markdown

    page = "*a* ∇_α f̄_μ, (b)_i c_j, ∇\\_z, `(a)_b`\n\n```\nf(x)_y\n```\n"
    led = hooks.on_page_markdown(page)
    assert led == page.replace("∇_α f̄_μ, (b)_i", "∇\\_α f̄\\_μ, (b)\\_i")
    assert "<p><em>a</em> ∇_α f̄_μ, (b)_i c_j, ∇_z, <code>" in markdown(led)


def test_a_page_is_made_of_each_source_file_that_a_page_links_to(
    hooks: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files

    monkeypatch.setattr(hooks, "CARRIED", ())
    config = MkDocsConfig()
    config.load_dict({"site_name": "x", "docs_dir": str(tmp_path), "site_dir": str(tmp_path / "site")})
    config.validate()
    monkeypatch.setattr(config.plugins, "_current_plugin", "hooks", raising=False)  # as while a hook runs
    text = "[a](../zopog_ref/checks.py#L1) [again](../zopog_ref/checks.py) [dead](../zopog_ref/nothing.py)"
    found = hooks.on_files(Files([File.generated(config, "docs/a.md", content=text)]), config)
    assert [file.src_uri for file in found] == ["docs/a.md", "zopog_ref/checks.py.md"]


def test_a_listing_is_the_whole_file_and_is_not_searched(hooks: ModuleType) -> None:
    page = hooks.listing("examples/own_function.py")
    assert (SITE.parents[1] / "examples" / "own_function.py").read_text("utf-8") in page
    assert page.startswith("---\nhide: [toc]\nsearch: {exclude: true}\n---\n# examples/own_function.py\n")
    assert "{.python linenums" in page


def test_mathematics_is_set_on_pages_and_not_in_listings(hooks: ModuleType) -> None:
    def shown(place: str) -> str:
        return str(hooks.on_page_content("<p>E_t</p>", SimpleNamespace(file=SimpleNamespace(src_uri=place))))

    assert shown("docs/theory.md") == "<p>E<sub>t</sub></p>"
    assert {shown(place) for place in ("docs/api/x.md", "a.py.md", "b.mjs.md")} == {"<p>E_t</p>"}


def test_options_and_intervals_stay_in_one_line(hooks: ModuleType) -> None:
    page = "<td>57.8 (54.0 to 61.6), [−0.6–7.8]; (I to VI)</td><code>--text-column</code> <code>zopog tune --method auto --budget 15</code>"
    shown = hooks.unbroken(page)
    assert '>(54.0 to 61.6)</span>, <span class="whole">[−0.6–7.8]</span>; (I to VI)<' in shown
    assert '<code class="whole">--text-column</code> <code>zopog' in shown
    css = (SITE / "style.css").read_text("utf-8")
    assert ".md-typeset .whole { white-space: nowrap; }" in css


def test_a_reader_can_leave_the_theme_that_the_browser_keeps() -> None:
    text = (SITE.parents[1] / "mkdocs.yml").read_text("utf-8")
    [palette] = re.findall(r"^  palette:.*\n((?:    .*\n)+)", text, re.MULTILINE)
    first, *others = palette.split("- media: ")[1:]
    assert first.startswith('"(prefers-color-scheme)"')  # follows the system until the reader chooses
    assert len(others) == 2
    assert all("toggle: {icon: material/" in scheme for scheme in (first, *others))


def test_every_page_and_picture_of_the_repository_is_carried(hooks: ModuleType) -> None:
    root = SITE.parents[1]
    carried = {path for pattern in hooks.CARRIED for path in root.glob(pattern)}
    wanted = {
        *root.glob("docs/**/*.md"),
        *root.glob("docs/pictures/*.[sp][vn]g"),
        *root.glob("models/**/*.md"),
        *root.glob("examples/*.md"),
        root / "README.md",
        root / "SECURITY.md",
    }
    assert {path.relative_to(root).as_posix() for path in wanted - carried} == set()
