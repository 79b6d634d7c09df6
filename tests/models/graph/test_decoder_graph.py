"""graph/decoder: what ONNX Runtime computes for a decoder is what a plain float64 forward pass computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import numpy_gemma3, numpy_gpt2, numpy_gpt_neox, numpy_llama, numpy_opt
from tests.models.numpy_gpt2 import SOUND, Flaws
from tests.models.tiny_decoders import BEGUN, FAMILY_NAMES, LLAMA3_SCALING, write_decoder
from zopog_models import CheckpointError, FrozenModel, load_checkpoint, load_model, read_tensors, write_tensors
from zopog_models.families.rotary import Rotary
from zopog_models.graph import GraphBuilder, build
from zopog_models.graph.rotary import frequencies
from zopog_models.runners import local
from zopog_models.runners.each_once import EachOnce
from zopog_models.runners.prefix import PrefixReuse
from zopog_models.runners.session import Session

TOLERANCE = 1e-5
LONG = {
    "rope_scaling": {"rope_type": "longrope", "short_factor": [1.1, 2.5], "long_factor": [9, 9]},
    "original_max_position_embeddings": 48,
}
D = 32


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def decoder_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scaling: dict[str, Any] = {} if request.param in LEARNED else {"rope_scaling": LLAMA3_SCALING}
    scaling = LONG if request.param == "phi3" else scaling
    return write_decoder(tmp_path_factory.mktemp("models") / f"tiny-{request.param}", request.param, **scaling)


@pytest.fixture(scope="module")
def decoder(decoder_folder: Path) -> FrozenModel:
    return load_model(decoder_folder, threads=1)


def case(n: int, prompts: int, seed: int = 1) -> dict[str, Any]:
    """Rows of unequal length that answer at their last token, several prompts in mixed order, offsets that matter."""
    rng = np.random.default_rng(seed)
    lengths = [7, 12, 9, 4, 12, 3, 25, 2]
    first = rng.integers(5, 60)
    return {
        "text_ids": [np.array([first, *rng.integers(5, 60, length - 1)]) for length in lengths],
        "answer_position": np.array(lengths) - 1,
        "prompt_ids": rng.integers(5, 60, (prompts, n)),
        "prompt_offset": rng.normal(0, 1, (prompts, n, D)).astype(np.float32),
        "prompt_index": np.arange(len(lengths)) * 5 % prompts,
        "label_ids": np.array([7, 9, 30]),
    }


def reference(folder: Path, inputs: dict[str, Any], flaws: Flaws = SOUND, left: bool = False) -> np.ndarray:
    checkpoint = load_checkpoint(folder)
    family = checkpoint.config["model_type"]
    network = {"gpt2": numpy_gpt2, "gpt_neox": numpy_gpt_neox, "opt": numpy_opt, "gemma3_text": numpy_gemma3}.get(
        family, numpy_llama
    )
    first = 1 if family in BEGUN else 0
    return network.label_logits(
        checkpoint.config, checkpoint.tensors, **inputs, first=first, flaws=flaws, left=left
    )  # fmt: skip


def plain(model: FrozenModel, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    with monkeypatch.context() as patch:
        patch.setattr(PrefixReuse, "pays", lambda *_: False)
        return model.logits(**inputs)


def reused(model: FrozenModel, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    with monkeypatch.context() as patch:
        patch.setattr(PrefixReuse, "pays", lambda *_: True)
        return model.logits(**inputs)


@pytest.mark.parametrize(("n", "prompts"), [(0, 1), (1, 1), (5, 3), (20, 2)])
def test_parity_with_the_plain_forward_pass(decoder: FrozenModel, decoder_folder: Path, n: int, prompts: int) -> None:
    inputs = case(n, prompts)
    logits = decoder.logits(**inputs)
    expected = reference(decoder_folder, inputs)
    assert logits.dtype == np.float32
    assert logits.shape == (8, 3)
    largest = np.abs(logits - expected).max()
    assert largest < TOLERANCE, f"largest difference {largest:.2e}"
    assert np.ptp(expected) > 0.5  # and there is something to compare


FLAWS = [
    Flaws(see_the_future=True),
    Flaws(drop_offset=True),
    Flaws(offset_shift=1),
    Flaws(prompt_shift=1),
    Flaws(answer_shift=-1),
    Flaws(unscaled_attention=True),
    Flaws(gelu=True),
    Flaws(epsilon=1e-2),
    Flaws(position_shift=1),  # GPT-2: learned positions are absolute
    Flaws(interleaved_rotary=True),
    Flaws(wrong_groups=True),
    Flaws(no_rope_scaling=True),
    Flaws(window_shift=1),
    Flaws(window_shift=-1),
    Flaws(no_window=True),
    Flaws(no_head_norm=True),
    Flaws(late_head_norm=True),
    Flaws(turned_everywhere=True),
    Flaws(one_base=True),
    Flaws(norm_as_stored=True),
    Flaws(no_embedding_factor=True),
    Flaws(no_branch_norms=True),
    Flaws(whole_rotary=True),
    Flaws(one_after_the_other=True),
]
WINDOWED = {"mistral", "gemma3_text", "phi3"}
BY_HEAD = {"qwen3", "gemma3_text"}
LEARNED = {"gpt2", "opt"}
GEMMA = {"gemma3_text"}
NEOX = {"gpt_neox"}
# flaw -> the families that have what it spoils; no entry: all
OF: dict[str, set[str]] = {
    "position_shift": LEARNED,
    **dict.fromkeys(("interleaved_rotary", "no_rope_scaling"), set(FAMILY_NAMES) - LEARNED),
    "wrong_groups": set(FAMILY_NAMES) - LEARNED - NEOX,
    **dict.fromkeys(("whole_rotary", "one_after_the_other"), NEOX),
    **dict.fromkeys(("window_shift", "no_window"), WINDOWED),
    **dict.fromkeys(("no_head_norm", "late_head_norm"), BY_HEAD),
    "turned_everywhere": {"smollm3"},
    **dict.fromkeys(("one_base", "norm_as_stored", "no_embedding_factor", "no_branch_norms"), GEMMA),
}


@pytest.mark.parametrize(
    "flaws", FLAWS, ids=lambda f: str({k: v for k, v in vars(f).items() if v != vars(SOUND)[k]})
)  # fmt: skip
def test_each_flaw_would_be_noticed(decoder: FrozenModel, decoder_folder: Path, flaws: Flaws) -> None:
    """The twins: the tolerance separates the sound forward pass from every one that is wrong in one place."""
    wrong = {name for name, value in vars(flaws).items() if value != vars(SOUND)[name]}
    if any(decoder.family not in OF.get(name, FAMILY_NAMES) for name in wrong):
        pytest.skip(f"nothing that {decoder.family} has")
    inputs = case(5, 3)
    logits = decoder.logits(**inputs)
    assert np.abs(logits - reference(decoder_folder, inputs)).max() < TOLERANCE
    assert np.abs(logits - reference(decoder_folder, inputs, flaws)).max() > 3 * TOLERANCE


def test_int8_leaves_the_maps_of_unnormalised_values_in_float32(tmp_path: Path) -> None:
    """Their inputs have a few channels that are far larger, and one scale for all would round the others away."""
    graph, folder = GraphBuilder(precision="int8"), write_decoder(tmp_path / "model", "llama")
    build(load_checkpoint(folder), graph=graph)
    maps = [f"model.layers.{i}.{name}.weight" for i in range(3) for name in
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
             "mlp.up_proj", "mlp.down_proj")]  # fmt: skip
    whole = {name for name in maps if name in graph.initializers}
    assert whole == {name for name in maps if name.endswith(("o_proj.weight", "down_proj.weight"))}
    assert {name for name in maps if f"{name}.int8" in graph.initializers} == set(maps) - whole


def test_tokens_are_packed_on_a_cpu(decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []

    def noted(content: bytes, *rest: Any, **more: Any) -> Session:
        opened.append(content)
        return Session(content, *rest, **more)

    monkeypatch.setattr(local, "Session", noted)
    monkeypatch.setattr(local, "OpenVINOSession", lambda content, *rest: opened.append(content))
    model = load_model(decoder_folder, threads=1)
    for precision in ("int8", "bf16"):
        model.reduced(precision)
    assert [b"places" in content for content in opened] == [True, True, True]
    assert b"places" not in build(load_checkpoint(decoder_folder))[0]  # a GPU's, and one that is exported


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("n", [0, 5])
def test_padding_on_either_side(decoder_folder: Path, left: bool, n: int, packed: bool) -> None:
    """The graph itself, with rows padded by hand: padding is neither looked at nor counted in the positions."""
    inputs = case(n, 2)
    first = 1 if decoder_folder.name.removeprefix("tiny-") in BEGUN else 0
    graph = GraphBuilder(packed=packed)
    each_once = EachOnce(first) if packed else None
    session = Session(*build(load_checkpoint(decoder_folder), first=first, graph=graph), "cpu", each_once=each_once)
    longest = max(map(len, inputs["text_ids"]))
    text_ids = np.full((8, longest), 3, np.int64)
    mask = np.zeros((8, longest), np.int64)
    for r, ids in enumerate(inputs["text_ids"]):
        split = first if left else len(ids)  # padding stands after these
        rest = len(ids) - split
        for array, values in ((text_ids, ids), (mask, np.ones(len(ids)))):
            array[r, :split] = values[:split]
            array[r, longest - rest :] = values[split:]
    at = np.full(8, longest - 1) if left else inputs["answer_position"]
    feeds = inputs | {"text_ids": text_ids, "attention_mask": mask, "answer_position": at}
    logits = session.run("logits", feeds)
    assert np.abs(logits - reference(decoder_folder, inputs, left=left)).max() < TOLERANCE
    # The twins. Padding after the answer is out of sight anyway; padding before it must be hidden and not counted.
    for flaws in (Flaws(see_padding=True), Flaws(count_padding=True)) if left else ():
        if flaws.count_padding and "gpt2" not in decoder_folder.name and n == 0 and first == 0:
            continue  # rotary positions are relative: counting padding before the whole row changes nothing
        assert np.abs(logits - reference(decoder_folder, inputs, flaws, left=True)).max() > 3 * TOLERANCE


@pytest.mark.parametrize(("n", "prompts"), [(1, 1), (5, 3), (20, 2)])
def test_prefix_reuse_is_exact(
    decoder: FrozenModel, decoder_folder: Path, monkeypatch: pytest.MonkeyPatch, n: int, prompts: int
) -> None:
    inputs = case(n, prompts)
    shared, apart = reused(decoder, inputs, monkeypatch), plain(decoder, inputs, monkeypatch)
    assert np.abs(shared - apart).max() < 4e-6 * max(1, np.abs(apart).max())
    assert np.abs(shared - reference(decoder_folder, inputs)).max() < TOLERANCE


def test_a_wrong_prefix_would_be_noticed(decoder: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: every row read with another prompt's keys and values."""
    inputs = case(5, 3)
    apart = plain(decoder, inputs, monkeypatch)
    assert np.abs(reused(decoder, inputs, monkeypatch) - apart).max() < TOLERANCE
    session = decoder.runner.reuse.prefix_engine

    class Rolled:
        def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
            return np.roll(session.run(output, feeds), 1, axis=2)

    monkeypatch.setattr(decoder.runner.reuse, "prefix_engine", Rolled())
    assert np.abs(reused(decoder, inputs, monkeypatch) - apart).max() > 3 * TOLERANCE


