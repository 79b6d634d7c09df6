"""Targets: templates and texts full of special tokens, over tokenizers of every kind; maps of labels."""

import json
import random
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.fuzz.model_files import TOKENIZERS, Folder, mutated_tokenizer
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target, as_json
from zopog_models.checkpoints.tokenizer import open_tokenizer, special_ids
from zopog_models.families import CheckpointError
from zopog_models.files.repeated_keys import parse_json
from zopog_models.prompts.baking import row_ids
from zopog_models.tasks.encoding import encode, row_recipe
from zopog_models.tasks.template import TaskError, make_task

LABELS = {"0": "a", "1": "text"}
_PIECES = (b"[MASK]", b"[SEP]", b"[CLS]", b"[UNK]", b"[PAD]", b"{mask}", b"{sep}", b" ", b"\n", b"text", b"##s", b"\0[MASK]\0",
           b"[mask]", b"[[MASK]]", b"[MA", b"SK]", b"{text", b"}")  # fmt: skip
_LABELS = b'{"0": "bad", "1": "good", "\\u00fc": "fine"}'
_ENTRIES = (b'"0": "other", ', b'"\\u0030": "same", ', b'"": "empty", ', b'"2": "", ', b'"a": {"b": 1, "b": 2}, ')


def templates(scratch: Path) -> list[Target]:
    return [
        *(
            Target(
                f"template {name}",
                {"template.txt": b"{text} [SEP] is {mask} .", "text.txt": b"a text", "tokenizer.json": as_json(about)},
                {"template.txt": _spliced, "text.txt": _spliced, "tokenizer.json": mutated_tokenizer},
                _read_template,
                (TaskError, CheckpointError),
                0.5,
            )
            for name, about in TOKENIZERS.items()
        ),
        Target("label map", {"labels.json": _LABELS}, {"labels.json": _changed_map}, _read_labels, (TaskError, ValueError, RecursionError)),
    ]  # fmt: skip


def _spliced(rng: random.Random, content: bytes) -> bytes:
    """Special tokens, and what nearly is one, put anywhere; now and then any other change."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content) + 1)
        content = content[:place] + rng.choice(_PIECES) + content[place:]
    return mutated(rng, content)[:2000] if rng.random() < 0.2 else content


def _read_template(folder: Path) -> None:
    """No id of a text is a special one; the answer is the template's; the recipe's rows are those of `encode`."""
    template, text = ((folder / name).read_bytes().decode("utf-8", "replace") for name in ("template.txt", "text.txt"))
    checkpoint: Any = Folder(folder)
    tokenizer = open_tokenizer(checkpoint)
    ids = special_ids(checkpoint, tokenizer)
    model: Any = SimpleNamespace(
        name="fuzzed", family="bert", pooling="", tokenizer=tokenizer, max_positions=100_000, space="",
        mask_id=ids.mask, pad_id=ids.pad, cls_id=ids.cls, sep_id=ids.sep, special_ids=ids.every,
    )  # fmt: skip
    task = make_task(template, LABELS)
    encoded = encode([(text,) * len(task.slots)], task, model, 0)
    row = encoded.ids[0]
    assert row[encoded.answer_position[0]] == ids.mask
    description = json.loads((folder / "tokenizer.json").read_bytes())
    unknown = description["model"].get("unk_token", "[UNK]")
    allowed = {tokenizer.token_to_id(unknown)} if isinstance(unknown, str) else set()
    found = set(tokenizer.encode(text, add_special_tokens=False).ids)
    assert not found & {ids.mask, ids.cls, ids.sep, ids.pad} - allowed, (text, found)
    assert np.count_nonzero(row == ids.mask) == 1 + template.count("[MASK]") or "[MASK]" in template
    if not description["model"].get("dropout"):
        assert row_ids(row_recipe(task, model), (text,) * len(task.slots), tokenizer) == row.tolist()


def _changed_map(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.6:
        place = rng.choice((1, content.index(b'"1"'))) if b'"1"' in content else 1
        return content[:place] + rng.choice(_ENTRIES) + content[place:]
    return mutated(rng, content)


def _read_labels(folder: Path) -> None:
    """A map that is taken has every pair that was written."""
    content = (folder / "labels.json").read_bytes().decode("utf-8", "replace")
    found = parse_json(content)
    if not isinstance(found, dict):
        raise TaskError("no map")
    task = make_task("{text} {mask}", found)
    written: list[int] = []
    json.loads(content, object_pairs_hook=partial(_counted, written))
    assert len(task.labels) == written[-1]


def _counted(written: list[int], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    written.append(len(pairs))
    return dict(pairs)
