"""Label texts with a baked file: ONNX Runtime, tokenizers and NumPy, nothing else.

python examples/baked.py FILE.onnx TOKENIZER.json "a text" "another text"
"""

import json
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
tokenizer = Tokenizer.from_file(sys.argv[2])
tokenizer.no_padding()
tokenizer.no_truncation()
tokenizer.encode_special_tokens = True  # "[MASK]" inside a text is text


def tokens(piece: int | str, text: str) -> list[int]:
    if isinstance(piece, int):
        return [piece]
    return tokenizer.encode(piece.replace("{text}", text.strip()), add_special_tokens=False).ids


recipes = json.loads(about["rows"]) if "rows" in about else [json.loads(about["row"])]  # one for each template
rows = [[i for piece in recipe for i in tokens(piece, text)] for text in sys.argv[3:] for recipe in recipes]
length = max(map(len, rows))  # must not pass int(about["max_length"])
input_ids = np.array([row + [0] * (length - len(row)) for row in rows], np.int64)
attention_mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], np.int64)
if "rows" in about:  # several templates: (texts, templates, length)
    input_ids, attention_mask = (a.reshape(-1, len(recipes), length) for a in (input_ids, attention_mask))
[probabilities] = session.run(["probabilities"], {"input_ids": input_ids, "attention_mask": attention_mask})
for row in probabilities:
    print(json.dumps(dict(zip(json.loads(about["labels"]), row.tolist()))))
