"""Sentence-embedding models (Reimers & Gurevych, 2019, arXiv:1908.10084): an encoder without a head, and a pooling.

    e = pool of the last layer over the row's tokens, prompt included;  ê = e / ‖e‖
    score of a label = temperature · ê · ê_phrase,   ê_phrase: the label's phrase read by the same model, no prompt

A folder that sentence-transformers saved says so in modules.json: a Transformer, a Pooling, and perhaps a Normalize
(which changes nothing here: a cosine normalises). "mean" is the average over the tokens, "cls" the first token. Its
sentence_bert_config.json may say that texts are cut at fewer tokens than there are positions: max_seq_length; where it
does not, tokenizer_config.json may: model_max_length.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.encoder import EncoderArchitecture
from zopog_models.families.family import Architecture
from zopog_models.files.json_file import read_object, read_value
from zopog_models.files.quoting import quoted, quoted_names

POOLINGS = ("mean", "cls")
# What sentence-transformers looks for, in its order; it reads the first that is there, whatever the family.
SETTINGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_FLAGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def as_published(architecture: Architecture, folder: Path, pooling: str | None) -> Architecture:
    """The architecture as its folder says to read it, or with the pooling given. Raises CheckpointError."""
    asked, pooling = pooling, pooling_of(folder) if pooling is None else pooling
    if not pooling:
        return architecture
    if asked is None:
        refuse_other_reading(folder)
    return replace(pooled(architecture, pooling), max_length=max_length_of(folder))


def refuse_other_reading(folder: Path) -> None:
    """What sentence-transformers does to a text before its tokens, and this package does not.

    Raises CheckpointError naming it: a prompt before every text, one that is left out of the pooling, lower-casing
    that the tokenizer does not do by itself, a similarity that is not the cosine.
    """
    path = folder / "config_sentence_transformers.json"
    settings = read_object(path) if path.is_file() else {}
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    by_hand = "give pooling='mean' or pooling='cls' (--pooling) to read the model without it"
    if name is not None:
        prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
        written = "" if prompt is None else f" ({quoted(prompt)})"
        raise CheckpointError(
            f"{path}: default_prompt_name {quoted(name)}{written} stands before every text, which is not supported; "
            f"begin the template and the label phrases with it, and {by_hand}"
        )
    similarity, modules = settings.get("similarity_fn_name"), read_value(folder / "modules.json")
    same = ("cosine", "dot") if len(modules) == 3 else ("cosine",)  # behind a Normalize the dot product is the cosine
    if similarity is not None and similarity not in same:
        raise CheckpointError(
            f"{path}: similarity_fn_name is {quoted(similarity)}, and labels are scored by the cosine: give "
            "pooling='mean' or pooling='cls' (--pooling) to read the model so"
        )
    path, settings = _settings(folder)
    if settings.get("do_lower_case") and not _lowers(_normalizer(folder)):
        raise CheckpointError(
            f"{path}: do_lower_case is true, but the tokenizer keeps case: lower-casing every text is not supported; "
            f"lower-case your texts and labels, and {by_hand}"
        )


def _settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file in which sentence-transformers keeps how texts are read, and what it says."""
    path = next((folder / name for name in SETTINGS if (folder / name).is_file()), folder / SETTINGS[0])
    return path, read_object(path) if path.is_file() else {}


def _normalizer(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    return read_object(path, 100_000_000).get("normalizer") if path.is_file() else None


def _lowers(normalizer: Any) -> bool:
    if not isinstance(normalizer, dict):
        return False
    steps = normalizer.get("normalizers")
    if normalizer.get("type") == "Sequence" and isinstance(steps, list):
        return any(_lowers(step) for step in steps if isinstance(step, dict) and step.get("type") != "Sequence")
    return normalizer.get("type") == "Lowercase" or normalizer.get("lowercase") is True


def max_length_of(folder: Path) -> int | None:
    """Tokens at which sentence-transformers cuts the texts of a model that it saved, None where it does not say.

    Raises CheckpointError for anything but null or a number that leaves room for a token of the text.
    """
    if not (folder / "modules.json").is_file():
        return None
    path, settings = _settings(folder)
    length = settings.get("max_seq_length")
    if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 3):
        raise CheckpointError(f"{path}: max_seq_length is {quoted(length)}; expected null or a number of at least 3")
    if length is None and (path := folder / "tokenizer_config.json").is_file():
        length = read_object(path).get("model_max_length")  # 1e30, or nothing: no limit
        length = length if type(length) is int and length >= 3 else None
    return length


def pooling_of(folder: Path) -> str:
    """The pooling of a folder that sentence-transformers saved, or "" for any other folder.

    Raises CheckpointError naming a module, a pooling or a path that this package does not compute with.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return ""
    modules = read_value(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} must hold a list of modules")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(
            f"{path}: modules {quoted_names(kinds) or '(none)'} are not supported; supported: Transformer, Pooling "
            "and, after them, Normalize"
        )
    if modules[0].get("path") != "":
        raise CheckpointError(
            f"{path}: the Transformer is in {quoted(modules[0].get('path'))}; give that folder, with pooling='mean' or "
            "pooling='cls'"
        )
    return _read_pooling(folder, path, modules[1].get("path"))


def _read_pooling(folder: Path, modules: Path, name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise CheckpointError(f"{modules}: the Pooling is in {quoted(name)}; expected the name of a folder beside it")
    path = folder / name / "config.json"
    config = read_object(path)
    if not config.get("include_prompt", True):
        raise CheckpointError(
            f"{path}: include_prompt is false, but the prompt that is learned here is part of the pooling; give "
            "pooling='mean' or pooling='cls' (--pooling) to read the model so"
        )
    chosen = [flag for flag, on in config.items() if flag.startswith("pooling_mode_") and on]
    if "pooling_mode" in config:
        chosen = [config["pooling_mode"]]
    poolings = [_FLAGS.get(mode, mode) for mode in chosen if isinstance(mode, str)]
    if len(poolings) != 1 or poolings[0] not in POOLINGS:
        supported = ", ".join(POOLINGS)
        raise CheckpointError(f"{path}: pooling {quoted(chosen)} is not supported; supported: one of {supported}")
    return poolings[0]


def pooled(architecture: Architecture, pooling: str) -> EncoderArchitecture:
    """The same encoder with a pooling in place of its head. Raises CheckpointError: unknown pooling, a decoder."""
    if pooling not in POOLINGS:
        raise CheckpointError(f"pooling must be one of {', '.join(POOLINGS)}, got {quoted(pooling)}")
    if not isinstance(architecture, EncoderArchitecture):
        raise CheckpointError(f"a sentence-embedding model needs an encoder; {architecture.family} is a decoder")
    return replace(architecture, pooling=pooling)