def test_rows_with_other_first_tokens_have_other_prefixes(
    decoder: FrozenModel, decoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = case(5, 2)
    for r, ids in enumerate(inputs["text_ids"]):
        ids[0] = 10 + r % 3
    expected = reference(decoder_folder, inputs)
    assert np.abs(reused(decoder, inputs, monkeypatch) - expected).max() < TOLERANCE
    assert np.abs(plain(decoder, inputs, monkeypatch) - expected).max() < TOLERANCE


def test_when_prefixes_are_reused(decoder: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    pays = PrefixReuse.pays
    monkeypatch.setattr(PrefixReuse, "pays", lambda self, *more: seen.append(pays(self, *more)) or seen[-1])
    nothing = np.zeros(0, int)
    for each_once, chunk_tokens, expected in ((False, 256, True), (True, 256, False), (True, 1, False)):
        monkeypatch.setattr(decoder.runner.reuse, "each_once", each_once)
        monkeypatch.setattr(decoder.runner, "chunk_tokens", chunk_tokens)
        seen.clear()
        decoder.logits(**case(5, 2))  # 8 rows, 2 prompts: with each_once, one chunk has each, or six copies are too few
        decoder.logits(**case(5, 8))  # per-example directions: every row has its own
        decoder.logits(**case(0, 2))  # no prompt
        decoder.logits([], nothing, np.zeros((1, 3), int), None, nothing, np.array([7, 8]))
        assert seen == [expected, False, False, False]
    decoder.logits(**case(23, 2))  # six times 23 tokens are more than two passes cost
    assert seen[-1]


def test_bounded_memory_gives_the_same_bits(decoder: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = case(5, 3)
    whole = reused(decoder, inputs, monkeypatch)
    monkeypatch.setattr("zopog_models.runners.prefix._PREFIX_BYTES", 1)
    # Prompts one by one: the prefixes' own bits may differ by their batch, nothing else.
    assert np.abs(reused(decoder, inputs, monkeypatch) - whole).max() < 4e-6


def test_threads_do_not_change_a_bit(decoder_folder: Path, decoder: FrozenModel) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 30, 100)
    inputs = case(6, 4) | {
        "text_ids": [np.array([5, *rng.integers(5, 60, length - 1)]) for length in lengths],
        "answer_position": lengths - 1,
        "prompt_index": rng.integers(0, 4, 100),
    }
    once = decoder.logits(**inputs)
    parallel = load_model(decoder_folder, threads=5)
    for _ in range(3):
        assert np.array_equal(parallel.logits(**inputs), once)


KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
CHANGES = [
    ("gpt2", {"activation_function": "gelu"}),
    ("gpt2", {"activation_function": "relu"}),
    ("gpt2", {"n_inner": 20}),
    ("gpt2", {"n_layer": 1, "tie_word_embeddings": False}),
    ("gpt2", {"layer_norm_epsilon": 1e-3}),
    ("llama", {"num_hidden_layers": 1, "tie_word_embeddings": True}),
    ("llama", {"num_key_value_heads": 4}),
    ("llama", {"num_key_value_heads": 1, "head_dim": 6}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("llama", {"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ("llama", {"num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 8}),
    ("llama", {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}),
    ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4000}}),
    ("llama", {"rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 4.0}}),
    ("llama", {"rms_norm_eps": 3.7e-4}),
    ("mistral", {"sliding_window": None, "attention_bias": None}),
    ("mistral", {"sliding_window": 64}),  # no row is longer
    ("mistral", {"sliding_window": 1}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2, "tie_word_embeddings": True}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 6, "layer_types": KINDS}),
    ("qwen3", {"num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 6, "attention_bias": True}),
    ("smollm3", {"no_rope_layers": [0, 1, 0, 1, 1], "attention_bias": True, "mlp_bias": True}),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 5}),
    (
        "gpt_neox",
        {"use_parallel_residual": False, "rotary_pct": 1.0, "hidden_act": "gelu_new", "attention_bias": False},
    ),
    ("opt", {"enable_bias": False, "tie_word_embeddings": False, "activation_function": "gelu"}),
    ("gpt_neox", {"tie_word_embeddings": True, "num_hidden_layers": 1, "rotary_pct": 0.25}),
    ("phi3", {"sliding_window": None, "partial_rotary_factor": 1.0, "tie_word_embeddings": True}),
    ("phi3", {"sliding_window": None, **LONG}),
    ("gemma3_text", {"layer_types": KINDS, "attention_bias": True, "tie_word_embeddings": False}),
    ("gemma3_text", {"layer_types": ["full_attention"] * 3, "num_key_value_heads": 1}),
    ("qwen2", {"tie_word_embeddings": True, "rope_theta": 1e6}),
]


