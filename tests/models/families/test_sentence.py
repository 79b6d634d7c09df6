"""Sentence-embedding models: a saved folder is recognised, scores are temperature times cosine, prompts work as ever."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import numpy_bert
from tests.models.graph.test_graph import case
from tests.models.numpy_bert import Flaws, hidden_states
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import (
    CheckpointError,
    FrozenModel,
    FrozenModelOracle,
    Prompt,
    PromptError,
    PromptMismatch,
    TaskError,
    encode,
    load_checkpoint,
    load_model,
    load_prompt,
    make_task,
    predict,
    read_tensors,
    save_prompt,
    write_tensors,
)
from zopog_models.families.encoder import EncoderFamily
from zopog_models.graph import INJECTIONS
from zopog_models.tasks.encoding import label_targets

TOLERANCE = 1e-5
TASK = make_task("{text}", {"good": "it was a great city", "bad": "the food was terrible"})
MODULES = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]


def as_sentence_transformers(folder: Path, modules: list[tuple[str, str]] = MODULES, **pooling: Any) -> Path:
    """Leave out the head and the prefix, and say what the folder is, as sentence-transformers does."""
    tensors = {name: np.array(array) for name, array in read_tensors(folder / "model.safetensors").items()}
    family = load_checkpoint(folder).family
    assert isinstance(family, EncoderFamily)
    prefix = f"{family.prefix}."
    bare = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    bare["pooler.dense.weight"] = np.zeros((32, 32), np.float32)
    bare["embeddings.position_ids"] = np.arange(64)[None]
    write_tensors(folder / "model.safetensors", bare)
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags | pooling))
    return folder


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_sentence_transformers(write_model(tmp_path_factory.mktemp("sentence") / "tiny-sentence", "bert"))


@pytest.fixture(scope="module")
def sentence(sentence_folder: Path) -> FrozenModel:
    return load_model(sentence_folder, threads=2)


def sentence_case(n: int, prompts: int) -> dict[str, Any]:
    inputs = case(n, prompts)
    del inputs["label_ids"]
    return inputs | {"label_ids": np.random.default_rng(3).normal(0, 1, (4, 32)).astype(np.float32)}


def reference(
    folder: Path, inputs: dict[str, Any], injection: str = "post_layernorm", pooling: str = "mean",
    flaws: Flaws = numpy_bert.SOUND, *, pool_text_alone: bool = False, normalise: bool = True,
) -> np.ndarray:  # fmt: skip
    """Row by row, padded to the longest: pool, normalise, compare."""
    checkpoint = load_checkpoint(folder, pooling)
    longest, n = max(map(len, inputs["text_ids"])), inputs["prompt_ids"].shape[1]
    rows = []
    for ids, p in zip(inputs["text_ids"], inputs["prompt_index"], strict=True):
        padding = longest - len(ids)
        row = [ids[0], *inputs["prompt_ids"][p], *ids[1:], *[0] * padding]
        visible = np.array([1] * (len(ids) + n) + [0] * padding)
        offset = inputs["prompt_offset"][p]
        x = hidden_states(checkpoint.config, checkpoint.tensors, row, visible, offset, injection, flaws)
        counted = visible.copy()
        if pool_text_alone:
            counted[1 : n + 1] = 0
        e = x[0] if pooling == "cls" else (x * counted[:, None]).sum(0) / counted.sum()
        rows.append(e / np.linalg.norm(e) if normalise else e)
    return np.array(rows) @ np.asarray(inputs["label_ids"], np.float64).T


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("n", "prompts"), [(0, 1), (5, 3)])
def test_parity_with_the_plain_forward_pass(
    sentence_folder: Path, injection: str, pooling: str, n: int, prompts: int
) -> None:
    inputs = sentence_case(n, prompts)
    model = load_model(sentence_folder, threads=1, injection=injection, pooling=pooling)
    logits = model.logits(**inputs)
    expected = reference(sentence_folder, inputs, injection, pooling)
    assert np.abs(logits - expected).max() < TOLERANCE
    assert np.ptp(expected) > 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"flaws": Flaws(drop_offset=True)}, {"flaws": Flaws(see_padding=True)}, {"flaws": Flaws(position_shift=1)},
     {"pool_text_alone": True}, {"normalise": False}, {"pooling": "cls"}],
    ids=str,
)  # fmt: skip
def test_each_flaw_would_be_noticed(sentence_folder: Path, sentence: FrozenModel, wrong: dict[str, Any]) -> None:
    inputs = sentence_case(5, 3)
    inputs["text_ids"] = [ids[:12] for ids in inputs["text_ids"][:-1]]
    inputs["answer_position"], inputs["prompt_index"] = inputs["answer_position"][:-1], inputs["prompt_index"][:-1]
    logits = sentence.logits(**inputs)
    assert np.abs(logits - reference(sentence_folder, inputs)).max() < TOLERANCE
    assert np.abs(logits - reference(sentence_folder, inputs, **wrong)).max() > 3 * TOLERANCE


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "albert", "mpnet", "modernbert"])
def test_other_encoders_embed_as_well(tmp_path: Path, family: str) -> None:
    folder = write_model(tmp_path / "model", family)
    whole = load_model(folder, threads=1, pooling="mean")
    bare = load_model(as_sentence_transformers(folder), threads=1)
    rows = [np.arange(5, 5 + length) for length in (3, 9, 4)]
    assert np.abs(np.linalg.norm(whole.embeddings(rows), axis=1) - 1).max() < 1e-6
    assert np.array_equal(whole.embeddings(rows), bare.embeddings(rows))


def test_labels_are_phrases_and_scores_are_cosines(sentence: FrozenModel) -> None:
    texts = [("the food was great",), ("a large city",)]
    encoded = encode(texts, TASK, sentence, 0)
    nothing = (np.zeros((1, 0), int), None, np.zeros(2, int))
    scores = sentence.logits(encoded.ids, encoded.answer_position, *nothing, label_targets(TASK, sentence))
    phrases = encode([(phrase,) for phrase in TASK.labels.values()], make_task("{text}", TASK.labels), sentence, 0)
    assert min(map(len, phrases.ids)) > 5  # of several tokens each
    cosines = sentence.embeddings(encoded.ids) @ sentence.embeddings(phrases.ids).T
    assert np.abs(scores - 20 * cosines).max() < TOLERANCE


def test_the_temperature_is_a_parameter(sentence_folder: Path, sentence: FrozenModel) -> None:
    other = load_model(sentence_folder, threads=1, temperature=5.0)
    assert (sentence.temperature, other.temperature) == (20.0, 5.0)
    assert np.abs(label_targets(TASK, sentence) - 4 * label_targets(TASK, other)).max() < 1e-5
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be a positive number"):
            load_model(sentence_folder, temperature=wrong)


def test_rows_have_no_mask(sentence: FrozenModel) -> None:
    assert sentence.mask_id is None
    row = encode([("a large city",)], make_task("topic : {text} !", TASK.labels), sentence, 3).ids[0]
    assert [sentence.tokenizer.id_to_token(int(i)) for i in row[[0, -1]]] == ["[CLS]", "[SEP]"]
    mask = sentence.tokenizer.token_to_id("[MASK]")
    assert mask is not None
    assert mask not in row
    pair = make_task("{text_a} {sep} {text_b}", TASK.labels)
    [ids] = encode([("a city", "it was great")], pair, sentence, 0).ids
    assert (ids == sentence.sep_id).sum() == 2


def test_templates_and_models_that_do_not_go_together(sentence: FrozenModel, bert: FrozenModel) -> None:
    with pytest.raises(TaskError, match=r"has \{mask\}, but 'tiny-sentence' is a sentence-embedding model"):
        encode([("a city",)], make_task("{text} it was {mask} .", TASK.labels), sentence, 0)
    with pytest.raises(TaskError, match=r"must contain \{mask\} exactly once, got '\{text\}'"):
        encode([("a city",)], TASK, bert, 0)
    with pytest.raises(TaskError, match="two labels have the same phrase"):
        label_targets(make_task("{text}", {"0": "a city", "1": "a city "}), sentence)
    with pytest.raises(ValueError, match="'tiny-bert' is no sentence-embedding model"):
        bert.embeddings([np.array([5, 6])])
    with pytest.raises(ValueError, match=r"labels are embeddings \(C, 32\), got \(2,\); label_targets"):
        sentence.logits(**(sentence_case(0, 1) | {"label_ids": np.array([7, 9])}))


def test_the_oracle(sentence: FrozenModel, sentence_folder: Path) -> None:
    rng = np.random.default_rng(0)
    encoded = encode([(text,) for text in SENTENCES], TASK, sentence, 4)
    targets, a = label_targets(TASK, sentence), rng.normal(0, 0.3, (4 * 32, 7)).astype(np.float32)
    oracle = FrozenModelOracle(sentence, encoded, targets, np.arange(20, 50), a, 4)
    tokens, z, examples = rng.integers(0, 30, (3, 4)), rng.normal(size=(3, 7)), np.array([1, 4, 6, 2])
    logits = oracle.logits(tokens, z, examples)
    assert (logits.shape, oracle.n_classes) == ((3, 4, 2), 2)
    inputs = {
        "text_ids": [encoded.ids[e] for e in np.tile(examples, 3)],
        "prompt_ids": np.arange(20, 50)[tokens],
        "prompt_offset": (z @ a.T.astype(np.float64)).reshape(3, 4, 32),
        "prompt_index": np.repeat(np.arange(3), 4),
        "label_ids": targets,
    }
    expected = reference(sentence_folder, inputs).reshape(3, 4, 2)
    assert np.abs(logits - expected).max() < 2e-4  # of scores up to 20


def prompt_for(model: FrozenModel, **changes: Any) -> Prompt:
    rng = np.random.default_rng(1)
    values: dict[str, Any] = {
        "ids": rng.integers(5, 60, (2, 3)),
        "offsets": rng.normal(0, 1, (2, 3, 32)).astype(np.float32),
        "weights": np.array([0.25, 0.75]),
        "label_ids": label_targets(TASK, model),
        "template": TASK.template,
        "labels": TASK.labels,
        "injection": model.injection,
        "model": model.name,
        "model_sha256": model.sha256,
        "tokenizer_sha256": model.tokenizer_sha256,
    }
    return Prompt(**(values | changes))


def test_a_saved_prompt_holds_the_labels_embeddings(
    sentence: FrozenModel, sentence_folder: Path, tmp_path: Path
) -> None:
    prompt = prompt_for(sentence)
    save_prompt(tmp_path, prompt)
    assert read_tensors(tmp_path / "prompt.safetensors")["label_embeddings"].shape == (2, 32)
    loaded = load_prompt(tmp_path)
    texts = [(text,) for text in SENTENCES]
    before, after = (predict(sentence, p, texts).probabilities for p in (prompt, loaded))
    assert np.array_equal(before, after)
    assert np.abs(before.sum(1) - 1).max() < 1e-12
    # The temperature is in the embeddings: a model opened with another one predicts the same.
    other = load_model(sentence_folder, threads=2, temperature=1.0)
    assert np.array_equal(predict(other, loaded, texts).probabilities, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_ids": np.ones((3, 32), np.float32)}, "2 labels need as many label_ids"),
        ({"label_ids": np.full((2, 32), np.nan, np.float32)}, "label embeddings hold values that are not finite"),
        ({"label_ids": np.array([7, 8])}, r"must contain \{mask\} exactly once"),
        ({"label_ids": np.array(7.0), "template": "{text} {mask}"}, "2 labels need as many label_ids"),
        ({"label_ids": np.array([0.5, 0.5]), "template": "{text} {mask}"}, "must be whole numbers"),
    ],
)
def test_prompts_that_contradict_themselves(
    sentence: FrozenModel, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        save_prompt(tmp_path, prompt_for(sentence, **({"template": "{text}"} | change)))


def test_a_prompt_for_the_other_kind_of_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "both", "bert")  # has a head, and can do without
    headed, pooled = load_model(folder, threads=1), load_model(folder, threads=1, pooling="mean")
    prompt = prompt_for(pooled)
    predict(pooled, prompt, [("a city",)])
    with pytest.raises(
        PromptMismatch, match="was tuned for a sentence-embedding model, 'both' was loaded as a model with"
    ):
        predict(headed, prompt, [("a city",)])
    masked = prompt_for(pooled, template="{text} {mask}", label_ids=np.array([7, 8]))
    predict(headed, masked, [("a city",)])
    with pytest.raises(
        PromptMismatch, match="was tuned for a model with a head, 'both' was loaded as a sentence-embed"
    ):
        predict(pooled, masked, [("a city",)])


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        ([("Transformer", ""), ("Dense", "2_Dense")], {}, "modules Transformer, Dense are not supported"),
        ([*MODULES[:2], ("Dense", "2_Dense")], {}, "modules Transformer, Pooling, Dense are not supported"),
        ([("Transformer", "0_Transformer"), MODULES[1]], {}, "the Transformer is in '0_Transformer'; give that folder"),
        (
            [MODULES[0], ("Pooling", "../1_Pooling")],
            {},
            r"the Pooling is in '../1_Pooling'; expected the name of a folder",
        ),
        ([MODULES[0], ("Pooling", "")], {}, "expected the name of a folder beside it"),
        ([MODULES[0], ("Pooling", "9_Pooling")], {}, "cannot read .*9_Pooling"),
        (MODULES, {"pooling_mode_max_tokens": True}, "is not supported; supported: one of mean, cls"),
        (MODULES, {"pooling_mode": "weightedmean"}, r"pooling \['weightedmean'\] is not supported"),
        (MODULES, {"pooling_mode_mean_tokens": False}, r"pooling \[\] is not supported"),
    ],
)
def test_folders_that_cannot_work(
    tmp_path: Path, modules: list[tuple[str, str]], pooling: dict[str, Any], message: str
) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"), modules, **pooling)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_ways_to_say_what_a_folder_is(tmp_path: Path) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"), pooling_mode="cls")
    assert load_checkpoint(folder).pooling == "cls"
    assert load_checkpoint(folder, "mean").pooling == "mean"  # what is asked for goes before what is written
    (folder / "modules.json").write_text('{"0": 1}')
    with pytest.raises(CheckpointError, match="must hold a list of modules"):
        load_checkpoint(folder)
    (folder / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=r"missing tensors: .* unless a pooling makes it"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="pooling must be one of mean, cls, got 'max'"):
        load_checkpoint(folder, "max")


def sentence_length(folder: Path, content: str) -> int:
    (folder / "sentence_bert_config.json").write_text(content)
    return load_model(folder, threads=1).max_positions


def test_texts_are_cut_where_sentence_transformers_cuts_them(tmp_path: Path) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"))
    whole = load_model(folder, threads=1)
    assert sentence_length(folder, '{"max_seq_length": 9, "do_lower_case": false}') == 9
    model = load_model(folder, threads=1)
    text = " ".join([SENTENCES[0]] * 3)
    for n in (0, 2):  # the prompt's positions count
        cut = encode([(text,)], TASK, model, n)
        assert (len(cut.ids[0]), cut.truncated) == (9 - n, 1)
    full = encode([(text,)], TASK, whole, 0)
    assert (len(full.ids[0]) > 9, full.truncated) == (True, 0)
    assert np.abs(model.embeddings(cut.ids) - whole.embeddings(full.ids)).max() > 1e-3  # so it matters


def test_a_length_that_says_nothing_new(tmp_path: Path) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"))
    positions = load_model(folder, threads=1).max_positions
    for content in ('{"max_seq_length": null}', "{}", '{"max_seq_length": 100000}'):
        assert sentence_length(folder, content) == positions
    for wrong in ("2", '"256"', "true", "25.5", "[256]"):
        with pytest.raises(CheckpointError, match=r"max_seq_length is .*; expected null or a number of at least 3"):
            sentence_length(folder, f'{{"max_seq_length": {wrong}}}')
    (folder / "modules.json").unlink()  # no folder of sentence-transformers: its files say nothing
    assert load_model(folder, threads=1, pooling="mean").max_positions == positions


def test_a_length_that_stands_elsewhere(tmp_path: Path) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"))
    positions = load_model(folder, threads=1).max_positions
    (folder / "sentence_distilbert_config.json").write_text('{"max_seq_length": 9}')
    assert load_model(folder, threads=1).max_positions == 9
    (folder / "sentence_bert_config.json").write_text("{}")  # the first that is there is read
    assert load_model(folder, threads=1).max_positions == positions
    for said, length in ((11, 11), (10**6, positions), (int(1e30), positions), (1e30, positions), (None, positions)):
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": said}))
        assert load_model(folder, threads=1).max_positions == length, said
    assert sentence_length(folder, '{"max_seq_length": 12}') == 12  # it goes before


def test_a_surplus_tensor_is_named(tmp_path: Path) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"))
    tensors = {name: np.array(array) for name, array in read_tensors(folder / "model.safetensors").items()}
    write_tensors(folder / "model.safetensors", tensors | {"dense.weight": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match=r"does not have: dense\.weight"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "query", "prompts": {"query": "query: "}},
            r"default_prompt_name 'query' \('query: '\) stands before every text.* begin the template.*--pooling",
        ),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "passage"},
            "default_prompt_name 'passage' stands",
        ),
        (
            "config_sentence_transformers.json",
            {"similarity_fn_name": "euclidean"},
            "similarity_fn_name is 'euclidean', and labels are scored by the cosine: give pooling",
        ),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case is true, but the tokenizer keeps case"),
        ("sentence_roberta_config.json", {"do_lower_case": 1}, r"roberta_config\.json: do_lower_case is true, but the"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "include_prompt": 0}, "include_prompt is false"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "include_prompt": False},
            "include_prompt is false",
        ),
    ],
)
def test_what_is_done_to_a_text_before_its_tokens_is_refused_by_name(
    tmp_path: Path, name: str, content: dict[str, Any], message: str
) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"))
    description = json.loads((folder / "tokenizer.json").read_text())
    description["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(description))
    assert load_checkpoint(folder).pooling == "mean"
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
    assert load_checkpoint(folder, "cls").pooling == "cls"  # what the message names


def test_a_tokenizer_that_transformers_would_make_otherwise_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "bert")
    settings = folder / "tokenizer_config.json"
    normalizer = json.loads((folder / "tokenizer.json").read_text())["normalizer"]
    for stated, name in (
        ("do_lower_case", "lowercase"),
        ("tokenize_chinese_chars", "handle_chinese_chars"),
    ):
        for said in (normalizer[name], None):
            settings.write_text(json.dumps({stated: said}))
            load_model(folder, threads=1)
        settings.write_text(json.dumps({stated: not normalizer[name]}))
        with pytest.raises(CheckpointError, match=f"{name} is {str(normalizer[name]).lower()}, but {stated} is"):
            load_model(folder, threads=1)
        settings.write_text(json.dumps({stated: not normalizer[name], "tokenizer_class": "PreTrainedTokenizerFast"}))
        load_model(folder, threads=1)


def test_a_dot_product_is_the_cosine_behind_a_normalize_alone(tmp_path: Path) -> None:
    for modules in (MODULES, MODULES[:2]):
        folder = as_sentence_transformers(write_model(tmp_path / f"{len(modules)}", "bert"), modules)
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "dot"}))
        if len(modules) == 3:
            assert load_checkpoint(folder).pooling == "mean"
        else:
            with pytest.raises(CheckpointError, match="similarity_fn_name is 'dot', and labels are scored by the cosi"):
                load_checkpoint(folder)


def test_settings_of_sentence_transformers_that_change_nothing(tmp_path: Path) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", "bert"), include_prompt=True)
    settings = {"default_prompt_name": None, "prompts": {"query": "query: "}, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))  # the tokenizer does so
    assert load_checkpoint(folder).pooling == "mean"
