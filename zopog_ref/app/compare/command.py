"""zopog compare: methods x tasks x seeds on equal budgets; a table, compare.json and one self-contained report.

With --curve the same on several budgets: curve.json, curve.csv and its report."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar

from zopog_models.cluster.ray_connection import require_ray
from zopog_models.files.atomic import write_atomically
from zopog_models.runners.cores import usable_cores
from zopog_ref.app.compare.cells import Cell, spent_in
from zopog_ref.app.compare.csv_file import csv_of
from zopog_ref.app.compare.curve import gathering as curve
from zopog_ref.app.compare.curve.page import page as curve_page
from zopog_ref.app.compare.curve.plan import checked
from zopog_ref.app.compare.curve.table import as_csv
from zopog_ref.app.compare.curve.table import table as curve_table
from zopog_ref.app.compare.gathering import document
from zopog_ref.app.compare.live import LiveTable
from zopog_ref.app.compare.options import add_arguments, make_curve, make_plan
from zopog_ref.app.compare.page import page
from zopog_ref.app.compare.plan import Plan, check_candidates, check_data, check_started
from zopog_ref.app.compare.schedule import Errors, run_cells
from zopog_ref.app.compare.table import table
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say, show, show_json
from zopog_ref.app.report.html import counted
from zopog_ref.app.run.folder import RunFolder, write_json
from zopog_ref.app.run.typed_json import Json

__all__ = ["add_arguments", "run"]
T = TypeVar("T", bound=Json)


def run(arguments: argparse.Namespace) -> int:
    """Check, run what is not finished, report. Exit code 1 when a cell failed; the others are reported all the same."""
    if arguments.budgets is not None and not arguments.curve:
        raise InputError("--budgets is for --curve; one budget is given with --budget")
    if arguments.executor == "ray":
        require_ray()
    return _curve(arguments) if arguments.curve else _compare(arguments)


def _compare(arguments: argparse.Namespace) -> int:
    plan = make_plan(arguments)
    _check_folder(plan)
    fewer = check_started(plan.cells())
    model = check_data(plan)
    check_candidates(fewer, model)
    tokens = model.tokenizer.id_to_token
    what = f"{_counted(plan)}, {counted(plan.budget, 'call')} each"
    with _held(plan):
        errors = _run(plan, plan.cells(), what, arguments)
        found = document(plan, errors, tokens)
        write_json(plan.out / "compare.json", found.to_json())
        write_atomically(plan.out / "compare.csv", [csv_of(found).encode()])
        write_atomically(plan.out / "report.html", [page(found).encode()])
    _answer(arguments, plan, "compare.json", found, table)
    return 1 if errors else 0


def _curve(arguments: argparse.Namespace) -> int:
    each, budgets = make_curve(arguments)
    _check_folder(each)
    plan = checked(each, budgets)
    what = f"{_counted(each)}, budgets {', '.join(map(str, budgets))}"
    with _held(each):
        errors = _run(each, plan.cells(), what, arguments)
        found = curve.document(plan, errors)
        write_json(each.out / "curve.json", found.to_json())
        write_atomically(each.out / "curve.csv", [as_csv(found).encode()])
        write_atomically(each.out / "report.html", [curve_page(found).encode()])
    _answer(arguments, each, "curve.json", found, curve_table)
    return 1 if errors else 0


def _counted(plan: Plan) -> str:
    return f"{counted(len(plan.tasks), 'task')}, {counted(len(plan.seeds), 'seed')}"


def _check_folder(plan: Plan) -> None:
    if plan.out.exists() and not plan.out.is_dir():
        raise InputError(f"--out {plan.out} is a file; give a folder")


@contextmanager
def _held(plan: Plan) -> Iterator[None]:
    """The output folder, kept to this process."""
    plan.out.mkdir(parents=True, exist_ok=True)
    lock = RunFolder(plan.out)
    lock.take_lock()
    try:
        yield
    finally:
        lock.close()


def _answer(arguments: argparse.Namespace, plan: Plan, name: str, found: T, as_text: Callable[[T], str]) -> None:
    say(f"{plan.out / name}, {(plan.out / name).with_suffix('.csv')}, {plan.out / 'report.html'}")
    if arguments.json:
        show_json(found.to_json())
    else:
        show(as_text(found).rstrip("\n"), styled=True)


def _run(plan: Plan, cells: Sequence[Cell], what: str, arguments: argparse.Namespace) -> Errors:
    unfinished, executor = sum(not cell.finished for cell in cells), arguments.executor
    workers = 1 if plan.remote is not None else min(arguments.workers or usable_cores(), max(1, unfinished))
    if plan.remote is not None and plan.remote.budget_usd is not None and unfinished:
        spent = spent_in(plan.out, plan.remote)
        say(f"--budget-usd holds for all runs together: ${spent:.4f} of ${plan.remote.budget_usd:g} are spent")
    say(
        f"{counted(len(cells), 'run')}: {counted(len(plan.variants), 'method')}, {what}; "
        f"{len(cells) - unfinished} finished already; "
        f"{workers} at once"
    )
    budgets = [cell.config.preset.budget for cell in cells]
    with closing(LiveTable(cells, budgets, rewrite=executor != "serial")) as show:
        return run_cells(cells, executor, workers, plan.out, show, arguments.threads)
