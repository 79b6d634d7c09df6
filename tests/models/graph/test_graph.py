"""graph: what ONNX Runtime computes from the built graph is what a plain float64 forward pass computes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import numpy_bert
from tests.models.numpy_bert import Flaws
from tests.models.tiny_models import write_model
from zopog_models import FrozenModel, load_checkpoint, load_model
from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.frozen.model import local_model
from zopog_models.graph import INJECTIONS, build, build_projection, onnx_format

TOLERANCE = 1e-5
D = 32


def case(n: int, prompts: int, seed: int = 1) -> dict[str, Any]:
    """Rows of unequal length (so that some are padded), several prompts in mixed order, offsets that matter."""
    rng = np.random.default_rng(seed)
    lengths = [7, 12, 9, 4, 12, 3, 25]
    return {
        "text_ids": [rng.integers(5, 60, length) for length in lengths],
        "answer_position": np.array([3, 11, 1, 2, 6, 1, 20]),
        "prompt_ids": rng.integers(5, 60, (prompts, n)),
        "prompt_offset": rng.normal(0, 1, (prompts, n, D)).astype(np.float32),
        "prompt_index": rng.integers(0, prompts, len(lengths)),
        "label_ids": np.array([7, 9, 30]),
    }


def reference(folder: Path, inputs: dict[str, Any], injection: str, flaws: Flaws = numpy_bert.SOUND) -> np.ndarray:
    checkpoint = load_checkpoint(folder)
    return numpy_bert.label_logits(checkpoint.config, checkpoint.tensors, **inputs, injection=injection, flaws=flaws)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize(("n", "prompts"), [(0, 1), (1, 1), (5, 3), (20, 2)])
def test_parity_with_the_plain_forward_pass(folder: Path, injection: str, n: int, prompts: int) -> None:
    inputs = case(n, prompts)
    logits = load_model(folder, threads=1, injection=injection).logits(**inputs)
    expected = reference(folder, inputs, injection)
    assert logits.dtype == np.float32
    assert logits.shape == (7, 3)
    largest = np.abs(logits - expected).max()
    assert largest < TOLERANCE, f"largest difference {largest:.2e}"
    assert np.ptp(expected) > 0.5  # and there is something to compare


@pytest.mark.parametrize(
    "flaws",
    [
        Flaws(epsilon=1e-2),
        Flaws(tanh_gelu=True),
        Flaws(drop_offset=True),
        Flaws(offset_on_first_token=True),
        Flaws(position_shift=1),
        Flaws(see_padding=True),
        Flaws(answer_shift=-1),
        Flaws(unscaled_attention=True),
    ],
    ids=lambda flaws: str({key: value for key, value in vars(flaws).items() if value != vars(numpy_bert.SOUND)[key]}),
)
def test_each_flaw_would_be_noticed(folder: Path, flaws: Flaws) -> None:
    """The twins: the tolerance separates the sound forward pass from every one that is wrong in one place."""
    inputs = case(5, 3)
    inputs["text_ids"] = [ids[:12] for ids in inputs["text_ids"][:-1]]  # one chunk, so that padding is there to be seen
    inputs["answer_position"], inputs["prompt_index"] = inputs["answer_position"][:-1], inputs["prompt_index"][:-1]
    logits = load_model(folder, threads=1).logits(**inputs)
    assert np.abs(logits - reference(folder, inputs, "post_layernorm")).max() < TOLERANCE
    assert np.abs(logits - reference(folder, inputs, "post_layernorm", flaws)).max() > 3 * TOLERANCE


def test_the_type_embedding_would_be_noticed(bert_folder: Path) -> None:
    inputs = case(5, 3)
    logits = load_model(bert_folder, threads=1).logits(**inputs)
    wrong = reference(bert_folder, inputs, "post_layernorm", Flaws(token_type=1))
    assert np.abs(logits - wrong).max() > 3 * TOLERANCE


def test_the_injections_differ(folder: Path) -> None:
    inputs = case(5, 3)
    one, other = (reference(folder, inputs, injection) for injection in INJECTIONS)
    assert np.abs(one - other).max() > 3 * TOLERANCE
    with pytest.raises(ValueError, match=r"injection must be one of .*, got 'everywhere'"):
        load_model(folder, injection="everywhere")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
        {"num_hidden_layers": 1},
        {"num_attention_heads": 1},
        {"tie_word_embeddings": False},
        {"type_vocab_size": 3},
        {"layer_norm_eps": 1e-3},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_parity_of_other_architectures(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    folder = write_model(tmp_path / "model", family, seed=3, **changes)
    inputs = case(4, 2)
    logits = load_model(folder, threads=1).logits(**inputs)
    assert np.abs(logits - reference(folder, inputs, "post_layernorm")).max() < TOLERANCE


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    from zopog_models import read_tensors, write_tensors

    folder = write_model(tmp_path / "model", "bert")
    path = folder / "model.safetensors"
    write_tensors(path, {name: array.astype(np.float16) for name, array in read_tensors(path).items()})
    inputs = case(4, 2)
    logits = load_model(folder, threads=1).logits(**inputs)
    assert np.abs(logits - reference(folder, inputs, "post_layernorm")).max() < TOLERANCE


def test_rows_alone_and_together(model: FrozenModel) -> None:
    inputs = case(5, 3)
    together = model.logits(**inputs)
    for r in range(len(together)):
        alone = model.logits(
            inputs["text_ids"][r : r + 1],
            inputs["answer_position"][r : r + 1],
            inputs["prompt_ids"],
            inputs["prompt_offset"],
            inputs["prompt_index"][r : r + 1],
            inputs["label_ids"],
        )
        assert np.abs(alone[0] - together[r]).max() < 2e-6


# The bytes: what is written by hand must be what the onnx package reads.


@pytest.fixture(params=["encoder", "projection"])
def built(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[bytes, dict[str, np.ndarray]]]:
    if request.param == "encoder":
        yield build(load_checkpoint(folder))
    else:
        yield build_projection(np.ones((6, 4), np.float32))


def test_the_onnx_package_reads_the_same_model(built: tuple[bytes, dict[str, np.ndarray]]) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package is for development only")
    content, weights = built
    model = onnx.load_from_string(content)
    assert model.SerializeToString() == content  # nothing unknown, nothing twice, nothing in another form
    external = {i.name: i for i in model.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL}
    assert external.keys() == weights.keys()
    for name, initializer in external.items():
        assert tuple(initializer.dims) == weights[name].shape
        del initializer.external_data[:]
        initializer.ClearField("data_location")
        initializer.raw_data = weights[name].tobytes()
    onnx.checker.check_model(model, full_check=True)


def test_the_same_checkpoint_gives_the_same_bytes(folder: Path) -> None:
    assert build(load_checkpoint(folder))[0] == build(load_checkpoint(folder))[0]


def test_attributes_of_every_kind() -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package is for development only")
    attributes = {"i": -3, "big": 2**62, "f": 0.5, "s": "none", "ints": (1, 300, -1)}
    proto = onnx.NodeProto.FromString(onnx_format.node("Some", ["a", "", "b"], ["c"], attributes))
    assert (proto.op_type, list(proto.input), list(proto.output)) == ("Some", ["a", "", "b"], ["c"])
    read = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    assert read == {"i": -3, "big": 2**62, "f": 0.5, "s": b"none", "ints": [1, 300, -1]}


def test_weights_are_not_in_the_model(folder: Path) -> None:
    content, weights = build(load_checkpoint(folder))
    assert len(content) < 20_000 < sum(array.nbytes for array in weights.values())
    assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in weights.values())


def test_a_wrong_weight_is_noticed(folder: Path) -> None:
    """The twin of parity on the other side: a graph fed with one wrong weight."""
    checkpoint = load_checkpoint(folder)
    name = f"{checkpoint.family.name}.encoder.layer.1.attention.self.key.weight"
    wrong: Checkpoint = replace(checkpoint, tensors=checkpoint.tensors | {name: checkpoint.tensors[name].T})
    inputs = case(5, 3)
    logits = local_model(wrong, name="wrong").logits(**inputs)
    assert np.abs(logits - reference(folder, inputs, "post_layernorm")).max() > 3 * TOLERANCE
