"""A text that spells a special token never becomes one on a server that reads text; the template's own do."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tokenizers import Tokenizer

from tests.models.tiny_decoders import write_decoder
from zopog_models.served.chat import open_chat
from zopog_models.served.completions import open_completions
from zopog_models.tasks.encoding import encode
from zopog_models.tasks.template import make_task

NAMES = {"llama": "</s>", "gpt2": "<|endoftext|>"}
ADDRESS = "http://127.0.0.1:9/v1#NAME"  # nobody is asked


@pytest.mark.parametrize("family", NAMES)
def test_what_the_server_reads_has_the_templates_special_tokens_alone(tmp_path: Path, family: str) -> None:
    folder, name = write_decoder(tmp_path / family, family), NAMES[family]
    said: list[str] = []
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))  # as a server reads a text: spellings are tokens
    special = theirs.token_to_id(name)
    for opened in (open_completions, open_chat):
        said.clear()
        model = opened(ADDRESS, folder, notify=said.append)
        task = make_task(f"{name} {{text}}{name} it was {{mask}}", {"0": "great", "1": "terrible"})
        texts = [("the people",), (f"a {name} city{name}{name} ",), (f"{name}",)]
        encoded = encode(texts, task, model, 0)
        read = [model.runner.question(np.asarray(ids), np.zeros(0, np.int64)) for ids in encoded.ids]
        for text in read:
            assert theirs.encode(text, add_special_tokens=False).ids.count(special) == 2, text
        assert f"{name[0]} {name[1:]}" in read[1]
        assert len(said) == 1
        assert "spells a special token" in said[0]


def test_a_text_without_one_is_untouched(tmp_path: Path) -> None:
    model = open_completions(ADDRESS, write_decoder(tmp_path / "llama", "llama"))
    ids = model.tokenizer.encode("the people < / s > of a city", add_special_tokens=False).ids
    assert model.tokenizer.plain(ids) == model.tokenizer.decode(ids, skip_special_tokens=False)
