"""What Python shows of the packages: names that completion offers, signatures that can be read, examples that run, objects
that say what they are, and what is logged."""

import doctest
import html
import importlib
import inspect
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import zopog_kernels
import zopog_models
import zopog_ref
from tests.app.conftest import zopog  # noqa: F401
from zopog_ref import DevScore, FunctionObjective, Ledger, SearchResult, ZOPoG, run

PACKAGES = (zopog_ref, zopog_models, zopog_kernels)
WITH_EXAMPLES = (
    "zopog_ref.algorithm", "zopog_ref.distribution", "zopog_ref.ledger", "zopog_ref.policy_gradient", "zopog_ref.search",
    "zopog_ref.zeroth_order", "zopog_models.tasks.template", "zopog_models.frozen.model",
    "zopog_ref.app.classifier.classifier",
)  # fmt: skip
NEEDS = {
    "zopog_models.frozen.model": ["onnxruntime"],
    "zopog_ref.app.classifier.classifier": ["sklearn", "onnxruntime"],
}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_docstrings_run(name: str) -> None:
    for package in NEEDS.get(name, []):
        pytest.importorskip(package, reason="the example runs a model")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_every_file_with_an_example_is_run() -> None:
    root = Path(__file__).parent.parent
    holders = set()
    for room, package in (
        ("zopog_ref", "zopog_ref"),
        ("models/zopog_models", "zopog_models"),
        ("kernels", "zopog_kernels"),
    ):
        for path in (root / room).rglob("*.py"):
            if re.search(r"^ +>>> ", path.read_text("utf-8"), re.MULTILINE):
                parts = path.relative_to(root / room).with_suffix("").parts
                holders.add(".".join((package, *parts)))
    assert holders == set(WITH_EXAMPLES)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_completion_offers_what_is_public_and_nothing_else(package: object) -> None:
    offered = set(dir(package)) - {"__version__", "PromptClassifier"}
    assert offered == set(package.__all__) - {"PromptClassifier"}  # type: ignore[attr-defined]
    assert all(hasattr(package, name) for name in offered)


def test_the_classifier_is_found_by_completion_and_by_star_where_scikit_learn_is() -> None:
    pytest.importorskip("sklearn", reason="PromptClassifier needs it")
    assert "PromptClassifier" in dir(zopog_ref)
    assert "PromptClassifier" in zopog_ref.__all__


