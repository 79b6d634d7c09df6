"""errors: one base for what a user can mend, and nothing named elsewhere."""

import ast
from pathlib import Path

import pytest

import zopog_models
from zopog_models import errors

PACKAGE = Path(zopog_models.__file__).parent
NAMED = {name: getattr(errors, name) for name in errors.__all__}
LATER = {
    "ServiceError",
    "CapReached",
    "Refused",
    "Stopped",
    "ClusterError",
}  # the same question may be answered later: exit code 1


@pytest.mark.parametrize("name", NAMED)
def test_who_can_mend_it_decides_the_base(name: str) -> None:
    if name in LATER:
        assert issubclass(NAMED[name], OSError)
        assert not issubclass(NAMED[name], errors.UnusableInput)
    else:
        assert issubclass(NAMED[name], errors.UnusableInput)
        assert issubclass(NAMED[name], ValueError)
    assert name != "ProviderError" or issubclass(NAMED[name], RuntimeError)


@pytest.mark.parametrize("name", NAMED)
def test_the_command_line_says_it_with_the_right_code(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zopog_ref.app import command_line, listings

    def fails(arguments: object) -> int:
        raise NAMED[name]("what is wrong")

    monkeypatch.setattr(listings, "run", fails)
    assert command_line.main(["tasks"]) == (1 if name in LATER else 2)
    assert "zopog: what is wrong" in capsys.readouterr().err


def raised_classes(source: str) -> set[str]:
    """Public exception classes that a source defines."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    bases = {node.name: {base.id for base in node.bases if isinstance(base, ast.Name)} for node in classes}
    ends = ("Error", "Exception", "Mismatch", "UnusableInput")
    return {name for name, of in bases.items() if name[0] != "_" and any(base.endswith(ends) for base in of)}


def test_every_named_error_stands_in_errors() -> None:
    elsewhere = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path != Path(errors.__file__)
        for name in raised_classes(path.read_text("utf-8"))
    }
    assert elsewhere == {
        "files/durable.py: DiskFull",  # of any file, with what was kept
        "runners/waiting.py: Late",
        "runners/waiting.py: Unwanted",
    }  # transport.py names what they mean
    assert raised_classes(Path(errors.__file__).read_text("utf-8")) == set(NAMED)  # the twin: they are seen there
