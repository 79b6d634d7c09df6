"""bundle: a prompt comes back as it was saved, predicts as the model does, and only with its own model."""

import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import SENTENCES
from zopog_models import (
    FrozenModel,
    Prompt,
    PromptError,
    PromptMismatch,
    encode,
    label_ids,
    load_model,
    load_prompt,
    make_task,
    predict,
    read_tensors,
    save_prompt,
    write_tensors,
)
from zopog_models.prompts.bundle import content_sha256

LABELS = {"good": "great", "bad": "terrible"}
TASK = make_task("{text} it was {mask} .", LABELS)
TEXTS = [(text,) for text in SENTENCES]


def prompt_for(model: FrozenModel, members: int = 3) -> Prompt:
    rng = np.random.default_rng(0)
    return Prompt(
        ids=rng.integers(10, 60, (members, 4)),
        offsets=rng.normal(size=(members, 4, 32)).astype(np.float32),
        weights=np.arange(1.0, members + 1),
        label_ids=label_ids(TASK, model),
        template=TASK.template,
        labels=LABELS,
        injection=model.injection,
        model=model.name,
        model_sha256=model.sha256,
        tokenizer_sha256=model.tokenizer_sha256,
        about={"method": "zo-pog", "seed": 42},
    )


def test_round_trip(model: FrozenModel, tmp_path: Path) -> None:
    prompt = prompt_for(model)
    save_prompt(tmp_path / "run" / "prompt", prompt)
    loaded = load_prompt(tmp_path / "run" / "prompt")
    for field in fields(Prompt):
        before, after = getattr(prompt, field.name), getattr(loaded, field.name)
        assert np.array_equal(before, after) if isinstance(before, np.ndarray) else before == after
    assert list(loaded.labels) == list(LABELS)
    assert sorted(file.name for file in (tmp_path / "run" / "prompt").iterdir()) == [
        "prompt.json",
        "prompt.safetensors",
    ]
    assert json.loads((tmp_path / "run" / "prompt" / "prompt.json").read_text())["model_sha256"] == model.sha256


def test_prediction_is_the_weighted_mean_of_softmax(model: FrozenModel) -> None:
    prompt = prompt_for(model)
    prediction = predict(model, prompt, TEXTS)
    encoded = encode(TEXTS, TASK, model, 4)
    mean = np.zeros((len(TEXTS), 2))
    for m, weight in enumerate((1 / 6, 2 / 6, 3 / 6)):
        zeros = np.zeros(len(TEXTS), int)
        logits = model.logits(
            encoded.ids, encoded.answer_position, prompt.ids[[m]], prompt.offsets[[m]], zeros, prompt.label_ids
        ).astype(float)
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        assert np.abs(prediction.per_prompt[m] - p).max() < 1e-6
        mean += weight * p
    assert np.abs(prediction.probabilities - mean).max() < 1e-6
    assert np.abs(prediction.probabilities - prediction.per_prompt.mean(0)).max() > 1e-3  # the weights are seen
    assert prediction.truncated == 0


def test_votes(model: FrozenModel) -> None:
    """A prompt of votes shows labels only: the share of the weights that stands for each."""
    prompt = replace(prompt_for(model), predict="votes")
    mean, votes = predict(model, replace(prompt, predict="mean"), TEXTS), predict(model, prompt, TEXTS)
    for r in range(len(TEXTS)):
        chosen = [int(np.argmax(mean.per_prompt[m, r])) for m in range(3)]
        shares = [sum(w for w, c in zip((1 / 6, 2 / 6, 3 / 6), chosen) if c == label) for label in (0, 1)]
        np.testing.assert_allclose(votes.probabilities[r], shares, atol=1e-12)
        assert votes.per_prompt[:, r].argmax(-1).tolist() == chosen
    assert np.isin(votes.per_prompt, (0.0, 1.0)).all()
    assert np.abs(votes.probabilities - mean.probabilities).max() > 0.05
    assert predict(model, prompt, []).probabilities.shape == (0, 2)


