"""baking: one ONNX file gives what `predict` gives, for every family, and nothing for rows that are not rows."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.models.prompts.test_export import FAMILIES, write
from zopog_models import FrozenModel, Prompt, PromptMismatch, encode, load_model, make_task, predict
from zopog_models.prompts import baking as baking_module
from zopog_models.prompts import comparing
from zopog_models.prompts.baking import BakeError, bake
from zopog_models.prompts.comparing import row_ids
from zopog_models.prompts.triton import config_pbtxt, write_repository
from zopog_models.tasks.encoding import label_targets, row_recipe

TEXTS = [("a small animal",), ("the food was terrible , the people were great in a large city",), ("",)]
WORDS = {"good": "great", "bad": "terrible", "big": "city"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda family: write(tmp_path_factory.mktemp("models") / family, family))


def template_of(model: FrozenModel) -> str:
    if model.pooling:
        return "{text}"
    return "{text} it was {mask} ." if model.mask_id is not None else "{text} it was {mask}"


def prompt_for(model: FrozenModel, count: int, positions: int = 4, **changes: Any) -> Prompt:
    task = make_task(changes.get("template", template_of(model)), WORDS)
    rng = np.random.default_rng(0)
    return Prompt(
        ids=rng.integers(10, 60, (count, positions)),
        offsets=rng.normal(size=(count, positions, model.embedding_size)).astype(np.float32),
        weights=np.arange(1.0, count + 1),
        label_ids=label_targets(task, model),
        template=task.template,
        labels=task.labels,
        injection=model.injection,
        model=model.name,
        model_sha256=model.sha256,
        tokenizer_sha256=model.tokenizer_sha256,
        **{name: value for name, value in changes.items() if name != "template"},
    )


def padded(rows: list[list[int]]) -> dict[str, np.ndarray]:
    longest = max(map(len, rows))
    ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": np.array([[1] * len(r) + [0] * (longest - len(r)) for r in rows])}


def answers(path: Path, rows: list[list[int]]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, padded(rows))))


def rows_of(prompt: Prompt, model: FrozenModel, texts: list[tuple[str, ...]] = TEXTS) -> list[list[int]]:
    return [ids.tolist() for ids in encode(texts, make_task(prompt.template, prompt.labels), model, 4).ids]


@pytest.mark.parametrize(("count", "how"), [(1, "mean"), (3, "mean"), (3, "votes")])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_gives_what_predict_gives(tmp_path: Path, folders: Any, family: str, count: int, how: str) -> None:
    model = load_model(folders(family), threads=1)
    prompt = prompt_for(model, count, predict=how)
    baked = bake(model, prompt, tmp_path / "file.onnx")
    expected, found = predict(model, prompt, TEXTS), answers(baked.path, rows_of(prompt, model))
    assert np.abs(found["probabilities"] - expected.probabilities).max() < 1e-6
    assert baked.difference < 1e-6
    assert baked.checked >= 8
    if count == 1:
        assert list(found) == ["probabilities"]
    else:
        p = expected.probabilities
        entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
        assert np.abs(found["entropy"] - entropy).max() < 2e-6
        assert np.abs(found["per_prompt"] - expected.per_prompt.transpose(1, 0, 2)).max() < 1e-6
        if how == "mean":  # the twin: the weights are seen
            other = replace(prompt, weights=prompt.weights[::-1])
            assert np.abs(predict(model, other, TEXTS).probabilities - found["probabilities"]).max() > 1e-6


@pytest.mark.parametrize(("family", "template"), [("bert", "{text_a} and {text_b} it was {mask}"), ("roberta", "{text_a} {sep} {mask} , {text_b}"),
                                                  ("llama", "{text} {mask}"), ("gpt2", "{text} {mask}"), ("bert", "[MASK] {text} [MASK] {mask} [SEP] a"),
                                                  ("gpt2", "<|endoftext|>a {text}<|endoftext|> b {mask}")])  # fmt: skip
def test_the_recipe_is_what_encode_does(tmp_path: Path, folders: Any, family: str, template: str) -> None:
    model = load_model(folders(family), threads=1)
    prompt = prompt_for(model, 2, template=template)
    task = make_task(template, WORDS)
    texts: list[tuple[str, ...]] = [("a [MASK] <mask> city",), ("  it was Zürich \n",)]
    if len(task.slots) == 2:
        texts = [("{text_b} was", *texts[0]), (*texts[1], "a plant")]
    rows = [row_ids(row_recipe(task, model), text, model.tokenizer) for text in texts]
    assert rows == rows_of(prompt, model, texts)
    baked = bake(model, prompt, tmp_path / "file.onnx")
    found = answers(baked.path, rows)["probabilities"]
    assert np.abs(found - predict(model, prompt, texts).probabilities).max() < 1e-6


@pytest.mark.parametrize(
    ("family", "positions"), [("bert", 0), ("llama", 0), ("gpt2", 0), ("bert", 4), ("sentence", 4), ("llama", 4)]
)
def test_rows_that_are_no_rows_have_no_answer(tmp_path: Path, folders: Any, family: str, positions: int) -> None:
    model = load_model(folders(family), threads=1)
    prompt = prompt_for(model, 1, positions)
    baked = bake(model, prompt, tmp_path / "file.onnx")
    sound = rows_of(prompt, model)[0]
    wrong = {"empty": []}
    if model.cls_id is not None:
        wrong["no first token"] = sound[1:]
    if model.sep_id is not None:
        wrong["no separator"] = sound[:-1]
    if model.mask_id is not None:
        wrong["no mask"] = [i for i in sound if i != model.mask_id]
        wrong["two masks"] = [*sound[:2], model.mask_id, *sound[2:]]
    found = answers(baked.path, [sound, *wrong.values(), sound])["probabilities"]
    assert np.isnan(found[1:-1]).all()
    expected = predict(model, prompt, TEXTS[:1]).probabilities[0]
    assert np.abs(found[[0, -1]] - expected).max() < 1e-6  # a wrong row does not spoil the others


def test_weights_beside_the_file(tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(folders("bert"), threads=1)
    prompt = prompt_for(model, 2)
    inside = bake(model, prompt, tmp_path / "inside.onnx")
    monkeypatch.setattr(baking_module, "INSIDE_BYTES", 1000)
    beside = bake(model, prompt, tmp_path / "beside.onnx")
    assert inside.data is None
    assert beside.data == tmp_path / "beside.onnx.data"
    assert {path.name for path in tmp_path.iterdir()} == {"inside.onnx", "beside.onnx", "beside.onnx.data"}
    rows = rows_of(prompt, model)
    assert np.array_equal(answers(inside.path, rows)["per_prompt"], answers(beside.path, rows)["per_prompt"])
    assert beside.path.stat().st_size < 40_000 < inside.path.stat().st_size


def test_the_onnx_package_accepts_the_file_and_finds_nothing_superfluous(tmp_path: Path, folders: Any) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package is for development only")
    model = load_model(folders("qwen2"), threads=1)
    path = bake(model, prompt_for(model, 2), tmp_path / "file.onnx").path
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(str(path)).graph
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read
    # Of the untied output matrix only the label words' rows are kept.
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert shapes["lm_head.weight.label_ids"] == [3, 32]
    assert "lm_head.weight" not in shapes


def test_what_a_caller_must_know_is_in_the_file(tmp_path: Path, folders: Any) -> None:
    model = load_model(folders("bert"), threads=1)
    baked = bake(model, prompt_for(model, 1), tmp_path / "file.onnx")
    about = ort.InferenceSession(str(baked.path)).get_modelmeta().custom_metadata_map
    assert json.loads(about["row"]) == [model.cls_id, "{text} it was", model.mask_id, " .", model.sep_id]
    assert json.loads(about["labels"]) == list(WORDS)
    assert about["template"] == "{text} it was {mask} ."
    assert about["tokenizer_sha256"] == model.tokenizer_sha256
    assert int(about["max_length"]) == 60


def test_a_file_that_differs_is_not_written(tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = load_model(folders("bert"), threads=1), tmp_path / "file.onnx"
    out.write_bytes(b"old")
    prompt = prompt_for(model, 2)
    graph = baking_module._graph
    # The twin of all comparisons above: another weighting of the same prompts is noticed.
    monkeypatch.setattr(
        baking_module, "_graph", lambda m, p, *rest: graph(m, replace(p, weights=p.weights[::-1]), *rest)
    )
    with pytest.raises(BakeError, match=r"differ from predict's by up to .*, more than 1e-06"):
        bake(model, prompt, out)
    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.onnx"]
    with pytest.raises(BakeError, match=r"must end in \.onnx"):
        bake(model, prompt, tmp_path / "file.bin")
    with pytest.raises(PromptMismatch, match="tuned for model"):
        bake(model, replace(prompt, model_sha256="0" * 64), out)


def test_the_tolerance_grows_with_scores_and_depth(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(folders("bert"), threads=1)
    prompt = prompt_for(model, 2)
    assert baking_module.rounding_tolerance(model, prompt, TEXTS) == comparing.TOLERANCE  # small scores
    logits = FrozenModel.logits
    for size, layers, expected in ((22.0, 6, 6.4e-6), (25.0, 30, 1.63e-5), (1e9, 9, 1e-4)):
        monkeypatch.setattr(FrozenModel, "logits", lambda *a, size=size, **o: np.sign(logits(*a, **o)) * size)
        monkeypatch.setattr(FrozenModel, "hidden_units", property(lambda self, layers=layers: (layers, 48)))
        assert baking_module.rounding_tolerance(model, prompt, TEXTS) == pytest.approx(expected, rel=0.01)


def test_a_graph_that_is_a_little_wrong_is_noticed(
    tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset of one prompt that is off by a hundredth: more than any rounding, whatever the default allows."""
    model = load_model(folders("bert"), threads=1)
    prompt, graph = prompt_for(model, 2), baking_module._graph
    monkeypatch.setattr(
        baking_module, "_graph", lambda m, p, *rest: graph(m, replace(p, offsets=p.offsets * np.float32(1.01)), *rest)
    )
    monkeypatch.setattr(baking_module, "rounding_tolerance", lambda *_: comparing.MOST)
    with pytest.raises(BakeError, match="differ from predict's"):
        bake(model, prompt, tmp_path / "file.onnx")


