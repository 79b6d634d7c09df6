"""A served model for PromptClassifier: what the command line's options say, by their names without dashes.

served = {"tokenizer": "FOLDER", "key_env": "OPENAI_API_KEY", "top_logprobs": 20}
"""

import argparse
from collections.abc import Mapping
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_models.served.addresses import host_of, is_served
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import UNSAVED, Served
from zopog_ref.app.tune.choices import chosen_served, said_of_the_wire
from zopog_ref.app.tune.options import add_served_arguments, option

__all__ = ["asked_of", "kept", "said_again"]

_SAID_AGAIN = ("key_env", "header_env")  # no folder decides what of the environment is sent


def asked_of(model: str, given: Mapping[str, Any] | None) -> tuple[Served | None, dict[str, Any]]:
    """How the model is asked, None of one that is here; and how it is reached now. Errors: ValueError."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    add_served_arguments(parser)
    words = [word for name, value in (given or {}).items() for word in _words(str(name), value)]
    try:
        arguments, unknown = parser.parse_known_args(words)
        if unknown:
            raise ValueError(
                f"served has {quoted(unknown[0].partition('=')[0])}, which is no option of a served model; "
                "zopog tune --help-all lists them"
            )
        arguments.model = model
        return chosen_served(arguments), said_of_the_wire(arguments)
    except (argparse.ArgumentError, InputError) as error:
        raise ValueError(f"served: {error}") from None


def kept(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What may stand in a file, as JSON: all but what is said each time."""
    if given is None:
        return None
    plain = (bool, int, float, str, list, tuple)
    return {name: v if isinstance(v, plain) else str(v) for name, v in given.items() if name not in UNSAVED}


def said_again(
    saved: Mapping[str, Any] | None, given: Mapping[str, Any] | None, source: str, named: bool
) -> dict[str, Any] | None:
    """What a folder says of its served model, with what the user says in its place. named: the user named the model.

    Errors: ValueError where a folder, which may be a stranger's, would decide where texts or keys go.
    """
    if not is_served(source):
        return None if given is None else dict(given)
    host = host_of(source)
    if not named:
        raise ValueError(
            f"this folder says that its model is served by {host}: the texts would be sent there. If they may, say so "
            f"with model={source[:300]!r}"
        )
    before, now = dict(saved or {}), dict(given or {})
    for name in _SAID_AGAIN:
        if before.get(name) and name not in now:
            raise ValueError(
                f"this prompt's texts went to {host} with {name} {quoted(str(before[name]))}: if that variable of the "
                f"environment may be sent, say so with served={{{name!r}: ...}}"
            )
    return before | now


def _words(name: str, value: Any) -> list[str]:
    """As on the command line."""
    if value is None or value is False:
        return []
    if value is True:
        return [option(name)]
    return [f"{option(name)}={one}" for one in (value if isinstance(value, list | tuple) else (value,))]
