"""The command: JSON alone on stdout, exit codes, the page, someone else's estimator."""

import argparse
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.dom.minidom import parseString

import numpy as np
import pytest

from zopog_ref.app.errors import InputError
from zopog_ref.app.verify import command as verify
from zopog_ref.app.verify import estimator as verify_estimator
from zopog_ref.app.verify.formulas import FORMULAS, mathml
from zopog_ref.convergence.cases import TINY
from zopog_ref.convergence.lines_continuous import CONTINUOUS
from zopog_ref.convergence.lines_descent import DESCENT
from zopog_ref.convergence.lines_discrete import DISCRETE
from zopog_ref.convergence.lines_joint import JOINT
from zopog_ref.convergence.lines_rates import RATES

HERE = "tests.convergence.estimators:"


def parse(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    return parser.parse_args(given)


@pytest.fixture
def tiny(monkeypatch) -> None:
    for module in (verify, verify_estimator):
        monkeypatch.setattr(module, "QUICK", replace(TINY, times=600, paper_times=600))


def test_json_and_page(tiny, tmp_path: Path, capsys) -> None:
    assert verify.run(parse("--quick", "--no-model", "--json", "--seed", "11", "--out", str(tmp_path / "new"))) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)  # nothing else on stdout
    assert "VR-PGE" in err
    assert found["summary"]["required"] == found["summary"]["required_holding"] >= 50
    assert found["summary"]["skipped"]
    failing = {row["key"] for row in found["rows"] if not row["holds"]}
    false = {"V7-reported", "slope-I-reported", "Z5-first", "T1-first"}
    assert false <= failing <= false | {"A4-limit"}
    lines = DISCRETE + CONTINUOUS + JOINT + DESCENT + RATES
    assert {row["key"] for row in found["rows"]} == {line.key for line in lines}
    for row in found["rows"]:
        for place in (row["function"], row["test"]):
            path, number = place.split("#L")
            text = (Path(__file__).parents[3] / path).read_text().splitlines()[int(number) - 1]
            assert text.startswith("def "), place
    assert json.loads((tmp_path / "new" / "verify.json").read_text())["rows"] == found["rows"]
    check_page((tmp_path / "new" / "verify.html").read_text())


def check_page(html: str) -> None:
    class Collect(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.places: list[str] = []

        def handle_starttag(self, tag, attributes) -> None:
            self.tags.append(tag)
            self.places += [value for name, value in attributes if name in ("src", "href") and value]

    page = Collect()
    page.feed(html)
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.tags)  # one file, nothing fetched
    assert [place for place in page.places if not re.fullmatch(r"#s\d+", place)] == []  # nothing that lies beside it
    assert page.tags.count("details") == page.tags.count("article")  # each with its function's own source
    for result in DISCRETE + CONTINUOUS + DESCENT + RATES:
        assert f"def {result.function.__name__}(" in html
    assert 'id="failing"' in html
    assert page.tags.count("math") == page.tags.count("article") == len(DISCRETE + CONTINUOUS + DESCENT + RATES)
    assert page.tags.count("svg") >= 7
    assert "prefers-color-scheme:dark" in html
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html)


def test_a_broken_line_fails_the_command(tiny, monkeypatch, capsys) -> None:
    from tests.convergence.mutants import one_over_I

    bench = verify.Bench
    monkeypatch.setattr(verify, "Bench", lambda **given: bench(**given, policy=one_over_I))
    monkeypatch.setattr(verify, "noise_modes", lambda bench: [])
    monkeypatch.setattr(verify, "CONTINUOUS", ())
    monkeypatch.setattr(verify, "DESCENT", ())
    monkeypatch.setattr(verify, "RATES", ())
    assert verify.run(parse("--quick", "--no-model")) == 1
    assert "FAILS" in capsys.readouterr().out


@pytest.mark.parametrize("key", FORMULAS)
def test_formulas_are_well_formed(key: str) -> None:
    parseString(mathml(FORMULAS[key]))


def test_formula_errors_name_the_command() -> None:
    with pytest.raises(ValueError, match="unheard"):
        mathml(r"\unheard x")
    with pytest.raises(ValueError, match="open brace"):
        mathml(r"\frac{1")


@pytest.mark.parametrize("name", ["official", "unnamed"])
def test_the_official_formula_passes(tiny, name: str, capsys) -> None:
    assert verify.run(parse("--quick", "--estimator", HERE + name, "--kind", "policy")) == 0
    out = capsys.readouterr().out
    assert "violates none" in out
    assert "fresh noise" in out  # it takes one p only, and the answer says so


