"""What a terminal shows at any width: nothing wider, nothing left behind; plain lines in a file; what is missing."""

import builtins
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich", reason="the terminal needs rich (extra cpu)")

from rich.cells import cell_len

from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.compare.live import LiveTable
from zopog_ref.app.output import show
from zopog_ref.app.packages import from_extra
from zopog_ref.app.report.progress import Progress
from zopog_ref.app.report.terminal import table
from zopog_ref.methods import MissingPackage
from zopog_ref.search import Record

WIDTHS = (40, 60, 80, 100, 160)
HEADER = ("", "method", "accuracy", "95% interval", "over manual (95%)", "p, Holm", "NLL", "calls")
ROWS = [
    ("*", "zo-pog", "46.2%", "44.2 to 48.2", "+13.7 (+11.0 to +16.4)", "0.0001", "1.457", "160"),
    ("", "a method with [a] name of several words", "8.0%", "5.0 to 9.0", "-", "-", "2.075", "0"),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal; screen() is what stands on one of unlimited height."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Understands what rich's live displays write: line feeds, carriage returns, one line up, wipe the line."""
        lines, at, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                at, column = at + 1, 0
                lines += [""] * (at + 1 - len(lines))
            elif part == "\r":
                column = 0
            elif part == "\x1b[2K":
                lines[at] = ""
            elif match := re.fullmatch(r"\x1b\[(\d+)A", part):
                at -= int(match[1])
            elif not part.startswith("\x1b"):
                lines[at] = lines[at][:column].ljust(column) + part + lines[at][column + len(part) :]
                column += len(part)
        return [line.rstrip() for line in lines]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Terminal]:
    """Makes a terminal of that width of stdout and stderr."""

    def make(width: int, height: int = 30, **environment: str) -> Terminal:
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"COLUMNS": str(width), "LINES": str(height), "TERM": "xterm", **environment}.items():
            monkeypatch.setenv(name, value)
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return make


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def steps(progress: Progress) -> None:
    for step in range(1, 9):
        progress(Record(step, 10 * step, 0, 0, 0.25 + step / 20, 1.0, {"loss": 0.7 / step}))


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_fits_and_leaves_its_last_state_alone(width: int, terminal: Callable[..., Terminal]) -> None:
    stream = terminal(width)
    progress = Progress(budget=80, price=10)
    steps(progress)
    sys.stderr.write("a warning\n")  # stands above
    progress.close()
    lines = stream.screen()
    assert max(map(cell_len, lines)) <= width
    assert lines[0] == "a warning"
    assert set(lines[1]) == {"━"}
    words = " ".join(" ".join(lines[2:]).split())
    assert words == "calls 80 of 80, 0 left loss 0.087 best dev 65.0% done"
    assert sys.stderr is stream


@pytest.mark.parametrize("width", WIDTHS)
def test_the_live_table_shows_every_seed_at_any_width(
    width: int, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    cells = [Cell("t", m, s, tmp_path / m / str(s), ()) for m in ("zo-pog", "bbt:roberta") for s in (42, 14, 81, 7, 5)]
    for cell in cells[::2]:
        cell.folder.mkdir(parents=True)
        (cell.folder / "result.json").write_text('{"test_accuracy": 0.4375, "dev_accuracy": 0.5}')
    stream = terminal(width)
    show = LiveTable(cells, budgets=[160] * len(cells), rewrite=True)
    for _ in range(3):
        show({cells[1]: "out of luck"})
    show.close()
    lines = stream.screen()
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert [text.count(f"seed {seed}\n") + text.count(f"seed {seed} ") for seed in (42, 14, 81, 7, 5)] == [1] * 5
    assert (text.count("43.8%"), text.count("failed")) == (5, 2)  # a cell, and the line of the sum
    assert text.count("cells") == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_is_a_table_where_it_fits_and_paragraphs_where_not(
    width: int, terminal: Callable[..., Terminal]
) -> None:
    terminal(width)
    lines = plain(table(HEADER, ROWS, "llrrrrrr")).splitlines()
    assert max(map(cell_len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "a method with [a] name of several words" in text
    assert all(cell in text for row in ROWS for cell in row)
    assert (len(lines) == 3) == (width > 130)


def test_plain_lines_in_a_file_and_on_a_dumb_terminal(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["n      value", "one        1", "three     22"]
    terminal(10, TERM="dumb")
    assert table(("n", "value"), [("one", "1"), ("three", "22")], "lr").splitlines() == wanted
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert table(("n", "value"), [("one", "1"), ("three", "22")], "lr").splitlines() == wanted
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with_lines = Progress(budget=80, price=10)
    steps(with_lines)
    with_lines.close()
    assert len(stream.getvalue().splitlines()) == 8
    assert stream.getvalue().splitlines()[-1] == ("calls    80 of 80,     0 left   loss 0.087   best dev 65.0%   done")
    assert "\x1b" not in stream.getvalue()


def test_no_color_is_obeyed(terminal: Callable[..., Terminal]) -> None:
    terminal(160, NO_COLOR="1")
    assert not re.search(r"\x1b\[3\d", table(HEADER, ROWS, "llrrrrrr"))
    stream = terminal(60, NO_COLOR="1")
    progress = Progress(budget=80, price=10)
    steps(progress)
    progress.close()
    assert not re.search(r"\x1b\[(3\d|38;)", stream.getvalue())


def test_what_is_missing_is_named_with_the_line_to_install(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] in ("rich", "scipy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
        return real(name, *rest)

    terminal(80)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage, match=re.escape("""needs the package 'rich': pip install "rich>=13.7\"""")):
        Progress(budget=80, price=10)
    with pytest.raises(MissingPackage, match=r"'scipy': pip install .scipy>=1.13"), from_extra():
        import scipy  # noqa: F401


LISTED = """bdpl  policy gradient on discrete tokens, categorical distributions
next:   zopog predict runs/supersense-zo-pog-42 --text "..."
deployed: the template, not the tuned prompt, which is not --deploy-tuned"""


def test_sentences_break_between_words_and_commands_stay_whole(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = terminal(40)
    show(LISTED)
    assert shown.screen() == [
        "bdpl  policy gradient on discrete",
        "      tokens, categorical distributions",
        'next:   zopog predict runs/supersense-zo-pog-42 --text "..."',
        "deployed: the template, not the tuned",
        "prompt, which is not --deploy-tuned",
        "",
    ]
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    show(LISTED)
    assert file.getvalue() == LISTED + "\n"
