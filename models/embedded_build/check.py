"""Checks a pretrained model on `supersense` dev: five manual templates, and a gradient soft prompt.

The soft prompt is the white-box upper reference: n free vectors, added to the embeddings (after their
LayerNorm) of n fixed tokens that stand after [CLS], learned by Adam on 16 shots a class. Only dev is
read; the test split plays no part in the choice of a corpus or a model.

    python -m embedded_build.check [--model DIR] [--soft] [--hyponym]
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertForMaskedLM

from embedded_build.paths import MODEL, TASKS
from embedded_build.tokenizer import LABEL_WORDS, MAX_POSITIONS

TEMPLATES = (
    "{text} . it is a kind of {mask} .",
    "{text} . {mask} .",
    "{text} . this is a {mask} .",
    "{mask} : {text} .",
    "a {mask} is {text} .",
)
CLASSES = LABEL_WORDS[:6]
PROMPT_TEXT = "the"


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a task's TSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


class Classifier:
    """Label-word logits of a frozen model for templated rows, with a soft prompt after [CLS] or without."""

    def __init__(self, folder: Path, label_words: list[str]) -> None:
        self.tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        self.model = BertForMaskedLM.from_pretrained(folder, attn_implementation="sdpa").eval().requires_grad_(False)
        self.label_ids = torch.tensor([self.tokenizer.token_to_id(word) for word in label_words])
        self.mask_id = self.tokenizer.token_to_id("[MASK]")

    def logits(self, texts: list[str], prompt: torch.Tensor | None = None) -> torch.Tensor:
        """(B, C); prompt (n, D) is added to the embedding outputs of n fixed tokens."""
        n = 0 if prompt is None else len(prompt)
        fixed = [self.tokenizer.token_to_id(PROMPT_TEXT)] * n
        ids = [[e.ids[0], *fixed, *e.ids[1:]][:MAX_POSITIONS] for e in self.tokenizer.encode_batch(texts)]
        length = max(len(row) for row in ids)
        tokens = torch.tensor([row + [0] * (length - len(row)) for row in ids])  # (B, L)
        embedded = self.model.bert.embeddings(input_ids=tokens)  # (B, L, D)
        if prompt is not None:
            embedded = torch.cat([embedded[:, :1], embedded[:, 1 : 1 + n] + prompt, embedded[:, 1 + n :]], 1)
        attend = (tokens != 0)[:, None, None, :]  # (B, 1, 1, L)
        hidden = self.model.bert.encoder(embedded, attention_mask=attend).last_hidden_state
        at_mask = hidden[torch.arange(len(ids)), (tokens == self.mask_id).int().argmax(1)]  # (B, D)
        scores: torch.Tensor = self.model.cls(at_mask)[:, self.label_ids]
        return scores

    @torch.no_grad()
    def accuracy(self, texts: list[str], labels: torch.Tensor, prompt: torch.Tensor | None = None) -> float:
        """Share of rows whose label word has the highest logit among the label words."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        right = 0
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            guess = self.logits([texts[i] for i in part], prompt).argmax(1)
            right += int((guess == labels[part]).sum())
        return right / len(texts)

    def tune(
        self, texts: list[str], labels: torch.Tensor, n: int = 20, steps: int = 400, seed: int = 0
    ) -> torch.Tensor:
        """A soft prompt by Adam on the given rows, batches of 32."""
        draw = np.random.default_rng(seed)
        prompt = torch.zeros(n, self.model.config.hidden_size, requires_grad=True)
        optimizer = torch.optim.Adam([prompt], lr=0.02)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
            part = draw.choice(len(texts), 32, replace=False)
            loss = torch.nn.functional.cross_entropy(self.logits([texts[i] for i in part], prompt), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return prompt.detach()


def shots(data: list[dict[str, str]], classes: list[str], k: int, seed: int) -> list[dict[str, str]]:
    """k rows of each class."""
    draw = np.random.default_rng(seed)
    chosen = []
    for label in classes:
        of_class = [row for row in data if row["label"] == label]
        chosen += [of_class[i] for i in draw.choice(len(of_class), k, replace=False)]
    return chosen


def report(folder: Path, task: str, templates: tuple[str, ...], labels: dict[str, str], soft: int, seeds: int) -> None:
    """Prints the dev accuracy of each template, and of soft prompts on the first `soft` templates.

    labels: label value -> label word, in the order of the classes.
    """
    classes = list(labels)
    classifier = Classifier(folder, list(labels.values()))
    train, dev = (rows(TASKS / f"{task}.{split}.tsv") for split in ("train", "dev"))

    def prepare(data: list[dict[str, str]], template: str) -> tuple[list[str], torch.Tensor]:
        texts = [template.format(**row, mask="[MASK]") for row in data]
        return texts, torch.tensor([classes.index(row["label"]) for row in data])

    for template in templates:
        print(f"{task} manual {100 * classifier.accuracy(*prepare(dev, template)):5.1f}%  {template}", flush=True)
    for template in templates[:soft]:
        for seed in range(seeds):
            prompt = classifier.tune(*prepare(shots(train, classes, 16, seed), template), seed=seed)
            score = classifier.accuracy(*prepare(dev, template), prompt)
            print(f"{task} soft prompt, seed {seed} {100 * score:5.1f}%  {template}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--soft", action="store_true", help="also learn soft prompts")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--hyponym", action="store_true", help="also the two-text task")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    report(options.model, "supersense", TEMPLATES, {word: word for word in CLASSES}, 2 * options.soft, options.seeds)
    if options.hyponym:
        templates = (
            "it is {mask} that {text_b} is a kind of {text_a} .",
            "{text_b} . it is a kind of {text_a} : {mask} .",
            "{text_b} . {text_a} ? {mask} .",
        )
        report(options.model, "hyponym", templates, {"yes": "true", "no": "false"}, 2 * options.soft, options.seeds)


if __name__ == "__main__":
    main()
