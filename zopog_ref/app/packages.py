"""Packages of the extras: imported where they are used, so that what needs none of them runs without."""

from collections.abc import Iterator
from contextlib import contextmanager

from zopog_ref.methods import MissingPackage

# package -> what pip is to be asked for, as the extra `report` has it
REQUIREMENTS = {
    "argcomplete": "argcomplete>=3.2",
    "jinja2": "jinja2>=3.1",
    "latex2mathml": "latex2mathml>=3.81",
    "rich": "rich>=13.7",
    "scipy": "scipy>=1.13",
}


@contextmanager
def from_extra() -> Iterator[None]:
    """Around an import statement. Errors: MissingPackage, which says what to install."""
    try:
        yield
    except ModuleNotFoundError as missing:
        name = (missing.name or "").partition(".")[0]
        wanted = REQUIREMENTS.get(name, name)
        raise MissingPackage(f'this needs the package {name!r}: pip install "{wanted}"') from missing
