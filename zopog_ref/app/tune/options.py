"""The options of `zopog tune`. A number or name in brackets at the end of a help text is the default."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from zopog_models.families.sentence import POOLINGS
from zopog_models.frozen.model import TEMPERATURE
from zopog_models.served.completions import LARGEST_TOP, SENT
from zopog_models.served.conversation import ANSWERS, PROMPT_PLACES
from zopog_models.served.kserve import ENCODINGS
from zopog_models.tasks.template import POSITIONS
from zopog_ref.app.run.config import WORD_SCORINGS
from zopog_ref.app.run.presets import PRESET_FIELDS, PRESETS, SEARCHLESS, SETTINGS_NAMES
from zopog_ref.app.track.watchers import TRACKERS
from zopog_ref.app.tune.backends import BACKENDS
from zopog_ref.app.tune.meanings import meaning_of, symbol_of
from zopog_ref.app.tune.precision import PRECISIONS, SCOPES
from zopog_ref.app.tune.readings import ASKED, TOKENS
from zopog_ref.methods import METHODS, settings_class

EXAMPLES = """examples:
  zopog tune --task supersense --budget 400
  zopog tune --method none --readout vocabulary          no search: three calls
  zopog tune --train my.csv --template "{text} . it was {mask} ." --labels "0=bad,1=good"
  zopog tune --resume runs/supersense-zo-pog-42"""
# Options that --help leaves to --help-all.
_FINER = (
    "precision_scope", "precision_anyway", "pooling", "scale", "loss",
    "temperature", "rows_per_request", "encoding", "embedding_std", "send",
    "prompt_in", "system", "answer_tokens", "timeout", "retries", "concurrency", "refused_share", "rpm", "tpm",
    "query", "key_header", "headers_env", "allow_http",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options, in sections; a method's own settings and a server's finer points are in --help-all."""
    parser.usage = "zopog tune [--task NAME | --train FILE ...] [--model MODEL] [--method NAME] [options]"
    parser.description = "Learn a prompt for a task. What stands in brackets at a line's end is the default."
    parser.epilog = EXAMPLES
    parser.formatter_class = _Help
    _add_task_arguments(parser)
    _add_method_arguments(parser)
    budget = parser.add_argument_group("budget")
    budget.add_argument("--budget", type=int, metavar="CALLS", help="API calls, one prompt on one mini-batch (4000)")
    budget.add_argument("--batch-size", type=int, metavar="ROWS", help="rows of a mini-batch (32)")
    budget.add_argument("--shots", type=int, metavar="ROWS", help="training rows a class (16)")
    readout = parser.add_argument_group("readout (docs/readout.md)")
    add_readout_arguments(readout)
    readout.add_argument(
        "--deploy-tuned", action="store_const", const=True, help="the tuned prompt even if another is better on dev"
    )
    here = parser.add_argument_group("model here")
    here.add_argument("--model", help="(embedded), folder, FILE.gguf, ORG/NAME, address")
    here.add_argument("--pooling", choices=POOLINGS, help="read it as a sentence-embedding model")
    here.add_argument("--temperature", type=float, metavar="T", help=f"of such a model ({TEMPERATURE:g})")
    add_served_arguments(parser)
    _add_machine_arguments(parser)
    _add_settings(parser)
    for action in parser._actions:
        if action.dest in _FINER:
            hide(action)
    parser.add_argument("--help-all", action=HelpAll, nargs=0, help="every option, the methods' settings included")


class _Help(argparse.RawDescriptionHelpFormatter):
    """An option and its meaning on one line."""

    def __init__(self, prog: str, width: int | None = None) -> None:
        super().__init__(prog, max_help_position=26, width=width)


