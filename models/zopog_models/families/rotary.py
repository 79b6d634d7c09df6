"""Rotary positions (Su et al. 2021, arXiv:2104.09864) in config.json: θ, and a rescaling of the waves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.family import Config
from zopog_models.files.quoting import quoted

KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
MAX_POSITIONS = 2**24
LAYER_KINDS = ("full_attention", "sliding_attention")


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Rotary positions: frequencies θ^(−2i/w), and how they are rescaled for long contexts (`graph.rotary`).

    kind: "default"; "linear", all divided by factor; "llama3" and "yarn", the slow ones; "longrope", each by its own
    divisor. "dynamic" rescales nothing in rows of up to max_position_embeddings positions; longer ones are not read.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192  # llama3, yarn: positions of the context the model was first trained on
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0
    whole: bool = True  # yarn: the ramp begins and ends at whole numbers
    attention_factor: float = 1.0  # yarn, longrope: of cosines and sines
    divisors: tuple[float, ...] = ()  # longrope: each frequency's own
    width: int | None = None  # how much of each head is turned, from its beginning; None: all of it


def read_rotary(
    config: Config,
    theta: str = "rope_theta",
    default: float = 10000.0,
    layers: str = "",
    *,
    width: int | None = None,
    share: tuple[str, float] = ("partial_rotary_factor", 1.0),
) -> Rotary:
    """θ and the rescaling, from the entry `theta` and `rope_scaling`, or from `rope_parameters` (transformers 5).

    Raises CheckpointError.

    Parameters
        layers: "full_attention" or "sliding_attention" where each kind of layers has its own; a rescaling in
            `rope_scaling` is of the first
        width: of a head, in a family where part of it may be turned
        share: the entry that says how much of it, and what it is without one
    """
    longest = config.values.get("max_position_embeddings")
    if type(longest) is int and longest > MAX_POSITIONS:  # they have tables
        raise CheckpointError(f"{config.path}: max_position_embeddings {longest} is more than {MAX_POSITIONS}")
    values = _values(config, layers)
    if values.get("rope_type", values.get("type")) == "longrope" and width is None:
        raise CheckpointError(f"{config.path}: rotary positions of type longrope are supported for phi3 only")
    stated = values.get("partial_rotary_factor")
    part = _share(config, share[0], config.values.get(*share) if stated is None else stated, width)
    rotary = replace(_read(config, values, theta, default), width=part)
    if rotary.kind == "longrope" and len(rotary.divisors) != (part or width or 0) // 2:
        raise CheckpointError(
            f"{config.path}: short_factor has {len(rotary.divisors)} numbers, {(part or width or 0) // 2} are needed"
        )
    return rotary


def _share(config: Config, name: str, stated: Any, width: int | None) -> int | None:
    """How much of a head is turned; None for all of it."""
    if stated in (1, None) and not isinstance(stated, bool):
        return None
    if width is None:
        raise CheckpointError(f"{config.path}: {name} {quoted(stated)} is not supported here; supported: 1")
    if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not 0 < stated < 1:
        raise CheckpointError(f"{config.path}: {name} must lie between 0 and 1, got {quoted(stated)}")
    turned = int(width * stated)
    config.even(f"{name} of {width}", turned)
    if turned < 2:
        raise CheckpointError(f"{config.path}: {name} {quoted(stated)} turns nothing of a head of {width}")
    return turned


def _read(config: Config, values: Mapping[str, Any], theta: str, default: float) -> Rotary:
    kind = values.get("rope_type", values.get("type", "default"))
    if kind not in KINDS:
        raise CheckpointError(
            f"{config.path}: rotary positions of type {quoted(kind)} are not supported; supported: {', '.join(KINDS)}"
        )

    def number(entry: str, default: Any = None) -> float:
        value = values.get(entry, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            shown = quoted(value)
            raise CheckpointError(f"{config.path}: {entry} of the rotary positions must be positive, got {shown}")
        return float(value)

    base = number("rope_theta", config.values.get(theta, default))
    if kind == "default":
        return Rotary(theta=base)
    factor = 1.0 if kind == "longrope" else number("factor")
    if kind in ("linear", "dynamic"):
        return Rotary(theta=base, kind=kind, factor=factor)
    name = "original_max_position_embeddings"
    outside = config.values.get(name)  # goes before, as in transformers
    values = values if outside is None else {**values, name: outside}
    positions = int(number(name, config.values.get("max_position_embeddings")))
    if kind == "yarn":
        if base <= 1:
            raise CheckpointError(f"{config.path}: rotary positions of type yarn need a rope_theta above 1, got {base}")
        return Rotary(theta=base, kind=kind, factor=factor, original_max_positions=positions, **_yarn(values, number))
    if kind == "longrope":
        return Rotary(theta=base, kind=kind, original_max_positions=positions, **_longrope(config, values, number))
    low, high = number("low_freq_factor"), number("high_freq_factor")
    if low >= high:
        raise CheckpointError(f"{config.path}: low_freq_factor {low} must be below high_freq_factor {high}")
    return Rotary(
        theta=base,
        kind=kind,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_positions=positions,
    )


def _values(config: Config, layers: str) -> Mapping[str, Any]:
    """The entry that describes the rotary positions, of one kind of layers where there are several."""
    newer = config.values.get("rope_parameters")
    if layers and isinstance(newer, Mapping) and newer:
        values = newer.get(layers)
    elif newer is None:
        values = config.values.get("rope_scaling") if layers != "sliding_attention" else None
    else:
        values = newer
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{config.path}: rope_scaling must be an object, got {quoted(values)}")
    if several := [name for name in LAYER_KINDS if name in values]:
        raise CheckpointError(
            f"{config.path}: rope_parameters with {several[0]} (one for each kind of layers) is not supported here"
        )
    return values


def _yarn(values: Mapping[str, Any], number: Any) -> dict[str, Any]:
    """YaRN's own numbers (Peng et al. 2023, arXiv:2309.00071), with the defaults of its code."""
    factor = number("factor")
    fast, slow = (number(name) if values.get(name) else default for name, default in _BETAS.items())

    def grown(times: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * times * math.log(factor) + 1.0

    if values.get("attention_factor") is not None:
        attention_factor = number("attention_factor")
    elif values.get("mscale") and values.get("mscale_all_dim"):
        attention_factor = grown(number("mscale")) / grown(number("mscale_all_dim"))
    else:
        attention_factor = grown(1.0)
    whole = bool(values.get("truncate", True))
    return {"beta_fast": fast, "beta_slow": slow, "attention_factor": attention_factor, "whole": whole}


def _longrope(config: Config, values: Mapping[str, Any], number: Any) -> dict[str, Any]:
    """LongRoPE's own numbers, for rows no longer than the context the model was first trained on."""
    divisors = values.get("short_factor")
    if not isinstance(divisors, list) or not all(type(d) in (int, float) and 0 < d < 1e12 for d in divisors):
        raise CheckpointError(f"{config.path}: short_factor must be a list of positive numbers, got {quoted(divisors)}")
    context = number("original_max_position_embeddings", config.values.get("max_position_embeddings"))
    factor = config.size("max_position_embeddings") / context
    factor = factor if values.get("factor") is None else number("factor")
    strength = math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 and context > 1 else 1.0
    strength = strength if values.get("attention_factor") is None else number("attention_factor")
    return {"divisors": tuple(map(float, divisors)), "attention_factor": strength}


_BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}
