"""A key is shown nowhere, in whatever form a server repeats it and wherever a message is cut."""

import base64
import html
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.tiny_decoders import write_decoder
from zopog_models.served.secrets import Secrets

KEY = "sk-a/b+c\"d\\e&f'g=hijklmnopq"
FORMS = {
    "plain": KEY,
    "JSON": json.dumps(KEY)[1:-1],
    "JSON with escaped slashes": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "JSON, all escaped": "".join(f"\\u{ord(c):04X}" for c in KEY),
    "JSON in JSON": json.dumps(json.dumps(KEY)[1:-1])[1:-1],
    "repr": repr(KEY)[1:-1],
    "bytes": "".join(f"\\x{ord(c):02x}" for c in KEY),
    "URL": quote(KEY, safe=""),
    "URL, slashes kept": quote(KEY),
    "form": quote_plus(KEY),
    "URL, all escaped": "".join(f"%{ord(c):02x}" for c in KEY),
    "HTML": html.escape(KEY),
    "HTML, numbers": "".join(f"&#{ord(c)};" for c in KEY),
    "HTML, hexadecimal": "".join(f"&#x{ord(c):X};" for c in KEY),
    "mixed": KEY[:9] + quote(KEY[9:15], safe="") + json.dumps(KEY[15:])[1:-1],
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_hidden(name: str) -> None:
    assert Secrets(KEY).hide(f"wrong key {FORMS[name]}, try again") == "wrong key ***, try again"


@pytest.mark.parametrize("name", FORMS)
def test_whatever_is_cut_shows_no_part_of_it(name: str) -> None:
    text = f"{'x' * 50} {FORMS[name]} {FORMS[name]}"
    for most in range(len(text) + 1):
        shown = Secrets(KEY).brief(text, most)
        assert len(shown) <= most
        assert shown.strip("x* ") == ""
        already_cut = Secrets(KEY).hide(text[:most])  # by somebody who does not know the key
        assert KEY[:8] not in already_cut


@pytest.mark.parametrize("form", ["plain", "JSON, all escaped", "URL, all escaped", "HTML, numbers", "JSON in JSON"])
def test_twelve_characters_from_anywhere_in_it_are_hidden(form: str) -> None:
    """Of a key whose end a server shows, as the name of the key that is wrong, all of the end was shown."""
    key = "sk-proj-0123456789/abcdefghijklmnop"
    write = {
        "plain": str, "JSON, all escaped": lambda part: "".join(f"\\u{ord(c):04x}" for c in part),
        "URL, all escaped": lambda part: "".join(f"%{ord(c):02X}" for c in part),
        "HTML, numbers": lambda part: "".join(f"&#{ord(c)};" for c in part),
        "JSON in JSON": lambda part: json.dumps(json.dumps(part)[1:-1].replace("/", "\\/"))[1:-1],
    }[form]  # fmt: skip
    for start in range(len(key)):
        for end in range(start + 12, len(key) + 1):
            assert Secrets(key).hide(f"<...{write(key[start:end])}>") == "<...***>"
    assert Secrets(key).hide(f"...{key[-11:]}") == f"...{key[-11:]}"  # the last letters are shown so that it is known


def test_a_key_of_backslashes() -> None:
    key = "0000\\\\"
    for form in (key, json.dumps(key)[1:-1], repr(key)[1:-1], quote(key)):
        assert Secrets(key).hide(f"<{form}>") == "<***>"


def test_what_is_no_secret_stays() -> None:
    text = "sk-a is the beginning of many keys; sks sk sk-"
    assert Secrets(KEY).hide(text) == text
    assert Secrets("").hide(text) == text
    assert Secrets().hide(text) == text
    assert Secrets("abc", "").hide("abcabd ab") == "***abd ab"


@pytest.mark.parametrize("keys", [("sk-ant-api03-aaaa", "sk-ant-api03-bbbb"), ("sk-proj-1", "sk-proj-1-longer")])
def test_keys_that_begin_alike_do_not_cut_each_other(keys: tuple[str, str]) -> None:
    """The beginning that one shares with the other was blotted first, and the other's rest was shown."""
    for known in (keys, keys[::-1]):
        for form in (str, lambda key: "".join(f"\\u{ord(c):04x}" for c in key)):
            assert Secrets(*known).hide(f"<{form(keys[0])}> <{form(keys[1])}>") == "<***> <***>"


def test_a_key_that_repeats_its_beginning() -> None:
    assert Secrets("abcabcabcX").hide("<abcabcabcabcX>") == "<***>"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=80), st.text(max_size=30))
def test_any_key_in_any_form(key: str, around: str) -> None:
    forms = [key, json.dumps(key)[1:-1], repr(key)[1:-1], quote(key, safe=""), html.escape(key)]
    hidden = Secrets(key).hide(around.join(["", *forms, ""]))
    assert key not in hidden.replace(around, "") or key in around


def test_a_header_as_a_server_echoes_it() -> None:
    """`Bearer KEY` is found by the key; base64 of it is another text, which the wire never carries."""
    assert Secrets(KEY).hide(f"got Authorization: Bearer {KEY}") == "got Authorization: Bearer ***"
    assert base64.b64encode(KEY.encode()).decode() in Secrets(KEY).hide(base64.b64encode(KEY.encode()).decode())


@pytest.mark.parametrize("command", ["tune", "doctor", "compare"])
@pytest.mark.parametrize(
    "given",
    [
        ["--api-key", "KEY"],
        ["--api-key=KEY"],
        ["--key", "KEY"],
        ["--model", "chat+https://h/v1#m?api-key=KEY", "--tokenizer", "FOLDER"],
        ["--model", "chat+https://user:KEY@h/v1#m", "--tokenizer", "FOLDER"],
        ["--model", "chat+https://h/v1?key=KEY#m", "--tokenizer", "FOLDER"],
        ["--model", "chat+https://h/v1#m", "--tokenizer", "FOLDER", "--key-env", "KEY"],
        ["--model", "chat+https://h/v1#m", "--tokenizer", "FOLDER", "--header-env", "Authorization: Bearer KEY"],
        ["--model", "chat+https://h/v1#m", "--tokenizer", "FOLDER", "--query", "KEY"],
    ],
)
def test_a_key_given_in_a_wrong_place_is_in_no_message(
    command: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And in no file: the run folder keeps the model's name."""
    pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")
    from zopog_ref.app.command_line import main

    key, folder = "sk-0123456789abcdefABCDEF", write_decoder(tmp_path / "llama", "llama")
    words = [word.replace("KEY", key).replace("FOLDER", str(folder)) for word in given]
    out = [] if command == "doctor" else ["--out", str(tmp_path / "run")]
    try:
        code = main([command, *out, *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    said = capsys.readouterr()
    assert key not in said.out + said.err
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
