"""The recipe: WordNet is read rightly, and nothing of a held-out synset is in the pretraining text."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import zopog_models

sys.path.append(str(Path(zopog_models.__file__).parent.parent))  # the recipe stands beside the package
pytest.importorskip("embedded_build", reason="the recipe is in the repository, not in the distribution")

from embedded_build import batches, corpus, tasks, wordnet, wordpiece

LINE = (
    "02692232 06 n 02 airport 0 airdrome 1 002 @ 02686568 n 0000 %p 03286383 n 0000 "
    '| an airfield with a control tower and "hangars"; often busy; "the airport was closed"; "a small one"  '
)
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def net() -> wordnet.WordNet:
    if not (wordnet.DEFAULT_FOLDER / "data.noun").is_file():
        pytest.skip("WordNet 3.0 is not installed (Debian: wordnet-base)")
    return wordnet.load()


@pytest.fixture(scope="module")
def splits(net: wordnet.WordNet) -> dict[str, dict[str, list[wordnet.Synset]]]:
    return tasks.held_out(net)


@pytest.fixture(scope="module")
def sections(net: wordnet.WordNet) -> dict[str, list[str]]:
    return corpus.build(net, corpus.all_held_out(net))


def test_a_line_is_read() -> None:
    synset = wordnet.parse_line(LINE)
    assert synset.key == ("n", 2692232)
    assert synset.lexfile == 6
    assert synset.names == ("airport", "airdrome")
    assert synset.parents == (("n", 2686568),)
    assert synset.targets("%p") == (("n", 3286383),)
    assert synset.definition == 'an airfield with a control tower and "hangars"; often busy'
    assert synset.examples == ("the airport was closed", "a small one")


def test_missing_wordnet_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        wordnet.load(tmp_path)


def test_committed_tasks_are_what_the_recipe_makes(
    net: wordnet.WordNet, splits: dict[str, dict[str, list[wordnet.Synset]]], tmp_path: Path
) -> None:
    made = {
        "supersense": (("text", "label"), tasks.supersense(splits)),
        "organism": (("text", "label"), tasks.organism(net, splits)),
        "hyponym": (("text_a", "text_b", "label"), tasks.hyponym(net, splits)),
    }
    for name, (header, rows) in made.items():
        for split in SPLITS:
            tasks.write_tsv(tmp_path / "made.tsv", header, rows[split])
            assert (tmp_path / "made.tsv").read_bytes() == (tasks.TASKS / f"{name}.{split}.tsv").read_bytes()


def test_organism_labels_are_true(net: wordnet.WordNet, splits: dict[str, dict[str, list[wordnet.Synset]]]) -> None:
    """By a walk up the hypernyms of its own: the label is met, and none of the other five."""
    by_text = {s.definition: s for by in splits.values() for held in by.values() for s in held}
    for rows in tasks.organism(net, splits).values():
        for text, label in rows:
            level, met = [by_text[text]], set()
            while level:
                level = [net[key] for synset in level for key in synset.parents]
                met |= {synset.names[0] for synset in level}
            assert met & {"bird", "fish", "mammal", "herb", "shrub", "tree"} == {label}, text


def test_hyponym_labels_are_true(net: wordnet.WordNet, splits: dict[str, dict[str, list[wordnet.Synset]]]) -> None:
    by_text = {f"{s.names[0]} , {s.definition}": s for by in splits.values() for held in by.values() for s in held}
    for split, rows in tasks.hyponym(net, splits).items():
        for general, text, label in rows:
            above = net.ancestors(by_text[text].key)
            named = any(general in net[key].names for key in above)
            assert named == (label == "yes"), (split, general, text)


def leaks(lines: list[str], definitions: set[str]) -> Iterator[str]:
    """The lines that hold a definition: an independent search, over all word windows of each length."""
    lengths = sorted({len(d.split()) for d in definitions})
    for line in lines:
        words = tasks.normalised(line).split()
        for n in lengths:
            if any(" ".join(words[i : i + n]) in definitions for i in range(len(words) - n + 1)):
                yield line
                break


def test_no_held_out_definition_is_in_the_corpus(
    splits: dict[str, dict[str, list[wordnet.Synset]]], sections: dict[str, list[str]]
) -> None:
    definitions = {tasks.normalised(s.definition) for by in splits.values() for held in by.values() for s in held}
    assert len(definitions) == 6 * (400 + 250 + 500)
    for lines in sections.values():
        assert next(leaks(lines, definitions), None) is None
    planted = [f"thing : {next(iter(definitions)).upper()} and more"]
    assert list(leaks(planted, definitions)) == planted


def subject(relation: str) -> str:
    """What a relation line is about: the first or the last part, as its pattern says."""
    for words, place in ((" such as ", 1), (" or another ", 0), (" , especially ", 1), (" , a ", 0), (" is a ", 0)):
        parts = relation.removesuffix(" .").split(words)
        if len(parts) == 2:
            return parts[place].lower()
    raise ValueError(f"no pattern fits {relation!r}")


def test_no_relation_line_is_about_a_held_out_synset(
    net: wordnet.WordNet, splits: dict[str, dict[str, list[wordnet.Synset]]], sections: dict[str, list[str]]
) -> None:
    held = [s for by in splits.values() for chosen in by.values() for s in chosen]
    names = {name.lower() for s in held for name in s.names}
    subjects = {subject(line) for line in sections["relations"]}
    assert names.isdisjoint(subjects)
    assert "oak" not in names
    assert "oak" in subjects, "the search can find a name"

    kept_lines = set(sections["relations"])
    for synset in held:
        for parent in synset.parents:
            for pattern in (*corpus.HEARST, "{a} is a {b}"):
                line = pattern.format(a=synset.names[0], b=net[parent].names[0])
                assert f"{line} ." not in kept_lines


def test_the_manual_template_is_not_in_the_corpus(sections: dict[str, list[str]]) -> None:
    """Relations are not written as the manual prompt asks for them: what it reaches is not trained for."""
    assert not any("it is a kind of" in line.lower() for line in sections["relations"])


def test_without_the_held_out_set_the_corpus_would_leak(
    net: wordnet.WordNet, splits: dict[str, dict[str, list[wordnet.Synset]]]
) -> None:
    some = splits["test"]["food"][:50]
    lines = corpus.build(net, corpus.HeldOut([]))
    assert all(any(s.definition in line for line in lines["definitions"]) for s in some)


def test_vocabulary_learning_merges_the_most_frequent_pair_and_breaks_ties_by_name() -> None:
    assert wordpiece.spell("cab") == ["c", "##a", "##b"]
    assert wordpiece.merge(["a", "##a", "##a"], ("a", "##a"), "aa") == ["aa", "##a"]
    words = {"low": 5, "lot": 2, "newt": 3, "new": 3}
    learned = wordpiece.learn(words, 13, ["[UNK]"])
    letters = ["##e", "##o", "##t", "##w", "l", "n"]
    # lo 7; then ne and ##ew tie at 6: "##e" sorts before "n"; then lo+w 5 ...
    assert learned == ["[UNK]", *letters, "lo", "##ew", "new", "low", "newt", "lot"]
    assert wordpiece.learn(dict(reversed(words.items())), 13, ["[UNK]"]) == learned


def test_batches_mask_and_move_as_they_say() -> None:
    rng = np.random.default_rng(0)
    lines = [rng.integers(5, 100, size=rng.integers(4, 40)).tolist() for _ in range(3000)]
    shape = batches.Batching()
    packed = batches.pack(lines, shape.packed_lengths, rng)
    assert [i for row in packed for i in row] == [i for line in lines for i in line]
    assert max(map(len, packed)) < shape.packed_lengths[1]

    stream = batches.batches({"all": lines}, shape, 100, seed=3)
    again = batches.batches({"all": lines}, shape, 100, seed=3)
    chosen = words = 0
    starts = set()
    for _ in range(40):
        batch = next(stream)
        assert all(np.array_equal(a, b) for a, b in zip(vars(batch).values(), vars(next(again)).values(), strict=True))
        assert batch.positions.max() < shape.max_positions
        assert np.all(batch.positions[:, 0] == 0)
        starts |= set(batch.positions[:, 1].tolist())
        predicted = batch.targets != batches.IGNORE
        assert not np.any(predicted & (batch.attention_mask == 0))
        assert not np.any(predicted[:, 0])
        chosen += int(predicted.sum())
        words += int(batch.attention_mask.sum()) - 2 * len(batch.ids)
    assert abs(chosen / words - shape.mask_share) < 0.01
    assert {1, 2, 20, 50} <= starts


def test_lines_stay_in_file_order_when_packed() -> None:
    rows = batches.pack([[i] * 10 for i in range(5, 60)], (48, 184), np.random.default_rng(1))
    assert all(a[-1] < b[0] for a, b in pairwise(rows))
