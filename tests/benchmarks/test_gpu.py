"""benchmarks/gpu.py: stages are ended at their limits, failures are passed over, parts join bit for bit, cells are filled."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import large, staging
from benchmarks.gpu.oracle import TO_HOST, count_events, longest
from benchmarks.gpu.runner import SKIPPED, Results, Stage, read_results, run_stages
from benchmarks.gpu.stages import STAGES, TOTAL, WORK
from benchmarks.gpu.staging import MANIFEST, StagingError, install, join, pack, split
from benchmarks.gpu.tables import MEASURED, PAGES, render
from zopog_ref.methods import METHODS

ROOT = Path(__file__).parents[2]
STAGE = """
import json, os, subprocess, sys, time
name = sys.argv[-1]
with open(sys.argv[1], "a") as file:
    file.write(json.dumps({"stage": name, "name": "first", "value": os.environ.get("EXTRA")}) + "\\n")
if name == "fails":
    print("why it failed")
    raise SystemExit(4)
if name == "skipped":
    raise SystemExit(3)
if name == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child", child.pid, flush=True)
    time.sleep(600)
"""


def ran(tmp_path: Path, stages: list[Stage], limit: float = 60) -> tuple[dict, dict, str]:
    script, results, log = tmp_path / "stage.py", tmp_path / "results.jsonl", tmp_path / "results.log"
    script.write_text(STAGE)
    ended = run_stages(stages, [sys.executable, str(script), str(results)], results, log, limit, dict(os.environ))
    return ended, read_results(results), log.read_text() if log.exists() else ""


def test_a_failed_and_a_hanging_stage_are_passed_over(tmp_path: Path) -> None:
    stages = [Stage("fails", "", 30), Stage("hangs", "", 2), Stage("skipped", "", 30)]
    ended, found, log = ran(tmp_path, [*stages, Stage("good", "", 30, {"EXTRA": "given"})])
    assert ended == {"fails": "failed", "hangs": "killed", "skipped": "skipped", "good": "ok"}
    assert found["fails"]["stage"]["code"] == 4
    assert "why it failed" in found["fails"]["stage"]["tail"]
    assert found["hangs"]["first"] is None  # what it had before it hung
    assert 2 <= found["hangs"]["stage"]["seconds"] < 20
    assert found["good"]["first"] == "given"
    assert SKIPPED == 3
    child = int(log.split("child ")[1].split()[0])
    for _ in range(100):  # an orphan is collected by whoever is its parent now
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("what the stage started goes on after its limit")


def test_the_limit_of_all_stages_holds(tmp_path: Path) -> None:
    ended, found, _ = ran(tmp_path, [Stage("hangs", "", 30), Stage("good", "", 30)], limit=4)
    assert ended == {"hangs": "killed", "good": "no time"}
    assert found["hangs"]["stage"]["limit"] <= 2  # 4 less what ending a stage may take
    assert found["good"]["stage"] == {"status": "no time", "limit": 30}


def test_a_result_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = Results(path, "a")
    results.put("x", 1)
    assert read_results(path) == {"a": {"x": 1}}
    results.put("x", 2)
    with path.open("a") as file:
        file.write('{"stage": "a", "na')  # killed while it wrote
    assert read_results(path) == {"a": {"x": 2}}


def test_the_limits_fit_in_nine_minutes() -> None:
    assert sum(stage.limit for stage in STAGES) <= TOTAL == 540
    assert {stage.name for stage in STAGES} <= set(WORK)


def test_the_two_tries_of_the_page_have_time_for_their_stages() -> None:
    limits, tried = {stage.name: stage.limit for stage in STAGES}, []
    for limit, names in re.findall(r"--limit (\d+)\s+(?:\\\s+)?--stages (\S+)", (ROOT / "docs" / "gpu.md").read_text()):
        tried += names.split(",")
        assert sum(limits[name] for name in names.split(",")) <= int(limit)
    assert sorted(tried) == sorted(limits)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for name, size in (("one.bin", 1000), ("nothing.bin", 0), ("two.bin", 2345)):
        path = tmp_path / name
        path.write_bytes(os.urandom(size))
        made.append(path)
    return made


@pytest.mark.parametrize("part_bytes", [1, 999, 1000, 1001, 3345, 5000])
def test_parts_join_bit_for_bit(tmp_path: Path, files: list[Path], part_bytes: int) -> None:
    parts = split(files, tmp_path / "parts", part_bytes)
    assert all(part.stat().st_size <= part_bytes for part in parts)
    assert len(parts) == -(-3345 // part_bytes)
    joined = join(tmp_path / "parts", tmp_path / "joined")
    assert [file.read_bytes() for file in joined] == [file.read_bytes() for file in files]


def test_a_wrong_part_is_named_and_nothing_is_written(tmp_path: Path, files: list[Path]) -> None:
    parts = split(files, tmp_path / "parts", 1000)
    content = bytearray(parts[2].read_bytes())
    content[17] ^= 1
    parts[2].write_bytes(content)
    parts[1].unlink()
    with pytest.raises(StagingError, match=r"part-001 is missing; part-002 is not what was staged.*carry it again"):
        join(tmp_path / "parts", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_parts_of_nothing_are_refused(tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(StagingError, match="a part has 0 bytes"):
        split(files, tmp_path / "parts", 0)


def test_a_file_that_does_not_agree_with_its_parts_is_named(tmp_path: Path, files: list[Path]) -> None:
    split(files, tmp_path / "parts", 1000)
    manifest = json.loads((tmp_path / "parts" / MANIFEST).read_text())
    manifest["files"][2]["sha256"] = manifest["files"][0]["sha256"]
    (tmp_path / "parts" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StagingError, match=r"two\.bin is not what was staged"):
        join(tmp_path / "parts", tmp_path / "joined")


def test_archives_are_unpacked_where_they_are_joined(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.tsv").write_text("text\tlabel\n")
    archive = pack("data", [(tmp_path / "data", "data")], tmp_path)
    split([archive, files[0]], tmp_path / "parts", 100)
    install(tmp_path / "parts", tmp_path / "there")
    assert (tmp_path / "there" / "data" / "train.tsv").read_text() == "text\tlabel\n"
    assert (tmp_path / "there" / "one.bin").read_bytes() == files[0].read_bytes()


def test_the_command_that_travels_with_the_parts_needs_nothing_else(tmp_path: Path, files: list[Path]) -> None:
    split(files, tmp_path / "parts", 1000)
    script = shutil.copy(ROOT / "benchmarks" / "gpu" / "staging.py", tmp_path / "parts")
    run = [sys.executable, "-I", script, "join", str(tmp_path / "parts"), str(tmp_path / "there")]
    assert subprocess.run(run, cwd=tmp_path).returncode == 0
    assert (tmp_path / "there" / "two.bin").read_bytes() == files[2].read_bytes()
    (tmp_path / "parts" / "part-003").unlink()
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "not joined: part-003 is missing: carry it again\n")


def test_all_that_the_measured_methods_need_is_carried() -> None:
    """cma was missing on the first GPU, and its run of BBT failed there."""
    assert {package for method in large.RUNS for package in METHODS[method].packages} <= set(staging.PACKAGES)


def test_what_is_carried_needs_no_pytest() -> None:
    """A machine that measures may have none."""
    modules = "benchmarks.gpu.oracle, benchmarks.gpu.kernels, benchmarks.gpu.provider, benchmarks.gpu.variants"
    modules += ", tests.kernels.parity, tests.kernels.host_bench, tests.models.tiny_decoders"
    code = f"import sys; sys.modules['pytest'] = None; import {modules}"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True)


def test_a_rehearsal_with_one_stage_made_to_fail(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    done = command("run", "--rehearse", "--stages=machine,refuse,agnews", "--fail=machine", f"--out={out}")
    assert done.stdout.splitlines()[-3:] == ["failed   machine", "ok       refuse", "skipped  agnews"]
    assert done.returncode == 1
    found = read_results(out)
    assert found["machine"]["before the fault"] == "fail"
    assert "made to fail" in found["machine"]["stage"]["tail"]
    assert all(said.startswith("ProviderError") for name, said in found["refuse"].items() if name != "stage")
    assert "--data is None" in found["agnews"]["skipped"]


@pytest.mark.slow
def test_a_run_of_the_command_line_is_rehearsed(tmp_path: Path) -> None:
    """It failed unseen once its budget no longer paid for the readouts."""
    out = tmp_path / "results.jsonl"
    done = command("run", "--rehearse", "--stages=agnews", f"--data={tmp_path}", f"--out={out}")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok       agnews")
    assert read_results(out)["agnews"]["result"]["calls"] <= 160


def test_what_cannot_be_run_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = command("run", "--stages=kernel", f"--out={tmp_path / 'r.jsonl'}")
    assert done.returncode == 2
    assert "there is no stage 'kernel'; there are machine, parity" in done.stderr
    done = command("run", f"--site={tmp_path / 'nowhere'}", f"--out={tmp_path / 'r.jsonl'}")
    assert done.returncode == 2
    assert "`join` makes it" in done.stderr
    assert not (tmp_path / "r.jsonl").exists()


def test_copies_and_waits_are_counted_in_a_trace() -> None:
    names = ["Memcpy DtoH (Device -> Pageable)", "Memcpy HtoD (Pageable -> Device)", "Memcpy DtoD (Device -> Device)"]
    events = [{"cat": "gpu_memcpy", "name": name} for name in names] + [{"cat": "kernel", "name": "zopog_normal"}] * 3
    events += [{"cat": "cuda_runtime", "name": name} for name in ("cudaMemcpyAsync", "cudaStreamSynchronize")]
    events += [{"name": "Memcpy DtoH, of another category"}]
    counted = count_events(events)
    assert (counted[TO_HOST], counted["kernels"], counted["waits"]) == (1, 3, {"cudaStreamSynchronize": 1})


def test_where_the_time_of_a_trace_goes() -> None:
    """Kernels by name, the longest first; a copy is none; the span has the gaps in it."""
    spent = [("a", 0, 1000), ("b", 1500, 4000), ("a", 6000, 500)]
    events = [{"cat": "kernel", "name": name, "ts": ts, "dur": dur} for name, ts, dur in spent]
    found = longest([*events, {"cat": "gpu_memcpy", "name": "copy", "ts": 9000, "dur": 9000}])
    assert found == {"span_ms": 6.5, "kernels_ms": 5.5, "by_name": {"b": 4.0, "a": 1.5}}
    assert longest(events, 1)["by_name"] == {"b": 4.0}


def docs(tmp_path: Path) -> Path:
    for page in PAGES:
        shutil.copy(ROOT / "docs" / page, tmp_path)
    return tmp_path


def test_every_row_that_is_to_be_filled_stands_on_its_page(tmp_path: Path) -> None:
    said = render({}, docs(tmp_path))
    assert sorted(line.split(": no result")[0] for line in said) == sorted(
        f"{page}: {row}" for page, rows in PAGES.items() for row in rows
    )
    for page in PAGES:
        assert any(line.startswith(MEASURED) for line in (tmp_path / page).read_text().splitlines())
        assert (tmp_path / page).read_bytes() == (ROOT / "docs" / page).read_bytes()  # nothing to fill: nothing changed


def test_cells_are_filled(tmp_path: Path) -> None:
    found = {
        "machine": {"card": ["A card, 580.1, 81559 MiB"], "versions": {"numpy": "2.5.2", "gguf": "none"}},
        "kernels": {"perturb float32": {"value": 81.234, "of_copy_bandwidth": 0.79}},
        "large": {"whole run bbt": {"seconds": 31.26, "calls": 8000, "tflops": 412.3, "share_of_peak": 0.551}},
    }
    render(found, docs(tmp_path))
    page = (tmp_path / "kernels.md").read_text()
    assert "Measured: A card, 580.1, 81559 MiB; numpy 2.5.2." in page
    row = next(line for line in page.splitlines() if line.startswith("| perturb, float32 |"))
    assert row.endswith("71 to 85% of copy bandwidth | 81.2 us: 79% of copy bandwidth |")
    assert "| BBT, 8,000 calls, measured | 31.3 s | 412, 55% |" in (tmp_path / "performance.md").read_text()
