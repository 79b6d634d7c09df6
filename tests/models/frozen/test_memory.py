"""Memory: weights are read where they lie, the word embeddings are there once, and loading costs what they weigh."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models.graph.test_decoder_graph import case
from tests.models.tiny_decoders import random_tensors, tokenizer_for, write_decoder
from tests.models.tiny_models import write_model
from zopog_models import load_checkpoint, load_model, read_tensors, write_tensors
from zopog_models.files.tensor_file import in_place
from zopog_models.frozen.model import local_model
from zopog_models.graph import build


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama"])
def test_weights_are_read_where_they_lie(tmp_path: Path, family: str) -> None:
    write = write_decoder if family in ("gpt2", "llama") else write_model
    folder = write(tmp_path / "model", family)
    checkpoint = load_checkpoint(folder)
    _, weights = build(checkpoint)
    where, places = in_place(weights)
    assert where == folder.resolve()
    elsewhere = {name for name in weights if name not in places}
    # GPT-2's last layer has its queries, keys and values apart; an encoder's positions and types are summed.
    assert all(name.startswith(("transformer.h.2.attn.c_attn", "places")) for name in elsewhere), elsewhere
    content = (folder / "model.safetensors").read_bytes()
    for name, (file, offset) in places.items():
        assert file == "model.safetensors"
        assert content[offset : offset + weights[name].nbytes] == weights[name].tobytes()


def test_what_is_not_in_place(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": np.arange(12.0).reshape(3, 4), "y": np.ones(2)})
    tensors = read_tensors(tmp_path / "a.safetensors")
    arrays = {
        "x": tensors["x"],
        "row": tensors["x"][1],
        "column": tensors["x"][:, 1],
        "turned": tensors["x"].T,
        "copy": np.array(tensors["x"]),
        "narrow": tensors["x"].astype(np.float32),
        "own": np.ones(3),
    }
    folder, places = in_place(arrays)
    assert folder == tmp_path.resolve()
    assert places.keys() == {"x", "row"}
    assert places["row"][1] == places["x"][1] + 4 * 8
    assert in_place({"own": np.ones(3)}) == (None, {})


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """The file is still mapped, so the model can still be made; the numbers are the same."""
    folder = write_decoder(tmp_path / "model", "gpt2")
    inputs = case(4, 2)
    expected = load_model(folder, threads=1).logits(**inputs)
    checkpoint = load_checkpoint(folder)
    shutil.move(folder / "model.safetensors", tmp_path / "elsewhere")
    model = local_model(checkpoint, name="gone", threads=1)
    assert np.array_equal(model.logits(**inputs), expected)


PROBE = """
import json, sys
import numpy as np
import onnxruntime, tokenizers
from zopog_models import load_model
from zopog_models.runners import session
from zopog_models.graph import builder

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

if sys.argv[2] == "copied":
    session.in_place = builder.in_place = lambda arrays: (None, {})
before = status("VmRSS")
model = load_model(sys.argv[1], threads=1)
text = np.arange(20)
model.logits([text], np.array([19]), np.zeros((1, 0), int), None, np.zeros(1, int), np.array([5, 6]))
print(json.dumps({"peak": status("VmHWM") - before, "own": status("RssAnon")}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="resident memory is read from /proc")
def test_loading_costs_what_the_weights_weigh(tmp_path: Path) -> None:
    tokenizer = tokenizer_for("llama")
    config = {"model_type": "llama", "vocab_size": 20_000, "hidden_size": 512, "intermediate_size": 1536}
    config |= {"num_hidden_layers": 4, "num_attention_heads": 8, "max_position_embeddings": 64}
    config |= {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write_tensors(tmp_path / "model.safetensors", random_tensors(config, 0))
    weights = (tmp_path / "model.safetensors").stat().st_size / 2**20

    def probe(how: str) -> float:
        answer = subprocess.run([sys.executable, "-c", PROBE, str(tmp_path), how], capture_output=True, check=True)
        return float(json.loads(answer.stdout)["peak"])

    peak = probe("in place")
    print(f"weights {weights:.0f} MiB, peak {peak:.0f} MiB")
    assert peak < 1.3 * weights + 10  # MiB, of one short row
    assert probe("copied") > 1.4 * weights  # the twin: with the weights handed over in memory