@pytest.mark.parametrize("absent", [True, False])
def test_star_imports_work_without_scikit_learn(absent: bool) -> None:
    if not absent:
        pytest.importorskip("sklearn", reason="PromptClassifier needs it")
    hide = "import sys, importlib.util as u; f = u.find_spec; u.find_spec = lambda n, p=None: None if n == 'sklearn' else f(n, p)\n"
    code = (
        f"{hide if absent else ''}from zopog_ref import *\nprint('PromptClassifier' in globals(), 'ZOPoG' in globals())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(not absent), "True"]


def public_signatures() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        for name in package.__all__:
            thing = getattr(package, name)
            if callable(thing) and not (inspect.isclass(thing) and issubclass(thing, Exception)):
                found.append((name, str(inspect.signature(thing))))
    return found


def test_signatures_show_names_not_what_they_stand_for() -> None:
    pytest.importorskip("sklearn", reason="PromptClassifier is among them")
    for name, shown in public_signatures():
        for expanded in ("numpy.ndarray", "numpy._typing", "collections.abc", "typing.", "object at 0x"):
            assert expanded not in shown, (name, shown)


def loss_of(tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
    return np.repeat((tokens != 1).mean(axis=1)[:, None], len(examples), axis=1)


def searched(**more: object) -> SearchResult:
    method = ZOPoG(n_positions=2, n_candidates=3, dim=2, seed=3)
    return run(method, FunctionObjective(loss_of, Ledger(budget=130)), rows=1, **more)  # type: ignore[arg-type]


def test_a_result_says_where_it_stands() -> None:
    result = searched(dev=lambda prompts: DevScore(0.25, 1.5))
    assert repr(result) == (
        "SearchResult(prompts=1, dev_metric=0.25, dev_loss=1.5, best_step=1, steps=3, calls=120, stop_reason='budget')"
    )
    shown = html.unescape(result._repr_html_())
    assert "best_step=1" in shown
    assert shown.count("\n") == 6  # one fact a line
    assert "&lt;b&gt;" in replace(result, stop_reason="<b>")._repr_html_()


def test_a_method_says_what_it_was_made_of() -> None:
    method = ZOPoG(n_positions=2, n_candidates=3, dim=2, seed=3)
    assert repr(method) == f"ZOPoG(n_positions=2, n_candidates=3, dim=2, settings={method.settings!r}, seed=3)"


def test_models_and_prompts_say_what_they_are_and_markup_stays_text(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the embedded model runs")
    model = zopog_models.load_model("embedded", threads=1)
    nothing = np.zeros((1, 2, model.embedding_size), np.float32)
    prompt = zopog_models.Prompt(
        np.array([[5, 6]]), nothing, np.ones(1), np.array([7, 8]), "{text} <b>is</b> {mask}", {"a": "x", "b": "y" * 500},
        "input", model.name, model.sha256, model.tokenizer_sha256,
    )  # fmt: skip
    for thing in (model, prompt):
        assert repr(thing).startswith(f"{type(thing).__name__}(")
        assert len(repr(thing)) < 700
        assert "array(" not in repr(thing)
        table = thing._repr_html_()
        assert table.count("<tr>") == len(thing.facts())
        assert model.sha256[:12] in table
    assert "<b>is" not in prompt._repr_html_()
    assert f"labels={repr(dict(prompt.labels))[:199]}…, " in repr(prompt)  # a value from a file, at most 200 letters
    assert "prompts=1, tokens=2, offset='none', readout='none'" in repr(prompt)
    read = replace(prompt, readout=SimpleNamespace(kind="centred"))
    assert read.facts()["readout"] == "centred"
    sizes = (model.facts()["vocabulary"], model.facts()["positions"])
    assert sizes == (model.vocab_size, model.max_positions) == (8192, 192)
    assert "offset='yes'" in repr(replace(prompt, offsets=nothing + 1))


def test_a_classifier_says_its_parameters() -> None:
    pytest.importorskip("sklearn", reason="PromptClassifier needs it")
    clf = zopog_ref.PromptClassifier(budget=7)
    assert repr(clf) == "PromptClassifier(budget=7)"
    assert "PromptClassifier" in clf._repr_html_()


def test_the_packages_log_and_are_silent_until_somebody_listens(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("zopog_ref", "zopog_models"):
        assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger(name).handlers)
    with caplog.at_level(logging.INFO, "zopog_ref"):
        searched()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "130 calls left, 40 a step" in lines[0]
    assert lines[1] == "ended after step 3 and 120 calls: budget"
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "zopog_ref"):
        searched()
    assert sum("Record(step=" in record.getMessage() for record in caplog.records) == 3


@pytest.mark.parametrize(("option", "start", "step"), [("-v", True, False), ("-vv", True, True), (None, False, False)])
def test_v_on_the_command_line_shows_the_log(
    zopog: Callable[..., tuple[int, str, str]], tmp_path: Path, option: str | None, start: bool, step: bool
) -> None:
    pytest.importorskip("jinja2", reason="zopog tune writes a page")
    more = [option] if option else []
    code, _, said = zopog(
        "tune", "--budget", 100, "--n-positions", 2, "--n-candidates", 5, "--policy-samples", 2, "--direction-pairs", 1,
        "--shots", 2, "--dim", 3, "--batch-size", 16, "--threads", 1, "--out", tmp_path / "run", *more,
    )  # fmt: skip
    assert code == 0
    assert ("zopog_ref.search: ZOPoG(" in said) is start
    assert ("zopog_models.frozen.model: opened FrozenModel" in said) is start
    assert ("Record(step=1," in said) is step
    assert re.search("^calls .* done$", said, re.MULTILINE)  # though calls are kept back for the readout
    assert "measuring on 12 dev and 3,000 test rows" in said
    assert logging.getLogger("zopog_ref").level == logging.NOTSET
    assert zopog("tasks", "-q", "-v")[0] == 2


@pytest.mark.parametrize("name", ["BBT", "Random_Search"])
def test_a_method_s_name_in_any_case(name: str) -> None:
    pytest.importorskip("cma", reason="BBT needs it")
    pytest.importorskip("sklearn", reason="PromptClassifier needs it")
    texts, y = ["a small cat", "a dog", "a sweet cake", "a soup"], ["animal", "animal", "food", "food"]
    options = {"n_positions": 2, "n_candidates": 5, "dim": 3} | ({"popsize": 4} if name == "BBT" else {"samples": 4})
    plain = name.lower().replace("_", "-")
    fits = [
        zopog_ref.PromptClassifier(method=given, budget=40, threads=1, method_options=options, readout="none").fit(
            texts, y
        )
        for given in (name, plain)
    ]
    assert np.array_equal(fits[0].prompt_.ids, fits[1].prompt_.ids)
    assert fits[0].method == name  # scikit-learn's rule: a parameter stays as it was given
