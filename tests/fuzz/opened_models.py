"""Targets: a stranger's model folder opened and asked, a stranger's prompt used, a stranger's texts read by a model."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.model_files import CONFIGS, model_folder
from tests.fuzz.mutation import mutated_json, mutated_lines, mutated_tensors
from tests.fuzz.target import Target
from tests.fuzz.task_files import LINES, ROWS, prompt_bytes
from zopog_models.families import CheckpointError
from zopog_models.files.tensor_file import TensorFileError
from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.prompts.bundle import PromptError, PromptMismatch, load_prompt
from zopog_models.prompts.predicting import predict
from zopog_models.tasks.encoding import encode
from zopog_models.tasks.template import TaskError, make_task
from zopog_models.tasks.vocabulary import VocabularyError, pmi_candidates
from zopog_ref.app.errors import InputError
from zopog_ref.app.predict import _lines, _rows

FAMILIES = {
    "bert": ("bert", "WordPiece"),
    "modernbert": ("modernbert", "WordPiece"),
    "qwen2": ("qwen2", "BPE"),
    "gemma3_text": ("gemma3_text", "BPE"),
    "phi3": ("phi3", "BPE"),
}


def opened_models(scratch: Path) -> list[Target]:
    changed = {"config.json": mutated_json, "model.safetensors": mutated_tensors, "tokenizer.json": mutated_json}
    return [
        *(Target(f"model {family}", model_folder(scratch, CONFIGS[family], tokenizer), dict(changed), _open_and_ask,
                 (CheckpointError, TensorFileError), 0.3) for family, tokenizer in FAMILIES.values()),
        Target("prompt in use", {"prompt.safetensors": prompt_bytes(scratch, 8)},
               {"prompt.safetensors": lambda rng, data: mutated_tensors(rng, data, "prompt")}, _use_prompt,
               (PromptError, PromptMismatch, TaskError), 0.5),
        Target("texts in use", {"rows.jsonl": LINES}, {"rows.jsonl": mutated_lines}, _read_texts,
               (InputError, TaskError, VocabularyError, CheckpointError), 0.5),
    ]  # fmt: skip


def _ask(model: FrozenModel) -> None:
    texts, ones = [np.array([1, 5, 3, 2])], np.ones((1, 1), np.int64)
    width = np.zeros((1, 1, model.embedding_size), np.float32)
    if model.vocab_size > 6 and model.max_positions > 4 and not model.pooling:
        found = model.logits(texts, np.array([2]), ones, width, np.array([0]), np.array([5, 6]))
        assert found.shape == (1, 2)


def _open_and_ask(folder: Path) -> None:
    model = load_model(folder, threads=1)
    assert model.embedding_std is not None
    _ask(model)


@cache
def _model() -> FrozenModel:
    """Opened once, before any input is read."""
    with tempfile.TemporaryDirectory() as name:
        for file, content in model_folder(Path(name), CONFIGS["bert"]).items():
            (Path(name) / file).write_bytes(content)
        model = load_model(name, threads=1)
        _ask(model)
        assert model.tokenizer_sha256
    return model


def _use_prompt(folder: Path) -> None:
    model: Any = _model()
    prompt = load_prompt(folder)
    vars(model.description.facts).update(model_sha256=prompt.model_sha256, tokenizer_sha256=prompt.tokenizer_sha256)
    texts = [("a text", "good")[: len(make_task(prompt.template, prompt.labels).slots)]] * 2
    found = predict(model, prompt, texts)
    assert found.probabilities.shape == (2, len(prompt.labels))
    assert np.isfinite(found.probabilities).all()


def _read_texts(folder: Path) -> None:
    model = _model()
    texts = [text for text, _ in _rows(_lines(folder / "rows.jsonl"), "rows.jsonl", (("text",),) * 2, None)]
    encoded = encode(texts, ROWS, model, 3)
    for row, position in zip(encoded.ids, encoded.answer_position):
        assert 0 < len(row) <= model.max_positions - 3
        assert row[position] == model.mask_id
        assert (
            np.count_nonzero(np.isin(row, list(model.special_ids - {0}))) == 3
        )  # [CLS], [MASK], [SEP]: none of a text's
    pmi_candidates([text for (text,) in texts], model, 1)
