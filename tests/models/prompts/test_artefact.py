"""The artefact on disk: damage is noticed, newer files are read or refused, and three packages are enough to use it."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import zopog_models
from tests.models.prompts.test_bundle import prompt_for
from zopog_models import (
    FrozenModel,
    Prompt,
    PromptError,
    PromptMismatch,
    load_prompt,
    predict,
    read_tensors,
    save_prompt,
)
from zopog_models.files.tensor_file import read_metadata, write_tensors
from zopog_models.prompts.bundle import content_sha256


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)


def same(a: Prompt, b: Prompt) -> bool:
    pairs = ((getattr(a, field.name), getattr(b, field.name)) for field in fields(Prompt))
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


def rewrite(
    folder: Path, settings: dict[str, object], more: dict[str, np.ndarray] | None = None, sign: bool = True
) -> None:
    path = folder / "prompt.safetensors"
    tensors = {name: np.array(array) for name, array in read_tensors(path).items()} | (more or {})
    text = json.dumps(json.loads(read_metadata(path)["prompt"]) | settings)
    write_tensors(path, tensors, {"prompt": text} | ({"sha256": content_sha256(tensors, text)} if sign else {}))


def test_no_flipped_bit_goes_unnoticed(bert: FrozenModel, tmp_path: Path) -> None:
    """Wherever it is: the file is refused, or (in what the format pads with) says the same as before."""
    prompt = prompt_for(bert, 2)
    save_prompt(tmp_path, prompt)
    path = tmp_path / "prompt.safetensors"
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert same(load_prompt(tmp_path), prompt), f"bit {place % 8} of byte {place} changed the prompt"
        except PromptError:
            refused += 1
    assert refused > len(content) // 3 * 0.98


def test_without_the_hash_a_flipped_bit_would_go_unnoticed(bert: FrozenModel, tmp_path: Path) -> None:
    """The twin: the last byte belongs to a number, and any number is a number."""
    prompt = prompt_for(bert, 2)
    save_prompt(tmp_path, prompt)
    path = tmp_path / "prompt.safetensors"
    tensors = {name: np.array(array) for name, array in read_tensors(path).items()}
    settings = json.loads(read_metadata(path)["prompt"])
    del settings["hash"]
    write_tensors(path, tensors, {"prompt": json.dumps(settings)})  # as files were before there was a hash
    assert same(load_prompt(tmp_path), prompt)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    assert not same(load_prompt(tmp_path), prompt)


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, -1])
def test_truncated_files(bert: FrozenModel, tmp_path: Path, kept: float) -> None:
    save_prompt(tmp_path, prompt_for(bert))
    path = tmp_path / "prompt.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    with pytest.raises(PromptError, match="truncated"):
        load_prompt(tmp_path)


def test_a_hash_that_was_taken_away_is_missed(bert: FrozenModel, tmp_path: Path) -> None:
    save_prompt(tmp_path, prompt_for(bert))
    rewrite(tmp_path, {}, sign=False)
    with pytest.raises(PromptError, match="is damaged"):
        load_prompt(tmp_path)


def test_fields_of_newer_programs_are_passed_over(bert: FrozenModel, tmp_path: Path) -> None:
    prompt = prompt_for(bert)
    save_prompt(tmp_path, prompt)
    rewrite(tmp_path, {"colour": "red", "nested": {"a": [1]}}, {"temperatures": np.ones(3)})
    assert same(load_prompt(tmp_path), prompt)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schema": 4}, "format version 4, this program reads version 1 to 3: it was written by a newer program"),
        ({"schema": True}, "format version True"),
        ({"schema": "1"}, "format version '1'"),
        ({"hash": "sha1024"}, "is damaged"),
        ({"predict": "median"}, "unknown predict 'median'"),
        ({"model": 5}, "model must be a string"),
        ({"about": []}, "about must be an object"),
        ({"template": None}, "template must be a string"),
    ],
)
def test_what_is_refused(bert: FrozenModel, tmp_path: Path, settings: dict[str, object], message: str) -> None:
    save_prompt(tmp_path, prompt_for(bert))
    rewrite(tmp_path, settings)
    with pytest.raises(PromptError, match=message):
        load_prompt(tmp_path)


def test_right_hashes_and_wrong_numbers(bert: FrozenModel, tmp_path: Path) -> None:
    prompt = prompt_for(bert, 1)
    with pytest.raises(PromptMismatch, match="offsets are 31 wide"):
        predict(bert, replace(prompt, offsets=prompt.offsets[:, :, 1:]), [("a",)])
    with pytest.raises(PromptMismatch, match=r"ids go from .* to 1000000"):
        predict(bert, replace(prompt, ids=np.full((1, 4), 10**6)), [("a",)])


# An import hook: what is neither of the standard library nor listed is written down and refused.
ONLY = """
import sys
ALLOWED = set(sys.stdlib_module_names) | {"numpy", "onnxruntime", "tokenizers", "zopog_models"}
ALLOWED |= {"org"}  # what the standard library's copy and pickle try to find out whether this is Jython
refused = []
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED:
            refused.append(name)
            raise ModuleNotFoundError(f"{name} is not on the list", name=name)
sys.meta_path.insert(0, Only())
"""
PREDICT = """
from zopog_models.prompts.bundle import load_prompt
from zopog_models.prompts.predicting import predict
from zopog_models.frozen.model import load_model
model, prompt = load_model(sys.argv[1], threads=1), load_prompt(sys.argv[2])
print(predict(model, prompt, [("a small animal",)]).probabilities[0].tolist())
"""
END = """
assert not refused, refused
"""


def with_three_packages(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    place = Path(zopog_models.__file__).parent.parent
    command = [sys.executable, "-c", f"{ONLY}\nsys.path.insert(0, {str(place)!r})\n{code}\n{END}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_three_packages_are_enough(bert_folder: Path, bert: FrozenModel, tmp_path: Path) -> None:
    prompt = prompt_for(bert)
    save_prompt(tmp_path, prompt)
    done = with_three_packages(PREDICT, bert_folder, tmp_path)
    assert done.returncode == 0, done.stderr
    expected = predict(bert, prompt, [("a small animal",)]).probabilities[0]
    assert np.abs(np.array(json.loads(done.stdout)) - expected).max() < 1e-6


@pytest.mark.parametrize("more", ["import pytest", "try:\n    import hypothesis\nexcept ImportError:\n    pass"])
def test_a_fourth_package_fails(bert_folder: Path, bert: FrozenModel, tmp_path: Path, more: str) -> None:
    """The twin; a package that is only tried for counts too."""
    done = with_three_packages(more)
    assert done.returncode != 0
    assert "is not on the list" in done.stderr or "AssertionError" in done.stderr
