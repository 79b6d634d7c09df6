"""A black box of one's own: a class with one method, what opens it, and the line that gives it an address."""

from pathlib import Path

import numpy as np

from zopog_models.checkpoints.description import Description, StatedFacts, describe
from zopog_models.frozen.model import FrozenModel
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.runner import Runner, Scores
from zopog_models.served.addresses import OPENERS
from zopog_models.served.folder import without_weights


class BagOfTokens(Runner):
    """Every token has a vector; a label word scores by its product with the mean of what stands in the row."""

    scores = Scores.ANY  # whichever token ids are asked for
    providers = ("NumPy",)

    def __init__(self, about: Description) -> None:
        self.vectors = np.random.default_rng(0).normal(size=(about.vocab_size, about.embedding_size))  # (V, E)

    def logits(self, rows: ModelRows) -> np.ndarray:
        prompts = self.vectors[rows.prompt_ids] + rows.prompt_offset  # (P, n, E)
        means = [
            np.concatenate([prompts[p], self.vectors[text]]).mean(axis=0)
            for text, p in zip(rows.texts, rows.prompt_index)
        ]
        return np.array(means, np.float32) @ self.vectors[rows.label_ids].T.astype(np.float32)  # (R, C)


def open_bag(url: str, tokenizer: str | Path, options: object) -> FrozenModel:  # this one has no options
    folder = without_weights(tokenizer)
    facts = StatedFacts(f"bag:{url}", folder.tokenizer_sha256, embedding_std=1.0)
    about = describe(folder, name=url, source=f"bag+{url}", facts=facts)
    return FrozenModel(about, BagOfTokens(about))


OPENERS["bag+"] = open_bag
