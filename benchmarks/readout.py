"""What a readout of the few-shot rows' own scores is worth: accuracy, NLL, ECE, coverage and calls of every kind.

    python benchmarks/readout.py --task supersense --out readout.json \\
      --template '{text} . it is a kind of {mask} .' --template '{text} . {mask} .'

Rows are those of `zopog tune` with the same seeds and shots. Tokens are chosen on the training rows of each seed, by
probability; the test rows are read once. With several templates: the first alone, then all of them averaged. Of a
sentence-embedding model the label words' scores are cosines to the phrases, and the other scores the embedding itself.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models import Rows, Task, encode, few_shot, label_ids, label_targets, load_model, load_task, read_rows
from zopog_models.tasks.template import replace_template
from zopog_ref.conformal import conformal_sets
from zopog_ref.randomness import Purpose, permutation
from zopog_ref.readout import KINDS, Choice, choose, likely_tokens

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
ALPHA = 0.1


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", default="supersense", help="an embedded task, or a TOML file")
    parser.add_argument("--model", default="embedded")
    parser.add_argument(
        "--template", action="append", default=[], help="once for each prompt (default: the task's own)"
    )
    parser.add_argument("--seeds", default="42,14,81", type=lambda text: [int(seed) for seed in text.split(",")])
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--tokens", default="20,200", type=lambda text: [int(count) for count in text.split(",")])
    parser.add_argument(
        "--train-pool", type=int, default=None, help="draw shots from the first of the train file alone"
    )
    parser.add_argument("--test-rows", type=int, default=None, help="a fixed random sample of the test rows")
    parser.add_argument("--on-train", type=int, default=0, help="measure on this many unused train rows, not on test")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args(arguments)


class Box:
    """The frozen model behind its scores: rows in, columns out."""

    def __init__(self, source: str, threads: int | None) -> None:
        self.model = load_model(source, threads=threads)

    def words(self, task: Task) -> NDArray[Any]:
        """Column ids of the label words (C,); of a sentence-embedding model, the phrases' vectors (C, D)."""
        if self.model.pooling:
            return label_targets(task, self.model)
        return label_ids(task, self.model, first_piece=True)

    def scores(self, rows: Rows, task: Task, columns: NDArray[Any] | None) -> NDArray[np.float32]:
        """(R, T): of these columns, or of all tokens. Of a sentence-embedding model: cosines, then the embedding."""
        encoded = encode(rows.texts, task, self.model, 0)
        if self.model.pooling:
            embedding = self.model.embeddings(encoded.ids)
            return np.hstack([embedding @ self.words(task).T, embedding])
        ids = np.arange(self.model.vocab_size) if columns is None else columns
        blocks = []
        for start in range(0, len(encoded.ids), 64):  # the whole vocabulary of few rows at once
            part = slice(start, start + 64)
            count = len(encoded.ids[part])
            no_prompt, index = np.zeros((1, 0), np.int64), np.zeros(count, np.int64)
            blocks.append(
                self.model.logits(encoded.ids[part], encoded.answer_position[part], no_prompt, None, index, ids)
            )
        return np.concatenate(blocks)


def taken(rows: Rows, index: INT64) -> Rows:
    return Rows([rows.texts[i] for i in index], rows.labels[index])


def split(task: Task, chosen: argparse.Namespace) -> tuple[dict[int, Rows], Rows]:
    """The few-shot rows of each seed, as `zopog tune` draws them, and the rows to measure on."""
    assert task.train is not None
    pool = read_rows(task.train, task)
    if chosen.train_pool:
        pool = taken(pool, np.arange(min(chosen.train_pool, len(pool.labels))))
    names = list(task.labels)
    orders = {seed: permutation(seed, 0, Purpose.SPLIT, len(pool.labels)) for seed in chosen.seeds}
    shots = {seed: few_shot(pool.labels, chosen.shots, order, names=names) for seed, order in orders.items()}
    if chosen.on_train:
        used = np.concatenate(list(shots.values()))
        rest = permutation(0, 2, Purpose.SPLIT, len(pool.labels))
        measured = taken(pool, np.sort(rest[~np.isin(rest, used)][: chosen.on_train]))
    else:
        assert task.test is not None
        measured = read_rows(task.test, task)
        if chosen.test_rows:
            order = permutation(0, 0, Purpose.SPLIT, len(measured.labels))
            measured = taken(measured, np.sort(order[: chosen.test_rows]))
    return {seed: taken(pool, index) for seed, index in shots.items()}, measured


def measures(p: FLOAT64, labels: INT64) -> dict[str, float]:
    """accuracy, nll in nats, ece over ten bins of the confidence."""
    right, confidence = p.argmax(axis=1) == labels, p.max(axis=1)
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs((confidence[bins == b] - right[bins == b]).sum()) for b in range(10)]
    nll = -np.log(np.maximum(p[np.arange(len(p)), labels], 1e-300)).mean()
    return {"accuracy": float(right.mean()), "nll": float(nll), "ece": float(sum(gaps) / len(p))}


