"""zopog predict: label texts with a tuned prompt, a JSON object a line."""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.errors import RepeatedColumn, TaskError
from zopog_models.files.quoting import quoted
from zopog_models.files.repeated_keys import parse_json
from zopog_models.prompts.bundle import Prompt, load_prompt, shared_source
from zopog_models.prompts.predicting import Prediction, chosen, predict
from zopog_models.served.addresses import is_served
from zopog_models.tasks.data_files import columns_of, records
from zopog_models.tasks.template import is_text, make_task
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say, show_json
from zopog_ref.app.run.config import Machine, Served, read_run
from zopog_ref.app.scores.uncertainty import entropy, expected_entropy, mutual_information, predictive
from zopog_ref.app.tune.models import check_place, continued, open_model
from zopog_ref.app.tune.options import add_key_arguments

ROWS_AT_ONCE = 256
_TABLE = re.compile(r"\.(tsv|txt|csv|parquet)$|\.gz$", re.IGNORECASE)  # every other file is JSONL, read line by line
Text = tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("run", type=Path, help="a run folder, or the prompt folder inside it")
    parser.add_argument(
        "file",
        nargs="?",
        help="what tune reads (TSV, CSV, JSONL, .gz, Parquet) with the text columns; - for JSONL on stdin",
    )
    parser.add_argument(
        "--text-column",
        action="append",
        metavar="NAME",
        help="twice for two texts (text; where the file has none, the columns that the run was tuned on)",
    )
    parser.add_argument("--id-column", metavar="NAME", help="passed through as `id` (id, where there is one)")
    parser.add_argument(
        "--text", nargs="+", action="append", help="a text; for a task of two texts, both after one --text"
    )
    parser.add_argument("--model", help="default: the model the prompt was tuned for")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int)
    add_key_arguments(parser.add_argument_group("a model that somebody else serves (docs/remote.md)"))
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the answer is JSON in any case")


def run(arguments: argparse.Namespace) -> int:
    """Answer each text with its label, the labels' probabilities and, for several prompts, how they differ."""
    if not arguments.file and not arguments.text:
        raise InputError("nothing to label: give --text, a file, or - to read JSONL from standard input")
    prompt, tuned = prompt_and_model(arguments.run, arguments.model)
    machine, temperature, remote = Machine(arguments.device, arguments.threads), None, None
    if is_served(tuned.source):
        if tuned.remote is None:
            raise InputError(
                f"{tuned.source} is an address, and this prompt was not tuned there: give the model's folder"
            )
        temperature = tuned.temperature
        names = ("key_variable", "headers_env", "allow_http", "cache")
        wire = {name: value for name in names if (value := getattr(arguments, name)) is not None}
        machine = Machine(address=arguments.model, wire=wire)
        remote = continued(tuned.remote, machine, tuned.source)
    model = open_model(tuned.source, machine, pooling=tuned.pooling, temperature=temperature, remote=remote)
    slots = make_task(prompt.template, prompt.labels).slots
    columns = tuple(arguments.text_column or slots)
    if len(columns) != len(slots):
        raise InputError(f"--text-column was given {len(columns)} times; this task takes {len(slots)} texts")
    if len(set(columns)) < len(columns):
        raise InputError(f"--text-column {columns[0]} was given twice; this task takes {len(slots)} different texts")
    own = columns if arguments.text_column else tuned.columns or columns
    texts = _texts(arguments.text, arguments.file, (columns, own), arguments.id_column, tuned.quoting)
    truncated = silent = 0
    while rows := list(islice(texts, ROWS_AT_ONCE)):
        prediction = predict(model, prompt, [text for text, _ in rows])
        for (_, named), line in zip(rows, _answers(prompt, prediction)):
            show_json(line if named is None else {"id": named} | line)
            silent += line["label"] is None
        truncated += prediction.truncated
    if silent:
        say(f"{silent} texts got no answer: their label is null, all have equal probabilities (docs/remote.md)")
    if truncated:
        say(f"{truncated} texts did not fit the model's {model.max_positions} positions and were cut")
    return 0


@dataclass(frozen=True)
class Tuned:
    """The model that a prompt is for: where it is, and how it was read."""

    source: str
    pooling: str | None = None
    temperature: float | None = None
    remote: Served | None = None
    columns: tuple[str, ...] = ()  # of the texts in the run's files; of a prompt without its run they are not known
    quoting: str = ""  # of these files


def prompt_and_model(run: Path, model: str | None) -> tuple[Prompt, Tuned]:
    """The prompt of a run folder or of the prompt folder inside it, and the model it was tuned with.

    model: where it is, if said. Of a prompt folder without its run, what the prompt itself says of its model.
    """
    folder = run
    if not (folder / "prompt.safetensors").exists():
        if (folder / "config.json").exists() and not (folder / "prompt").exists():
            raise InputError(f"{folder} has no tuned prompt yet: finish it with zopog tune --resume {folder}")
        folder = folder / "prompt"
    if not folder.is_dir():
        raise InputError(f"{run} is neither a run folder nor a prompt folder")
    if (folder.parent / "config.json").exists():
        config, _ = read_run(folder.parent)
        if model is None:
            check_place(config.model)
        place, task = model or config.model, config.task
        about = (config.pooling, config.temperature, config.remote, task.text_columns, task.quoting)
        return load_prompt(folder), Tuned(place, *about)
    prompt = load_prompt(folder)
    source = model or shared_source(prompt.source) or ("embedded" if prompt.model == "embedded" else None)
    if source is None:
        raise InputError(f"{folder} was tuned for {quoted(prompt.model)}: say where its folder is with --model")
    return prompt, Tuned(source, prompt.pooling or None)


