"""Makes the embedded tasks, `supersense`, `organism` and `hyponym`, and says which synsets they hold out.

supersense: a noun's definition -> the kind of thing it defines, by lexicographer file.

organism: the definition of an animal or a plant -> which of six kinds of it is meant, by hypernyms. Its
rows are rows of supersense in the same split, so the task costs no pretraining text of its own.

hyponym: does the second noun name a kind of the first? The second noun (with its definition) is a
synset that supersense holds out in the same split, so the task costs no pretraining text of its own.
A "yes" row (g, s) has g one to three hypernym steps above s. Its "no" twin (g, t) has the same g and
another synset t of the same lexicographer file and about the same depth that is no kind of g. So each
first noun stands in as many "yes" as "no" rows, and neither noun alone tells the label.

    python -m embedded_build.tasks
"""

import random
from collections import Counter
from pathlib import Path

from embedded_build.paths import TASKS
from embedded_build.wordnet import LEXFILES, Key, Synset, WordNet, load

SEED = 20250
LABELS = {"animal": "animal", "person": "person", "food": "food", "plant": "plant",
          "location": "place", "artifact": "object"}  # lexicographer file -> label  # fmt: skip
PER_CLASS = {"test": 500, "dev": 250, "train": 400}
ORGANISMS = ("bird", "fish", "mammal", "herb", "shrub", "tree")  # hypernyms, and the labels
ORGANISM_ROWS = {"test": 49, "dev": 21, "train": 37}  # a class: as many as the rarest has
HYPONYM_ROWS = {"test": 1000, "dev": 400, "train": 1000}
WORDS = range(4, 36)  # a shorter definition is trivial, a longer one does not fit beside a prompt

Row = tuple[str, ...]
Splits = dict[str, list[Row]]


def normalised(text: str) -> str:
    """Lower case, single blanks: two texts that the model could not tell apart are the same text."""
    return " ".join(text.lower().split())


def eligible(wordnet: WordNet) -> dict[str, list[Synset]]:
    """The synsets of each label whose definition may become a row.

    Left out: definitions that are too short or too long, that hold a tab or a quotation mark, or that
    any other synset of WordNet shares; and synsets of which a name is a label word (`plant`, the actor
    in the audience), since a held-out name is never the subject of a pretraining sentence.
    """
    count = Counter(normalised(synset.definition) for synset in wordnet)
    label_words = {word.lower() for word in LABELS.values()}
    pools: dict[str, list[Synset]] = {label: [] for label in LABELS.values()}
    for synset in wordnet:
        name = LEXFILES.get(synset.lexfile)
        if synset.key[0] != "n" or name not in LABELS:
            continue
        text = synset.definition
        if len(text.split()) not in WORDS or count[normalised(text)] > 1 or "\t" in text or '"' in text:
            continue
        if label_words.isdisjoint(n.lower() for n in synset.names):
            pools[LABELS[name]].append(synset)
    return pools


def held_out(wordnet: WordNet) -> dict[str, dict[str, list[Synset]]]:
    """split -> label -> the synsets that the tasks hold out, drawn once from SEED."""
    draw = random.Random(SEED)
    splits: dict[str, dict[str, list[Synset]]] = {split: {} for split in PER_CLASS}
    for label, pool in eligible(wordnet).items():
        chosen = draw.sample(sorted(pool, key=lambda s: s.key), sum(PER_CLASS.values()))
        for split, size in PER_CLASS.items():
            splits[split][label], chosen = chosen[:size], chosen[size:]
    return splits


def supersense(splits: dict[str, dict[str, list[Synset]]]) -> Splits:
    """(definition, label) rows of each split, in a random order."""
    draw = random.Random(SEED + 1)
    rows: Splits = {}
    for split, by_label in splits.items():
        rows[split] = [(s.definition, label) for label, chosen in by_label.items() for s in chosen]
        draw.shuffle(rows[split])
    return rows


