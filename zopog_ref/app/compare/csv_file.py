"""compare.csv: a line for every run of every method, as it was read, for a spreadsheet."""

import csv
import io

from zopog_ref.app.compare.results import Comparison
from zopog_ref.app.run.typed_json import ABSENT

COLUMNS = (
    "task", "method", "reading", "seed", "calls", "dev_accuracy", "dev_loss", "test_accuracy", "macro_f1", "nll", "ece",
)  # fmt: skip


def csv_of(found: Comparison) -> str:
    """What compare.json says of the runs; nothing where a number is not known."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow([*COLUMNS, "folder"])
    for task in found.tasks:
        for method in task.methods:
            for run in method.cells:
                unsure = run.uncertainty.mean if run.uncertainty else None
                tested = (run.test.accuracy, run.test.macro_f1) if run.test else (None, None)
                known = [None if value is ABSENT else value for value in (run.dev_accuracy, run.dev_loss)]
                numbers = (*known, *tested, unsure and unsure.nll, unsure and unsure.ece)
                write.writerow([task.name, method.of, method.reading, run.seed, run.calls, *numbers, run.folder or ""])
    return out.getvalue()
