"""zopog compare: methods x tasks x seeds on equal budgets; a table, compare.json and one self-contained report."""

import argparse
import json
import sys
from pathlib import Path

from zopog_models.cluster.ray_connection import require_ray
from zopog_ref.app.compare.live import LiveTable
from zopog_ref.app.compare.page import page
from zopog_ref.app.compare.plan import Plan, add_shared_options, check_data, check_started, make_plan
from zopog_ref.app.compare.results import document
from zopog_ref.app.compare.schedule import EXECUTORS, Errors, cores, run_cells
from zopog_ref.app.compare.table import table
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.folder import RunFolder, say, write_json
from zopog_ref.app.run.presets import SETTINGS_NAMES
from zopog_ref.app.tune import precision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--tasks", "--task", default="supersense", metavar="A,B,...", help="embedded tasks or task TOMLs"
    )
    parser.add_argument(
        "--methods", default="all", metavar="A,B,...", help="METHOD or METHOD:SETTINGS; all (default) with their own"
    )
    parser.add_argument("--seeds", default="42,14,81", metavar="A,B,...", help="default 42,14,81; five tell more")
    parser.add_argument("--budget", type=int, default=4000, help="API calls of every run (default 4000)")
    parser.add_argument("--shots", type=int, default=16, help="training rows a class (default 16)")
    parser.add_argument("--model", default="embedded", help="embedded, or a Hugging Face folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    precision.add_arguments(parser)
    parser.add_argument("--settings", choices=SETTINGS_NAMES, help="named settings (default: the model's own)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="METHOD.NAME=VALUE", help="one setting of one method; repeatable"
    )
    parser.add_argument("--workers", type=int, help="runs at once (default: one a core); cores are shared out")
    parser.add_argument("--executor", choices=tuple(EXECUTORS), default="process")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/compare; the same command goes on there")
    parser.add_argument("--json", action="store_true", help="compare.json on stdout, nothing else there")
    add_shared_options(parser)


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
        errors = _run(plan, arguments)
        found = document(plan, errors, tokens)
        write_json(plan.out / "compare.json", found)
        (plan.out / "report.html").write_text(page(found), encoding="utf-8")
    finally:
        lock.close()
    say(f"{plan.out / 'compare.json'}, {plan.out / 'report.html'}")
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n" if arguments.json else table(found))
    return 1 if errors else 0


def _run(plan: Plan, arguments: argparse.Namespace) -> Errors:
    cells = plan.cells()
    unfinished = sum(not cell.finished for cell in cells)
    workers = min(arguments.workers or cores(), max(1, unfinished))
    say(
        f"{len(cells)} cells: {len(plan.variants)} methods, {len(plan.tasks)} tasks, {len(plan.seeds)} seeds, "
        f"{plan.budget} calls each; {len(cells) - unfinished} finished already; {workers} at once"
    )
    show = LiveTable(cells, plan.budget, rewrite=arguments.executor != "serial")
    return run_cells(cells, arguments.executor, workers, plan.out, show)
