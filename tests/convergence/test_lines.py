"""The table of zopog verify: labels, links, thresholds, and ten seeds without a false alarm."""

import ast
import inspect
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import pytest

from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.comparison import Equality, Inequality, z_threshold
from zopog_ref.convergence.lines import Result, evaluate, sampled
from zopog_ref.convergence.lines_continuous import CONTINUOUS
from zopog_ref.convergence.lines_descent import DESCENT
from zopog_ref.convergence.lines_discrete import DISCRETE
from zopog_ref.convergence.lines_joint import JOINT
from zopog_ref.convergence.lines_rates import RATES

LINES = DISCRETE + CONTINUOUS + JOINT + DESCENT + RATES
SAMPLED = [line for line in LINES if line.key in ("V4-paper", "V5-paper", "G4-run") or line in RATES]
LABELS = (
    ["S1", "S2", "S3", "S4", "S5", "V1", "V2", "V3", "V4", "V5", "V6", "V7", "G1", "G2", "G3", "G4", "A1", "A2", "A3", "A4", "Z1", "Z1b", "Z2", "Z3", "Z4", "Z5", "Z5b", "D1", "D1b", "D2", "T1", "T1b", "W1", "W2", "C1", "J1", "J2", "J3", "J4"]
)  # fmt: skip
SOURCE = Path(inspect.getfile(evaluate)).parent


def test_every_label_has_a_row_and_keys_are_unique() -> None:
    assert {line.label for line in LINES} == set(LABELS)
    assert len({line.key for line in LINES}) == len(LINES)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.key)
def test_the_links_of_a_row_lead_somewhere(line) -> None:
    file, name = line.test.split("::")
    tree = ast.parse((Path(__file__).parent / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert line.function.__module__.startswith("zopog_ref.convergence.")
    assert f"[{line.label}]" in (line.function.__doc__ or "")


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*.py")), ids=lambda path: path.name)
def test_functions_and_files_stay_readable(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 45, node.name


def test_threshold_is_bonferroni() -> None:
    z = z_threshold(60, 1e-4)
    assert 60 * 2 * (1 - NormalDist().cdf(z)) == pytest.approx(1e-4, rel=1e-6)


def test_not_a_number_never_holds() -> None:
    nan = float("nan")
    assert not Equality(nan, 1.0, nan, 1.0, False).holds(5)
    assert not Inequality(nan, 1.0).holds()


@pytest.mark.parametrize("seed", range(100, 110))
def test_ten_seeds_raise_no_false_alarm(seed: int) -> None:
    """Only rows that are sampled: the others are exact and the same alarm, or none, at every effort."""
    results = evaluate(SAMPLED, Bench(seed=seed, effort=replace(TINY, times=500, paper_times=500)))
    assert sampled(c for r in results for c in r.comparisons) > 40
    assert [r.line.key for r in results if r.line.required and not r.holds] == []


def test_a_row_holds_when_all_of_its_comparisons_do() -> None:
    holding, failing = Inequality(1.0, 2.0), Inequality(2.0, 1.0)
    assert Result(LINES[0], (holding, holding), 4.0).holds
    assert not Result(LINES[0], (holding, failing), 4.0).holds
