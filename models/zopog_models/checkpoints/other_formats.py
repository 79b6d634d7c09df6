"""Model folders of other formats: which one it is, by the names of its files, and what makes of it one that is read."""

import re
from pathlib import Path

__all__ = ["how_to_convert"]

_SAVE = "AutoModelFor{MaskedLM or CausalLM}.from_pretrained(FOLDER%s).save_pretrained(FOLDER) in transformers writes it"
# Of a folder without model.safetensors: file names -> what they are.
_WEIGHTS = {
    r"adapter_config\.json|adapter_model\..*": "it holds a PEFT adapter: merge it into its base model with "
    "model.merge_and_unload().save_pretrained(FOLDER), and give that folder",
    r".*\.(bin|pt|pth|ckpt)": f"its weights are pickled (.bin), which is never opened here: {_SAVE % ''}",
    r".*\.gguf": "it holds a GGUF file: give the file itself, FOLDER/FILE.gguf; of an architecture that is not "
    "read here, it can be served with llama-server, as completions+http://...",
    r".*\.h5": f"its weights are TensorFlow's: {_SAVE % ', from_tf=True'}",
    r".*\.msgpack": f"its weights are Flax's: {_SAVE % ', from_flax=True'}",
    r".*\.onnx": "it holds an ONNX file, of which inputs are not known here: give the model it was made from",
    r".*\.safetensors": "its weights have another name: rename them, if they are one whole model",
}  # fmt: skip
_TOKENIZER = {
    r"vocab\.txt|vocab\.json|merges\.txt|.*\.model|tekken\.json": "its tokenizer is of the older kind: "
    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) in transformers writes tokenizer.json",
}


def how_to_convert(folder: Path, missing: str) -> str:
    """What to do about a file that a model folder lacks, as the end of a message; "" where its files tell nothing."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return ""
    # An adapter's folder lacks config.json, and the weights are what it has to say.
    hints = _TOKENIZER if missing == "tokenizer.json" else _WEIGHTS
    for pattern, hint in hints.items():
        if any(re.fullmatch(pattern, name) for name in names):
            return f"; {hint}"
    return ""
