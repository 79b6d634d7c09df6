"""A prompt's readout: kept, refused when damaged, and applied alike by predict, the baked file and a file read again."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.prompts.test_baking import TEXTS, padded, prompt_for, template_of
from tests.models.prompts.test_export import FAMILIES, write
from zopog_models import (
    FrozenModel,
    Prompt,
    PromptError,
    PromptMismatch,
    PromptReadout,
    encode,
    load_model,
    load_prompt,
    predict,
    save_prompt,
)
from zopog_models.prompts import bundle, predicting
from zopog_models.prompts.baking import BakeError, bake
from zopog_models.prompts.comparing import row_ids
from zopog_models.prompts.readout import targets
from zopog_models.prompts.triton import config_pbtxt
from zopog_models.tasks.template import make_task


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda family: write(tmp_path_factory.mktemp("models") / family, family))


def readout_for(prompt: Prompt, model: FrozenModel, widths: tuple[int, ...]) -> PromptReadout:
    rng, classes = np.random.default_rng(3), len(prompt.labels)
    words = list(range(classes)) if model.pooling else prompt.label_ids.tolist()
    most = classes + model.hidden_size if model.pooling else 60
    others = [int(i) for i in rng.permutation(most) if i not in words]
    columns = tuple(np.array(words + others[: width - classes]) for width in widths)
    matrices = tuple(rng.normal(size=(width, classes)) for width in widths)
    about = {"rows": 18, "temperature": 0.5}
    return PromptReadout(
        "vocabulary", matrices, rng.normal(size=classes), columns, np.array([0.7, 0.8, 0.9]), 0.1, about
    )


def with_readout(model: FrozenModel, count: int, positions: int = 4, templates: tuple[str, ...] = ()) -> Prompt:
    first = {"template": templates[0]} if templates else {}
    plain = prompt_for(model, count, positions, **first)
    return replace(plain, readout=readout_for(plain, model, tuple(range(8, 8 + count))), templates=templates)


def by_hand(model: FrozenModel, prompt: Prompt, texts: list[tuple[str, ...]]) -> np.ndarray:
    """softmax((1/M) sum_m s_m A_m + b), each prompt asked by itself for its own columns in its own template."""
    assert prompt.readout is not None
    logits = np.zeros((len(texts), len(prompt.labels)))
    for m, ids in enumerate(prompt.readout.columns):
        task = make_task(prompt.every_template[m], prompt.labels)
        encoded = encode(texts, task, model, prompt.n_positions)
        scores = model.logits(
            encoded.ids, encoded.answer_position, prompt.ids[m : m + 1], prompt.offsets[m : m + 1],
            np.zeros(len(texts), np.int64), targets(ids, prompt.label_ids),
        )  # fmt: skip
        logits += scores.astype(np.float64) @ prompt.readout.matrices[m] / len(prompt.ids)
    logits += prompt.readout.bias
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def several(model: FrozenModel) -> tuple[str, ...]:
    first = template_of(model)
    other = first.replace("it was", "he is") if "it was" in first else "a {text}"
    return first, other, first


@pytest.mark.parametrize("family", FAMILIES)
def test_predict_is_the_formula(folders: Any, family: str) -> None:
    model = load_model(folders(family), threads=1)
    for prompt in (with_readout(model, 1), with_readout(model, 3), with_readout(model, 3, 0, several(model))):
        found = predict(model, prompt, TEXTS[:2])
        assert np.abs(found.probabilities - by_hand(model, prompt, TEXTS[:2])).max() < 1e-6
        assert found.per_prompt.shape == (1, 2, 3) == (len(prompt.answer_weights), 2, 3)
        assert not np.allclose(
            found.probabilities, predict(model, replace(prompt, readout=None, templates=()), TEXTS[:2])[0]
        )


def test_of_embeddings_the_columns_are_cosines_and_coordinates(folders: Any) -> None:
    model = next(m for m in (load_model(folders(family), threads=1) for family in FAMILIES) if m.pooling)
    prompt = with_readout(model, 1, 0)
    columns = np.array([0, 2, 3, 5])
    scores, _ = predicting.prompt_scores(model, prompt, TEXTS[:2], targets(columns, prompt.label_ids))
    encoded = encode(TEXTS[:2], make_task(prompt.template, prompt.labels), model, 0)
    embedding = model.embeddings(encoded.ids)
    expected = np.column_stack([embedding @ prompt.label_ids[[0, 2]].T, embedding[:, [0, 2]]])
    assert np.abs(scores[0] - expected).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_baked_file_gives_what_predict_gives(tmp_path: Path, folders: Any, family: str) -> None:
    model = load_model(folders(family), threads=1)
    for number, prompt in enumerate((with_readout(model, 3), with_readout(model, 3, 0, several(model)))):
        baked = bake(model, prompt, tmp_path / f"{number}.onnx", tolerance=2e-6)
        recipes = baked.rows or [baked.row]
        flat = [row_ids(recipe, text, model.tokenizer) for text in TEXTS[:2] for recipe in recipes]
        feeds = padded(flat)
        if prompt.templates:
            feeds = {name: value.reshape(2, len(recipes), -1) for name, value in feeds.items()}
            assert "dims: [ 3, -1 ]" in config_pbtxt("m", baked)
        found = answers_of(baked.path, feeds)
        assert found.keys() == {"probabilities"}
        assert np.abs(found["probabilities"] - predict(model, prompt, TEXTS[:2]).probabilities).max() < 2e-6
        assert baked.threshold == [0.7, 0.8, 0.9]
        assert json.loads(baked.metadata["threshold"]) == [0.7, 0.8, 0.9]


def answers_of(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds)))


def test_one_wrong_row_of_several_templates_has_no_answer(tmp_path: Path, folders: Any) -> None:
    model = load_model(folders("bert"), threads=1)
    prompt = with_readout(model, 3, 0, several(model))
    baked = bake(model, prompt, tmp_path / "file.onnx", tolerance=2e-6)
    rows = [row_ids(recipe, text, model.tokenizer) for text in TEXTS[:2] for recipe in baked.rows]
    rows[4] = [i for i in rows[4] if i != model.mask_id]  # the second text in the second template
    feeds = {name: value.reshape(2, 3, -1) for name, value in padded(rows).items()}
    found = answers_of(baked.path, feeds)["probabilities"]
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_a_baked_readout_that_differs_is_refused(tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(folders("bert"), threads=1)
    prompt = with_readout(model, 1)
    right = PromptReadout.probabilities
    monkeypatch.setattr(
        PromptReadout, "probabilities", lambda self, scores: right(self, scores + 0.1 * scores[:, :, :1])
    )
    with pytest.raises(BakeError, match="differ"):
        bake(model, prompt, tmp_path / "file.onnx")


def test_a_saved_readout_is_the_same_again(tmp_path: Path, folders: Any) -> None:
    model = load_model(folders("bert"), threads=1)
    prompt = with_readout(model, 3, 0, several(model))
    save_prompt(tmp_path, prompt)
    again = load_prompt(tmp_path)
    assert again.templates == prompt.templates
    assert json.loads((tmp_path / "prompt.json").read_text())["schema"] == 2
    assert again.readout is not None
    assert prompt.readout is not None
    assert again.readout.kind == "vocabulary"
    assert again.readout.about == {"rows": 18, "temperature": 0.5}
    assert all(np.array_equal(a, b) for a, b in zip(again.readout.matrices, prompt.readout.matrices, strict=True))
    assert np.array_equal(again.readout.threshold, [0.7, 0.8, 0.9])
    assert np.array_equal(predict(model, again, TEXTS)[0], predict(model, prompt, TEXTS)[0])


def test_without_a_readout_the_file_is_that_of_version_1(tmp_path: Path, folders: Any) -> None:
    prompt = prompt_for(load_model(folders("bert"), threads=1), 2)
    save_prompt(tmp_path, prompt)
    settings = json.loads((tmp_path / "prompt.json").read_text())
    assert settings["schema"] == 1
    assert not {"readout", "templates"} & settings.keys()
    assert load_prompt(tmp_path).readout is None


def test_a_program_that_knows_version_1_alone_refuses_it(
    tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_prompt(tmp_path, with_readout(load_model(folders("bert"), threads=1), 1))
    monkeypatch.setattr(bundle, "SCHEMA_WITH_POSITION", 1)
    with pytest.raises(PromptError, match=r"version 2.*newer program"):
        load_prompt(tmp_path)


def test_what_contradicts_itself_is_refused(tmp_path: Path, folders: Any) -> None:
    model = load_model(folders("bert"), threads=1)
    prompt = with_readout(model, 2)
    assert prompt.readout is not None
    readout = prompt.readout
    for broken, message in (
        (replace(prompt, ids=prompt.ids[:1], offsets=prompt.offsets[:1], weights=prompt.weights[:1]), "1 prompts"),
        (replace(prompt, templates=("{text} {mask}",)), "one for each of 2"),
        (replace(prompt, templates=(prompt.template, "{text_a} {text_b} {mask}")), "the same texts"),
        (replace(prompt, templates=(prompt.template, "{text}")), "the same texts"),
        (replace(prompt, templates=("{text} {mask}",) * 2), "first of them"),
        (replace(prompt, templates=(prompt.template,) * 2, readout=None), "with a readout"),
    ):
        with pytest.raises(PromptError, match=message):
            save_prompt(tmp_path, broken)
    for change, message in (
        ({"columns": readout.columns[:1]}, "a prompt"),
        ({"bias": readout.bias[:2]}, "matrix 0"),
        ({"bias": readout.bias * np.nan}, "finite"),
        ({"threshold": np.ones(2)}, "threshold"),
        ({"columns": tuple(ids * 0 for ids in readout.columns)}, "different"),
    ):
        with pytest.raises(PromptError, match=message):
            replace(readout, **change)
    far = replace(readout, columns=(readout.columns[0] + 10_000, readout.columns[1]))
    with pytest.raises(PromptMismatch, match="reads column"):
        predict(model, replace(prompt, readout=far), TEXTS)


def test_sets_are_what_the_threshold_says() -> None:
    readout = PromptReadout("none", (np.eye(2),), np.zeros(2), (np.array([3, 4]),), np.array([0.5, 0.25]))
    assert readout.sets(np.array([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]])).tolist() == [  # type: ignore[union-attr]
        [True, False], [False, True], [False, True],
    ]  # fmt: skip
    assert replace(readout, threshold=None).sets(np.array([[0.5, 0.5]])) is None
