"""zopog tune: learn a prompt, keep everything, compare with the manual prompt on the test split."""

import argparse
from pathlib import Path

from zopog_models.files.atomic import write_atomically
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say, show, show_json
from zopog_ref.app.tune import learning
from zopog_ref.app.tune.card import card
from zopog_ref.app.tune.choices import check_resumed, chosen_machine, chosen_run
from zopog_ref.app.tune.finished import read_finished
from zopog_ref.app.tune.next_steps import next_said
from zopog_ref.app.tune.options import add_arguments
from zopog_ref.app.tune.page import write_page
from zopog_ref.app.tune.result import examples_said, learned_said, model_said, table, taught_said
from zopog_ref.methods import MissingPackage

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Start or resume a run; report its result. Exit code 0, or Interrupted after saving."""
    config, machine, out = None, chosen_machine(arguments), arguments.resume
    if arguments.resume is None:
        config, out = chosen_run(arguments), arguments.out
    else:
        check_resumed(arguments)
    report: Path | None = None

    def finish(folder: Path) -> None:
        nonlocal report
        found = read_finished(folder)
        write_atomically(folder / "prompt" / "README.md", [card(found).encode("utf-8")])
        try:
            report = write_page(found)
        except (MissingPackage, InputError) as error:  # a run is none the worse without its page
            say(f"no report.html: {error}")

    quiet = arguments.json or arguments.quiet
    with learning.stop_requests() as should_stop:
        path, result = learning.learn(config, machine, out, should_stop, quiet, finish)
    if arguments.json:
        show_json(result, indent=2)
        return 0
    found = read_finished(path)
    show(table(result, path), styled=True)
    show("\n".join([model_said(found), *learned_said(found), *taught_said(found), *examples_said(found)]))
    show((f"report: {report}\n" if report else "") + next_said(path, found.config))
    return 0