@pytest.mark.parametrize(("family", "changes"), CHANGES, ids=str)
def test_parity_of_other_architectures(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    folder = write_decoder(tmp_path / "model", family, seed=3, **changes)
    inputs = case(4, 2)
    logits = load_model(folder, threads=1).logits(**inputs)
    assert np.abs(logits - reference(folder, inputs)).max() < TOLERANCE


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_weights_are_widened(tmp_path: Path, family: str, dtype: str) -> None:
    folder = write_decoder(tmp_path / "model", family)
    path = folder / "model.safetensors"
    if dtype == "F16":
        write_tensors(path, {name: array.astype(np.float16) for name, array in read_tensors(path).items()})
    else:
        write_bf16(path, read_tensors(path))
    inputs = case(4, 2)
    checkpoint = load_checkpoint(folder)
    logits = load_model(folder, threads=1).logits(**inputs)
    assert np.abs(logits - reference(folder, inputs)).max() < TOLERANCE  # both from what the file holds
    assert all(array.dtype.kind == "f" for array in checkpoint.tensors.values())


def write_bf16(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The upper halves of the float32, written by hand: NumPy has no such type."""
    header, data = {}, b""
    for name, array in tensors.items():
        half = (np.ascontiguousarray(array).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(half)]}
        data += half
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("rotary", "expected"),
    [
        # Llama 3.1's own numbers: waves below 2,048 positions stay, those above 8,192 are eight times as long.
        (Rotary(theta=500000.0, kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0), None),
        (Rotary(theta=10000.0), 1.0),
        (Rotary(theta=10000.0, kind="linear", factor=4.0), 0.25),
    ],
)
def test_rotary_frequencies(rotary: Rotary, expected: float | None) -> None:
    plain = rotary.theta ** (-np.arange(0, 128, 2) / 128)
    scale = frequencies(rotary, 128) / plain
    if expected is not None:
        assert np.allclose(scale, expected, rtol=1e-15)
        return
    wavelength = 2 * np.pi / plain
    assert np.all(scale[wavelength < 2048] == 1)
    assert np.allclose(scale[wavelength > 8192], 1 / 8, rtol=1e-15)
    between = (wavelength > 2048) & (wavelength < 8192)
    assert between.sum() > 3
    smooth = (8192 / wavelength[between] - 1) / 3
    assert np.allclose(scale[between], smooth + (1 - smooth) / 8, rtol=1e-12)


def test_the_onnx_package_reads_the_same_models(decoder_folder: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package is for development only")
    checkpoint = load_checkpoint(decoder_folder)
    for content, weights in (build(checkpoint), build(checkpoint, first=0, reuse=True, keeps=True)):
        model = onnx.load_from_string(content)
        assert model.SerializeToString() == content
        external = {i.name: i for i in model.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL}
        assert external.keys() == weights.keys()
        for name, initializer in external.items():
            del initializer.external_data[:]
            initializer.ClearField("data_location")
            initializer.raw_data = weights[name].tobytes()
        onnx.checker.check_model(model, full_check=True)


def test_beginnings_are_computed_by_the_session_that_reads_rows(decoder: FrozenModel) -> None:
    """A decoder is one session: a second one would hold the matrices a second time."""
    assert decoder.runner.reuse.prefix_engine is decoder.runner.engine


def test_injection(decoder: FrozenModel, decoder_folder: Path) -> None:
    assert decoder.injection == "word_embedding"
    with pytest.raises(ValueError, match="added to its word embeddings: injection must be 'word_embedding', got 'post"):
        load_model(decoder_folder, injection="post_layernorm")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_positions_that_no_tensor_bears_out_take_no_memory(tmp_path: Path, family: str) -> None:
    folder = write_decoder(tmp_path / family, family)
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 2**64}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"max_position_embeddings 18446744073709551616 is more than 16777216"):
        load_checkpoint(folder)
