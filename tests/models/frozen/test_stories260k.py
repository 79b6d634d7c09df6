"""A real decoder: the text that stories260K is known to write comes out of our graph, letter for letter.

The folder is no part of this repository: set ZOPOG_STORIES260K to one, or put it beside the checkout, as
../shared/plm/stories260K.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from zopog_models import FrozenModel, load_model

FOLDER = Path(os.environ.get("ZOPOG_STORIES260K", Path(__file__).parents[4] / "shared" / "plm" / "stories260K"))
pytestmark = pytest.mark.skipif(not (FOLDER / "model.safetensors").is_file(), reason="stories260K is not here")

# What karpathy/llama2.c, doc/stories260K.md, prints for this model at temperature 0.
STORY = """Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw \
a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play with \
your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, "Don't worry, \
Lily. We can help you."""


@pytest.fixture(scope="module")
def stories() -> FrozenModel:
    return load_model(FOLDER, threads=1)


def next_token(model: FrozenModel, rows: list[list[int]], prompt: np.ndarray) -> np.ndarray:
    """The most likely next token (R,) of each row, read with the one prompt (n,): the head's whole vocabulary."""
    ids = [np.array(row) for row in rows]
    last = np.array([len(row) - 1 for row in ids])
    every = np.arange(model.vocab_size)
    return model.logits(ids, last, prompt[None], None, np.zeros(len(ids), int), every).argmax(axis=1)


def written(model: FrozenModel, steps: int = 256) -> list[int]:
    row = [model.cls_id]
    for _ in range(steps):
        row.append(int(next_token(model, [row], np.zeros(0, int))[0]))
    return row[1:]


def test_greedy_text(stories: FrozenModel) -> None:
    text = stories.tokenizer.decode(written(stories))
    print(text)
    assert text.strip() == STORY


def test_the_same_with_the_beginning_as_a_prompt(stories: FrozenModel) -> None:
    """BOS, then the prompt, then the text: where the story is cut into the two does not matter; nor does its prefix."""
    story = written(stories, 60)
    for n in (1, 20, 40):
        prompt = np.array(story[:n])
        # Several rows share the prompt, so its keys and values are computed once.
        rows = [[stories.cls_id, *story[n:length]] for length in range(n + 1, 60, 3)]
        expected = [story[length] for length in range(n + 1, 60, 3)]
        assert next_token(stories, rows, prompt).tolist() == expected
        wrong = next_token(stories, rows, prompt[::-1])  # the twin: another prompt is noticed
        assert n == 1 or wrong.tolist() != expected
