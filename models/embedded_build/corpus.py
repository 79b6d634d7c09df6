"""The pretraining text: WordNet's glosses and relations, without what the tasks hold out.

Five sections, each in WordNet's file order, one line a text:

    definitions   the act of conquering .
    names         conquest , conquering , subjection : the act of conquering .
    examples      the conquest of space .
    relations     conquest is a kind of success .
    questions     is conquest a kind of success ? yes

What is left out, for every synset in a row of `supersense` (train, dev and test), which includes the
second noun of every row of `hyponym`:

    1. its definition, its name line and its usage examples;
    2. every relation line and question of which it is the subject or the object;
    3. every name line, relation line and question whose subject bears one of its names, even for another sense;
    4. every line of any section that contains its definition as a part.

A held-out name may still occur within the definitions, the examples and the objects of kept synsets.

    python -m embedded_build.corpus    prints the sections' sizes
"""

import random
from collections import Counter
from collections.abc import Iterable

from embedded_build.tasks import held_out, normalised
from embedded_build.wordnet import HYPERNYM, INSTANCE_HYPERNYM, Key, Synset, WordNet, load

SECTIONS = ("definitions", "names", "examples", "relations", "questions")
SEED = 20260

# (part of speech, pointer symbols, template): {a} is the synset that owns the pointer.
RELATIONS = (
    ("n", (HYPERNYM,), "{a} is a kind of {b}"),
    ("n", (INSTANCE_HYPERNYM,), "{a} is a {b}"),
    ("n", ("#m",), "{a} is a member of {b}"),
    ("n", ("#p",), "{a} is a part of {b}"),
    ("n", ("#s",), "{a} is a substance in {b}"),
    ("v", (HYPERNYM,), "to {a} is to {b}"),
    ("v", ("*",), "to {a} is also to {b}"),
    ("v", (">",), "to {a} can make {b}"),
    ("n", ("!",), "{a} is the opposite of {b}"),
    ("a", ("!",), "{a} is the opposite of {b}"),
    ("a", ("&",), "{a} is like {b}"),
    ("r", ("!",), "{a} is the opposite of {b}"),
)  # fmt: skip

_SHINGLE = 4  # words; no held-out definition is shorter


class HeldOut:
    """What may not be said: the held-out synsets, their names and their definitions."""

    def __init__(self, synsets: Iterable[Synset]) -> None:
        self.keys: set[Key] = set()
        self.names: set[str] = set()
        self._definitions: dict[str, list[str]] = {}  # by their first four words
        for synset in synsets:
            self.keys.add(synset.key)
            self.names |= {name.lower() for name in synset.names}
            text = normalised(synset.definition)
            self._definitions.setdefault(" ".join(text.split()[:_SHINGLE]), []).append(text)

    def quoted_in(self, line: str) -> bool:
        """Whether a held-out definition is a part of the line."""
        text = normalised(line)
        words = text.split()
        shingles = (" ".join(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1))
        return any(d in text for shingle in shingles for d in self._definitions.get(shingle, ()))

    def names_any(self, names: Iterable[str]) -> bool:
        """Whether one of these names is a name of a held-out synset."""
        return not self.names.isdisjoint(name.lower() for name in names)


def all_held_out(wordnet: WordNet) -> HeldOut:
    """The synsets that the embedded tasks hold out, of every split."""
    by_split = held_out(wordnet).values()
    return HeldOut(s for by_label in by_split for chosen in by_label.values() for s in chosen)


def relation_lines(wordnet: WordNet, synset: Synset, out: HeldOut) -> list[str]:
    """The relation lines that a kept synset is the subject of.

    Names take turns (the i-th line has the synset's i-th name), so that every name is a subject somewhere.
    """
    names = [name for name in synset.names if not out.names_any([name])]
    lines: list[str] = []
    for pos, symbols, template in RELATIONS:
        if pos != synset.key[0] or not names:
            continue
        for key in synset.targets(*symbols):
            if key not in out.keys:
                a = names[len(lines) % len(names)]
                lines.append(template.format(a=a, b=wordnet[key].names[0]))
    if len(names) > 1 and lines:  # the relation that says most, the first, for a second name
        key_names = lines[0].replace(names[0], names[1], 1)
        lines.append(key_names)
    return lines


def question_lines(wordnet: WordNet, out: HeldOut) -> list[str]:
    """`is a a kind of b ? yes | no`, as many of each.

    They are there so that the model has met the words yes and no. As in the task, a "no" has the same
    object as a "yes" and a subject of the same lexicographer file that is not below it.
    """
    draw = random.Random(SEED)
    nouns = [s for s in wordnet if s.key[0] == "n" and s.key not in out.keys and not out.names_any(s.names)]
    same_file: dict[int, list[Synset]] = {}
    for synset in nouns:
        same_file.setdefault(synset.lexfile, []).append(synset)
    lines = []
    for synset in nouns:
        parents = [key for key in synset.parents if key not in out.keys]
        twin = draw.choice(same_file[synset.lexfile])
        if draw.random() < 0.25 and parents and not set(parents) & (wordnet.ancestors(twin.key) | {twin.key}):
            general = wordnet[parents[0]].names[0]
            lines.append(f"is {draw.choice(synset.names)} a kind of {general} ? yes")
            lines.append(f"is {draw.choice(twin.names)} a kind of {general} ? no")
    return lines


def build(wordnet: WordNet, out: HeldOut) -> dict[str, list[str]]:
    """The sections' lines, without duplicates, in file order."""
    lines: dict[str, dict[str, None]] = {section: {} for section in SECTIONS}
    for synset in wordnet:
        if synset.key in out.keys:
            continue
        lines["definitions"][synset.definition] = None
        lines["examples"].update(dict.fromkeys(synset.examples))
        lines["relations"].update(dict.fromkeys(relation_lines(wordnet, synset, out)))
        if not out.names_any(synset.names):
            lines["names"][f"{' , '.join(synset.names[:3])} : {synset.definition}"] = None
    lines["questions"].update(dict.fromkeys(question_lines(wordnet, out)))
    return {section: [_ended(text) for text in found if not out.quoted_in(text)] for section, found in lines.items()}


def _ended(text: str) -> str:
    """A definition or a sentence with its full stop; a question's answer and an exclamation need none."""
    return text if text.endswith((".", "!", "?", " yes", " no")) else f"{text} ."


def main() -> None:
    wordnet = load()
    sections = build(wordnet, all_held_out(wordnet))
    for section, lines in sections.items():
        print(f"{section:12} {len(lines):7} lines {sum(len(line.split()) for line in lines):8} words")
    kinds = Counter(" ".join(line.split()[-1:]) for line in sections["relations"])
    print("most frequent objects:", kinds.most_common(12))


if __name__ == "__main__":
    main()
