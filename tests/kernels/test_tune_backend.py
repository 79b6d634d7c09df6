"""zopog tune --backend: the same run on the kernels, fixed when a run starts, named errors where it cannot be."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import zopog_kernels
from tests.app.conftest import SMALL, Run, small_task, zopog  # noqa: F401  fixtures
from tests.kernels.device_array import DeviceArray, StrictDevice
from tests.kernels.host_device import needs_compiler
from zopog_kernels import KernelBackend
from zopog_models.runners.local import LocalRunner
from zopog_ref.app.run import folder as run_folder
from zopog_ref.methods import METHODS


def curves(*folders: Path) -> list[list[dict]]:
    return [[json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()] for folder in folders]


def same_curve(folders: tuple[Path, Path], least: int, rel: float) -> None:
    one, other = curves(*folders)
    assert len(one) == len(other) > least
    for there, here in zip(one, other):
        assert [here[name] for name in ("step", "calls", "sequences", "tokens")] == [
            there[name] for name in ("step", "calls", "sequences", "tokens")
        ]
        assert here["diagnostics"]["loss"] == pytest.approx(there["diagnostics"]["loss"], rel=rel)


class Counted:
    """What a run does with its device: waits and uploads at the end of each step. recorded: answers in the journal."""

    def __init__(self, kind: str = "cpu") -> None:
        self.device = StrictDevice()
        self.device.kind, self.ends, self.recorded = kind, [], 0

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zopog_kernels, "cupy_backend", lambda: KernelBackend(self.device))
        sound = run_folder.RunFolder.save
        monkeypatch.setattr(
            run_folder.RunFolder,
            "save",
            lambda *given: (sound(*given), self.ends.append((DeviceArray.waits, self.device.uploads)))[0],
        )
        record = run_folder.RunFolder.record

        def recorded(*given: Any) -> None:
            self.recorded += 1
            record(*given)

        monkeypatch.setattr(run_folder.RunFolder, "record", recorded)

    @property
    def each(self) -> list[tuple[int, int]]:
        return [(b[0] - a[0], b[1] - a[1]) for a, b in zip(self.ends, self.ends[1:])]


def on_both(zopog: Run, common: tuple, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The same command in NumPy (folder / "numpy") and on the backend (folder / "cupy"), where no array is the host's."""
    needs_compiler()
    assert zopog(*common, "--out", folder / "numpy")[0] == 0
    counted = Counted()
    counted.patch(monkeypatch)
    code, _, errors = zopog(*common, "--backend", "cupy", "--out", folder / "cupy")
    assert code == 0, errors
    assert "read through the host" not in errors
    return counted


