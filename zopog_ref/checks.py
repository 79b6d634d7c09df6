"""What settings must satisfy, and the message when they do not: one wording for every method.

check(settings, at_least(2), "popsize")
check(settings, POSITIVE, "sigma", "mu")
check(settings, Rule("lie above 0, at most 1/N", lambda value: 0 < value <= 1), "floor")
check_choices(settings)
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any, Literal, get_args, get_origin, get_type_hints

__all__ = ["NOT_NEGATIVE", "POSITIVE", "Rule", "at_least", "check", "check_choices"]


@dataclass(frozen=True)
class Rule:
    """What a value must do, in words that follow "it must", and the same as a function that NaN does not satisfy."""

    words: str
    holds: Callable[[Any], bool]


POSITIVE = Rule("be positive and finite", lambda value: 0 < value < inf)
NOT_NEGATIVE = Rule("be 0 or more, and finite", lambda value: 0 <= value < inf)


def at_least(least: int, why: str = "") -> Rule:
    """`least` or more; `why` ends the message, as in ", so that two or more are recombined"."""
    return Rule(f"be at least {least}{why}", lambda value: value >= least)


def check(checked: Any, rule: Rule, *names: str) -> None:
    """See that these attributes of `checked` satisfy the rule.

    Errors: ValueError naming the first attribute that does not, its value and what it must do.
    """
    for name in names:
        if not rule.holds(value := getattr(checked, name)):
            raise ValueError(f"{name} is {value}; it must {rule.words}")


def check_choices(settings: Any) -> None:
    """See that every Literal field of a dataclass holds one of its choices.

    Errors: ValueError naming the field, its value and the choices.
    """
    own: Any = type(settings)
    kinds = _kinds(own)
    for name in (field.name for field in dataclasses.fields(settings)):
        value, choices = getattr(settings, name), get_args(kinds[name])
        if get_origin(kinds[name]) is Literal and value not in choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, choices))}")


@cache
def _kinds(settings: Any) -> dict[str, Any]:
    """The types of its fields, whose names Python evaluates once."""
    return get_type_hints(settings)
