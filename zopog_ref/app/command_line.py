"""The command `zopog`: one parser, one place where errors become exit codes.

Exit codes: 0 done, 1 failed, 2 unusable input (one message, no traceback), 130 interrupted after saving.
"""

import argparse
import atexit
import errno
import importlib
import os
import re
import signal
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from zopog_ref import __version__
from zopog_ref.app.errors import InputError, Interrupted
from zopog_ref.app.output import be_quiet, logged, never_fail_at_a_letter, printable, say
from zopog_ref.objective import BudgetExhausted

# command -> (module of this room that has add_arguments and run, summary)
COMMANDS = {
    "tune": ("tune.command", "learn a prompt for a task"),
    "predict": ("predict", "label texts with a tuned prompt"),
    "show": ("show", "a finished run, or a prompt, in the terminal"),
    "report": ("show", "write report.html of a finished run again"),
    "push": ("push", "send a run's prompt and its card to the Hugging Face Hub"),
    "bake": ("bake", "model, prompt and label words in one ONNX file: token ids in, label probabilities out"),
    "compare": ("compare.command", "methods x tasks x seeds on equal budgets: which to use, and what it gives"),
    "verify": ("verify.command", "check every line of the theory against exact values"),
    "export": ("export", "a model folder, or a model on the hub, as an ONNX file"),
    "tasks": ("listings", "the embedded tasks"),
    "methods": ("listings", "the methods; zopog methods NAME: what can be set of one"),
    "models": ("listings", "the models"),
    "completion": ("completion", "completion for bash, zsh or fish: the lines that the shell reads"),
    "doctor": ("doctor.command", "what is installed, which providers really start, what to install"),
    "bench": ("bench.command", "measure this machine, as ratios side by side"),
}

_NEVER_EMPTY = ("task", "tasks", "methods", "seeds", "model", "checkpoint", "file")  # besides all paths
_STOPPED_POLITELY = ("tune", "compare")  # they hear SIGTERM themselves

