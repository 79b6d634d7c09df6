"""Every check can fail: which row kills which mutant, exactly as the table says."""

from dataclasses import replace

import pytest

from tests.convergence import mutants
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.comparison import Equality
from zopog_ref.convergence.lines_continuous import CONTINUOUS
from zopog_ref.convergence.lines_descent import DESCENT
from zopog_ref.convergence.lines_discrete import DISCRETE

LINES = {line.key: line for line in DISCRETE + CONTINUOUS + DESCENT}
POLICY_ROWS = ("V1", "V4", "V4-paper", "V5", "V5-paper", "V7-exact", "G2", "D1")
SCORE_ROWS = ("S1", "S2", "S3", "S3-bound", "S4", "S5")
ZEROTH_ROWS = (
    "Z1", "Z1b", "Z2", "Z3-quadratic", "Z4-quadratic", "Z4", "Z5-exact", "Z5", "Z5b-exact", "Z5b", "D2",
)  # fmt: skip
SOUND = Bench(seed=3, effort=replace(TINY, paper_times=6000))


def kills(key: str, bench: Bench) -> bool:
    """|z| > 10 in an equality of the row, or a bound broken."""
    checked = LINES[key].check(bench)
    comparisons = [checked] if not isinstance(checked, list | tuple) else checked
    return any(not abs(c.z) <= 10 if isinstance(c, Equality) else not c.holds() for c in comparisons)


@pytest.mark.parametrize("key", POLICY_ROWS + SCORE_ROWS + ZEROTH_ROWS + ("V2", "V3"))
def test_the_core_is_not_killed(key: str) -> None:
    assert not kills(key, SOUND)


@pytest.mark.parametrize("mutant", mutants.POLICY, ids=lambda m: m.__name__)
def test_policy_mutants(mutant) -> None:
    bench = replace(SOUND, policy=mutant, cache={})
    assert {key for key in POLICY_ROWS if kills(key, bench)} == mutants.POLICY[mutant]


@pytest.mark.parametrize("mutant", mutants.SCORE, ids=lambda m: m.__name__)
def test_score_mutants(mutant) -> None:
    assert {key for key in SCORE_ROWS if kills(key, replace(SOUND, score=mutant))} == mutants.SCORE[mutant]


@pytest.mark.parametrize("mutant", mutants.ZEROTH, ids=lambda m: m.__name__)
def test_zeroth_mutants(mutant) -> None:
    bench = replace(SOUND, zeroth=mutant)
    assert {key for key in ZEROTH_ROWS if kills(key, bench)} == mutants.ZEROTH[mutant]


@pytest.mark.parametrize("mutant", mutants.ONE_OUT, ids=lambda m: m.__name__)
def test_leave_one_out_mutants(mutant) -> None:
    assert kills("V2", replace(SOUND, one_out=mutant))


@pytest.mark.parametrize("mutant", mutants.SCATTER, ids=lambda m: m.__name__)
def test_collapsed_mutants(mutant) -> None:
    assert kills("V3", replace(SOUND, scatter=mutant))


@pytest.mark.parametrize("table", [mutants.POLICY, mutants.SCORE, mutants.ZEROTH], ids=["policy", "score", "zeroth"])
def test_each_equality_has_three_killers(table) -> None:
    rows = set().union(*table.values()) - {"Z4", "Z5", "Z5b", "D1", "D2", "S3-bound", "S4"}
    few = {row for row in rows if sum(row in killed for killed in table.values()) < 3}
    assert few == set()
