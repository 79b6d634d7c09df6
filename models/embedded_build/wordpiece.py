"""Trains a WordPiece vocabulary by merging the most frequent pair of pieces, deterministically.

The `tokenizers` trainer breaks ties in the order of a randomly seeded hash map, so two runs give two
vocabularies. Here ties go to the pair that comes first in alphabetical order.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise

Pair = tuple[str, str]


def spell(word: str) -> list[str]:
    """The word as single characters, those after the first with WordPiece's continuation mark."""
    return [word[0], *("##" + character for character in word[1:])]


def merge(pieces: list[str], pair: Pair, merged: str) -> list[str]:
    """The pieces with every occurrence of the pair, from the left, replaced by the merged piece."""
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] = merged
        else:
            out.append(piece)
    return out


def learn(words: Mapping[str, int], size: int, reserved: list[str], min_count: int = 2) -> list[str]:
    """A vocabulary of at most `size` pieces: `reserved` first, then the alphabet, then the merges.

    words: word -> count. A character seen fewer than `min_count` times is left to the unknown token.
    """
    spelled = [spell(word) for word in sorted(words)]
    counts = [words[word] for word in sorted(words)]
    alphabet: Counter[str] = Counter()
    pairs: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, pieces in enumerate(spelled):
        for piece in pieces:
            alphabet[piece] += counts[i]
        for pair in pairwise(pieces):
            pairs[pair] += counts[i]
            where[pair].add(i)
    letters = sorted(piece for piece, count in alphabet.items() if count >= min_count)
    vocabulary = dict.fromkeys([*reserved, *letters])
    queue = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(queue)
    while queue and len(vocabulary) < size:
        negative, pair = heapq.heappop(queue)
        if -negative != pairs[pair]:  # an outdated entry; the current count was pushed when it changed
            continue
        if -negative < min_count:
            break
        merged = pair[0] + pair[1].removeprefix("##")
        vocabulary[merged] = None
        touched: set[Pair] = set()
        for i in where.pop(pair):
            before, after = spelled[i], merge(spelled[i], pair, merged)
            for old in pairwise(before):
                pairs[old] -= counts[i]
                touched.add(old)
            for new in pairwise(after):
                pairs[new] += counts[i]
                where[new].add(i)
                touched.add(new)
            spelled[i] = after
        del pairs[pair]
        for changed in touched:
            if pairs.get(changed):
                heapq.heappush(queue, (-pairs[changed], changed))
    return list(vocabulary)
