"""The pretraining text: WordNet's glosses and relations, without what the tasks hold out.

Three sections, each in WordNet's file order, one line a text:

    definitions   the act of conquering .
    examples      the conquest of space .
    relations     success such as conquest .

What is left out, for every synset in a row of `supersense` (train, dev and test), which includes the
second noun of every row of `hyponym`:

    1. its definition and its usage examples;
    2. every relation line of which it is the subject or the object;
    3. every relation line whose subject bears one of its names, even for another sense;
    4. every line of any section that contains its definition as a part.

A held-out name may still occur within the definitions, the examples and the objects of kept synsets.

    python -m embedded_build.corpus    prints the sections' sizes
"""

from collections import Counter
from collections.abc import Iterable

from embedded_build.tasks import held_out, normalised
from embedded_build.wordnet import HYPERNYM, INSTANCE_HYPERNYM, Key, Synset, WordNet, load

SECTIONS = ("definitions", "examples", "relations")

# What a noun's pointers become: {a} is the synset that owns the pointer, {b} the one above it. Hyponymy is written as
# in running text, in four of the patterns of Hearst (1992), which take turns.
HEARST = ("{b} such as {a}", "{a} or another {b}", "{b} , especially {a}", "{a} , a {b}")
RELATIONS = ((HYPERNYM, HEARST), (INSTANCE_HYPERNYM, ("{a} is a {b}",)))

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
    """The relation lines that a kept noun is the subject of: two for each pointer, or one if it has a single name.

    Its names and the patterns take turns, so that every name is a subject somewhere.
    """
    names = [name for name in synset.names if not out.names_any([name])]
    lines: list[str] = []
    if synset.key[0] != "n" or not names:
        return lines
    for symbol, patterns in RELATIONS:
        for key in synset.targets(symbol):
            if key not in out.keys:
                for _ in names[:2]:
                    turn = len(lines)
                    pattern = patterns[(synset.key[1] + turn) % len(patterns)]
                    lines.append(pattern.format(a=names[turn % len(names)], b=wordnet[key].names[0]))
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
    return {section: [_ended(text) for text in found if not out.quoted_in(text)] for section, found in lines.items()}


def _ended(text: str) -> str:
    """A definition or a sentence with its full stop; a question and an exclamation need none."""
    return text if text.endswith((".", "!", "?")) else f"{text} ."


def main() -> None:
    wordnet = load()
    sections = build(wordnet, all_held_out(wordnet))
    for section, lines in sections.items():
        print(f"{section:12} {len(lines):7} lines {sum(len(line.split()) for line in lines):8} words")
    kinds = Counter(" ".join(line.split()[-1:]) for line in sections["relations"])
    print("most frequent objects:", kinds.most_common(12))


if __name__ == "__main__":
    main()
