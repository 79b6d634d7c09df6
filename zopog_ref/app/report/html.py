"""Pages from templates: one file each, its style inside, and every text from data escaped."""

import re
from datetime import date
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from zopog_ref.app.packages import from_extra

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
_FOLDERS = re.compile(r"(?<![\w:/.~-])~?/(?:[^\s/'\",:;]+/)+(?=[^\s/])")  # of a path from the root, in a text
_SPACES = str.maketrans({"Ġ": "␣", "▁": "␣", "\n": "↵", "\t": "⇥"})  # how tokenizers write the space before a word


@cache
def environment() -> "Environment":
    """The templates, with format(value, spec) as `|f`. Errors: MissingPackage."""
    with from_extra():
        import jinja2
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (counted, elsewhere, minus, points, readable, without_folders)
    made.filters |= {"f": format} | {filter.__name__: filter for filter in filters}
    made.globals["style"] = (FOLDER / "style.css").read_text(encoding="utf-8")
    return made


def render(template: str, **values: Any) -> str:
    """The page of templates/`template`. A value with __html__ (a plot) is taken as it is; all others are text."""
    return with_contents(environment().get_template(template).render({"today": date.today().isoformat(), **values}))


def with_contents(page: str) -> str:
    """Every section's heading with an address of its own, and below the page's head a list of them."""
    found: list[tuple[str, str]] = []

    def addressed(heading: re.Match[str]) -> str:
        words = re.sub(r"<[^>]*>", "", heading[1])
        found.append((f"s{len(found) + 1}", words))
        return f'<h2 id="{found[-1][0]}">{heading[1]}</h2>'

    head, end, rest = page.partition("</header>")
    rest = re.sub("<h2>(.*?)</h2>", addressed, rest, flags=re.DOTALL)
    links = "".join(f'<a href="#{place}">{words}</a>' for place, words in found)
    return f'{head}{end}<nav class="contents" aria-label="contents">{links}</nav>{rest}' if len(found) > 2 else page


def counted(number: int, what: str) -> str:
    """3 methods, 1 method."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def elsewhere(path: str | Path) -> str:
    """A path as a reader on another machine can use it: its name; a relative one, a hub's name and an address stay."""
    return PurePath(path).name if PurePath(path).is_absolute() else str(path)


def without_folders(text: str) -> str:
    """A text whose paths lead to no folders of the machine that wrote it."""
    return _FOLDERS.sub("", text)


def minus(text: str) -> str:
    """Hyphens of numbers as minus signs."""
    return text.replace("-", "−")


def points(value: float) -> str:
    """A difference of accuracies, in percentage points with its sign."""
    return minus(f"{100 * value:+.1f}")


def readable(token: str) -> str:
    """A token as a person reads it: the mark of a leading space as an open box."""
    return token.translate(_SPACES)
