"""`zopog bench`: processes in turn, ratios, and a check that all of them computed the same."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import Run
from tests.kernels.device_array import StrictDevice
from tests.kernels.host_device import needs_compiler
from zopog_kernels import KernelBackend
from zopog_models import load_model
from zopog_ref.app.bench import worker
from zopog_ref.app.bench.random_model import Shape, write_random_inputs, write_random_model
from zopog_ref.app.bench.sides import spread
from zopog_ref.app.bench.worker import evaluation_flops
from zopog_ref.backend import NUMPY

SMALL = ["--rounds", 2, "--batch-size", 2, "--n-positions", 3, "--text-length", 8, "--threads", 1, "--json"]
OURSELVES = f"{sys.executable} -m zopog_ref.app.command_line bench loss"


def test_against_itself_the_logits_are_equal(zopog: Run) -> None:
    code, out, _ = zopog("bench", "loss", *SMALL, "--peer", OURSELVES, "--peer", f"{OURSELVES} --precision int8")
    report = json.loads(out)
    assert code == 1  # the second is another precision, and does not say so
    assert report["largest_differences"]["peer 1"] == 0.0
    assert 1e-3 < report["largest_differences"]["peer 2"] < 0.1
    assert report["ratios"]["peer 1"]["count"] == report["seconds"]["peer 1"]["count"] == 2
    assert report["ratios"]["peer 1"]["median"] > 0
    assert {"machine", "versions", "threads"} <= report.keys()
    assert 0 < report["gflops"]["evaluation"]["median"]
    assert 0 < report["gflops"]["products_alone"]["median"]


@pytest.mark.parametrize(("what", "method"), [("iteration", "zo-pog"), ("run", "zo-pog"), ("run", "bbt")])
def test_a_step_and_a_run(zopog: Run, what: str, method: str) -> None:
    if method == "bbt":
        pytest.importorskip("cma", reason="BBT needs cma (extra methods)")
    options = [what, *SMALL, "--method", method, "--budget", 40]
    code, out, _ = zopog("bench", *options, "--peer", OURSELVES)
    report = json.loads(out)
    assert code == 0
    assert report["largest_differences"] == {"peer": 0.0}  # the same steps, from the same seed
    assert report["seconds"]["zopog"]["median"] > 0
    assert report.get("calls") == (40 if what == "run" else None)
    assert "gflops" not in report


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("method", ["zo-pog", "bbt"])
def test_steps_and_runs_of_a_bound_model_are_those_of_the_host(method: str, precision: str, tmp_path: Path) -> None:
    """What --backend cupy measures, on arrays that refuse implicit copies."""
    needs_compiler()
    if method == "bbt":
        pytest.importorskip("cma", reason="BBT needs cma (extra methods)")
    shape = Shape(1, 16, 2, 160)
    write_random_model(tmp_path, shape)
    write_random_inputs(tmp_path / "inputs.npz", shape, 3, 4, 8)
    given = worker.Work(tmp_path, "mini", 3, 1, "cpu", method, 80, precision, "all", "cupy")
    model, inputs = load_model(tmp_path, threads=1), dict(np.load(tmp_path / "inputs.npz"))
    reduced = None if precision == "fp32" else model.reduced(precision)
    device = StrictDevice()
    found = {}
    for backend in (NUMPY, KernelBackend(device)):
        step = worker._iteration(given, backend, model, reduced, inputs)
        run = worker._run(given, backend, model, reduced, inputs)
        assert (run["calls"], run["sequences"]) == (80, 320)
        found[backend is NUMPY] = [step()["loss"], step()["loss"], run["loss"]]
    assert found[False] == pytest.approx(found[True], rel=1e-4)
    full = worker._iteration(given, NUMPY, model, None, inputs)()["loss"]
    assert (abs(found[False][0] / full - 1) > 1e-6) == (precision == "int8")
    assert device.uploads > 0


def test_fewer_bits_may_differ_by_what_they_round(zopog: Run) -> None:
    code, out, _ = zopog("bench", "loss", *SMALL, "--precision", "int8", "--peer", OURSELVES)
    report = json.loads(out)
    assert code == 0
    assert 0 < report["largest_differences"]["peer"] < 0.1
    assert report["sides"]["zopog"]["precision"] == "int8"


def test_a_peer_that_computes_something_else_is_noticed(zopog: Run, tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text(
        "import sys\nprint('{}', flush=True)\n"
        'for line in sys.stdin: print(\'{"seconds": 1.0, "logits": [[9, 9, 9], [9, 9, 9]]}\', flush=True)\n'
    )
    code, out, _ = zopog("bench", "loss", *SMALL, "--peer", f"{sys.executable} {peer}")
    assert code == 1
    assert json.loads(out)["largest_differences"]["peer"] > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--peer", f"{sys.executable} /no/such.py"], "before it answered"),
        (["--rounds", 1], "spread"),
        (["--official", "/no/such"], "no models/modeling_roberta.py"),
    ],
)
def test_unusable_options(zopog: Run, options: list, words: str) -> None:
    code, _, error = zopog("bench", "loss", *SMALL, *options)
    assert code == 2
    assert words in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--text-length", 3), "--text-length is 3; it must be at least 4"),
        (("--batch-size", 0), "--batch-size is 0; it must be at least 1"),
        (("--n-positions", -1), "--n-positions is -1; it must be at least 0"),
        (("--n-positions", 505), "--n-positions 505 and --text-length 8 do not fit into the 512 tokens"),
        (("--precision", "fp16"), "--precision fp16 is for --device cuda, and this is --device cpu"),
    ],
)
def test_what_no_side_can_do_is_said_before_weights_are_written(
    zopog: Run, options: tuple[object, ...], words: str
) -> None:
    code, _, error = zopog("bench", "loss", *SMALL, *options)
    assert (code, error.count("\n")) == (2, 1)
    assert words in error


def test_the_smallest_row_and_the_longest(zopog: Run) -> None:
    for n, length in ((0, 4), (504, 8)):
        assert zopog("bench", "loss", *SMALL, "--n-positions", n, "--text-length", length)[0] == 0
    assert "--n-positions is 0; it must be at least 1" in zopog("bench", "iteration", *SMALL, "--n-positions", 0)[2]


def test_a_table_for_people(zopog: Run) -> None:
    code, out, _ = zopog("bench", "loss", *SMALL[:-1], "--peer", OURSELVES)
    assert code == 0
    assert "peer / zopog" in out
    assert "that its matrix products reach alone" in out


def test_operations_counted_one_by_one() -> None:
    """Against a list of all matrix products of a RoBERTa of 2 layers: (rows, inner, columns) each."""
    d, f, positions, rows, labels = 8, 32, 5, 3, 2
    first = [(positions, d, d)] * 4 + [
        (positions, d, f),
        (positions, f, d),
        (positions, d, positions),
        (positions, positions, d),
    ]
    last = [(positions, d, d)] * 2 + [(1, d, d)] * 2 + [(1, d, f), (1, f, d), (1, d, positions), (1, positions, d)]
    head = [(1, d, d), (1, d, labels)]
    expected = rows * sum(2 * a * b * c for a, b, c in first + last + head)
    assert evaluation_flops(Shape(2, d, 2, 100), rows, positions, labels) == expected


def test_a_spread_by_hand() -> None:
    assert spread([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0, "count": 1}
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found["median"], found["low"], found["high"]) == (3.0, 1.5, 4.5)
    assert np.isfinite(list(found.values())).all()