def cell(choice: Choice, test: Sequence[FLOAT64], train: Rows, measured: Rows, classes: int) -> dict[str, Any]:
    """What every kind, and the chosen one, give on the measured rows."""
    found: dict[str, Any] = {"chosen": choice.kind, "p_value": choice.p_value, "learned": choice.learned}
    for kind, fit in choice.fits.items():
        p = fit.readout.predict(list(test) if kind == "vocabulary" else [s[:, :classes] for s in test])
        sets = conformal_sets(p, fit.left_out, train.labels, ALPHA, groups=groups_of(train))
        covered = sets[np.arange(len(p)), measured.labels].mean()
        extra = {"left_out": choice.losses[kind], "penalty": fit.readout.penalty}
        extra |= {"coverage": float(covered), "set_size": float(sets.sum(axis=1).mean())}
        found[kind] = measures(p, measured.labels) | extra
    return found


def groups_of(rows: Rows) -> INT64:
    """Equal texts, equal numbers."""
    return np.unique([" ".join(row).strip().lower() for row in rows.texts], return_inverse=True)[1]


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    box, task = Box(chosen.model, chosen.threads), load_task(chosen.task)
    tasks = [replace_template(task, template) for template in chosen.template] or [task]
    shots, measured = split(task, chosen)
    classes = len(task.labels)
    train: dict[int, list[FLOAT64]] = {seed: [] for seed in shots}  # one array a template, all columns
    picked: dict[tuple[int, int], list[INT64]] = {}  # (seed, tokens) -> columns of each template
    test: list[NDArray[np.float32]] = []
    places: list[dict[int, int]] = []  # where a column stands in the test scores
    for one in tasks:
        words = box.words(one)
        for seed, rows in shots.items():
            train[seed].append(box.scores(rows, one, None).astype(np.float64))
            for count in chosen.tokens:
                width = train[seed][-1].shape[1]
                ids = np.arange(width) if box.model.pooling else likely_tokens(train[seed][-1], count, words)
                picked.setdefault((seed, count), []).append(ids)
        union = np.unique(np.concatenate([columns[-1] for columns in picked.values()]))
        test.append(box.scores(measured, one, union))
        places.append({int(column): place for place, column in enumerate(union)})
    results: dict[str, Any] = {}
    for (seed, count), columns in picked.items():
        for prompts in sorted({1, len(tasks)}):
            fitted = [train[seed][m][:, columns[m]] for m in range(prompts)]
            new = [test[m][:, [places[m][int(c)] for c in columns[m]]].astype(np.float64) for m in range(prompts)]
            rows = shots[seed]
            choice = choose(fitted, rows.labels, classes, groups=groups_of(rows), columns=columns[:prompts])
            found = cell(choice, new, rows, measured, classes)
            found["calls"] = prompts * math.ceil(len(rows.labels) / 32)
            results.setdefault(f"{prompts} prompt{'s' * (prompts > 1)}, {count} tokens", {})[str(seed)] = found
    return {"options": {k: str(v) for k, v in vars(chosen).items()}, "rows": len(measured.labels), "results": results}


def table(report: dict[str, Any]) -> str:
    """One line a setting and kind: means over the seeds, and the range of the accuracy."""
    lines = [
        f"{report['rows']} rows",
        "| | calls | accuracy | NLL | ECE | left out | coverage, set size |",
        "|" + "---|" * 7,
    ]
    for setting, seeds in report["results"].items():
        cells = list(seeds.values())
        for kind in KINDS:
            if any(kind not in c for c in cells):
                continue
            mean = {name: np.mean([c[kind][name] for c in cells]) for name in cells[0][kind] if name != "penalty"}
            each = [100 * c[kind]["accuracy"] for c in cells]
            calls = 0 if kind == "none" else cells[0]["calls"]
            accuracy = f"{np.mean(each):.1f} [{min(each):.1f}-{max(each):.1f}]"
            lines.append(
                f"| {setting}: {kind} | {calls} | {accuracy} | {mean['nll']:.3f} | "
                f"{mean['ece']:.3f} | {mean['left_out']:.3f} | {mean['coverage']:.3f}, {mean['set_size']:.2f} |"
            )
        kinds = [c["chosen"] for c in cells]
        best = np.mean(
            [[c[c["chosen"]][name] for name in ("accuracy", "nll", "ece", "coverage")] for c in cells], axis=0
        )
        lines.append(
            f"| {setting}: chosen ({', '.join(kinds)}; p {', '.join(str(c['p_value']) for c in cells)}) | | "
            f"{100 * best[0]:.1f} | {best[1]:.3f} | {best[2]:.3f} | | {best[3]:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    chosen = options()
    report = run(chosen)
    print(table(report))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
