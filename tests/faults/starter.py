"""A process that has imported everything and forks a `zopog` whenever it is asked: a start to kill costs no import.

It reads a line of JSON (the command's arguments, and the file for what the command says), answers with the child's
number and, when the child is gone, with how it ended: its exit code, or minus the signal.
"""

import json
import os
import signal
import sys

import cma  # noqa: F401
import cmaes  # noqa: F401
import onnxruntime  # noqa: F401
import tokenizers  # noqa: F401

from zopog_ref.app.command_line import main
from zopog_ref.app.tune import add_arguments  # noqa: F401


def child(arguments: list[str], output: str) -> int:
    """A `zopog` of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(said, stream.fileno())
    try:
        code = main(arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def serve() -> None:
    """Until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        number = os.fork()
        if number == 0:
            os._exit(child(request["arguments"], request["output"]))
        print(number, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
