"""The rows on the embedded language model; skipped without the packages that run it."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("tokenizers", reason="the extra cpu is not installed")

from tests.convergence.mutants import MODEL, one_over_I
from zopog_ref.app.verify import model as verify_model
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.comparison import Equality

BENCH = Bench(seed=1, effort=TINY)


@pytest.fixture(scope="module")
def rows() -> dict[str, object]:
    return {line.key: line.check(BENCH) for line in verify_model.model_lines(BENCH)}


def test_enumerated_mean(rows) -> None:
    assert all(c.holds(1) for c in rows["model-V4"])


def test_enumerated_variance(rows) -> None:
    assert all(c.holds(1) for c in rows["model-V5"])


def test_queried_anew(rows) -> None:
    found = rows["model-V4-run"], rows["model-V5-run"]
    assert all(isinstance(c, Equality) and abs(c.z) < 4.5 for c in found)


@pytest.mark.parametrize("mutant", MODEL, ids=lambda m: m.__name__)
def test_three_mutants_die_on_the_model(mutant) -> None:
    lines = {line.key: line for line in verify_model.model_lines(replace(BENCH, policy=mutant, cache={}))}
    for key in ("model-V4", "model-V5", "model-V4-run", "model-V5-run"):
        checked = lines[key].check(BENCH)
        comparisons = checked if isinstance(checked, list) else [checked]
        assert all(abs(c.z) > 10 for c in comparisons), key


def test_twin() -> None:
    bench = replace(BENCH, policy=one_over_I, cache={})
    lines = {line.key: line for line in verify_model.model_lines(bench)}
    assert all(abs(c.z) > 10 for key in ("model-V4", "model-V5") for c in lines[key].check(bench))


def test_probes(rows) -> None:
    assert np.isfinite(rows["model-A3"].left)
    assert rows["model-A1"].right > 0
    assert any("slope at mu" in name for name in BENCH.cache["model"])
