"""A process that has imported everything and forks a `zopog` whenever it is asked: a start to kill costs no import.

It reads a line of JSON (the command's arguments, and the file for what the command says), answers with the child's
number and, when the child is gone, with how it ended: its exit code, or minus the signal.
"""

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import cma  # noqa: F401
import cmaes  # noqa: F401
import onnxruntime  # noqa: F401
import tokenizers  # noqa: F401

from zopog_ref.app.command_line import main
from zopog_ref.app.tune.command import add_arguments  # noqa: F401

_CHANGES = {"os.rename", "os.remove", "os.link", "os.mkdir"}


def die_before(operation: int, number: int, folder: str, names: list[str]) -> None:
    """Send this process a signal just before it changes a folder's files for the so-many-th time.

    number: of the signal; 0 writes FOLDER.here instead, for whoever waits for the moment. A change: a file opened to be written, moved, linked or removed, or a folder made. names: count only changes to
    what has one of these words in its name; of none, all are counted.
    """
    seen = itertools.count(1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not (arguments[2] & (os.O_WRONLY | os.O_RDWR) if event == "open" else event in _CHANGES):
            return
        path = f"{arguments[0]}/"
        name = path.removeprefix(f"{folder}/")
        if name != path and (not names or any(word in name for word in names)) and next(seen) == operation:
            if number:
                os.kill(os.getpid(), number)
            else:
                Path(f"{folder}.here").touch()

    sys.addaudithook(watch)


def child(arguments: list[str], output: str, die: list[Any] | None) -> int:
    """A `zopog` of its own; die: the arguments of `die_before`."""
    if die is not None:
        die_before(*die)
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
            os._exit(child(**request))
        print(number, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
