"""Reads the WordNet 3.0 database files (format: wndb(5WN), lexnames(5WN)).

A line of data.POS is

    offset lexfile ss_type w_cnt word lex_id [word lex_id ...] p_cnt [pointer ...] [frames ...] | gloss

with `w_cnt` in hexadecimal, a pointer `symbol offset pos source/target`, and a gloss that holds the
definition and then, each in double quotes, usage examples.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEFAULT_FOLDER = Path("/usr/share/wordnet")

PARTS_OF_SPEECH = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}

# The lexicographer files that the tasks name, by number (lexnames(5WN)).
LEXFILES = {5: "animal", 6: "artifact", 13: "food", 15: "location", 18: "person", 20: "plant"}

HYPERNYM, INSTANCE_HYPERNYM = "@", "@i"

_ADJECTIVE_MARKER = re.compile(r"\((?:a|p|ip)\)$")

Key = tuple[str, int]  # (part of speech, offset): a synset's identity


@dataclass(frozen=True)
class Synset:
    """One synset: its names (underscores become spaces), its pointers and the two parts of its gloss."""

    key: Key
    lexfile: int
    names: tuple[str, ...]
    pointers: tuple[tuple[str, Key], ...]
    definition: str
    examples: tuple[str, ...]

    def targets(self, *symbols: str) -> tuple[Key, ...]:
        """The synsets that pointers with one of these symbols lead to, in file order."""
        return tuple(key for symbol, key in self.pointers if symbol in symbols)

    @property
    def parents(self) -> tuple[Key, ...]:
        """Direct hypernyms, of a class or of an instance."""
        return self.targets(HYPERNYM, INSTANCE_HYPERNYM)


def split_gloss(gloss: str) -> tuple[str, tuple[str, ...]]:
    """Cuts a gloss into the definition and the quoted usage examples.

    Examples are the segments after the first one that opens with a quotation mark; a quotation mark
    inside the definition (a title, a nickname) is part of the definition.
    """
    match = re.search(r'(?:^|[;:,.] *|\) *)"', gloss)
    definition = gloss if match is None else gloss[: match.start()]
    quoted = "" if match is None else gloss[match.start() :]
    examples = tuple(text.strip() for text in re.findall(r'"([^"]+)"', quoted) if text.strip())
    return " ".join(definition.split()).strip(" ;:"), examples


def parse_line(line: str) -> Synset:
    """One synset from one line of a data file."""
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    pos = "a" if fields[2] == "s" else fields[2]  # an adjective satellite lives in data.adj
    n_words = int(fields[3], 16)
    words = fields[4 : 4 + 2 * n_words : 2]
    start = 4 + 2 * n_words
    n_pointers = int(fields[start])
    pointers = []
    for i in range(n_pointers):
        symbol, offset, target_pos, _ = fields[start + 1 + 4 * i : start + 5 + 4 * i]
        pointers.append((symbol, ("a" if target_pos == "s" else target_pos, int(offset))))
    definition, examples = split_gloss(gloss.strip())
    names = tuple(_ADJECTIVE_MARKER.sub("", word).replace("_", " ") for word in words)
    return Synset((pos, int(fields[0])), int(fields[1]), names, tuple(pointers), definition, examples)


class WordNet:
    """All synsets by key, in file order (nouns, verbs, adjectives, adverbs)."""

    def __init__(self, synsets: list[Synset]) -> None:
        self.synsets = {synset.key: synset for synset in synsets}
        self._ancestors: dict[Key, frozenset[Key]] = {}
        self._depth: dict[Key, int] = {}

    def __iter__(self) -> Iterator[Synset]:
        return iter(self.synsets.values())

    def __getitem__(self, key: Key) -> Synset:
        return self.synsets[key]

    def ancestors(self, key: Key) -> frozenset[Key]:
        """Every synset that can be reached by hypernym pointers, without the synset itself."""
        if key not in self._ancestors:
            self._ancestors[key] = frozenset()  # guards against a cycle (data.verb has one)
            parents = self.synsets[key].parents
            self._ancestors[key] = frozenset(parents).union(*(self.ancestors(p) for p in parents))
        return self._ancestors[key]

    def depth(self, key: Key) -> int:
        """The length of the shortest hypernym path to a root."""
        if key not in self._depth:
            self._depth[key] = 0
            parents = self.synsets[key].parents
            self._depth[key] = 1 + min(self.depth(p) for p in parents) if parents else 0
        return self._depth[key]


def load(folder: Path = DEFAULT_FOLDER) -> WordNet:
    """Reads data.noun, data.verb, data.adj and data.adv.

    Raises FileNotFoundError, naming the Debian package, when the files are not there.
    """
    synsets = []
    for name in PARTS_OF_SPEECH:
        path = folder / f"data.{name}"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: WordNet 3.0 is not installed here; install it (Debian: apt install wordnet-base) "
                f"or pass the folder that holds data.noun"
            )
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence stands at the head, indented
                synsets.append(parse_line(line))
    return WordNet(synsets)