def test_votes_are_saved_and_files_without_the_word_mean_the_mean(model: FrozenModel, tmp_path: Path) -> None:
    prompt = prompt_for(model)
    save_prompt(tmp_path / "mean", prompt)
    save_prompt(tmp_path / "votes", replace(prompt, predict="votes"))
    assert "predict" not in json.loads((tmp_path / "mean" / "prompt.json").read_text())  # as it was before votes
    assert json.loads((tmp_path / "votes" / "prompt.json").read_text())["predict"] == "votes"
    assert load_prompt(tmp_path / "mean").predict == "mean"
    assert load_prompt(tmp_path / "votes").predict == "votes"
    with pytest.raises(PromptError, match="unknown predict 'median'; known: mean, votes"):
        save_prompt(tmp_path / "other", replace(prompt, predict="median"))


def test_no_texts_and_long_texts(model: FrozenModel) -> None:
    prompt = prompt_for(model)
    assert predict(model, prompt, []).probabilities.shape == (0, 2)
    assert predict(model, prompt, [("city " * 300,), ("city",)]).truncated == 1


def test_a_prompt_without_positions(model: FrozenModel) -> None:
    prompt = replace(prompt_for(model, 1), ids=np.zeros((1, 0), int), offsets=np.zeros((1, 0, 32), np.float32))
    assert np.allclose(predict(model, prompt, TEXTS).probabilities.sum(-1), 1)


def test_offsets_that_leave_no_scores_are_named(model: FrozenModel) -> None:
    """A file may hold any finite number; what the model makes of it may be none, and is no probability."""
    prompt = prompt_for(model)
    with pytest.raises(PromptError, match=r"not finite: its offsets, up to 3.0e\+38, are too large"):
        predict(model, replace(prompt, offsets=np.full(prompt.offsets.shape, 3e38, np.float32)), TEXTS)


def test_another_model_or_tokenizer(bert: FrozenModel, roberta: FrozenModel) -> None:
    prompt = prompt_for(bert)
    with pytest.raises(PromptMismatch) as caught:
        predict(roberta, prompt, TEXTS)
    assert bert.sha256 in str(caught.value)
    assert roberta.sha256 in str(caught.value)
    with pytest.raises(PromptMismatch, match=f"tuned for tokenizer .*{'0' * 64}.*{bert.tokenizer_sha256}"):
        predict(bert, replace(prompt, tokenizer_sha256="0" * 64), TEXTS)


