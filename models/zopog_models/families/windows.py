"""Layers that see part of a row: the window of each."""

from zopog_models.errors import CheckpointError
from zopog_models.families.family import Config
from zopog_models.families.rotary import LAYER_KINDS
from zopog_models.files.quoting import quoted


def windows_of(config: Config, layers: int, size: int | None, kinds: list[str]) -> tuple[int, ...]:
    """The window of each layer, from `layer_types` in config.json or, where it has none, from `kinds`.

    size: of the layers called sliding_attention; None: none has a window. 0 stands for a layer that sees everything,
    and () for no window at all. Raises CheckpointError.
    """
    given = config.values.get("layer_types")
    kinds = kinds if given is None else given
    if not isinstance(kinds, list) or len(kinds) < layers or not all(kind in LAYER_KINDS for kind in kinds):
        raise CheckpointError(
            f"{config.path}: layer_types must name {' or '.join(LAYER_KINDS)} for each of {layers} layers, got "
            f"{quoted(given)}"
        )
    windows = tuple(0 if size is None or kind == "full_attention" else size for kind in kinds[:layers])
    return windows if any(windows) else ()


def same_window(config: Config, layers: int, default: int | None) -> tuple[int, ...]:
    """The window that `sliding_window` gives to every layer; null: none."""
    size = config.values.get("sliding_window", default)
    return () if size is None else (config.size("sliding_window", default),) * layers