def test_bdpl_is_told_its_factor(tiny, capsys) -> None:
    assert verify.run(parse("--quick", "--json", "--estimator", HERE + "bdpl")) == 1
    answer = json.loads(capsys.readouterr().out)
    rows = {row["key"]: row for row in answer["rows"]}
    assert {"V4", "V5"} <= set(answer["violated"])
    assert "alpha = p, I = 2: exactly 2 times the gradient" in rows["V4"]["explanation"]
    assert rows["V5"]["cases"][0]["ratio"] == pytest.approx(4)  # the square of the factor


def test_zeroth_order_estimators(capsys) -> None:
    assert verify.run(parse("--quick", "--estimator", HERE + "sound")) == 0
    assert verify.run(parse("--quick", "--estimator", HERE + "tripled")) == 1
    out = capsys.readouterr().out
    assert "exactly 3 times the gradient" in out
    assert re.search(r"\[Z4\].*quadratic: 9", out)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "MODULE:FUNCTION"),
        ("no_such_module:f", "no module"),
        (HERE + "missing", "has no 'missing'"),
        (HERE + "np", "not a function"),
        (HERE + "unnamed", "--kind"),
        (HERE + "broken", "raised RuntimeError"),
        (HERE + "broken", "estimators.py, line"),
        (HERE + "scalar", "returned shape (); expected (2, 3)"),
        (HERE + "nothing_returned", "returned None"),
        (HERE + "ragged", "its rows differ in length"),
        ("math:sin", "parameters"),
        ("builtins:max", "--kind"),
    ],
)
def test_unusable_estimators(name: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        verify.run(parse("--quick", "--estimator", name))


def judged(name: str, capsys, *more: str) -> tuple[int, dict]:
    code = verify.run(parse("--quick", "--json", "--estimator", HERE + name, *more))
    return code, json.loads(capsys.readouterr().out)


def test_an_estimator_of_nothing_is_biased_and_not_blamed_for_a_division(tiny, capsys) -> None:
    code, answer = judged("zero", capsys)
    assert code == 1
    assert not answer["unbiased"]
    assert "exactly 0 times the gradient" in answer["in_words"][0]


def test_a_writing_estimator_is_named_and_judged_on_copies(tiny, capsys) -> None:
    code, answer = judged("overwrites", capsys)
    assert code == 1
    assert answer["writes_into"] == ["losses"]
    assert answer["unbiased"]
    assert answer["violated"] == answer["differs"] == []


def test_not_a_number_is_explained(tiny, capsys) -> None:
    code, answer = judged("not_a_number", capsys)
    assert code == 1
    assert answer["not_finite"] > 0
    assert "losses = " in answer["first_not_finite"]
    rows = {row["key"]: row for row in answer["rows"]}
    assert "not a number" in rows["V5"]["explanation"]


@pytest.mark.parametrize("name", ["in_float32", "float32_inside"])
def test_single_precision_is_judged_by_its_own_rounding(tiny, name: str, capsys) -> None:
    code, answer = judged(name, capsys)
    assert (code, answer["violated"], answer["differs"]) == (0, [], [])
    assert answer["tolerance"] == 1e-4
    code, strict = judged(name, capsys, "--tolerance", "1e-10")
    assert code == 1 or strict["differs"]


def test_randomised_estimators_are_repeated(tiny, capsys) -> None:
    code, answer = judged("randomised", capsys)
    assert (code, answer["unbiased"], answer["repetitions"]) == (0, True, 30)
    assert all(c["ratio"] > 1.05 for c in answer["cases"])
    code, answer = judged("randomised_and_biased", capsys, "--repetitions", "40")
    assert (code, answer["unbiased"], answer["repetitions"]) == (1, False, 40)


@pytest.mark.parametrize(("name", "row"), [("no_baseline", "V5"), ("one_sided", "Z4")])
def test_another_variance_differs_and_violates_nothing(tiny, name: str, row: str, capsys) -> None:
    code, answer = judged(name, capsys)
    assert (code, answer["unbiased"], answer["violated"]) == (0, True, [])
    assert row in answer["differs"]
    assert max(c["ratio"] for c in answer["cases"]) > 1.5
    assert verify.run(parse("--quick", "--estimator", HERE + name)) == 0
    out = capsys.readouterr().out
    assert out.startswith("Unbiased: yes")
    assert "differs from the reference" in out
    assert "VIOLATED" not in out
    assert "FAILS" not in out


def test_a_wrong_entry_is_named(tiny, capsys) -> None:
    code, answer = judged("one_entry_negated", capsys)
    assert code == 1
    assert "furthest off in entry [0, 1]" in answer["in_words"][0]


def test_a_small_bias_is_not_called_exactly_1(tiny, capsys) -> None:
    code, answer = judged("slightly_too_long", capsys)
    assert code == 1
    assert answer["in_words"][0].endswith("exactly 1.0000001 times the gradient")


def test_repetitions_that_differ_by_rounding_only_are_no_bias(tiny, capsys) -> None:
    """Of two samples it always takes both: their order is all that varies."""
    code, answer = judged("pair_of_the_samples", capsys)
    assert (code, answer["unbiased"], answer["repetitions"]) == (0, True, 30)


def test_no_variance_is_zero(tiny, capsys) -> None:
    assert verify.run(parse("--quick", "--estimator", HERE + "constant")) == 1
    assert "Variance: 0 times the reference's" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("on_the_sphere", 0), ("signs", 1), ("signs_scaled", 0)])
