"""families: each encoder family computes what its own float64 forward pass computes, and refuses what it is not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import numpy_bert, numpy_modernbert
from tests.models.checkpoints.test_checkpoint import reconfigure, rewrite
from tests.models.graph.test_graph import case
from tests.models.numpy_bert import Flaws
from tests.models.numpy_forward import FORWARD
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import CheckpointError, encode, label_ids, load_checkpoint, load_model, make_task
from zopog_models.families import FAMILIES, family_of
from zopog_models.graph import INJECTIONS
from zopog_models.graph import mpnet as graph_mpnet

TOLERANCE = 1e-5
NEW = ("distilbert", "electra", "albert", "mpnet", "modernbert")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("distilbert", {}),
    ("distilbert", {"activation": "relu", "n_layers": 1}),
    ("distilbert", {"tie_word_embeddings": False}),
    ("electra", {}),
    ("electra", {"embedding_size": 32}),
    ("electra", {"hidden_act": "relu", "layer_norm_eps": 1e-3}),
    ("albert", {}),
    ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}),
    ("albert", {"embedding_size": 32, "hidden_act": "relu", "num_hidden_layers": 1}),
    ("roberta", {"num_hidden_layers": 6}),  # DistilRoBERTa
    ("xlm-roberta", {}),
    ("xlm-roberta", {"layer_norm_eps": 3.7e-4, "type_vocab_size": 2}),
    ("camembert", {"tie_word_embeddings": False}),
    ("mpnet", {}),
    ("mpnet", {"num_hidden_layers": 1, "hidden_act": "relu", "tie_word_embeddings": False}),
    ("modernbert", {}),
    ("modernbert", {"num_hidden_layers": 1, "tie_word_embeddings": False, "decoder_bias": False}),
    ("modernbert", {"num_hidden_layers": 7, "norm_eps": 3.7e-4, "local_attention": 4}),
    ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}),
    ("modernbert", {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    ("modernbert", {"layer_types": ["full_attention"] * 3, "hidden_activation": "gelu_pytorch_tanh"}),
    ("bert", {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
]


@pytest.fixture(scope="module", params=NEW)
def family_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("families") / f"tiny-{request.param}", request.param)


# flaw -> the families that have what it spoils; no entry: all
OF = {
    "tanh_gelu": set(NEW) - {"albert"},  # whose gelu is the tanh one
    "position_shift": set(NEW) - {"modernbert"},  # whose positions are relative
    "mirrored_shift": {"mpnet"},
    "no_window": {"modernbert"},
    "window_shift": {"modernbert"},
    "one_base": {"modernbert"},
}


def family_case(folder: Path, n: int, prompts: int) -> dict[str, Any]:
    """test_graph's rows, with an offset as wide as the family's embeddings."""
    width = load_checkpoint(folder).architecture.embedding_size
    inputs = case(n, prompts)
    return inputs | {"prompt_offset": np.ascontiguousarray(inputs["prompt_offset"][..., :width])}


def reference(folder: Path, inputs: dict[str, Any], injection: str, flaws: Flaws = numpy_bert.SOUND) -> np.ndarray:
    checkpoint = load_checkpoint(folder)
    forward = FORWARD[checkpoint.family.name]
    return numpy_bert.label_logits(
        checkpoint.config, checkpoint.tensors, **inputs, injection=injection, flaws=flaws, forward=forward
    )


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize(("family", "changes"), VARIANTS, ids=str)
def test_parity_with_the_plain_forward_pass(
    tmp_path: Path, family: str, changes: dict[str, Any], injection: str
) -> None:
    folder = write_model(tmp_path / "model", family, seed=2, **changes)
    inputs = family_case(folder, 5, 3)
    logits = load_model(folder, threads=1, injection=injection).logits(**inputs)
    expected = reference(folder, inputs, injection)
    largest = np.abs(logits - expected).max()
    assert largest < TOLERANCE, f"largest difference {largest:.2e}"
    assert np.ptp(expected) > 0.5


@pytest.mark.parametrize(
    "flaws",
    [Flaws(epsilon=1e-2), Flaws(tanh_gelu=True), Flaws(drop_offset=True), Flaws(position_shift=1),
     Flaws(see_padding=True), Flaws(answer_shift=-1), Flaws(unscaled_attention=True), Flaws(mirrored_shift=True),
     Flaws(no_window=True), Flaws(window_shift=1), Flaws(window_shift=-1), Flaws(one_base=True)],
)  # fmt: skip
def test_each_flaw_would_be_noticed(family_folder: Path, flaws: Flaws) -> None:
    family = family_folder.name.removeprefix("tiny-")
    wrong = {name for name, value in vars(flaws).items() if value != vars(numpy_bert.SOUND)[name]}
    if any(family not in OF.get(name, NEW) for name in wrong):
        pytest.skip(f"nothing that {family} has")
    inputs = family_case(family_folder, 5, 3)
    inputs["text_ids"] = [ids[:12] for ids in inputs["text_ids"][:-1]]  # one chunk, so that padding is there to be seen
    inputs["answer_position"], inputs["prompt_index"] = inputs["answer_position"][:-1], inputs["prompt_index"][:-1]
    logits = load_model(family_folder, threads=1).logits(**inputs)
    assert np.abs(logits - reference(family_folder, inputs, "post_layernorm")).max() < TOLERANCE
    assert np.abs(logits - reference(family_folder, inputs, "post_layernorm", flaws)).max() > 3 * TOLERANCE


def test_texts_and_label_words(family_folder: Path) -> None:
    model = load_model(family_folder, threads=1)
    task = make_task("{text} it was {mask} .", {"good": "great", "bad": "terrible"})
    encoded = encode([(text,) for text in SENTENCES], task, model, 2)
    for ids, position in zip(encoded.ids, encoded.answer_position):
        assert (ids[0], ids[position], ids[-1]) == (model.cls_id, model.mask_id, model.sep_id)
    words = [model.tokenizer.id_to_token(int(i)).lstrip("▁Ġ") for i in label_ids(task, model)]
    assert words == ["great", "terrible"]


def test_buckets_of_distances() -> None:
    distances = np.arange(-600, 601)
    assert list(graph_mpnet.bucket(distances)) == [numpy_modernbert.bucket(int(k)) for k in distances]
    assert set(graph_mpnet.bucket(distances)) == set(range(32)) - {16}  # a distance of 0 has one side


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    few, many = (
        write_model(tmp_path / str(layers), "albert", num_hidden_layers=layers, inner_group_num=1) for layers in (2, 9)
    )
    assert load_checkpoint(few).tensors.keys() == load_checkpoint(many).tensors.keys()
    inputs = family_case(few, 2, 1)
    one, other = (load_model(folder, threads=1).logits(**inputs) for folder in (few, many))
    assert np.abs(one - other).max() > 1e-2  # and yet the numbers of layers differ


def test_the_tensors_are_all_there_and_nothing_else(family_folder: Path) -> None:
    checkpoint = load_checkpoint(family_folder)
    shapes = checkpoint.family.shapes(checkpoint.architecture)
    assert {name: array.shape for name, array in checkpoint.tensors.items()} == shapes
    assert checkpoint.word_embeddings.shape == (
        checkpoint.architecture.vocab_size,
        checkpoint.architecture.embedding_size,
    )


UNUSED = {
    "distilbert": ["distilbert.embeddings.position_ids"],
    "electra": ["electra.embeddings.position_ids", "discriminator_predictions.dense.bias"],
    "albert": ["albert.pooler.weight", "sop_classifier.classifier.bias"],
    "mpnet": ["mpnet.pooler.dense.weight", "mpnet.embeddings.position_ids"],
    "modernbert": [],
}
TIED = {
    "distilbert": "vocab_projector.weight",
    "electra": "generator_lm_head.weight",
    "albert": "predictions.decoder.weight",
    "mpnet": "lm_head.decoder.weight",
    "modernbert": "decoder.weight",
}


@pytest.mark.parametrize("family", NEW)
def test_published_parts_that_are_never_read(tmp_path: Path, family: str) -> None:
    folder = write_model(tmp_path / "model", family)
    before = load_checkpoint(folder).tensors
    rewrite(folder, lambda tensors: tensors.update(dict.fromkeys(UNUSED[family], np.zeros((2, 2), np.float32))))
    assert load_checkpoint(folder).tensors.keys() == before.keys()
    words = np.array(load_checkpoint(folder).word_embeddings)
    rewrite(folder, lambda tensors: tensors.update({TIED[family]: words}))  # a copy of what it is tied to
    assert load_checkpoint(folder).tensors.keys() == before.keys()
    rewrite(folder, lambda tensors: tensors.update({TIED[family]: words + 1}))
    with pytest.warns(UserWarning, match=f"{TIED[family]} is stored and is not the word embedding"):
        assert load_checkpoint(folder).tensors.keys() == before.keys() | {TIED[family]}


@pytest.mark.parametrize("family", NEW)
def test_one_tensor_more_less_or_of_another_shape(tmp_path: Path, family: str) -> None:
    folder = write_model(tmp_path / "model", family)
    name = max(load_checkpoint(folder).tensors, key=lambda name: (name.endswith("weight"), len(name)))
    rewrite(folder, lambda tensors: tensors.update({"some.other.weight": np.zeros(2, np.float32)}))
    with pytest.raises(CheckpointError, match=rf"a {family} with this config.json does not have: some.other.weight"):
        load_checkpoint(folder)
    rewrite(folder, lambda tensors: (tensors.pop("some.other.weight"), tensors.update({name: tensors[name][1:]})))
    with pytest.raises(CheckpointError, match=rf"{name} has shape \(.*\), config.json says \("):
        load_checkpoint(folder)
    rewrite(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"missing tensors: {name}"):
        load_checkpoint(folder)


def test_a_discriminator_cannot_be_prompted(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "electra")

    def behead(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.startswith("generator")]:
            del tensors[name]

    rewrite(folder, behead)
    with pytest.raises(CheckpointError, match="of ELECTRA only the generator has one"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("distilbert", {"dim": 0}, "dim must be a positive whole number, got 0"),
        ("distilbert", {"n_heads": 5}, "dim 32 is not a multiple of n_heads 5"),
        ("distilbert", {"activation": "swish"}, "activation 'swish' is not supported"),
        ("electra", {"embedding_size": "16"}, "embedding_size must be a positive whole number, got '16'"),
        ("distilbert", {"n_layers": 10**9}, "n_layers makes 1000000000 layers; more than 4096 are not supported"),
        ("albert", {"inner_group_num": 10**9}, "inner_group_num makes 3000000000 layers; more than 4096"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets 16 is not supported"),
        ("modernbert", {"num_attention_heads": 32}, "rotary positions need an even head width, got 1"),
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types must name .* for each of 3 layers"),
        ("modernbert", {"hidden_activation": "silu"}, "hidden_activation 'silu' is not supported"),
        ("albert", {"num_hidden_groups": 0}, "num_hidden_groups must be a positive whole number, got 0"),
        ("albert", {"num_hidden_groups": 2}, r"missing tensors: albert.encoder.albert_layer_groups.1.albert_layers.0"),
    ],
)
def test_configurations_that_cannot_work(tmp_path: Path, family: str, changes: dict[str, Any], message: str) -> None:
    folder = write_model(tmp_path / "model", family)
    reconfigure(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_every_encoder_family_has_its_own_forward_pass() -> None:
    from zopog_models.families.encoder import EncoderFamily

    assert {name for name, family in FAMILIES.items() if isinstance(family, EncoderFamily)} == FORWARD.keys()


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    from zopog_models.families import Config

    with pytest.raises(CheckpointError, match=r"model_type 'mamba' is not supported; supported: .*albert"):
        family_of(Config(tmp_path / "config.json", {"model_type": "mamba"}))
    for name, reason in {
        "t5": "It has two stacks, .* take an encoder .*; or a server that has it can be asked instead: --model compl",
        "gemma3": "gemma-3-1b are gemma3_text; or a server",
        "mamba": r"; a server that has it can be asked instead: --model completions\+http",
    }.items():
        with pytest.raises(CheckpointError, match=reason):
            family_of(Config(tmp_path / "config.json", {"model_type": name}))
    with pytest.raises(CheckpointError, match="model_type None is not supported"):
        family_of(Config(tmp_path / "config.json", json.loads("{}")))