def test_a_server_s_repository(tmp_path: Path, folders: Any) -> None:
    model = load_model(folders("bert"), threads=1)
    baked = bake(model, prompt_for(model, 2), tmp_path / "file.onnx")
    place = write_repository(tmp_path / "repository", "kind", baked)
    assert {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} == {
        "config.pbtxt", "labels.txt", "1/model.onnx"
    }  # fmt: skip
    assert (place / "1" / "model.onnx").read_bytes() == baked.path.read_bytes()
    assert (place / "labels.txt").read_text().splitlines() == list(WORDS)
    for name in ("../kind", "", "a/b", ".kind"):
        with pytest.raises(BakeError, match="name in a repository"):
            write_repository(tmp_path / "repository", name, baked)


@pytest.mark.parametrize("count", [1, 2])
def test_the_server_s_configuration_says_what_the_file_has(tmp_path: Path, folders: Any, count: int) -> None:
    pb = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="Triton's schema is in tritonclient[grpc]")
    text_format = pytest.importorskip("google.protobuf.text_format")
    model = load_model(folders("bert"), threads=1)
    baked = bake(model, prompt_for(model, count), tmp_path / "file.onnx")
    config = text_format.Parse(config_pbtxt("kind", baked), pb.ModelConfig())
    session = ort.InferenceSession(str(baked.path))
    types = {"tensor(int64)": pb.TYPE_INT64, "tensor(float)": pb.TYPE_FP32}
    for said, there in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [entry.name for entry in said] == [entry.name for entry in there]
        for entry, tensor in zip(said, there):
            dims = list(entry.reshape.shape) if entry.HasField("reshape") else list(entry.dims)
            assert entry.data_type == types[tensor.type]
            assert dims == [-1 if isinstance(size, str) else size for size in tensor.shape[1:]]
    assert config.HasField("dynamic_batching")
