"""zopog tune: learn a prompt, keep everything, compare with the manual prompt on the test split."""

import argparse
import sys

from zopog_ref.app.output import show_json
from zopog_ref.app.tune import learning
from zopog_ref.app.tune.choices import check_resumed, chosen_machine, chosen_run
from zopog_ref.app.tune.options import add_arguments
from zopog_ref.app.tune.result import table

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Start or resume a run; report its result. Exit code 0, or Interrupted after saving."""
    config, machine, out = None, chosen_machine(arguments), arguments.resume
    if arguments.resume is None:
        config, out = chosen_run(arguments), arguments.out
    else:
        check_resumed(arguments)
    with learning.stop_requests() as should_stop:
        path, result = learning.learn(config, machine, out, should_stop, quiet=arguments.json)
    if arguments.json:
        show_json(result, indent=2)
    else:
        sys.stdout.write(table(result, path) + "\n")
    return 0
