"""What the room imports: nothing until it is needed, and neither PyTorch nor the onnx package ever."""

import subprocess
import sys
from pathlib import Path

LOADED = "import sys; print(sorted({name.split('.')[0] for name in sys.modules}))"
RUN = """
import numpy as np
from zopog_models import load_model, make_task, encode, label_ids
model = load_model({folder!r})
task = make_task("{{text}} it was {{mask}} .", {{"good": "great", "bad": "terrible"}})
rows = encode([("a city",)], task, model, 2)
print(model.logits(rows.ids, rows.answer_position, np.full((1, 2), 7), None, np.zeros(1, int), label_ids(task, model)))
"""


def modules_after(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code + LOADED], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_importing_the_room_loads_numpy_alone() -> None:
    loaded = modules_after("import zopog_models\n")
    assert "'numpy'" in loaded
    for name in ("onnxruntime", "tokenizers", "onnx", "torch", "zopog_ref"):
        assert f"'{name}'" not in loaded


def test_running_a_model_needs_neither_torch_nor_onnx(folder: Path) -> None:
    loaded = modules_after(RUN.format(folder=str(folder)))
    assert "'onnxruntime'" in loaded  # the twin: what is loaded is seen
    for name in ("onnx", "torch", "transformers", "zopog_ref"):
        assert f"'{name}'" not in loaded
