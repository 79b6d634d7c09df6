"""A prompt for your own rows: a TSV with a header line, a template, a word for each label.

python examples/own_data.py FOLDER        writes rows.tsv and the run into FOLDER
"""

import os
import sys
from pathlib import Path

from zopog_ref.app.command_line import main

folder = Path(sys.argv[1])
budget = os.environ.get("ZOPOG_EXAMPLE_BUDGET", "2000")

animals = ["feline", "dog", "horse", "bird", "snake", "fish", "whale", "insect"]
foods = ["soup", "cake", "bread", "cheese", "pie", "fruit", "stew", "sauce"]
rows = [f"a {size} {noun}\t{label}" for label, nouns in enumerate((animals, foods)) for noun in nouns
        for size in ("small", "large", "wild", "sweet", "common", "rare")]  # fmt: skip
folder.mkdir(parents=True, exist_ok=True)
(folder / "rows.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")

# The command line from Python; in a shell: zopog tune --train rows.tsv --template ... --labels ...
tuned = main(
    ["tune", "--train", str(folder / "rows.tsv"), "--template", "{text} . it is a kind of {mask} .",
     "--labels", "0=animal,1=food", "--shots", "8", "--n-candidates", "20", "--budget", budget,
     "--seed", "42", "--out", str(folder / "run")]
)  # fmt: skip
assert tuned == 0
answered = main(["predict", str(folder / "run"), "--text", "a thick soup of beans", "a young horse"])
assert answered == 0