_EVERYTHING = 'all that the commands need: pip install ".[cpu]" in a clone, "zopog-ref[cpu]" elsewhere (CUDA: [gpu])'


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    never_fail_at_a_letter()
    try:
        if "_ARGCOMPLETE" in os.environ:
            complete()
        if given and given[0].lower() in COMMANDS:
            given[0] = given[0].lower()
        else:
            _every_command().parse_args(given or ["--help"])  # which leaves: --help, --version, or an error
        name, (module, summary) = given[0], COMMANDS[given[0]]
        command = importlib.import_module(f"zopog_ref.app.{module}")  # the only one that is imported
        parser = Parser(prog=f"zopog {name}", description=summary)
        command.add_arguments(parser)
        loud = parser.add_mutually_exclusive_group()
        loud.add_argument("-q", "--quiet", action="store_true", help="no progress and no messages but errors")
        loud.add_argument("-v", "--verbose", action="count", default=0, help="what happens; twice: each step too")
        arguments = parser.parse_intermixed_args(given[1:])  # options before, between and after what has no name
        if (threads := getattr(arguments, "threads", None)) is not None and threads < 1:
            parser.error(f"--threads is {threads}; it must be at least 1")
        arguments.command = name
        be_quiet(arguments.quiet)
        with logged(arguments.verbose), nullcontext() if name in _STOPPED_POLITELY else _tidied():
            return int(command.run(arguments))
    except SystemExit as leaving:  # argparse: --help, --version, or unusable options
        return int(leaving.code or 0)
    except _input_errors() as error:
        return _say(error, 2)
    except ModuleNotFoundError as error:
        name = {"sklearn": "scikit-learn"}.get(str(error.name), str(error.name))
        return _say(f"the package {error.name!r} is not installed: pip install {name}; {_EVERYTHING}", 2)
    except Interrupted as stopped:
        return _say(stopped, 130)
    except KeyboardInterrupt:
        return _say("stopped; a run can be continued from its last checkpoint with zopog tune --resume", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        return 1
    except MemoryError as error:
        return _say(f"this takes more memory than there is ({error or 'no more is left'}): {_smaller(given)}", 1)
    except (OSError, FloatingPointError) as error:
        return _say(_disk_full(error) or str(error) or type(error).__name__, 1)


@contextmanager
def _tidied() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that closes, end the program as ever, but its temporary files go first.

    A GGUF model has one as large as its weights in float32. Nothing is waited for that runs in other threads.
    """

    def end(number: int, frame: types.FrameType | None) -> None:
        atexit._run_exitfuncs()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    main_thread = threading.current_thread() is threading.main_thread()
    names = [name for name in ("SIGTERM", "SIGHUP") if main_thread and hasattr(signal, name)]
    unheard = [number for name in names if signal.getsignal(number := getattr(signal, name)) == signal.SIG_DFL]
    for number in unheard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in unheard:
            signal.signal(number, signal.SIG_DFL)


def complete() -> None:
    """Answer a shell that asks for completions, and leave: the commands, or the options of the one that is typed."""
    import argcomplete

    parser = Parser(prog="zopog")
    commands = parser.add_subparsers()
    typed = os.environ.get("COMP_LINE", "").split()[1:2]
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if [name] == typed:
            importlib.import_module(f"zopog_ref.app.{module}").add_arguments(command)
    argcomplete.autocomplete(parser, print_suppressed=True)


def _every_command() -> argparse.ArgumentParser:
    parser = Parser(prog="zopog", description="Black-box prompt learning with a frozen language model.")
    parser.add_argument("--version", action="version", version=f"zopog-ref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, description=summary)
    return parser


class Parser(argparse.ArgumentParser):
    """Says what somebody may have meant who wrote a name that is not known, and refuses places without a name."""

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # Path("") is the folder where one stands: a shell variable that is not set would be written and read there.
        if not arg_string and (action.type is Path or action.dest in _NEVER_EMPTY):
            raise argparse.ArgumentError(action, "it is empty: if a variable stands there, it is not set")
        return super()._get_value(action, arg_string)

    def error(self, message: str) -> NoReturn:
        """Usage and message on stderr, exit code 2."""
        from zopog_models.files.suggestions import did_you_mean

        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        options = [word.split("=")[0] for word in message.split() if word.startswith("--")]
        if choice is not None:
            message += did_you_mean(choice[1], [word.strip("' ") for word in choice[2].split(",")])
        elif "unrecognized arguments" in message and options:
            # What was given with an unknown option is not shown: --api-key KEY is none of ours.
            message = f"unrecognized arguments: {' '.join(options)}"
            message += did_you_mean(options[0], self._option_string_actions)
        super().error(printable(message))


def _input_errors() -> tuple[type[Exception], ...]:
    """Whatever speaks of unusable input, here, in the models room and in the methods."""
    from zopog_models.errors import UnusableInput
    from zopog_ref.methods import MissingPackage

    return InputError, BudgetExhausted, MissingPackage, UnusableInput


def _disk_full(error: BaseException) -> str:
    """What to say where a disk took no more, and nobody has said it yet; "" for other errors."""
    from zopog_models.files.durable import FULL, DiskFull

    if not isinstance(error, OSError) or isinstance(error, DiskFull) or error.errno not in FULL:
        return ""
    advice = "let it be written, or name another folder" if error.errno == errno.EROFS else "make room"
    return f"{FULL[error.errno]} {error.filename or 'the output'}: {advice}, then give the same command again"


def _smaller(given: Sequence[str]) -> str:
    """What takes less memory: of the sizes that were given the largest, or those that there are."""
    sizes = re.findall(r"(--[a-z-]+)[ =](\d+)", " ".join(given))
    large = [(int(size), name) for name, size in sizes if name not in ("--budget", "--seed", "--threads")]
    return "lower {1} {0}".format(*max(large)) if large else "lower --dim, --batch-size or --samples"


def _say(message: object, code: int) -> int:
    say(f"zopog: {message}", error=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
