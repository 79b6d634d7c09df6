"""What all pages share: a list of contents, paths without the machine's folders, numbers as people write them."""

import re

import pytest

from zopog_ref.app.report.html import counted, elsewhere, minus, points, readable, with_contents, without_folders

HEAD = "<header><h2>of the head</h2></header>"


def page(count: int) -> str:
    return HEAD + "".join(f"<section><h2>part <em>{i}</em></h2></section>" for i in range(1, count + 1))


def test_three_parts_have_contents_and_two_have_none() -> None:
    text = with_contents(page(3))
    assert text.startswith(
        f'{HEAD}<nav class="contents" aria-label="contents">'
        '<a href="#s1">part 1</a><a href="#s2">part 2</a><a href="#s3">part 3</a></nav><section>'
    )
    assert re.findall(r'<h2 id="(\w+)">part <em>(\d)', text) == [("s1", "1"), ("s2", "2"), ("s3", "3")]
    assert with_contents(page(2)) == page(2)


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/home/me/a.b/model.Q4_1.gguf", "model.Q4_1.gguf"), ("runs/a", "runs/a"), ("org/name", "org/name"),
     ("chat+https://host/v1#m", "chat+https://host/v1#m")],
)  # fmt: skip
def test_a_path_as_another_machine_can_use_it(path: str, shown: str) -> None:
    assert elsewhere(path) == shown


def test_numbers_and_tokens() -> None:
    assert [counted(n, "call") for n in (0, 1, 2, 1200)] == ["0 calls", "1 call", "2 calls", "1,200 calls"]
    assert [points(0.031), points(-0.004), points(0)] == ["+3.1", "−0.4", "+0.0"]
    assert minus("-1 to -2") == "−1 to −2"
    assert [readable(token) for token in ("▁good", "Ġgood", "##s", "\n")] == ["␣good", "␣good", "##s", "↵"]
    assert without_folders("see ~/a/b.log") == "see b.log"