class HelpAll(argparse.Action):
    """--help with what it leaves out."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for action in parser._actions:
            action.help = getattr(action, "more", action.help)
        parser.print_help()
        parser.exit()


def hide(action: argparse.Action) -> None:
    """Leave an option to --help-all."""
    action.more = action.help  # type: ignore[attr-defined]
    action.help = argparse.SUPPRESS


def _add_method_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("method (zopog methods NAME: its own settings, which are options too)")
    group.add_argument(
        "--method", type=plain_name, choices=(*METHODS, *SEARCHLESS), metavar="NAME",
        help="zopog methods lists them; auto: chosen questions; none: no search (zo-pog)",
    )  # fmt: skip
    group.add_argument(
        "--settings", choices=SETTINGS_NAMES, metavar="NAME", help="embedded, paper, auto (auto of other models)"
    )
    group.add_argument("--seed", type=int, metavar="S", help="the same seed gives the same result (42)")
    defaults = PRESETS["zo-pog", "embedded"]
    for name in PRESET_FIELDS:
        if name not in ("budget", "batch_size"):
            kind = type(getattr(defaults, name))
            meaning = f"{meaning_of(name)} ({getattr(defaults, name)})"
            group.add_argument(option(name), type=kind, dest=name, metavar=symbol_of(name), help=meaning)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """The methods' own settings, which --help leaves to `zopog methods NAME`."""
    group = parser.add_argument_group("settings of the methods")
    for name, (kind, methods) in method_options().items():
        text = f"{meaning_of(name, methods[0])} [{'all' if len(methods) == len(METHODS) else ', '.join(methods)}]"
        metavar = "on|off" if kind is bool else symbol_of(name) or kind.__name__.upper()
        hide(
            group.add_argument(
                option(name), type=_switch if kind is bool else kind, dest=name, metavar=metavar, help=text
            )
        )


def _add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine and output")
    group.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the model computes (cpu)")
    group.add_argument("--backend", choices=BACKENDS, help="of the mathematics outside the model (numpy)")
    group.add_argument("--threads", type=int, metavar="N", help="of the model (all cores)")
    group.add_argument("--workers", type=int, metavar="N", help="spread the rows over N Ray actors (docs/scale.md)")
    add_precision_arguments(group)
    group.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/TASK-METHOD-SEED)")
    group.add_argument("--resume", type=Path, metavar="RUN", help="go on from the last checkpoint of a run folder")
    group.add_argument(
        "--track", action="append", type=str.lower, choices=TRACKERS, metavar="NAME", help=f"{', '.join(TRACKERS)}"
    )
    group.add_argument("--json", action="store_true", help="the result as JSON on stdout, nothing else there")


def _add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked: a task by its name, or the user's own data."""
    task = parser.add_argument_group("task and data (docs/own-data.md)")
    task.add_argument("--task", metavar="NAME", help="zopog tasks lists them; or a task TOML (supersense)")
    task.add_argument("--data", type=Path, metavar="DIR", help="your copy of a published task's files")
    add_data_arguments(task)
    task.add_argument(
        "--template", action="append", metavar="TEXT",
        help='such as "{text} . {mask} ."; may be repeated',
    )  # fmt: skip
    task.add_argument(
        "--chat", action="store_true", default=None, help="the template is what the user says (docs/chat.md)"
    )
    task.add_argument(
        "--label-words",
        choices=WORD_SCORINGS,
        metavar="HOW",
        help="whole; of several tokens first-piece, or their sum",
    )
    add_position_argument(task)
    task.add_argument(
        "--instructions", type=Path, metavar="FILE", help="of --method auto: lines ({labels}: the label words)"
    )


def add_position_argument(parser: argparse._ActionsContainer) -> None:
    """--prompt-position."""
    parser.add_argument(
        "--prompt-position", choices=POSITIONS, help="of a decoder's prompt: before the text, or after it (before)"
    )


def add_data_arguments(group: argparse._ActionsContainer) -> None:
    """The user's own data: --train, --dev, --test, --text-column, --label-column, --labels."""
    group.add_argument("--train", type=Path, metavar="FILE", help="own data: TSV, CSV, JSONL (.gz), Parquet")
    group.add_argument("--dev", type=Path, metavar="FILE", help="(other rows of the train file)")
    group.add_argument("--test", type=Path, metavar="FILE", help="(up to 2,000 unused rows of the train file)")
    group.add_argument("--text-column", action="append", metavar="NAME", help="twice for two texts (text)")
    group.add_argument("--label-column", metavar="NAME", help="with the label of a row (label)")
    group.add_argument("--labels", metavar="L=WORD,...", help='labels and their words: "0=bad,1=good"')


def method_options() -> dict[str, tuple[type, list[str]]]:
    """Every setting of any method: its type, and the methods that have it."""
    options: dict[str, tuple[type, list[str]]] = {}
    for name in METHODS:
        for field in dataclasses.fields(settings_class(name)):
            options.setdefault(field.name, (type(field.default), []))[1].append(name)
    return options


def option(name: str) -> str:
    """--n-positions, of n_positions."""
    return {"key_variable": "--key-env", "headers_env": "--header-env"}.get(name, "--" + name.replace("_", "-"))


def plain_name(name: str) -> str:
    """zo-pog, of ZO-PoG or zo_pog."""
    return name.casefold().replace("_", "-").strip()


