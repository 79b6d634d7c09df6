"""Every check can fail: which row kills which mutant, exactly as the table says."""

from dataclasses import replace

import pytest

from tests.convergence import mutants
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.comparison import Equality
from zopog_ref.convergence.lines_continuous import CONTINUOUS
from zopog_ref.convergence.lines_descent import DESCENT
from zopog_ref.convergence.lines_discrete import DISCRETE
from zopog_ref.convergence.lines_joint import JOINT
from zopog_ref.convergence.lines_rates import RATES

LINES = {line.key: line for line in DISCRETE + CONTINUOUS + JOINT + DESCENT + RATES}
POLICY_ROWS = (
    "V1",
    "V4",
    "V4-paper",
    "V5",
    "V5-paper",
    "V7-exact",
    "V7-noise",
    "V7-exception",
    "G2",
    "D1",
    "J1-alpha",
    "J2",
    "J4",
)
SCORE_ROWS = ("S1", "S2", "S3", "S3-bound", "S4", "S5")
ZEROTH_ROWS = (
    "Z1", "Z1b", "Z2", "Z3", "Z3-hessian", "Z3-quadratic", "Z3-kink", "Z4-quadratic", "Z4", "Z5-exact", "Z5", "Z5b-exact",
    "Z5b", "G3", "G4", "D2", "D2-limit", "D2-noise", "J1-z", "J3",
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
    bounds = {"Z3", "Z3-hessian", "Z4", "Z5", "Z5b", "D1", "D2", "D2-limit", "D2-noise", "S3-bound", "S4", "J4"}
    rows = set().union(*table.values()) - bounds
    few = {row for row in rows if sum(row in killed for killed in table.values()) < 3}
    assert few == set()


@pytest.mark.parametrize("key", mutants.RATES)
def test_each_measured_row_has_three_killers(key: str) -> None:
    """The draws of the smallest run are enough to see each."""
    bench = replace(SOUND, effort=TINY, cache={})
    assert not kills(key, bench)
    for mutant in mutants.RATES[key]:
        field = "policy" if mutant in mutants.POLICY else "zeroth"
        assert kills(key, replace(bench, cache={}, **{field: mutant})), mutant.__name__


@pytest.mark.parametrize("mutant", mutants.PROBABILITIES, ids=lambda m: m.__name__)
def test_noise_mutants(mutant) -> None:
    assert not kills("G1", SOUND)
    assert kills("G1", replace(SOUND, probabilities=mutant))


@pytest.mark.parametrize("name", mutants.COMPLEXITY)
def test_complexity_mutants(name: str, monkeypatch) -> None:
    from zopog_ref.convergence import complexity

    assert not kills("C1", SOUND)
    for mutant in mutants.COMPLEXITY[name]:
        monkeypatch.setattr(complexity, name, mutant)
        assert kills("C1", SOUND), mutant.__name__


def test_every_equality_row_is_accounted_for() -> None:
    """Each row that holds equalities is in one of the tables, three killers each."""
    few = {
        "V2": len(mutants.ONE_OUT),
        "V3": len(mutants.SCATTER),
        "G1": len(mutants.PROBABILITIES),
        "W1": 3,
    }  # W1: test_wrong_gradients_show
    few["C1"] = sum(map(len, mutants.COMPLEXITY.values()))
    counted = {
        row for table in (mutants.POLICY, mutants.SCORE, mutants.ZEROTH) for killed in table.values() for row in killed
    }
    tiny = replace(SOUND, effort=replace(TINY, times=50, paper_times=50), cache={})
    for key, line in LINES.items():
        checked = line.check(tiny)
        comparisons = checked if isinstance(checked, list | tuple) else [checked]
        if line.required and any(isinstance(c, Equality) for c in comparisons):
            assert key in counted or len(mutants.RATES.get(key, ())) >= 3 or few.get(key, 0) >= 3, key