def organism(wordnet: WordNet, splits: dict[str, dict[str, list[Synset]]]) -> Splits:
    """(definition, kind) rows of each split, as many of each kind, in a random order."""
    draw = random.Random(SEED + 3)
    rows: Splits = {}
    for split, by_label in splits.items():
        kinds: dict[str, list[Synset]] = {kind: [] for kind in ORGANISMS}
        for synset in [*by_label["animal"], *by_label["plant"]]:
            above = {wordnet[key].names[0] for key in wordnet.ancestors(synset.key)}
            found = [kind for kind in ORGANISMS if kind in above]
            if len(found) == 1:
                kinds[found[0]].append(synset)
        rows[split] = [
            (synset.definition, kind)
            for kind, chosen in kinds.items()
            for synset in draw.sample(chosen, ORGANISM_ROWS[split])
        ]
        draw.shuffle(rows[split])
    return rows


def _is_kind_of(wordnet: WordNet, senses: dict[str, list[Key]], name: str, general: str) -> bool:
    """Whether any sense of `name` is below any sense of `general`."""
    above = frozenset(senses[general.lower()])
    return any(above & (wordnet.ancestors(key) | {key}) for key in senses[name.lower()])


def hyponym(wordnet: WordNet, splits: dict[str, dict[str, list[Synset]]]) -> Splits:
    """(general noun, `noun , definition`, yes | no) rows of each split, balanced."""
    draw = random.Random(SEED + 2)
    senses: dict[str, list[Key]] = {}
    for synset in wordnet:
        if synset.key[0] == "n":
            for name in synset.names:
                senses.setdefault(name.lower(), []).append(synset.key)
    out = {s.key for by_label in splits.values() for chosen in by_label.values() for s in chosen}
    rows: Splits = {}
    for split, by_label in splits.items():
        pool = [s for chosen in by_label.values() for s in chosen]
        draw.shuffle(pool)
        twins: dict[tuple[int, int], list[Synset]] = {}
        for synset in pool:
            twins.setdefault((synset.lexfile, wordnet.depth(synset.key)), []).append(synset)
        used: set[Key] = set()
        rows[split] = []
        for synset in pool:
            general = _general(wordnet, synset, out, draw)
            if general is None or synset.key in used:
                continue
            depth = wordnet.depth(synset.key)
            candidates = [t for d in (depth, depth - 1, depth + 1) for t in twins.get((synset.lexfile, d), [])]
            for twin in candidates:
                if twin.key in used or twin is synset:
                    continue
                if not any(_is_kind_of(wordnet, senses, name, general) for name in twin.names):
                    used |= {synset.key, twin.key}
                    rows[split] += [_row(general, synset, "yes"), _row(general, twin, "no")]
                    break
            if len(rows[split]) >= HYPONYM_ROWS[split]:
                break
        draw.shuffle(rows[split])
    return rows


def _row(general: str, specific: Synset, label: str) -> Row:
    return general, f"{specific.names[0]} , {specific.definition}", label


def _general(wordnet: WordNet, synset: Synset, out: set[Key], draw: random.Random) -> str | None:
    """The first name of a kept synset one to three steps above, in the same lexicographer file."""
    level = list(synset.parents)
    found: list[Key] = []
    for _ in range(3):
        found += level
        level = [parent for key in level for parent in wordnet[key].parents]
    kept = [k for k in dict.fromkeys(found) if k not in out and wordnet[k].lexfile == synset.lexfile]
    return wordnet[draw.choice(kept)].names[0] if kept else None


def write_tsv(path: Path, header: Row, rows: list[Row]) -> None:
    """An unquoted, tab-separated UTF-8 file."""
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]), encoding="utf-8")


def main() -> None:
    wordnet = load()
    splits = held_out(wordnet)
    TASKS.mkdir(parents=True, exist_ok=True)
    for name, header, rows in (
        ("supersense", ("text", "label"), supersense(splits)),
        ("organism", ("text", "label"), organism(wordnet, splits)),
        ("hyponym", ("text_a", "text_b", "label"), hyponym(wordnet, splits)),
    ):
        for split, split_rows in rows.items():
            write_tsv(TASKS / f"{name}.{split}.tsv", header, split_rows)
            print(name, split, len(split_rows), dict(Counter(row[-1] for row in split_rows)))


if __name__ == "__main__":
    main()
