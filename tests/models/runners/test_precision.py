"""The same model in fewer bits: close to the full one, not equal to it, independent of the threads; who may read what."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.frozen.test_oracle import query
from tests.models.frozen.test_oracle import setting as setting  # a fixture
from tests.models.frozen.test_runtime import many_rows
from tests.models.prompts.test_export import FAMILIES, inputs_for, write
from tests.models.tiny_decoders import write_decoder
from zopog_models import FrozenModel, FrozenModelOracle, ProviderError, load_model

PRECISIONS = ("int8", "bf16")
CORRELATION = {"int8": 0.99, "bf16": 0.999}  # of random weights in 32 units, which round badly


def reduced(model: FrozenModel, precision: str) -> FrozenModel:
    if precision == "bf16":
        pytest.importorskip("openvino", reason="bf16 needs openvino (extra openvino)")
    try:
        return model.reduced(precision)
    except ProviderError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_close_to_the_full_model(tmp_path: Path, family: str, precision: str) -> None:
    folder = write(tmp_path / "model", family)
    model, inputs = load_model(folder, threads=1), inputs_for(folder, family)
    fewer = reduced(model, precision)
    full, found = model.logits(**inputs), fewer.logits(**inputs)
    assert (fewer.precision, model.precision) == (precision, "fp32")
    correlation = np.corrcoef(found.ravel(), full.ravel())[0, 1]
    assert correlation > CORRELATION[precision]
    assert np.abs(found - full).max() > 1e-4  # it is another precision
    assert np.array_equal(model.logits(**inputs), full)  # and the full one is what it was


@pytest.mark.parametrize("precision", PRECISIONS)
def test_threads_do_not_change_a_bit(folder: Path, precision: str) -> None:
    inputs = many_rows()
    once = reduced(load_model(folder, threads=1), precision).logits(**inputs)
    several = reduced(load_model(folder, threads=3), precision)
    for _ in range(3):
        assert np.array_equal(several.logits(**inputs), once)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_decoder_of_real_width_is_compiled(tmp_path: Path, family: str) -> None:
    """OpenVINO 2026.4 fuses a feed-forward layer of this width, and ends the process: so it is asked in one of its own."""
    pytest.importorskip("openvino", reason="bf16 needs openvino (extra openvino)")
    width = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 1, "num_attention_heads": 9}
    folder = write_decoder(tmp_path / "model", family, **width, num_key_value_heads=3)
    reduced(load_model(write(tmp_path / "small", "llama"), threads=1), "bf16")  # skips where there is no bfloat16
    code = "import sys; from zopog_models import load_model; load_model(sys.argv[1], threads=1).reduced('bf16')"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@pytest.mark.skipif(len(CORES) < 2, reason="on one core, or where no system call tells, a pinned thread looks like any")
def test_no_thread_is_pinned_to_a_core(folder: Path) -> None:
    """Two processes that are pinned to the same core while they compute share it, and the other one is idle."""
    fewer, rows = reduced(load_model(folder, threads=1), "bf16"), many_rows()
    thread = threading.Thread(target=lambda: [fewer.logits(**rows) for _ in range(100)])
    thread.start()
    seen = set()
    while thread.is_alive():
        for other in threading.enumerate():  # the pool's thread computes
            with contextlib.suppress(OSError):  # it has ended
                seen.add(frozenset(os.sched_getaffinity(other.native_id or 0)))
    assert seen == {frozenset(CORES)}


def test_what_cannot_be_reduced(bert: FrozenModel) -> None:
    with pytest.raises(ValueError, match="precision must be one of int8, bf16, fp16, got 'int4'"):
        bert.reduced("int4")
    with pytest.raises(ValueError, match="precision 'fp16' is for device 'cuda', and this model is on 'cpu'"):
        bert.reduced("fp16")
    thinned = bert.thinned(np.ones(bert.hidden_units))
    with pytest.raises(ValueError, match="a thinned network is read in fp32 only, 'int8' was asked for"):
        thinned.reduced("int8")


def test_bf16_without_openvino_says_what_to_install(bert: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ProviderError, match=r"bf16 needs OpenVINO .*pip install .openvino>=2026"):
        bert.reduced("bf16")


def asked(
    setting: dict[str, Any],
    z: np.ndarray,
    tokens: np.ndarray,
    examples: np.ndarray,
    **options: Any,
) -> str:
    """Which model read it: the oracle's answer is one of the two models', bit for bit."""
    full = FrozenModelOracle(**setting).logits(tokens, z, examples)
    fewer = setting["model"].reduced("int8")
    found = FrozenModelOracle(**setting, reduced=fewer, **options).logits(tokens, z, examples)
    return "full" if np.array_equal(found, full) else "reduced"


def test_a_two_point_difference_is_read_in_full(setting: dict[str, Any]) -> None:
    """Prompts that share z are the reduced model's, prompts that differ in z are not, unless it is told so."""
    tokens, z, examples = query(4, 5, per_example=False)
    same = np.repeat(z[:1], 4, axis=0)
    assert asked(setting, same, tokens, examples) == "reduced"
    assert asked(setting, z, tokens, examples) == "full"
    assert asked(setting, z, tokens, examples, differences=True) == "reduced"
    tokens, z, examples = query(4, 5, per_example=True)
    assert asked(setting, z, tokens, examples) == "full"
    assert asked(setting, z, tokens, examples, differences=True) == "reduced"
    pair = np.stack([z[0, 0], z[0, 0] + 1e-12])
    assert asked(setting, pair, tokens[:2], examples) == "full"  # however small the radius


def test_thinned_networks_are_read_in_full(setting: dict[str, Any]) -> None:
    tokens, z, examples = query(2, 5, per_example=False)
    mask = np.ones(setting["model"].hidden_units)
    mask[:, ::2] = 0
    same = np.repeat(z[:1], 2, axis=0)
    full = FrozenModelOracle(**setting).thinned(mask).logits(tokens, same, examples)
    both = FrozenModelOracle(**setting, reduced=setting["model"].reduced("int8")).thinned(mask)
    assert np.array_equal(both.logits(tokens, same, examples), full)
