"""The README's two pictures, from real runs.

    python docs/pictures/make.py record               # make demo in a terminal, about a minute; writes demo.cast
    python docs/pictures/make.py terminal             # demo.cast -> terminal.svg
    python docs/pictures/make.py report REPORT.html   # the report of a zopog compare -> report.png

demo.cast is an asciicast (version 2): every byte of the run with its time. The SVG plays it, the minute shortened to a
few seconds; where nothing may move (prefers-reduced-motion, a viewer without animation) it shows the end. `terminal`
needs pyte, a terminal in memory, which knows what each byte does to the screen; `report` needs Chromium and Pillow.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from html import escape
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT, CAST = HERE.parent.parent, HERE / "demo.cast"
TYPED = "make demo"
COLUMNS, ROW, CHARACTER, MARGIN, BAR = 100, 19.0, 8.15, 16.0, 28.0  # characters; pixels
TYPING, PLAYED, HELD = 1.0, 8.0, 10.0  # seconds: before the first output, the run, its end
BEGINS = 12.0  # seconds into that: at the end, which is also what a viewer shows that takes the first moment for all
FRAMES = 60  # of a row that is drawn again and again
HIGHEST = 200  # rows, more than a run writes: nothing scrolls away
PAGE, SCALE, COLOURS, MARGIN_AROUND = 1120, 1.5, 96, 24  # of the report: pixels, device pixels a pixel, colours, pixels
SHOWN = """main > :not(.task), .task > h2, .task > h2 ~ p:not(h3 ~ p), .task > .panels ~ *, .panels > :nth-child(n + 4)
{ display: none !important } .task > h3:first-of-type { margin-top: 0 !important }"""


class Text(NamedTuple):
    """What stands in a row of the terminal from one moment to another, in seconds of the run."""

    row: int
    text: str
    start: float
    end: float


def record() -> None:
    """Runs the command in a pseudo-terminal without colours; keeps what it wrote and when, in seconds."""
    import pty

    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm", NO_COLOR="1")
    os.chdir(ROOT)
    subprocess.run(["make", ".venv/.installed"], check=True)  # which is not what the picture shows
    started, events = time.monotonic(), []

    def keep(terminal: int) -> bytes:
        data = os.read(terminal, 65536)
        events.append([round(time.monotonic() - started, 3), "o", data.decode("utf-8", "ignore")])
        return data

    if status := pty.spawn(TYPED.split(), keep):
        raise SystemExit(f"{TYPED} ended with {status}")
    header = {"version": 2, "width": COLUMNS, "height": HIGHEST, "command": TYPED}
    CAST.write_text("".join(json.dumps(line) + "\n" for line in [header, *events]), "utf-8")


def texts_of(cast: str) -> list[Text]:
    """What each row shows and when."""
    import pyte

    header, *events = map(json.loads, cast.splitlines())
    screen = pyte.Screen(header["width"], header["height"])
    stream = pyte.Stream(screen)
    texts: list[Text] = []
    now = [("", 0.0)] * header["height"]  # of each row its text, and since when
    for moment, _, data in events:
        stream.feed(data)
        for row in screen.dirty:
            was, since = now[row]
            if (text := screen.display[row].rstrip()) != was:
                texts.append(Text(row, was, since, moment))
                now[row] = text, moment
        screen.dirty.clear()
    texts += [Text(row, text, since, float("inf")) for row, (text, since) in enumerate(now)]
    return [text for text in texts if text.text]


def thinned(texts: list[Text]) -> list[Text]:
    """Of a row that was rewritten often, about FRAMES of its texts, the last among them, each shown until the next."""
    out: list[Text] = []
    for row in sorted({text.row for text in texts}):
        own = [text for text in texts if text.row == row]
        kept = own[:: -max(1, len(own) // FRAMES)][::-1]
        ends = [*(text.start for text in kept[1:]), own[-1].end]
        out += [text._replace(end=end) for text, end in zip(kept, ends, strict=True)]
    return out


def svg(texts: list[Text]) -> str:
    """The terminal as an animated SVG, without a font or a script of its own."""
    last, whole = max(text.start for text in texts), TYPING + PLAYED + HELD
    width = COLUMNS * CHARACTER + 2 * MARGIN
    height = BAR + (max(text.row for text in texts) + 2) * ROW + 2 * MARGIN

    def share(moment: float) -> float:
        return round(100 * (TYPING + PLAYED * moment / last) / whole, 2)

    def drawn(row: int, text: str, about: str) -> str:
        return f'<text x="{MARGIN:g}" y="{BAR + MARGIN + (row + 0.7) * ROW:g}" {about}>{escape(text)}</text>'

    hide, show = "{visibility:hidden}", "{visibility:visible}"
    styles, lines = [], [drawn(0, f"$ {TYPED}", 'class="typed"')]
    for number, text in enumerate(thinned(texts)):
        stays = text.end == float("inf")
        until = "" if stays else f"{share(text.end)}%,to{hide}"
        styles.append(f"@keyframes k{number}{{0%{hide}{share(text.start)}%{show}{until}}}")
        styles.append(f"#l{number}{{animation-name:k{number}}}")
        kind = "moves" + " end" * stays + " typed" * text.text.startswith("━")
        lines.append(drawn(text.row + 1, text.text, f'id="l{number}" class="{kind}"'))
    dots = "".join(
        f'<circle cx="{18 + 18 * i}" cy="16" r="5.5" fill="{colour}"/>'
        for i, colour in enumerate(["#e0655c", "#e5bd4f", "#62b464"])
    )
    css = (
        "text{font:13.5px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;"
        "fill:#d7dde4}.typed{fill:#8fd6c8}"
        f".moves{{visibility:hidden;animation:{whole:g}s step-end -{BEGINS:g}s infinite}}"
        f".end{show}{''.join(styles)}@media (prefers-reduced-motion:reduce){{.moves{{animation:none}}}}"
    )
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    about = f'role="img" aria-label="{escape(TYPED)}: its progress and its result"'
    background = '<rect width="100%" height="100%" rx="8" fill="#1b2129"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {about}><style>{css}</style>'
        f"{background}{dots}{''.join(lines)}</svg>\n"
    )


def report(page: Path) -> None:
    """Who wins, and how the first three learn: that part of a comparison's report, in few colours."""
    from PIL import Image, ImageChops

    shot = HERE / "report.png"
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.html"
        part.write_text(page.read_text("utf-8").replace("</head>", f"<style>{SHOWN}</style></head>"), "utf-8")
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={shot}",
             f"--window-size={PAGE},2000", f"--force-device-scale-factor={SCALE}", part.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
    whole = Image.open(shot).convert("RGB")
    box = ImageChops.difference(whole, Image.new("RGB", whole.size, whole.getpixel((0, 0)))).getbbox()
    if box is None:
        raise SystemExit(f"nothing to see in {page}")
    around = int(MARGIN_AROUND * SCALE)
    cut = whole.crop((0, max(0, box[1] - around), whole.width, min(whole.height, box[3] + around)))
    cut.quantize(COLOURS, dither=Image.Dither.NONE).save(shot, optimize=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record"]:
            record()
        case ["terminal"]:
            (HERE / "terminal.svg").write_text(svg(texts_of(CAST.read_text("utf-8"))), "utf-8")
        case ["report", path]:
            report(Path(path))
        case _:
            raise SystemExit(__doc__)