def _texts(
    texts: list[list[str]] | None, file: str | None, either: tuple[Text, Text], named: str | None, quoting: str
) -> Iterator[tuple[Text, Any]]:
    """Each text with its id, which is None where there is none. Errors: InputError, TaskError.

    either: names of the texts' columns, and the names to take where a file has no such columns. quoting: see `Task`.
    """
    columns = either[0]
    for given in texts or []:
        if wrong := [text for text in given if not is_text(text)]:
            raise InputError(f"--text {quoted(wrong[0])} is not UTF-8: write it in UTF-8, or give a JSONL file")
        if len(columns) == 1:
            yield from (((text,), None) for text in given)
        elif len(given) == len(columns):
            yield tuple(given), None
        else:
            raise InputError(f"this task takes two texts ({', '.join(columns)}): give both after one --text")
    if file == "-":
        yield from _rows(getattr(sys.stdin, "buffer", sys.stdin), "standard input", either, named)
    elif file and _TABLE.search(file):
        yield from _table(Path(file), either, named, quoting)
    elif file:
        yield from _rows(_lines(file), file, either, named)


def _table(path: Path, either: tuple[Text, Text], named: str | None, quoting: str) -> Iterator[tuple[Text, Any]]:
    """Of a file as tune reads it. Without --id-column a column `id` is taken where there is one."""
    columns = either[0] if _has(path, either[0], quoting) else either[1]  # which are missed where both are
    if named is None and _has(path, (*columns, "id"), quoting):
        named = "id"
    for _, values in records(path, (*columns, columns[-1] if named is None else named), quoting):
        yield tuple(values[:-1]), None if named is None else values[-1]


def _has(path: Path, columns: tuple[str, ...], quoting: str) -> bool:
    try:
        columns_of(path, columns, quoting)
    except RepeatedColumn:  # it has them: which is meant is said where they are read
        return True
    except TaskError:  # what else is wrong with the file is said where it is read
        return False
    return True


def _lines(file: str | Path) -> Iterator[bytes]:
    try:
        with open(file, "rb") as lines:
            yield from lines
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{quoted(str(file))} cannot be read: {getattr(error, 'strerror', error)}") from error


def _rows(
    lines: Iterable[bytes | str], name: str, either: tuple[Text, Text], named: str | None
) -> Iterator[tuple[Text, Any]]:
    for number, line in enumerate(lines, start=1):
        if number == 1 and isinstance(line, bytes):
            line = line.removeprefix(b"\xef\xbb\xbf")  # what some editors put before UTF-8
        if not line.strip():
            continue
        try:
            row = parse_json(line if isinstance(line, str) else line.decode())
            columns = next((names for names in either if row.keys() >= set(names)), either[0])
            text = tuple(row[column] for column in columns)
            passed = row.get("id") if named is None else row[named]
            json.dumps(passed, allow_nan=False)  # NaN, and numbers beyond the largest, are no JSON to write again
        except UnicodeDecodeError as error:
            raise InputError(f"{name}, line {number}: not UTF-8 ({error})") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            wanted = " or ".join(", ".join(f'"{column}"' for column in names) for names in dict.fromkeys(either))
            said = f"{type(error).__name__}: {error}"
            raise InputError(f"{name}, line {number}: expected a JSON object with {wanted} ({said:.200})") from error
        if not all(isinstance(part, str) and is_text(part) for part in text):
            raise InputError(f"{name}, line {number}: the texts must be strings that UTF-8 can write")
        yield text, passed


def _answers(prompt: Prompt, prediction: Prediction) -> Iterator[dict[str, object]]:
    """A line for each row; for a distribution over prompts with entropies in nats, and how the prompts vote.

    With a threshold, `set`: the classes that cannot be left out. Where it is not one class alone, ask somebody else.
    """
    labels, mixture, each = list(prompt.labels), prediction.probabilities, prediction.per_prompt
    weights = prompt.answer_weights
    unsure = {
        "entropy": entropy(mixture),
        "expected_entropy": expected_entropy(each, weights),
        "mutual_information": mutual_information(each, weights),
    }  # (rows,) each
    votes = predictive(each, weights, "votes")
    sets = None if prompt.readout is None else prompt.readout.sets(mixture)
    classes = chosen(mixture, each)
    for row, p in enumerate(mixture):
        named = labels[classes[row]] if classes[row] >= 0 else None
        answer: dict[str, object] = {"label": named, "probabilities": _shares(labels, p)}
        if sets is not None:
            answer["set"] = [label for label, held in zip(labels, sets[row]) if held]
        if len(each) > 1:
            answer |= {name: round(float(values[row]), 6) for name, values in unsure.items()}
            answer["votes"] = _shares(labels, votes[row])
            answer["agreement"] = round(float(votes[row, classes[row]]), 6)
        yield answer


def _shares(labels: list[str], values: np.ndarray) -> dict[str, float]:
    return {label: round(float(value), 6) for label, value in zip(labels, values)}
