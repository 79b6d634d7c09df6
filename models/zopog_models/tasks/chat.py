"""A model's own chat template, as a template of ours: what the user says with {text} in it, and {mask} for the answer.

The conversation is rendered once, with marks where the texts go, so that no template's program ever sees a row's text.
What is rendered is an ordinary template: special tokens in it are special tokens, and a row's text is text (`layout`).
"""

import importlib.util
import json
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from zopog_models.checkpoints.gguf import gguf_place
from zopog_models.errors import ProviderError, TaskError
from zopog_models.files.gguf_file import read_gguf
from zopog_models.files.json_file import read_object
from zopog_models.files.quoting import quoted

__all__ = ["ChatTemplate", "chat_template", "in_conversation"]

SECONDS = 5
_START = 15  # seconds more, until the process has started
_BYTES = 2**30
_CHARACTERS = 100_000  # of a template, and of what it renders
_SLOT = re.compile(r"\{(text|text_a|text_b|sep|mask)\}")


class ChatTemplate(NamedTuple):
    """The program (Jinja), what it may use besides the messages, and where it was found."""

    program: str
    tokens: dict[str, str]
    found: str


def chat_template(source: str | Path) -> ChatTemplate:
    """Of a model's folder or GGUF file. Raises TaskError where it has none, UnusableFile and others."""
    place = gguf_place(source)
    if place is not None and place[1] is None:
        return _of_gguf(place[0])
    folder = Path(source) if place is None or place[1] is None else place[1]
    path, alone = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    settings: dict[str, Any] = read_object(path) if path.is_file() else {}
    program, found = settings.get("chat_template"), path
    if alone.is_file():
        program, found = alone.read_bytes()[: _CHARACTERS * 4 + 1].decode("utf-8", "replace"), alone
    if isinstance(program, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in program if isinstance(one, dict)}
        program = named.get("default")
    tokens = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            tokens[name] = token
    return _checked(ChatTemplate(program or "", tokens, str(found)))


def _of_gguf(path: Path) -> ChatTemplate:
    meta = read_gguf(path).metadata
    words, tokens = meta.get("tokenizer.ggml.tokens"), {}
    for role in ("bos", "eos"):
        i = meta.get(f"tokenizer.ggml.{role}_token_id")
        if isinstance(words, list) and isinstance(i, int) and 0 <= i < len(words):
            tokens[f"{role}_token"] = str(words[i])
    return _checked(ChatTemplate(meta.get("tokenizer.chat_template") or "", tokens, str(path)))


def _checked(found: ChatTemplate) -> ChatTemplate:
    if not isinstance(found.program, str) or not found.program:
        raise TaskError(
            f"{found.found} has no chat_template: chat is for models with one; leave it out and write the template "
            "as the model was trained on"
        )
    if len(found.program) > _CHARACTERS:
        raise TaskError(f"the chat template in {found.found} is longer than {_CHARACTERS} characters")
    return found


def in_conversation(template: str, chat: ChatTemplate, system: str = "") -> str:
    """The template of rows in which the user says `template` and the model's answer comes next, at {mask}.

    A {mask} at the end of `template` is left out, with the white space before it; system: what the system says first.
    Raises TaskError for a template with more than that after {mask}, and for a chat template that cannot be rendered,
    takes longer than SECONDS, or does not repeat what the user says; ProviderError without Jinja2.
    """
    said, _, after = template.partition("{mask}")
    if after.strip():
        raise TaskError(
            f"in a conversation the answer comes after what the user says, and the template {quoted(template)} goes "
            'on after {mask}: write what the user says, as in "{text}\\nIs this good or bad?"'
        )
    said, messages = said.strip() if after or "{mask}" in template else template, []
    marks: dict[str, str] = {}

    def mark(found: re.Match[str]) -> str:
        marks[secrets.token_hex(16)] = found[0]
        return [*marks][-1]

    if system:
        messages.append({"role": "system", "content": system})
    messages.append({"role": "user", "content": _SLOT.sub(mark, said)})
    rendered = _rendered(chat, {"messages": messages, "add_generation_prompt": True, **chat.tokens})
    for name, slot in marks.items():
        if rendered.count(name) != 1:
            raise TaskError(f"the chat template in {chat.found} does not repeat what the user says once and as it is")
        rendered = rendered.replace(name, slot)
    if left := re.findall(r"\{[^{}]*\}", _SLOT.sub("", rendered)):
        raise TaskError(f"the conversation has {quoted(left[0])}, and braces stand for texts in a template")
    return rendered + "{mask}"


def _rendered(chat: ChatTemplate, values: dict[str, Any]) -> str:
    if importlib.util.find_spec("jinja2") is None:
        raise ProviderError('a chat template needs Jinja2: pip install "jinja2>=3.1"')
    asked = {
        "template": chat.program, "values": values, "bytes": _BYTES, "seconds": SECONDS, "characters": _CHARACTERS,
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).with_name("chat_child.py"))]
    where = f"the chat template in {chat.found}"
    try:
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, encoding="utf-8",
            timeout=SECONDS + _START, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise TaskError(f"{where} was given up: it takes more than {SECONDS} seconds, or ended its process") from None
    if "text" not in answer:
        raise TaskError(f"{where} cannot be rendered: {quoted(answer.get('error'))}")
    return str(answer["text"])
