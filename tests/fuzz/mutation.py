"""Seeded mutation of valid files: bytes flipped, cut, repeated and spliced; JSON values replaced by hostile ones."""

import functools
import json
import random
from collections.abc import Callable
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
    value = _parsed(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = mutated_value(rng, value)
    return json.dumps(value).encode()


@functools.lru_cache(maxsize=1000)
def _parsed(content: bytes) -> Any:
    """Of a valid file, which is mutated again and again; mutated_value changes copies."""
    return json.loads(content)


def mutated_lines(rng: random.Random, content: bytes) -> bytes:
    """JSON lines with one line changed; four times in ten, bytes."""
    if rng.random() < 0.4:
        return mutated(rng, content)
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    lines[place] = mutated_json(rng, lines[place]) if lines[place] else b""
    return b"\n".join(lines)


HEADERS = [b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Encoding: deflate", b"Content-Encoding: br, x",
           b"Content-Length: 0", b"Content-Length: -5", b"Content-Length: 99999999999", b"Content-Length: 1e3",
           b"Inference-Header-Content-Length: 9", b"Inference-Header-Content-Length: -1", b"Location: http://example.org/",
           b"Retry-After: 1e9", b"Retry-After: Wed, 99 Oct 99999 07:28:00 GMT", b"Retry-After: -1", b"X: " + b"x" * 70_000,
           b"Connection: close", b"no colon here", b"Set-Cookie: \xff\xfe=\x01", b"ETag: \"../../x\"", b" folded"]  # fmt: skip
STATUS = [
    b"200 OK",
    b"200",
    b"204 No Content",
    b"100 Continue",
    b"302 Found",
    b"401 No",
    b"429 Slow",
    b"503 Later",
    b"999 x",
    b"abc",
    b"",
]


def http_answer(body: bytes, *headers: bytes) -> bytes:
    """A whole answer of a server as it comes over the wire, status 200."""
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"HTTP/1.1 200 OK", length, *headers, b"", body])


def mutated_http(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, bytes], bytes]:
    """A mutation of whole answers: mostly of the body, by `change`, its length told again; of status, headers, bytes."""

    def mutate(rng: random.Random, content: bytes) -> bytes:
        if rng.random() < 0.1:
            return mutated(rng, content)
        head, _, body = content.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        if rng.random() < 0.8:
            body = change(rng, body)
            headers[0] = b"Content-Length: %d" % len(body)
        if rng.random() < 0.15:
            status = b"HTTP/1.1 " + rng.choice(STATUS)
        for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
            headers.insert(rng.randrange(len(headers) + 1), rng.choice(HEADERS))
        return b"\r\n".join([status, *headers, b"", body])

    return mutate


def mutated_inference(rng: random.Random, body: bytes) -> bytes:
    """An answer of JSON with tensors as bytes behind it: the JSON changed, or the bytes."""
    end = body.rindex(b"}") + 1
    message, raw = body[:end], body[end:]
    if rng.random() < 0.7:
        changed = mutated_json(rng, message)
        return changed + b" " * (len(message) - len(changed)) + raw  # often as long as its header says
    return message + mutated(rng, raw)


def mutated_tensors(rng: random.Random, content: bytes, setting: str = "") -> bytes:
    """A .safetensors file with its header, or the JSON in one of its strings, changed; one time in three, bytes."""
    if rng.random() < 0.33:
        return mutated(rng, content)
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if setting and rng.random() < 0.6:
        parsed = json.loads(header)
        parsed["__metadata__"][setting] = mutated_json(rng, parsed["__metadata__"][setting].encode()).decode(
            "utf-8", "replace"
        )
        header = json.dumps(parsed).encode()
    else:
        header = mutated_json(rng, header)
    if rng.random() < 0.1:
        data = mutated(rng, data)
    return len(header).to_bytes(8, "little") + header + data
