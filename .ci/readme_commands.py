"""Run every zopog command of the README, in its order, with an installed `zopog`.

python .ci/readme_commands.py ZOPOG FOLDER

Budgets are small, a comparison has one seed, and what a reader has to bring (a model's folder, rows of her own) is put
in its place. Nothing else is changed, so a package that a command needs and the README's install lacks ends the build.
A command that asks an endpoint at HOST is not run: the tests ask doubles.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "models")]

from tests.test_docs import commands_in  # noqa: E402
from zopog_models.frozen.model import EMBEDDED_MODEL  # noqa: E402
from zopog_models.tasks.task_files import load_task  # noqa: E402

SMALLER = {"tune": ["--budget", "200"], "compare": ["--budget", "200", "--seeds", "42"]}
BROUGHT = {"/path/to/roberta-large": str(EMBEDDED_MODEL), "/path/to/model": str(EMBEDDED_MODEL)}


def small(words: list[str]) -> list[str]:
    """A command as it is run here."""
    words = [BROUGHT.get(word, word) for word in words]
    return [*words, *SMALLER.get(words[0], [])]


def write_rows(path: Path) -> None:
    """my.tsv: the animals and foods of an embedded task, as 0 and 1."""
    header, *rows = load_task("supersense").train.read_text("utf-8").splitlines()
    labels = {"animal": "0", "food": "1"}
    mine = [(row.rpartition("\t")[0], row.rpartition("\t")[2]) for row in rows]
    kept = [f"{text}\t{labels[label]}" for text, label in mine if label in labels]
    path.write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")


def main(zopog: Path, folder: Path) -> int:
    """Exit code 1 at the first command that fails, which is named."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "my.tsv")
    found = commands_in((ROOT / "README.md").read_text("utf-8"))
    commands = [small(words) for words in found if not any("//HOST" in word for word in words)]
    for words in commands:
        started = time.monotonic()
        done = subprocess.run([zopog, *words], cwd=folder, capture_output=True, text=True)
        print(f"{time.monotonic() - started:6.1f} s  zopog {' '.join(words)}")
        if done.returncode:
            print(f"exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
            return 1
    return 0 if len(commands) > 8 else 1  # so that a README that is cut short is seen


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), Path(sys.argv[2])))
