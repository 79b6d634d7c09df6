"""uploading_oracle: host arrays in and out of a bound model, bit for bit what FrozenModelOracle answers."""

from typing import Any

import numpy as np
import pytest

from tests.models.frozen.test_device_oracle import same_bits
from tests.models.frozen.test_oracle import query, setting  # noqa: F401  a fixture
from tests.models.numpy_memory import NumPyMemory
from zopog_models import FrozenModelOracle
from zopog_models.frozen.uploading_oracle import UploadingOracle


class Copies(NumPyMemory):
    """copies: what went back to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[tuple[int, ...]] = []

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        self.copies.append(array.shape)
        return super().to_numpy(array)


def both(setting: dict[str, Any], **changes: Any) -> tuple[FrozenModelOracle, UploadingOracle, Copies]:
    memory = Copies()
    return FrozenModelOracle(**setting, **changes), UploadingOracle(**setting, **changes, memory=memory), memory


@pytest.mark.parametrize("size", [1, 5, 7])
@pytest.mark.parametrize("per_example", [False, True])
def test_bit_for_bit(setting: dict[str, Any], per_example: bool, size: int) -> None:
    """In any order of prompts, since both read them in the same one."""
    host, device, memory = both(setting)
    tokens, z, examples = query(8, size, per_example)
    same_bits(device.logits(tokens, z, examples), host.logits(tokens, z, examples))
    assert memory.copies == [(8, size, 2)]


def test_equal_prompts_are_read_once(setting: dict[str, Any]) -> None:
    host, device, memory = both(setting)
    tokens, z, examples = query(6, 5, False)
    tokens[[2, 4]], z[[2, 4]] = tokens[0], z[0]
    tokens[3] = tokens[1]  # the same tokens at another point: not the same prompt
    same_bits(device.logits(tokens, z, examples), host.logits(tokens, z, examples))
    assert memory.copies == [(4, 5, 2)]


def test_one_point_is_projected_once_and_read_in_fewer_bits(setting: dict[str, Any]) -> None:
    host, device, memory = both(setting, reduced=setting["model"].reduced("int8"))
    tokens, z, examples = query(6, 5, False)
    z[:] = z[0]  # equal, not broadcast
    memory.uploads.clear()
    found = device.logits(tokens, z, examples)
    same_bits(found, host.logits(tokens, z, examples))
    assert memory.uploads.count("float32") == 2  # the point, and itself again where it is projected
    apart = query(6, 5, False)[1]
    same_bits(device.logits(tokens, apart, examples), host.logits(tokens, apart, examples))
    assert np.abs(found - FrozenModelOracle(**setting).logits(tokens, z, examples)).max() > 1e-4


@pytest.mark.parametrize("flaw", ["order", "scores of one prompt", "points of others"])
def test_each_flaw_would_be_noticed(setting: dict[str, Any], flaw: str) -> None:
    host, device, _ = both(setting)
    tokens, z, examples = query(6, 5, False)
    prompts, points = {
        "order": (tokens[::-1], z[::-1]),
        "scores of one prompt": (tokens[:1].repeat(6, 0), z[:1].repeat(6, 0)),
        "points of others": (tokens, z[::-1]),
    }[flaw]
    assert np.abs(device._read_once(prompts, points, examples) - host.logits(tokens, z, examples)).max() > 1e-3


def test_indices_are_looked_at(setting: dict[str, Any]) -> None:
    tokens, z, examples = query(2, 3, False)
    tokens[1, 1] = 30
    with pytest.raises(ValueError, match="tokens must lie between 0 and 29, got"):
        both(setting)[1].logits(tokens, z, examples)
