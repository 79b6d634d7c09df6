"""Opening a GGUF file takes little more memory than its weights in float32, and leaves no file behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.models.checkpoints.test_gguf import rows, tiny
from tests.models.gguf_models import write_gguf
from zopog_models import CheckpointError, load_checkpoint, load_model
from zopog_models.files.scratch import Scratch
from zopog_models.files.tensor_file import in_place, read_tensors, write_tensors
from zopog_models.frozen.model import local_model

WIDE = {
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_key_value_heads": 12,
    "num_hidden_layers": 6, "head_dim": 64, "tie_word_embeddings": True,
}  # fmt: skip
PEAK = """
import resource, sys
from zopog_models import load_model
import onnxruntime, tokenizers, gguf.quants
peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
model = load_model(sys.argv[1], threads=1)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_the_peak_of_loading(tmp_path: Path) -> None:
    """6 layers x 768 in Q8_0: 60 MB, 227 MB in float32. Two sessions with copies of their own have a peak of 3 times."""
    tiny(tmp_path / "folder", "llama", **WIDE)
    tensors = write_gguf(tmp_path / "folder", tmp_path / "wide.gguf", "Q8_0")
    size = sum(4 * array.size for array in tensors.values())
    assert size > 200e6
    asked = [sys.executable, "-c", PEAK, str(tmp_path / "wide.gguf")]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, env=_environment(tmp_path))
    assert int(told.stdout) < 1.45 * size
    assert list(tmp_path.glob("zopog-*")) == []


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in Q8_0, and a folder of its own for temporary files."""
    tiny(tmp_path / "folder", "llama", hidden_size=64, intermediate_size=96, num_attention_heads=4,
         num_key_value_heads=2)  # fmt: skip
    write_gguf(tmp_path / "folder", tmp_path / "small.gguf", "Q8_0")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "small.gguf"


def test_the_temporary_file_goes_when_the_model_is_open(small: Path) -> None:
    folder = small.parent / "tmp"
    checkpoint = load_checkpoint(small)
    [file] = folder.glob("zopog-*/*")
    place, arrays = in_place(checkpoint.tensors)
    assert place == file.parent
    matrices = {name for name, array in checkpoint.tensors.items() if array.ndim == 2}
    assert arrays.keys() == matrices  # norms are float32 in the GGUF file itself
    del checkpoint
    assert list(folder.iterdir()) == []
    with load_model(small, threads=1) as model:
        assert list(folder.iterdir()) == []
        assert np.isfinite(model.logits(**rows(64))).all()


def test_a_checkpoint_can_be_opened_twice(small: Path) -> None:
    """The second time its temporary file has no name any more, and the weights are read where they are mapped."""
    checkpoint = load_checkpoint(small)
    first, second = (local_model(checkpoint, name="small", threads=1).logits(**rows(64)) for _ in range(2))
    assert np.array_equal(first, second)


def test_no_room_for_the_weights(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small.parent / "nowhere"))
    with pytest.raises(CheckpointError, match=r"takes [\d,]+ bytes in a temporary file.*set TMPDIR"):
        load_checkpoint(small)


def test_parts_make_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch, whole = Scratch(), np.arange(3000, dtype=np.float32).reshape(100, 30)
    scratch.add("a", (100, 30), [whole[:33], whole[33:99], whole[99:]])
    scratch.add("b", (30,), [whole[7].astype(np.float16)])
    arrays = scratch.arrays()
    assert np.array_equal(arrays["a"], whole)
    assert np.array_equal(arrays["b"], whole[7])
    _, places = in_place(arrays)
    assert [offset % 4096 for _, offset in places.values()] == [0, 0]
    scratch.forget()
    scratch.forget()
    assert list(tmp_path.iterdir()) == []
    assert np.array_equal(arrays["a"], whole)


KILLED = """
from zopog_models.files.scratch import Scratch
kept = Scratch()
kept.add("a", (2,), [[1.0, 2.0]])
if {mapped}:
    arrays = kept.arrays()
print("ready", flush=True)
input()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of files")
@pytest.mark.parametrize("mapped", [False, True])
def test_what_a_killed_process_left_is_removed_and_no_living_ones(
    mapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL while SmolLM2 loaded left 514 MB, each time."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = tmp_path / "zopog-x" / "notes", tmp_path / "zopog-y" / "weights"  # of no lock, of an earlier version
    for other in others:
        other.parent.mkdir()
        other.write_bytes(b"mine")
    command = [sys.executable, "-c", KILLED.format(mapped=mapped)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        left = {path for path in tmp_path.iterdir() if path.name not in ("zopog-x", "zopog-y")}
        own = Scratch()
        own.add("a", (1,), [np.ones(1)])
        own.arrays()
        Scratch().forget()  # neither the living process's nor this one's
        assert len(list(tmp_path.iterdir())) == 4
        process.kill()
        process.wait(60)
    stranger = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: stranger)  # nor anybody else's
    Scratch().forget()
    assert left <= set(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Scratch().forget()
    assert not left & set(tmp_path.iterdir())
    assert all(other.read_bytes() == b"mine" for other in others)
    own.forget()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_folder_with_the_most_bytes_is_the_place(tmp_path: Path) -> None:
    arrays = {}
    for name, size in (("few", 3), ("many", 5)):
        (tmp_path / name).mkdir()
        write_tensors(tmp_path / name / "t.safetensors", {name: np.ones(size, np.float32)})
        arrays |= read_tensors(tmp_path / name / "t.safetensors")
    folder, places = in_place(arrays)
    assert (folder, list(places)) == (tmp_path / "many", ["many"])
    assert in_place({"own": np.ones(3)}) == (None, {})
