"""The repository as a site: every page under its own path, so that a link leads to the same thing here and there.

Pages are the Markdown files of the repository, the notebook, which is executed, and a listing of each source file
that a page links to.
"""

import posixpath
import re
import sys
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

from zopog_ref.app.verify.formulas import FORMULAS, mathml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from mathematics import with_formulas, with_indices  # noqa: E402

CARRIED = (
    "*.md",
    "docs/*.md",
    "docs/api/*.md",
    "docs/pictures/*.svg",
    "docs/pictures/*.png",
    "models/**/*.md",
    "examples/*.md",
    "CITATION.cff",
)
LANGUAGES = {".py": "python", ".mjs": "javascript"}  # what is listed
INDEXED = re.compile(r"```.*?^ *```|`[^`]*`|(?<=[∇)}‖\u0302\u0304])_(?=[\w{])", re.DOTALL | re.MULTILINE)  # _, or code
SHORT = re.compile(r"<code>([^<]{1,28})</code>")
INTERVAL = re.compile(r"[(\[][−+]?\d[\d.,]*%?(?: to |–)[−+]?\d[\d.,]*%?[)\]]")
LISTED = re.compile(r"(?<=\]\()(?![a-z]+:)[^)#\s]+\.(?:py|mjs|ipynb)(?=[)#])")  # a link's target


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the repository's pages and pictures, and what pages link to that is a page only here."""
    for path in sorted({path for pattern in CARRIED for path in ROOT.glob(pattern)}):
        files.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls))
    for page in list(files.documentation_pages()):
        for target in LISTED.findall(page.content_string):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page.src_uri), target))
            if files.get_file_from_path(f"{path}.md") is None and (ROOT / path).is_file():
                content = executed(ROOT / path) if path.endswith(".ipynb") else listing(path)
                files.append(File.generated(config, f"{path}.md", content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Leads links to source files and to the notebook to their pages; ∇_α and f̄_μ begin no emphasis."""
    led = LISTED.sub(r"\g<0>.md", markdown)
    return INDEXED.sub(lambda found: r"\_" if found[0] == "_" else found[0], led)


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Sets formulas as mathematics; listings of source and the pages of the code's own names stay as they are."""
    if page.file.src_uri.startswith("docs/api/") or page.file.src_uri.endswith((".py.md", ".mjs.md")):
        return html
    return unbroken(with_indices(with_formulas(html, FORMULAS, mathml)))


def unbroken(html: str) -> str:
    """Options and intervals as they are read, in one line: --text-column, (54.0 to 61.6)."""
    return INTERVAL.sub(r'<span class="whole">\g<0></span>', SHORT.sub(r'<code class="whole">\1</code>', html))


def listing(path: str) -> str:
    """A source file as a page, wide, which the search leaves out."""
    text, language = (ROOT / path).read_text("utf-8"), LANGUAGES[Path(path).suffix]
    about = "---\nhide: [toc]\nsearch: {exclude: true}\n---\n"
    return f'{about}# {path}\n\n```` {{.{language} linenums="1"}}\n{text}````\n'


def executed(path: Path) -> str:
    """A notebook as a page, with what its cells print now. Errors: CellExecutionError, which ends the build."""
    notebook = nbformat.read(path, as_version=4)
    config = Config({"KernelManager": {"transport": "ipc"}})  # no open ports
    NotebookClient(notebook, timeout=900, kernel_name="python3", coalesce_streams=True, config=config).execute()
    page: str = MarkdownExporter().from_notebook_node(notebook)[0]
    return page
