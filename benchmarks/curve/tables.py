"""The tables of docs/benchmark.md, from the curve.csv of its runs (benchmarks/curve/results).

python benchmarks/curve/tables.py            prints them
python benchmarks/curve/tables.py --write    puts them into the page, between its marks
"""

import csv
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmark.md"
Lines = list[dict[str, str]]


def read(path: Path) -> Lines:
    """The lines of a curve.csv."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(lines: Lines) -> str:
    """A row a method, a column a budget: accuracy with its interval in percent, bold where tied, ○ on the frontier."""
    budgets = sorted({int(line["budget"]) for line in lines})
    found = {(line["row"], int(line["budget"])): line for line in lines}
    rows = list(dict.fromkeys(line["row"] for line in lines))
    last = {row: max(b for b in budgets if (row, b) in found) for row in rows}
    rows.sort(key=lambda row: (-last[row], -float(found[row, last[row]]["accuracy"])))
    out = [f"| | {' | '.join(f'{b:,} calls' for b in budgets)} | NLL at the last |", "|" + "---|" * (len(budgets) + 2)]
    for row in rows:
        cells = [_cell(found[row, b]) if (row, b) in found else "–" for b in budgets]
        out.append(f"| {row} | {' | '.join(cells)} | {float(found[row, last[row]]['nll']):.3f} |")
    return "\n".join(out)


def _cell(line: dict[str, str]) -> str:
    mean, low, high = (f"{100 * float(line[name]):.1f}" for name in ("accuracy", "accuracy_low", "accuracy_high"))
    text = f"**{mean}**" if line["accuracy_tied"] == "1" else mean
    ring = " ○" if line["accuracy_frontier"] == "1" else ""
    seeds = len(line["seeds"].split())
    few = "" if seeds == 3 else f", {seeds} seed" + ("s" if seeds > 1 else "")
    return f"{text}{ring} ({low}–{high}{few})"


def filled(page: str) -> str:
    """The page with every table anew: what stands between <!-- NAME --> and <!-- end -->."""
    names = {path.stem: path for path in (HERE / "results").glob("*.csv")}

    def put(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n\n{table(read(names[match[1]]))}\n\n<!-- end -->"

    return re.sub(r"<!-- ([\w-]+) -->\n.*?<!-- end -->", put, page, flags=re.DOTALL)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
    else:
        for each in sorted((HERE / "results").glob("*.csv")):
            print(f"{each.stem}\n\n{table(read(each))}\n")
