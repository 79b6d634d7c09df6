"""Packages of the extras: imported where they are used, so that what needs none of them runs without."""

from collections.abc import Iterator
from contextlib import contextmanager

from zopog_ref.methods import MissingPackage


@contextmanager
def from_extra(extra: str = "cpu") -> Iterator[None]:
    """Around an import statement. Errors: MissingPackage, which says what to install."""
    try:
        yield
    except ModuleNotFoundError as missing:
        install = f'pip install "zopog-ref[{extra}]"'
        raise MissingPackage(f"this needs the package {missing.name!r}: {install}") from missing
