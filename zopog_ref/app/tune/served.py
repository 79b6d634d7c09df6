"""Models that somebody else serves, on the command line: what tune and predict need beyond a local model."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import TEMPERATURE, FrozenModel
from zopog_models.served.addresses import ServedOptions, is_served, open_served
from zopog_models.served.completions import LARGEST_TOP
from zopog_models.served.kserve import ENCODINGS
from zopog_models.served.transport import SetupError, Wire
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.folder import say
from zopog_ref.app.run.presets import Preset
from zopog_ref.app.run.saved_values import Kind, check, maybe, number, text, whole

KSERVE, COMPLETIONS = "kserve+", "completions+"
REQUESTS = "requests.jsonl"  # in a run folder
# What changes a result stays as it was when a run is continued; how the wire is used may change.
_FIXED: dict[str, Any] = {
    "tokenizer": None, "rows_per_request": None, "encoding": "auto", "embedding_std": None, "top_logprobs": 5,
}  # fmt: skip
_KINDS: dict[str, Kind] = {
    "tokenizer": text, "rows_per_request": maybe(whole), "encoding": text, "embedding_std": maybe(number),
    "top_logprobs": whole, "timeout": number, "retries": whole, "concurrency": whole, "key_variable": maybe(text),
}  # fmt: skip
_WIRE = {"timeout": 60.0, "retries": 8, "concurrency": 4, "key_variable": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a served model; all are None where they were not given."""
    group = parser.add_argument_group(
        "a model that somebody else serves (docs/remote.md)",
        f"--model {KSERVE}http://HOST:PORT/v2/models/NAME, or, for methods that learn tokens alone, --model "
        f"{COMPLETIONS}http://HOST:PORT/v1#NAME",
    )
    group.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="with config.json and tokenizer.json")
    group.add_argument("--rows-per-request", type=int, metavar="ROWS", help="default: 64; of completions 1")
    group.add_argument("--encoding", choices=ENCODINGS, help="of tensors; auto: binary where the server offers it")
    group.add_argument("--embedding-std", type=float, help="of the word embeddings, where the server does not say")
    group.add_argument("--top-logprobs", type=int, help=f"of completions: asked for, 1 to {LARGEST_TOP} (default 5)")
    group.add_argument("--timeout", type=float, help="seconds for a whole answer (default 60)")
    group.add_argument("--retries", type=int, help="of a failed request, with growing pauses (default 8)")
    group.add_argument("--concurrency", type=int, help="requests under way at once (default 4)")
    group.add_argument("--key-env", dest="key_variable", metavar="NAME", help="environment variable with the key")


def is_remote(source: str) -> bool:
    """Whether a --model is an address."""
    return is_served(source)


def check_options(given: Mapping[str, Any], preset: Preset) -> None:
    """What is wrong, before anything is asked of the server. given: option -> value or None. Errors: InputError."""
    names = [name for name in (*_FIXED, *_WIRE) if given.get(name) is not None]
    source = given["model"]
    if not is_remote(source):
        if names:
            raise InputError(f"{_option(names[0])} is for a served model, and --model is {source!r}")
        return
    if given.get("tokenizer") is None:
        raise InputError(f"--model {source} needs --tokenizer FOLDER: a folder with its config.json and tokenizer.json")
    for option, wanted in (("device", "cpu"), ("threads", None), ("precision", None)):
        if given.get(option) not in (wanted, "fp32"):
            raise InputError(f"{_option(option)} is the server's affair: leave it out with --model {source}")
    if source.startswith(COMPLETIONS):
        _require_tokens_alone(preset)
        if given.get("pooling"):
            raise InputError("--pooling: a completions endpoint answers with words, not with sentence embeddings")


def _require_tokens_alone(preset: Preset) -> None:
    """A text has no room for A z. Errors: InputError, which says what to set."""
    name, settings = preset.method_name, preset.method
    if name == "bdpl" or (name == "zo-pog" and not settings.zeroth_order):
        return
    if name == "random-search" and settings.sigma == 0:
        return
    advice = {"zo-pog": ": add --zeroth-order off", "random-search": ": add --sigma 0"}
    raise InputError(
        f"{name} learns a continuous prompt, and a completions endpoint reads text alone"
        + advice.get(name, "; bdpl, zo-pog --zeroth-order off and random-search --sigma 0 learn tokens alone")
    )


def remote_settings(given: Mapping[str, Any], saved: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What config.json keeps: what was given, else what was saved, else the defaults. Of a key, its variable's name.

    Errors: InputError when a continued run is given what it cannot change, or when its folder, which may be a
    stranger's, names a variable of the environment to be sent to a server, and the user does not.
    """
    if saved is not None:
        check(saved, {name: kind for name, kind in _KINDS.items() if name in saved}, Path("config.json"))
        key = saved.get("key_variable")
        if key is not None and given.get("key_variable") is None:
            raise InputError(f"this run sends the key in the variable {quoted(key)}: if it may, say so with --key-env")
        fixed = [name for name in _FIXED if given.get(name) is not None]
        if fixed:
            raise InputError(f"{_option(fixed[0])}: fixed when the run was started; --resume goes on with what it had")
    defaults = _FIXED | _WIRE | dict(saved or {})
    settings = {name: default if given.get(name) is None else given[name] for name, default in defaults.items()}
    return settings | {"tokenizer": str(settings["tokenizer"])}


def open_remote(
    source: str, settings: Mapping[str, Any], pooling: str | None = None, temperature: float = TEMPERATURE
) -> FrozenModel:
    """The model at an address. Errors: SetupError, ServiceError, InputError."""
    try:
        wire = Wire(**{name: settings[name] for name in _WIRE})
    except ValueError as error:
        raise InputError(f"--{error}") from error
    options = ServedOptions(
        wire=wire, rows=settings["rows_per_request"], encoding=settings["encoding"], notify=say, pooling=pooling,
        embedding_std=settings["embedding_std"], temperature=temperature, top=settings["top_logprobs"],
    )  # fmt: skip
    return open_served(source, settings["tokenizer"], options)


def keep_requests(model: FrozenModel, folder: Path) -> None:
    """Write the model's requests down in the run folder, and answer from there what was answered before."""
    try:
        model.runner.keep(folder / REQUESTS)
    except ValueError as error:
        raise InputError(f"{error}: it was edited") from error


def requests_of(model: FrozenModel) -> dict[str, Any]:
    """For result.json: every request that was sent, and of those, the repeated; {} of a local model."""
    return model.runner.report()


def close_requests(model: FrozenModel) -> None:
    """Give the file back, whatever the model is."""
    model.close()


def _option(name: str) -> str:
    return {"key_variable": "--key-env"}.get(name, "--" + name.replace("_", "-"))


__all__ = [
    "SetupError",
    "add_arguments",
    "check_options",
    "close_requests",
    "is_remote",
    "keep_requests",
    "open_remote",
    "remote_settings",
    "requests_of",
]
