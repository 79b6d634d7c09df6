"""zopog compare: methods x tasks x seeds on equal budgets; a table, compare.json and one self-contained report."""

import argparse
import sys
from contextlib import closing

from zopog_models.cluster.ray_connection import require_ray
from zopog_models.files.atomic import write_atomically
from zopog_models.runners.cores import usable_cores
from zopog_ref.app.compare.cells import spent_in
from zopog_ref.app.compare.csv_file import csv_of
from zopog_ref.app.compare.gathering import document
from zopog_ref.app.compare.live import LiveTable
from zopog_ref.app.compare.options import add_arguments, make_plan
from zopog_ref.app.compare.page import page
from zopog_ref.app.compare.plan import Plan, check_data, check_started
from zopog_ref.app.compare.schedule import Errors, run_cells
from zopog_ref.app.compare.table import table
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say, show_json
from zopog_ref.app.run.folder import RunFolder, write_json

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Check, run what is not finished, report. Exit code 1 when a cell failed; the others are reported all the same."""
    if arguments.workers is not None and arguments.workers < 1:
        raise InputError(f"--workers is {arguments.workers}; it must be at least 1")
    if arguments.executor == "ray":
        require_ray()
    plan = make_plan(arguments)
    if plan.out.exists() and not plan.out.is_dir():
        raise InputError(f"--out {plan.out} is a file; give a folder")
    check_started(plan)
    tokens = check_data(plan).tokenizer.id_to_token
    plan.out.mkdir(parents=True, exist_ok=True)
    lock = RunFolder(plan.out)
    lock.take_lock()
    try:
        errors = _run(plan, arguments.executor, arguments.workers)
        found = document(plan, errors, tokens)
        write_json(plan.out / "compare.json", found.to_json())
        write_atomically(plan.out / "compare.csv", [csv_of(found).encode()])
        write_atomically(plan.out / "report.html", [page(found).encode()])
    finally:
        lock.close()
    say(f"{plan.out / 'compare.json'}, {plan.out / 'compare.csv'}, {plan.out / 'report.html'}")
    if arguments.json:
        show_json(found.to_json())
    else:
        sys.stdout.write(table(found))
    return 1 if errors else 0


def _run(plan: Plan, executor: str, workers: int | None) -> Errors:
    cells = plan.cells()
    unfinished = sum(not cell.finished for cell in cells)
    workers = 1 if plan.remote is not None else min(workers or usable_cores(), max(1, unfinished))
    if plan.remote is not None and plan.remote.budget_usd is not None and unfinished:
        spent = spent_in(plan.out, plan.remote)
        say(f"--budget-usd holds for all runs together: ${spent:.4f} of ${plan.remote.budget_usd:g} are spent")
    say(
        f"{len(cells)} cells: {len(plan.variants)} methods, {len(plan.tasks)} tasks, {len(plan.seeds)} seeds, "
        f"{plan.budget} calls each; {len(cells) - unfinished} finished already; {workers} at once"
    )
    with closing(LiveTable(cells, plan.budget, rewrite=executor != "serial")) as show:
        return run_cells(cells, executor, workers, plan.out, show)
