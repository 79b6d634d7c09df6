"""Seeded mutation of valid files: bytes flipped, cut, repeated and spliced; JSON values replaced by hostile ones."""

import json
import random
from typing import Any

NUMBERS = [0, -1, 1, 2**31, 2**32, 2**48, 2**63, 2**64, -(2**63), 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf")]
TEXTS = ["", "\0", "../x", "/etc/passwd", "a/b", "C:\\x", "\ud800", "﻿", "\u202e", "\x1b[2J", "x" * 5000, "{mask}{mask}",
         "{text}", "<script>", "nan", "1e999", ".", "..", "\n", "\r", "\u2028", "é" * 300]  # fmt: skip
VALUES: list[Any] = [None, True, False, [], {}, [[]], [1, "a"], {"a": 1}, *NUMBERS, *TEXTS]
BYTES = [b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\t", b"\n", b"\r", b'"', b"\\", b"{", b"}", b"[" * 3000,
         b"{\"a\":" * 2000, b"9" * 5000, b"A" * 200_000, b"../../x", b"\\u0000", b"\\ud800", b"=", b",", b":", b"NaN", b"-1",
         b"1e999", b"18446744073709551616", b"# ", b"'''", b"null", b"true", b"a.b.c=1\n"]  # fmt: skip


def mutated(rng: random.Random, content: bytes) -> bytes:
    """A few changes of the bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        place = rng.randrange(len(content) + 1)
        end = min(len(content), place + rng.choice((1, 2, 4, 8, 30, 300)))
        match rng.randrange(7):
            case 0 if content:
                place = rng.randrange(len(content))
                content = content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
            case 1:
                content = content[:place] + content[end:]
            case 2:
                content = content[:place] + rng.choice(BYTES) + content[end if rng.random() < 0.5 else place :]
            case 3:
                content = content[:place] + content[place:end] * rng.choice((2, 3, 50)) + content[end:]
            case 4:
                content = content[:place]
            case 5:
                content = content[:place] + rng.randbytes(rng.choice((1, 4, 8))) + content[end:]
            case 6:
                other = rng.randrange(len(content) + 1)
                content = content[:place] + content[other : other + 40] + content[place:]
    return content


def mutated_value(rng: random.Random, value: Any) -> Any:
    """A copy of a JSON value with one place in it changed, dropped, added or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice([*TEXTS, *value, "type", "model", "ids"])] = rng.choice(VALUES)
            case 2:
                changed[key] = rng.choice(VALUES)
            case _:
                changed[key] = mutated_value(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        place, changed_list = rng.randrange(len(value)), list(value)
        match rng.randrange(6):
            case 0:
                del changed_list[place]
            case 1:
                changed_list.insert(place, rng.choice(VALUES))
            case 2:
                changed_list = changed_list * rng.choice((2, 20))
            case _:
                changed_list[place] = mutated_value(rng, value[place])
        return changed_list
    if type(value) in (int, float) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 0.5, 7))
    return rng.choice(VALUES)


def mutated_json(rng: random.Random, content: bytes) -> bytes:
    """JSON with a value changed that is JSON still; one time in four, bytes."""
    if rng.random() < 0.25:
        return mutated(rng, content)
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = mutated_value(rng, value)
    return json.dumps(value).encode()


def mutated_tensors(rng: random.Random, content: bytes, setting: str = "") -> bytes:
    """A .safetensors file with its header, or the JSON in one of its strings, changed; one time in three, bytes."""
    if rng.random() < 0.33:
        return mutated(rng, content)
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if setting and rng.random() < 0.6:
        parsed = json.loads(header)
        parsed["__metadata__"][setting] = mutated_json(rng, parsed["__metadata__"][setting].encode()).decode("utf-8", "replace")
        header = json.dumps(parsed).encode()
    else:
        header = mutated_json(rng, header)
    if rng.random() < 0.1:
        data = mutated(rng, data)
    return len(header).to_bytes(8, "little") + header + data
