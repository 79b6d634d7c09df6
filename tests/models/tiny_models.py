"""Model folders small enough to make in a test: random weights, a tokenizer trained on a few sentences."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.families import Config, family_of
from zopog_models.files.tensor_file import write_tensors

SENTENCES = [
    "a small furry animal that likes to sleep .",
    "a large city near the sea , with many people",
    "it is a kind of animal . it was great !",
    "a person who works in a large city",
    "the food was terrible , the people were great",
    "a plant with green leaves and a small yellow flower",
    "it was a terrible place ? yes , no , maybe .",
    "an object made of wood , used to cut food",
]

ROBERTAS = ("roberta", "xlm-roberta", "camembert", "mpnet")  # their tokens, and positions from pad_token_id + 1


def tokenizer_for(family: str) -> Tokenizer:
    if family == "albert":
        specials = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        words = sorted({"▁" + word for sentence in SENTENCES for word in sentence.split()})
        letters = sorted({letter for word in words for letter in word})
        scores = [*((s, 0.0) for s in specials), *((w, -5.0) for w in words), *((c, -9.0) for c in letters)]
        scores = list({text: (text, score) for text, score in reversed(scores)}.values())[::-1]  # each text once
        tokenizer = Tokenizer(models.Unigram(scores, unk_id=1, byte_fallback=False))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.add_special_tokens(specials)
        return tokenizer
    if family not in ROBERTAS:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trainer = trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return tokenizer


def config_for(family: str, vocab_size: int, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": family,
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 66 if family in ROBERTAS else 64,
        "type_vocab_size": 1 if family in ROBERTAS else 2,
        "layer_norm_eps": 1e-5 if family in ROBERTAS else 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 1 if family in ROBERTAS else 0,
    }
    if family == "distilbert":
        names = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
        names |= {"hidden_dim": "intermediate_size", "activation": "hidden_act"}
        config |= {own: config.pop(name) for own, name in names.items()}
        del config["type_vocab_size"], config["layer_norm_eps"]
    elif family == "electra":
        config |= {"embedding_size": 16, "summary_type": "first"}
    elif family == "albert":
        config |= {"embedding_size": 16, "hidden_act": "gelu_new", "num_hidden_groups": 1, "inner_group_num": 1}
    elif family == "mpnet":
        del config["type_vocab_size"]
    elif family == "modernbert":
        config |= {"hidden_activation": config.pop("hidden_act"), "norm_eps": config.pop("layer_norm_eps")}
        # A window smaller than the tests' rows, and two bases.
        config |= {"local_attention": 8, "global_rope_theta": 160000.0, "local_rope_theta": 100.0}
        del config["type_vocab_size"]
    return config | changes


def write_model(folder: Path, family: str, seed: int = 0, **changes: Any) -> Path:
    """A model folder. Weights are large enough for every part to matter in the fifth digit of a logit."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(family)
    config = config_for(family, tokenizer.get_vocab_size(), **changes)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tensors(folder / "model.safetensors", random_tensors(config, seed))
    load_checkpoint(folder)
    return folder


def random_tensors(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    read = Config(Path("config.json"), config)
    family = family_of(read)
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in family.shapes(family.read(read)).items():
        values = rng.normal(0, 0.2, shape)
        if name.lower().endswith("norm.weight"):
            values += 1
        tensors[name] = values.astype(np.float32)
    return tensors
