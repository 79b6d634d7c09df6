"""A model's chat template as a template of ours."""

import json
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="a chat template is rendered by Jinja2")

from zopog_models.errors import TaskError
from zopog_models.tasks.chat import ChatTemplate, chat_template, in_conversation

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ raise_exception('only users') }}{% endif %}{% endfor %}"
)


def program(text: str) -> ChatTemplate:
    return ChatTemplate(text, {"bos_token": "<s>"}, "x")


def test_what_the_user_says_and_the_answer_after_the_generation_prompt() -> None:
    said = in_conversation("{text_a}|{text_b}. Good? {mask}", program(CHATML), "Be brief.")
    assert said == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{text_a}|{text_b}. Good?<|im_end|>\n"
        "<|im_start|>assistant\n{mask}"
    )
    assert in_conversation("{text}", program(LLAMA)) == "<s>[INST] {text} [/INST]{mask}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ 'a' * 200000 }}", "more than 100000 characters"),
        ("{{ 'a' * 10 ** 10 }}", "memory"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% x", "TemplateSyntaxError"),
        ("{{ messages[0].content | upper }}", "repeat what the user says"),
        ("{{ messages[0].content + messages[0].content }}", "repeat what the user says"),
        ("{name}{{ messages[0].content }}", "braces"),
        (LLAMA, "only users"),
    ],
)
def test_a_strangers_template_is_refused(text: str, told: str) -> None:
    with pytest.raises(TaskError, match=told):
        in_conversation("{text}", program(text), "Be brief." if text == LLAMA else "")


def test_a_template_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zopog_models.tasks.chat.SECONDS", 1)
    with pytest.raises(TaskError, match="more than 1 seconds"):
        in_conversation(
            "{text}", program("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
        )


def test_the_answer_is_the_end() -> None:
    with pytest.raises(TaskError, match=r"goes on after \{mask\}"):
        in_conversation("{text} It was {mask} .", program(CHATML))


def test_where_a_folder_has_its_template(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no chat_template"):
        chat_template(tmp_path)
    several = [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}]
    settings = {"chat_template": several, "bos_token": {"content": "<s>"}, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert chat_template(tmp_path)[:2] == ("b", {"bos_token": "<s>"})
    (tmp_path / "chat_template.jinja").write_text("c")
    assert chat_template(tmp_path).program == "c"
