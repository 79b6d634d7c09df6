"""The PyTorch side of `zopog bench loss`: the same loss evaluation in PyTorch and transformers. Development only.

    zopog bench loss --peer "/path/to/python benchmarks/loss_peer.py"

Computes what the official ZO-PoG code computes for one loss: the whole encoder at every position of the batch, the soft
prompt added to the embeddings' output through a zero-padded tensor of the full length, the vocabulary-wide head at the
mask position, then the label words' entries. As the official loader does, rows are padded to one length (here they have
it). The attention is the eager one, which is what the official code's version of transformers has; --attention sdpa
and --dtype bfloat16 show what a rewritten PyTorch side could gain (in bfloat16 the logits differ visibly).

Protocol: prints a JSON object once ready; then, for every line on stdin, evaluates once and prints
{"seconds": ..., "logits": [[...], ...]}.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers


class LossEvaluation:
    """One prompt on one mini-batch; what the official loop prepares outside the evaluation is prepared here."""

    def __init__(self, model: Any, inputs: Mapping[str, np.ndarray]) -> None:
        text = torch.from_numpy(inputs["text_ids"])
        self.batch = len(text)
        prompt = torch.from_numpy(inputs["prompt_ids"]).expand(self.batch, -1)
        self.n = prompt.shape[1]
        self.ids = torch.cat([text[:, :1], prompt, text[:, 1:]], dim=1)  # (B, S)
        self.mask = torch.ones_like(self.ids)
        self.mask_position = torch.from_numpy(inputs["answer_position"]) + self.n
        self.label_ids = torch.from_numpy(inputs["label_ids"])
        self.soft_prompt = torch.from_numpy(inputs["prompt_offset"]).to(model.dtype)  # (1, n, D)
        self.model = model
        model.base_model.embeddings.register_forward_hook(self._add_soft_prompt)
        self.head = model.lm_head if hasattr(model, "lm_head") else model.cls

    def _add_soft_prompt(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        prompt = self.soft_prompt.expand(self.batch, -1, -1)
        padding = torch.zeros(self.batch, output.shape[1] - self.n - 1, output.shape[2], dtype=output.dtype)
        first = torch.zeros(self.batch, 1, output.shape[2], dtype=output.dtype)
        return output + torch.cat([first, prompt, padding], dim=1)

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        hidden = self.model.base_model(input_ids=self.ids, attention_mask=self.mask).last_hidden_state  # (B, S, D)
        scores = self.head(hidden[torch.arange(self.batch), self.mask_position])  # (B, V)
        return scores[:, self.label_ids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=Path, required=True, help="folder with a model and inputs.npz")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForMaskedLM.from_pretrained(
        options.worker, dtype=getattr(torch, options.dtype), attn_implementation=options.attention
    ).eval()
    with np.load(options.worker / "inputs.npz") as file:
        evaluate = LossEvaluation(model, dict(file))
    about = {
        "runtime": "PyTorch",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "attention": options.attention,
        "dtype": options.dtype,
    }
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        logits = evaluate()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "logits": logits.float().tolist()}), flush=True)


if __name__ == "__main__":
    main()
