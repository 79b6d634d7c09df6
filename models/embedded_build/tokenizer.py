"""Trains the WordPiece tokenizer on the pretraining text, and writes it as BERT's.

The vocabulary is learned by wordpiece.py, so that the same text always gives the same file.

    python -m embedded_build.tokenizer
"""

import json
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from embedded_build.corpus import all_held_out, build
from embedded_build.paths import MODEL
from embedded_build.tasks import LABELS
from embedded_build.wordnet import load
from embedded_build.wordpiece import learn

VOCABULARY = 8192
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # ids 0 to 4
LABEL_WORDS = [*LABELS.values(), "true", "false"]
MAX_POSITIONS = 192


def train(lines: Iterable[str]) -> Tokenizer:
    """A lower-casing WordPiece tokenizer with BERT's special tokens and post-processor.

    Raises ValueError when a label word of the embedded tasks is not one token.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for line in lines:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(line)))
    vocabulary = {piece: i for i, piece in enumerate(learn(words, VOCABULARY, SPECIAL))}

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL)
    cls, sep = ("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[cls, sep]
    )
    for word in LABEL_WORDS:
        pieces = tokenizer.encode(word, add_special_tokens=False).tokens
        if pieces != [word]:
            raise ValueError(f"label word {word!r} is {pieces}, expected one token: enlarge the vocabulary")
    return tokenizer


def main() -> None:
    wordnet = load()
    sections = build(wordnet, all_held_out(wordnet))
    tokenizer = train(line for lines in sections.values() for line in lines)
    MODEL.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(MODEL / "tokenizer.json"))
    config = {
        "tokenizer_class": "BertTokenizerFast",
        "do_lower_case": True,
        "model_max_length": MAX_POSITIONS,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    (MODEL / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"{tokenizer.get_vocab_size()} tokens; label words one token each: {' '.join(LABEL_WORDS)}")


if __name__ == "__main__":
    main()