def _switch(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"expected on or off, not {text!r}")
    return text.lower() == "on"


def setting_of(name: str, text: str) -> Any:
    """A setting's value from its text, as the option of its name reads it. Errors: ValueError."""
    if name in PRESET_FIELDS:
        return type(getattr(PRESETS["zo-pog", "embedded"], name))(text)
    kind = method_options()[name][0]
    try:
        return _switch(text) if kind is bool else kind(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from None


def add_readout_arguments(parser: argparse._ActionsContainer) -> None:
    """--readout, --readout-tokens."""
    parser.add_argument(
        "--readout",
        choices=ASKED,
        metavar="KIND",
        help=f"{', '.join(ASKED)}: how scores are read (auto)",
    )
    parser.add_argument(
        "--refit", action="store_true", default=None,
        help="in the end, fit it on the dev rows too (charged)",
    )  # fmt: skip
    parser.add_argument("--readout-tokens", type=int, metavar="N", help=f"that a vocabulary readout reads ({TOKENS})")


def add_precision_arguments(parser: argparse._ActionsContainer) -> None:
    """--precision, --precision-scope, --precision-anyway."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        metavar="P",
        help=f"{', '.join(PRECISIONS)}, where it is as good",
    )
    parser.add_argument("--precision-scope", choices=SCOPES, help="all: of zeroth-order steps too (default: policy)")
    parser.add_argument("--precision-anyway", action="store_true", help="use it even if it does not agree with fp32")


def add_served_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a served model; all are None where they were not given."""
    group = parser.add_argument_group(
        "model served (docs/remote.md): --model kserve+http://HOST:PORT/v2/models/NAME,\n"
        "completions+http://HOST:PORT/v1#NAME or chat+http://HOST:PORT/v1#NAME"
    )
    group.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="with config.json, tokenizer.json; or FILE.gguf",
    )
    group.add_argument("--rows-per-request", type=int, metavar="ROWS", help="default: 64; of text endpoints 1")
    group.add_argument("--encoding", choices=ENCODINGS, help="of tensors; auto: binary where the server offers it")
    group.add_argument("--embedding-std", type=float, help="of the word embeddings, where the server does not say")
    group.add_argument(
        "--top-logprobs",
        type=int,
        metavar="N",
        help=f"1 to {LARGEST_TOP} (500, 100, 20 or 5: what is given)",
    )
    group.add_argument("--send", choices=SENT, help="to completions; ids: the tokens themselves (default: text)")
    group.add_argument("--prompt-in", choices=PROMPT_PLACES, help="of a conversation (default: user)")
    group.add_argument("--system", metavar="TEXT", help="what the system says in every conversation; also with --chat")
    group.add_argument("--answers", choices=ANSWERS, help="labels: from answers, without scores")
    group.add_argument("--answer-tokens", type=int, help="with --answers labels: of an answer (default 8)")
    group.add_argument("--timeout", type=float, help="seconds for a whole answer (default 60)")
    group.add_argument("--retries", type=int, help="of a failed request, with growing pauses (default 8)")
    group.add_argument("--concurrency", type=int, help="requests under way at once (default 4)")
    group.add_argument("--refused-share", type=float, help="of texts an endpoint may refuse (default 0.05)")
    group.add_argument("--rpm", type=float, help="requests a minute (default: what the server's headers say)")
    group.add_argument("--tpm", type=float, help="tokens a minute (default: what the server's headers say)")
    group.add_argument("--price-in", type=float, metavar="USD", help="for a million tokens read")
    group.add_argument("--price-out", type=float, metavar="USD", help="for a million tokens written")
    group.add_argument("--budget-usd", type=float, metavar="USD", help="spend no more; needs the prices")
    group.add_argument("--query", action="append", metavar="NAME=VALUE", help="of every request; may be repeated")
    group.add_argument(
        "--key-header", metavar="HEADER", help="which shows the key (default: Authorization; Azure: api-key)"
    )
    add_key_arguments(group)


def add_key_arguments(group: argparse._ArgumentGroup) -> None:
    """What is said each time of a served model, since no folder may decide it."""
    group.add_argument("--key-env", dest="key_variable", metavar="NAME", help="environment variable with the key")
    group.add_argument(
        "--header-env", dest="headers_env", action="append", metavar="HEADER=NAME",
        help="a further header, from the environment variable NAME; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--allow-http", action="store_true", default=None, help="send the key over http to another machine"
    )
    group.add_argument("--cache", type=Path, metavar="DIR", help="answers kept across runs")
