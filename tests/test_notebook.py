"""docs/paper-in-twenty-cells.ipynb: twenty cells that each check something, run here as plain Python, without Jupyter.

What it shows is written by (`make docs` installs the command)

    jupyter nbconvert --execute --to notebook --inplace --ExecutePreprocessor.record_timing=False \\
        docs/paper-in-twenty-cells.ipynb
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "paper-in-twenty-cells.ipynb"
CELLS: list[dict[str, Any]] = [
    cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"
]
CODE = ["".join(cell["source"]) for cell in CELLS]
SHOWN = ["".join(text for output in cell["outputs"] for text in output.get("text", "")) for cell in CELLS]
DRAWN = [["".join(o["data"]["text/html"]) for o in cell["outputs"] if "data" in o] for cell in CELLS]
NEEDS_A_MODEL = next(i for i, code in enumerate(CODE) if "zopog_models" in code)
END = "\x00"  # of what a cell prints
NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e-?\d+)?")


def run(code: list[str]) -> list[str]:
    """What each cell prints. Errors: RuntimeError with the traceback's last lines."""
    script = "".join(f"{cell}\nprint({END!r}, end='')\n" for cell in code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return done.stdout.split(END)[:-1]


def same_up_to_rounding(shown: str, printed: str) -> bool:
    """The same words, and numbers that differ by no more than another processor's rounding."""
    numbers = [np.array([float(number) for number in NUMBER.findall(text)]) for text in (shown, printed)]
    words = [" ".join(NUMBER.sub(" ", text).split()) for text in (shown, printed)]
    return words[0] == words[1] and len(numbers[0]) == len(numbers[1]) and np.allclose(*numbers, rtol=0.05, atol=1e-9)


def test_twenty_cells_each_with_a_check_and_an_output() -> None:
    assert len(CELLS) == 20
    for number, (cell, code) in enumerate(zip(CELLS, CODE), 1):
        assert re.search("^ *assert ", code, re.MULTILINE), f"cell {number} checks nothing"
        kinds = [output["output_type"] for output in cell["outputs"]]
        assert {"stream"} <= set(kinds) <= {"stream", "execute_result"}, f"cell {number}"
        assert cell["execution_count"] == number


@pytest.mark.parametrize("count", [NEEDS_A_MODEL, pytest.param(len(CODE), marks=pytest.mark.slow)])
def test_the_cells_run_and_print_what_is_shown(count: int) -> None:
    if count > NEEDS_A_MODEL:
        pytest.importorskip("onnxruntime", reason="the last cells run the embedded model")
    for number, (shown, printed) in enumerate(zip(SHOWN, run(CODE[:count])), 1):
        assert same_up_to_rounding(shown, printed), f"cell {number} shows\n{shown}\nand prints\n{printed}"


def test_the_plots_are_svg_with_their_curves_and_nothing_is_fetched() -> None:
    drawn = [pictures[0] for pictures in DRAWN if pictures]
    assert len(drawn) == 3
    for picture, names in zip(
        drawn, (["variance", "as 1/I²"], ["mean loss of a step", "best possible"], ["mean loss of a step"])
    ):
        assert re.findall(r"●</span> ([^<]+)</span>", picture) == names
        assert len(re.findall(r'class="curve c\d"', picture)) == len(names)
        assert re.search(r"(src|href)=|url\(|@import|<script", picture) is None


def test_an_old_output_is_caught() -> None:
    shown = "losses from 1.02 to 3.40"
    assert same_up_to_rounding(shown, "losses from 1.02 to 3.41")
    assert not same_up_to_rounding(shown, "losses from 1.02 to 4.40")
    assert not same_up_to_rounding(shown, "losses from 1.02")
    assert not same_up_to_rounding(shown, "regrets from 1.02 to 3.40")


@pytest.mark.parametrize(
    ("line", "right", "wrong"),
    [
        ("[S1]", "s = score(prompts, alpha, p)", "s = score(prompts, alpha, p) * alpha"),  # the gradient in log alpha
        ("[V4]", "estimates = np.stack(", "estimates = 0.5 * np.stack("),  # 1/I in place of 1/(I-1)
        ("[V5]", "second / (samples * (samples - 1))", "second / samples**2"),
        ("[Z4]", "exact = (d + 2)", "exact = d"),
        ("[Z1b]", "per_example = (v *", "per_example = (np.abs(v) *"),
        ("Algorithm 1", "start.z - 0.3 *", "start.z + 0.3 *"),
    ],
)
def test_a_wrong_line_stops_the_notebook(line: str, right: str, wrong: str) -> None:
    [cell] = [number for number, code in enumerate(CODE) if right in code]
    with pytest.raises(RuntimeError, match="AssertionError"):
        run([*CODE[:cell], CODE[cell].replace(right, wrong)])
