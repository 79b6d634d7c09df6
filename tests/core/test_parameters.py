"""The parameters that a docstring lists are those of the signature, in its order, with its defaults."""

import ast
import inspect
import re
from collections.abc import Callable

import pytest

import zopog_ref
from zopog_kernels import DeviceObjective, KernelBackend

LISTED = (
    *(getattr(zopog_ref, name) for name in (
        "probabilities", "sample", "policy_gradient", "perturb", "two_point_gradient", "projection", "run",
        "FunctionObjective", "ModelObjective", "Ledger", "Method", "ZOPoG", "Settings",
    )),
    DeviceObjective, KernelBackend,
)  # fmt: skip


def listed(documentation: str) -> dict[str, str]:
    """Name -> what is said of it, of the section "Parameters:"."""
    section = inspect.cleandoc(documentation).partition("Parameters:\n\n")[2].partition("\n\n")[0]
    items = re.split(r"^- ", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, _, text in (item.partition(": ") for item in items)}


def mistakes(thing: Callable) -> list[str]:
    signature, said = inspect.signature(thing).parameters, listed(thing.__doc__ or "")
    wrong = [] if list(said) == list(signature) else [f"it has {list(signature)} and lists {list(said)}"]
    for name in signature.keys() & said.keys():
        default, (_, has_one, words) = signature[name].default, said[name].rpartition("Default: ")
        if bool(has_one) != (default is not inspect.Parameter.empty):
            wrong.append(f"{name}: a default is said or there is one, not both")
        elif isinstance(default, bool | int | float | str | None) and ast.literal_eval(
            re.match(r'"[^"]*"|[^,]*[^,.]|\.', words)[0]  # type: ignore[index]
        ) != default:  # fmt: skip
            wrong.append(f"{name}: the default is {default!r}, not {words}")
    return wrong


@pytest.mark.parametrize("thing", LISTED, ids=lambda thing: thing.__qualname__)
def test_parameters_are_as_they_say(thing: Callable) -> None:
    assert mistakes(thing) == []


def test_parameters_of_the_classifier_are_as_they_say() -> None:
    pytest.importorskip("sklearn", reason="PromptClassifier needs scikit-learn")
    pytest.importorskip("onnxruntime", reason="PromptClassifier runs a model")
    assert mistakes(zopog_ref.PromptClassifier) == []


@pytest.mark.parametrize(
    "documentation",
    [
        "It.\n\nParameters:\n\n- a: one.\n",
        "It.\n\nParameters:\n\n- b: two. Default: 2.\n- a: one.\n",
        "It.\n\nParameters:\n\n- a: one.\n- b: two.\n",
        "It.\n\nParameters:\n\n- a: one.\n- b: two. Default: 3.\n",
    ],
)
def test_a_wrong_list_is_caught(documentation: str) -> None:
    def thing(a: int, b: int = 2) -> None: ...

    thing.__doc__ = documentation
    assert mistakes(thing)
    thing.__doc__ = "It.\n\nParameters:\n\n- a: one.\n- b: two. Default: 2.\n\nErrors: none."
    assert mistakes(thing) == []
