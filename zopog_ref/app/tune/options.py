"""The options of `zopog tune`."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from zopog_models.families.sentence import POOLINGS
from zopog_models.frozen.model import TEMPERATURE
from zopog_models.served.completions import LARGEST_TOP, SENT
from zopog_models.served.conversation import ANSWERS, PROMPT_PLACES
from zopog_models.served.kserve import ENCODINGS
from zopog_ref.app.run.presets import PRESET_FIELDS, PRESETS, SETTINGS_NAMES, TEMPLATE_ALONE
from zopog_ref.app.tune.backends import BACKENDS
from zopog_ref.app.tune.precision import PRECISIONS, SCOPES
from zopog_ref.app.tune.readings import ASKED, TOKENS
from zopog_ref.methods import METHODS, settings_class


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options; those of the method and the preset come from their dataclasses."""
    _add_task_arguments(parser)
    parser.add_argument(
        "--model",
        help="embedded (default), a Hugging Face folder, FILE.gguf, org/name[@revision] on the hub, "
        "or a served model's address",
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="read the model as a sentence-embedding model")
    parser.add_argument("--temperature", type=float, help=f"of a sentence-embedding model (default {TEMPERATURE:g})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--backend", choices=BACKENDS, help="of the mathematics outside the model (default: numpy)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    add_precision_arguments(parser)
    parser.add_argument(
        "--method",
        choices=(*METHODS, TEMPLATE_ALONE),
        help="default: zo-pog; zopog methods says what there is; none: the template alone, with a readout",
    )
    add_readout_arguments(parser)
    parser.add_argument(
        "--deploy-tuned",
        action="store_const",
        const=True,
        help="deploy the tuned prompt even if another is better on the dev rows",
    )
    parser.add_argument("--settings", choices=SETTINGS_NAMES, help="named settings (default: the model's own)")
    parser.add_argument("--shots", type=int, help="training rows a class (default 16)")
    parser.add_argument("--seed", type=int, help="default 42")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/TASK-METHOD-SEED)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on from the last checkpoint of a run folder")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout, nothing else there")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="spread the model's rows over N Ray actors of --threads cores (default 1) or one GPU each; the numbers "
        "stay the same (docs/scale.md)",
    )
    add_served_arguments(parser)
    numbers = parser.add_argument_group("settings, to change one at a time")
    defaults = PRESETS["zo-pog", "embedded"]
    for name in PRESET_FIELDS:
        numbers.add_argument(option(name), type=type(getattr(defaults, name)), dest=name)
    for name, (kind, methods) in method_options().items():
        only = "" if len(methods) == len(METHODS) else ", ".join(methods)
        numbers.add_argument(option(name), type=_switch if kind is bool else kind, dest=name, help=only)


def _add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked: a task by its name, or the user's own data."""
    parser.add_argument(
        "--task", help="an embedded task's name, a task TOML, or with --data a published task's (default: supersense)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="your copy of a published task's files, as GLUE's or with our columns"
    )
    own = parser.add_argument_group("your own data, instead of --task")
    own.add_argument("--train", type=Path, metavar="FILE", help="TSV, CSV or JSONL with text columns and `label`")
    own.add_argument("--dev", type=Path, metavar="FILE", help="default: other rows of the train file")
    own.add_argument("--test", type=Path, metavar="FILE", help="default: unused rows of the train file")
    own.add_argument(
        "--template",
        action="append",
        help='with {text}, or {text_a} and {text_b}, and {mask}: "{text} . {mask} ."; with --task: instead of its own; '
        "given several times, the manual prompt is all of them, read together",
    )
    own.add_argument("--labels", metavar="VALUE=WORD,...", help='label values and their words: "0=bad,1=good"')


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


def add_readout_arguments(parser: argparse.ArgumentParser) -> None:
    """--readout, --readout-tokens."""
    parser.add_argument(
        "--readout",
        choices=ASKED,
        help="how the scores are read (docs/readout.md): none, centred, labels, vocabulary, or the best of them by "
        "leave-one-out (default: auto)",
    )
    parser.add_argument(
        "--readout-tokens", type=int, metavar="N", help=f"that a vocabulary readout reads (default {TOKENS})"
    )


def add_precision_arguments(parser: argparse.ArgumentParser) -> None:
    """--precision, --precision-scope, --precision-anyway."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the policy step and the dev scores, if it agrees with fp32 on this run's rows (default: fp32)",
    )
    parser.add_argument("--precision-scope", choices=SCOPES, help="all: of zeroth-order steps too (default: policy)")
    parser.add_argument("--precision-anyway", action="store_true", help="use it even if it does not agree with fp32")


def add_served_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a served model; all are None where they were not given."""
    group = parser.add_argument_group(
        "a model that somebody else serves (docs/remote.md)",
        "--model kserve+http://HOST:PORT/v2/models/NAME, or, for methods that learn tokens alone, --model "
        "completions+http://HOST:PORT/v1#NAME or chat+http://HOST:PORT/v1#NAME",
    )
    group.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="with config.json and tokenizer.json; of a GGUF file, with tokenizer.json",
    )
    group.add_argument("--rows-per-request", type=int, metavar="ROWS", help="default: 64; of text endpoints 1")
    group.add_argument("--encoding", choices=ENCODINGS, help="of tensors; auto: binary where the server offers it")
    group.add_argument("--embedding-std", type=float, help="of the word embeddings, where the server does not say")
    group.add_argument(
        "--top-logprobs", type=int, help=f"asked for, 1 to {LARGEST_TOP} (default: 5 of completions, 20 of chat)"
    )
    group.add_argument("--send", choices=SENT, help="to completions; ids: the tokens themselves (default: text)")
    group.add_argument("--prompt-in", choices=PROMPT_PLACES, help="of a conversation (default: user)")
    group.add_argument("--system", metavar="TEXT", help="what the system says in every conversation")
    group.add_argument("--answers", choices=ANSWERS, help="labels: learn from what is answered, without scores")
    group.add_argument("--answer-tokens", type=int, help="with --answers labels: of an answer (default 8)")
    group.add_argument("--timeout", type=float, help="seconds for a whole answer (default 60)")
    group.add_argument("--retries", type=int, help="of a failed request, with growing pauses (default 8)")
    group.add_argument("--concurrency", type=int, help="requests under way at once (default 4)")
    group.add_argument("--refused-share", type=float, help="of texts an endpoint may refuse (default 0.05)")
    group.add_argument("--rpm", type=float, help="requests a minute (default: what the server's headers say)")
    group.add_argument("--tpm", type=float, help="tokens a minute (default: what the server's headers say)")
    group.add_argument("--price-in", type=float, metavar="USD", help="for a million tokens that are read")
    group.add_argument("--price-out", type=float, metavar="USD", help="for a million tokens that are written")
    group.add_argument("--budget-usd", type=float, metavar="USD", help="spend no more than that; needs the prices")
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
    group.add_argument("--cache", type=Path, metavar="DIR", help="answers kept across runs, which are not asked again")