def test_another_injection(bert_folder: Path, bert: FrozenModel) -> None:
    other = load_model(bert_folder, injection="word_embedding")
    with pytest.raises(PromptMismatch, match="load it with injection='post_layernorm'"):
        predict(other, prompt_for(bert), TEXTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.array([1.0, -1, 1])}, "weights must be 3 numbers ≥ 0"),
        ({"weights": np.zeros(3)}, "with a positive sum"),
        ({"weights": np.ones(2)}, "weights must be 3 numbers"),
        ({"offsets": np.zeros((3, 5, 32), np.float32)}, r"ids must be \(M, n\) and offsets \(M, n, D\)"),
        ({"offsets": np.full((3, 4, 32), np.nan, np.float32)}, "not finite"),
        ({"ids": np.zeros((3, 4))}, "must be whole numbers"),
        ({"label_ids": np.array([7])}, "2 labels need as many label_ids"),
        ({"template": "{text}"}, "mask"),
        ({"injection": "nowhere"}, "unknown injection 'nowhere'"),
    ],
)
def test_prompts_that_contradict_themselves(
    bert: FrozenModel, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        save_prompt(tmp_path / "prompt", replace(prompt_for(bert), **change))
    assert not (tmp_path / "prompt").exists()


def test_damaged_folders(bert: FrozenModel, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="holds no tuned prompt"):
        load_prompt(tmp_path)
    save_prompt(tmp_path, prompt_for(bert))
    path = tmp_path / "prompt.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(PromptError, match="truncated"):
        load_prompt(tmp_path)
    path.write_bytes(content.replace(b'schema\\": 1', b'schema\\": 9'))
    with pytest.raises(PromptError, match="format version 9, this program reads version 1"):
        load_prompt(tmp_path)
    path.write_bytes(content)
    tensors = {name: np.array(array) for name, array in read_tensors(path).items()}
    for settings, message in (("[", "not JSON"), ("[]", "format version None"), ('{"schema": 1}', "missing")):
        write_tensors(path, tensors, {"prompt": settings})
        with pytest.raises(PromptError, match=message):
            load_prompt(tmp_path)
    write_tensors(path, {"ids": tensors["ids"]}, {"prompt": '{"schema": 1}'})
    with pytest.raises(PromptError, match="expected the tensors ids, offsets, weights, label_ids"):
        load_prompt(tmp_path)


def test_a_full_disk_leaves_the_old_prompt(bert: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_prompt(tmp_path, prompt_for(bert, 2))

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save_prompt(tmp_path, prompt_for(bert, 3))
    assert len(load_prompt(tmp_path).ids) == 2


@pytest.mark.parametrize("what", ["position", "words"])
def test_a_prompt_that_older_programs_would_misread_is_of_version_3(tmp_path: Path, what: str) -> None:
    model = load_model(write_decoder(tmp_path / "model", "llama"), threads=1)
    task = make_task("{text} it was {mask}", LABELS)
    words = np.array([[7, 9, -1], [8, -1, -1]]) if what == "words" else label_ids(task, model)
    prompt = replace(prompt_for(model, 1), template=task.template, label_ids=words,
                     position="after" if what == "position" else "before")  # fmt: skip
    save_prompt(tmp_path, prompt)
    loaded = load_prompt(tmp_path)
    assert (loaded.schema, loaded.position, loaded.summed) == (3, prompt.position, what == "words")
    assert np.array_equal(loaded.label_ids, words)
    before = predict(model, replace(prompt, position="before", label_ids=label_ids(task, model)), TEXTS).probabilities
    assert np.abs(predict(model, loaded, TEXTS).probabilities - before).max() > 1e-3
    # Said to be older, by whoever edits it and knows the hash.
    settings = json.loads((tmp_path / "prompt.json").read_text()) | {"schema": 1}
    tensors = dict(read_tensors(tmp_path / "prompt.safetensors"))
    text = json.dumps(settings)
    write_tensors(tmp_path / "edited", tensors, {"prompt": text, "sha256": content_sha256(tensors, text)})
    os.replace(tmp_path / "edited", tmp_path / "prompt.safetensors")
    with pytest.raises(PromptError, match="is of version 3 of the format, and the file says 1: it was edited"):
        load_prompt(tmp_path)


def test_positions_and_words_that_are_none(model: FrozenModel, tmp_path: Path) -> None:
    prompt = prompt_for(model, 1)
    for wrong, message in (
        ({"position": "behind"}, "position .behind. with labels"),
        ({"label_ids": np.array([[7, -1, 8], [8, -1, -1]])}, "must be words of some tokens"),
        ({"label_ids": np.array([[-1, 7], [8, -1]])}, "must be words of some tokens"),
        ({"label_ids": np.array([[7, -2], [8, 9]])}, "must be words of some tokens"),
        ({"label_ids": np.ones((2, 32), np.float32), "position": "after"}, "after is for a decoder"),
    ):
        with pytest.raises(PromptError, match=message):
            save_prompt(tmp_path, replace(prompt, **wrong))
    with pytest.raises(PromptMismatch, match=r"was tuned to stand after the text, and .* it is an encoder"):
        predict(model, replace(prompt, position="after"), TEXTS)
    with pytest.raises(PromptMismatch, match=r"scored by all their tokens, and .* is no decoder"):
        predict(model, replace(prompt, label_ids=np.array([[7, 8], [9, -1]])), TEXTS)