def test_estimators_that_nodes_misjudge_are_sampled(name: str, code: int, capsys) -> None:
    """Gauss nodes give sign(u) the factor 0.888 where a normal u has 0.798."""
    found, answer = judged(name, capsys)
    assert (found, answer["unbiased"], answer["sampled"]) == (code, code == 0, True)
    assert {row["key"] for row in answer["rows"]} == {"Z1", "Z1b"}
    if name == "signs":
        assert answer["cases"][0]["factor"] == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)
    assert all(0 < case["error"] < 0.1 * case["gradient"] for case in answer["cases"])


def test_a_randomised_zeroth_order_estimator_has_a_verdict_and_no_line(capsys) -> None:
    code, answer = judged("either_side", capsys)
    assert (code, answer["unbiased"], answer["sampled"], answer["rows"]) == (0, True, True, [])
    assert min(case["ratio"] for case in answer["cases"]) > 2
    assert verify.run(parse("--quick", "--estimator", HERE + "either_side")) == 0
    assert capsys.readouterr().out.startswith("Unbiased: yes, over 30 repetitions")


def test_no_direction_is_zero(capsys) -> None:
    code, answer = judged("divides_by_length", capsys)
    assert (code, answer["not_finite"], answer["differs"], answer["sampled"]) == (0, 0, [], False)


def test_a_factor_that_only_two_pairs_show(tiny, capsys) -> None:
    code, answer = judged("pairs_summed", capsys)
    assert code == 1
    assert any("two pairs: exactly 2 times" in words for words in answer["in_words"])


def test_modules_that_cannot_be_imported(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text, message in (
        ("not_python", "def f(:", "line 1 is not Python"),
        ("leaves", "raise SystemExit(0)", "raised SystemExit: 0"),
        ("divides", "1 / 0", "raised ZeroDivisionError"),
        ("lacks", "import math\nmath.nothing", "raised AttributeError"),
    ):
        (tmp_path / f"{name}.py").write_text(text)
        with pytest.raises(InputError, match=re.escape(message)):
            verify.run(parse("--quick", "--estimator", f"{name}:f"))


def test_the_folder_is_refused_before_the_work(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(verify_estimator, "load", lambda name: pytest.fail("loaded before --out was looked at"))
    monkeypatch.setattr(verify, "evaluate", lambda *given: pytest.fail("the work began before --out was looked at"))
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        for more in ([], ["--estimator", HERE + "sound"]):
            with pytest.raises(InputError, match="file"):
                verify.run(parse("--quick", "--no-model", "--out", str(out), *more))


def test_seeds_up_to_the_largest(tiny, capsys) -> None:
    assert verify.run(parse("--quick", "--estimator", HERE + "sound", "--seed", str(2**63 - 1))) == 0
    with pytest.raises(InputError, match=re.escape("2^63")):
        verify.run(parse("--quick", "--seed", str(2**63)))


def test_progress_names_rows_and_calls(tiny, capsys) -> None:
    verify.run(parse("--quick", "--estimator", HERE + "sound"))
    err = capsys.readouterr().err
    assert "[ 1/" in err
    assert "calls so far" in err


def test_unusable_options(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        verify.run(parse("--quick", "--out", str(tmp_path / "file")))
    with pytest.raises(InputError, match="seed"):
        verify.run(parse("--seed", "-1"))


def test_kind_by_parameter_names() -> None:
    from zopog_ref import policy_gradient, two_point_gradient

    assert verify_estimator.kind_of(policy_gradient, "x") == "policy"
    assert verify_estimator.kind_of(two_point_gradient, "x") == "zeroth"


def test_symbols_replace_names_and_not_parts_of_words() -> None:
    from zopog_ref.app.verify.page import greek

    assert greek("all steps of mu at eps, alpha must") == "all steps of μ at ε, α must"