def test_a_run_on_the_kernels_with_the_model_bound(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole command with arrays that refuse implicit copies: the run of the NumPy backend to float32 accuracy."""
    common = ("tune", "--task", small_task, *SMALL)
    counted = on_both(zopog, common, tmp_path, monkeypatch)
    same_curve((tmp_path / "numpy", tmp_path / "cupy"), 10, 1e-3)
    assert json.loads((tmp_path / "cupy" / "config.json").read_text())["backend"] == "cupy"
    assert counted.recorded == 0  # it would copy every loss
    # A step: one wait, two more where the checkpoint copies alpha and z, two more where dev scores are taken. Uploads:
    # the rows and the labels of its mini-batch.
    assert {waits for waits, _ in counted.each} <= {3, 5}
    assert [waits for waits, _ in counted.each].count(3) > len(counted.each) / 2
    assert {uploads for _, uploads in counted.each} == {2}
    assert not list((tmp_path / "cupy" / "journal").glob("*")), "a journal would be a copy of every loss"
    code, _, errors = zopog("tune", "--resume", tmp_path / "cupy", "--backend", "numpy")
    assert code == 2
    assert "--backend: fixed when the run was started" in errors


def test_a_model_elsewhere_is_read_through_the_host(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model on the CPU, the mathematics on a GPU: said, and the same run again."""
    needs_compiler()
    common = ("tune", "--task", small_task, *SMALL, "--backend", "cupy", "--budget", "48")
    Counted().patch(monkeypatch)
    assert zopog(*common, "--out", tmp_path / "bound")[0] == 0
    monkeypatch.undo()
    counted = Counted("cuda")
    counted.patch(monkeypatch)
    code, _, errors = zopog(*common, "--out", tmp_path / "host")
    assert code == 0
    assert "read through the host, every query waits for it: it is on device cpu, the mathematics on cuda" in errors
    assert min(waits for waits, _ in counted.each) == 3 + 2 * 2  # tokens and z of two queries
    same_curve((tmp_path / "bound", tmp_path / "host"), 4, 1e-3)


@pytest.mark.parametrize("settings", ["embedded", "paper"])  # the unbiased score and the official one, with AdamW
def test_bdpl_on_the_kernels(
    settings: str, zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wait a step, checkpoint included: p is the host's, and comes over in each step."""
    needs_compiler()
    small = [given for given in SMALL if given not in ("--policy-samples", "--direction-pairs", "2")]
    small.remove("4")
    common = (
        "tune",
        "--task",
        small_task,
        "--method",
        "bdpl",
        "--settings",
        settings,
        "--samples",
        "4",
        *small,
        "--readout",
        "none",
        "--budget",
        "48",
    )
    counted = on_both(zopog, common, tmp_path, monkeypatch)
    same_curve((tmp_path / "numpy", tmp_path / "cupy"), 10, 1e-5)
    assert {waits for waits, _ in counted.each} == {1}
    assert {uploads for _, uploads in counted.each} == {4}  # p, z = 0, the mini-batch's rows and labels


def test_without_cupy_the_command_says_what_to_install(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, _, errors = zopog("tune", "--task", small_task, *SMALL, "--backend", "cupy", "--out", tmp_path / "run")
    assert code == 2
    assert 'pip install "cupy-cuda13x>=13.6"' in errors
    assert not (tmp_path / "run").exists()


SEARCHES = SMALL[SMALL.index("--n-positions") :]


@pytest.mark.parametrize("options", [["sspt"], ["zo-pog", "--readout-folds", "2"], ["bdpl", "--readout-folds", "2"]])
def test_whatever_has_no_kernels_goes_over(
    options: list[str], zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mini-batches, and directions of the host: their rows go over as well."""
    common = ("tune", "--task", small_task, "--method", *options, *SEARCHES, "--budget", "400")
    counted = on_both(zopog, common, tmp_path, monkeypatch)
    same_curve((tmp_path / "numpy", tmp_path / "cupy"), 1, 1e-3)
    assert counted.recorded >= len(counted.ends)


@pytest.mark.parametrize("method", ["bbt", "catcma", "random-search", "ensembles", "cma-elbo", "abc-smc"])
def test_a_method_without_kernels_on_a_bound_model(
    method: str, zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of the NumPy backend; one wait a step, two uploads (prompts, points), and no answer lost to a kill."""
    needs_compiler()
    for package in METHODS[method].packages:
        pytest.importorskip(package, reason="it is in the methods extra")
    common = ("tune", "--task", small_task, "--method", method, *SEARCHES, "--budget", "400")
    counted = on_both(zopog, common, tmp_path, monkeypatch)
    same_curve((tmp_path / "numpy", tmp_path / "cupy"), 1, 1e-6)
    assert {waits for waits, _ in counted.each} == {1}
    assert {uploads for _, uploads in counted.each} == {2}  # all rows are laid out in the first step
    assert counted.recorded >= len(counted.ends)


@pytest.mark.parametrize(
    ("method", "options", "reduced", "fewer"),
    [
        ("random-search", ["--sigma", "0"], [], True),  # one point for all prompts
        ("bbt", [], ["--precision-scope", "all"], True),
        ("bbt", [], [], False),
    ],
)
def test_fewer_bits_where_a_run_allows_them(
    method: str, options: list[str], reduced: list[str], fewer: bool,
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The bound model is read in int8 exactly where the host's is: the curves agree to far less than int8 rounds."""
    pytest.importorskip("cma", reason="it is in the methods extra")
    common = ("tune", "--task", small_task, "--method", method, *SEARCHES, "--budget", "400", *options)
    assert zopog(*common, "--out", tmp_path / "fp32")[0] == 0
    on_both(zopog, (*common, "--precision", "int8", "--precision-anyway", *reduced), tmp_path, monkeypatch)
    same_curve((tmp_path / "numpy", tmp_path / "cupy"), 1, 1e-6)
    full, here = (found[0]["diagnostics"]["loss"] for found in curves(tmp_path / "fp32", tmp_path / "cupy"))
    assert (abs(here / full - 1) > 1e-5) == fewer


def test_a_decoder_s_points_are_read_through_the_host(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cma", reason="it is in the methods extra")
    Counted().patch(monkeypatch)
    monkeypatch.setattr(LocalRunner, "why_not_bound", property(lambda self: "it is a decoder"))
    run = ("tune", "--task", small_task, "--method", "bbt", *SEARCHES, "--budget", "200")
    code, _, errors = zopog(*run, "--backend", "cupy", "--out", tmp_path / "run")
    assert code == 0, errors
    assert "the model is read through the host, A z with it: it is a decoder" in errors


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("bbt", "BBT runs in NumPy only ({}), and the model is on device cpu: add --device cuda"),
        ("zo-pog --readout-folds 2", "ZOPoG runs in NumPy only ({}), and the model is on device cpu"),
        ("clip-tuning", "ClipTuning runs in NumPy only ({}), and its thinned networks"),
    ],
)
def test_a_backend_with_nothing_to_do_is_refused(
    method: str, message: str, zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cma", reason="it is in the methods extra")
    Counted("cuda").patch(monkeypatch)
    command = (
        "tune",
        "--task",
        small_task,
        "--method",
        *method.split(),
        "--backend",
        "cupy",
        "--out",
        tmp_path / "run",
    )
    code, _, errors = zopog(*command)
    assert code == 2
    assert message.format("zo-pog and bdpl have kernels, without --readout-folds") in errors
    assert not (tmp_path / "run").exists()
