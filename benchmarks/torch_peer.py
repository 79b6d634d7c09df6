"""The PyTorch side of `zopog bench`: the same loss evaluation, iteration or run in PyTorch. Development only.

    zopog bench loss      --peer "/path/to/python benchmarks/torch_peer.py"
    zopog bench iteration --peer "/path/to/python benchmarks/torch_peer.py --attention sdpa --dtype bfloat16"
    zopog bench iteration --official PATH --official-python "/path/to/python"

Computes what the official ZO-PoG code computes for one loss: the whole encoder at every position of the batch, the soft
prompt added to the embeddings' output through a zero-padded tensor of the full length, the vocabulary-wide head at the
mask position, then the label words' entries. As the official loader does, rows are padded to one length (here they have
it). The attention is the eager one, which is what the official code's version of transformers has; --attention sdpa
and --dtype bfloat16 show what a rewritten PyTorch side could gain (in bfloat16 the logits differ visibly).
--official PATH takes the model from ZO-PoG's repository (models/modeling_roberta.py, in a Python where it imports:
transformers 4.36) instead of transformers'.

An iteration is the official one: 20 prompts one after the other and the policy gradient, then 10 antithetic pairs with
a direction for every row, each z through the projection A. A run repeats it until the budget is spent, with a dev score
(one more evaluation) after each. BBT's iteration is 20 candidates z on the whole batch; its CMA-ES, which would take
time, is left out.

Protocol: prints a JSON object once ready; then, for every line on stdin, does what it names and prints its answer.
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

DIM, SCALE, MU, ETA_ALPHA, ETA_Z = 500, 100.0, 0.01, 1e-3, 1e-2
POLICY_SAMPLES, PAIRS, POPULATION = 20, 10, 20


class HuggingFaceModel:
    """transformers' masked language model, with the soft prompt added behind the embeddings."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.model = transformers.AutoModelForMaskedLM.from_pretrained(
            options.worker, dtype=getattr(torch, options.dtype), attn_implementation=options.attention
        )
        self.model.eval().to(options.device)
        self.head = self.model.lm_head if hasattr(self.model, "lm_head") else self.model.cls
        self.words = self.model.get_input_embeddings().weight
        self.soft_prompt: torch.Tensor | None = None
        self.model.base_model.embeddings.register_forward_hook(self._add_soft_prompt)

    def _add_soft_prompt(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        assert self.soft_prompt is not None
        prompt = self.soft_prompt.to(output.dtype).expand(len(output), -1, -1)
        rest = output.new_zeros(len(output), output.shape[1] - prompt.shape[1] - 1, output.shape[2])
        first = output.new_zeros(len(output), 1, output.shape[2])
        return output + torch.cat([first, prompt, rest], dim=1)

    def scores(self, ids: torch.Tensor, mask: torch.Tensor, at: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
        """(B, V) at the mask position; soft (1 or B, n, D)."""
        self.soft_prompt = soft
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, S, D)
        return self.head(hidden[torch.arange(len(ids)), at])


class OfficialModel:
    """RobertaForMaskedLM of ZO-PoG's repository."""

    def __init__(self, options: argparse.Namespace, n_positions: int) -> None:
        sys.path.insert(0, str(options.official.resolve()))
        from models.modeling_roberta import RobertaForMaskedLM  # of the repository at PATH

        config = transformers.RobertaConfig.from_pretrained(options.worker)
        self.model = RobertaForMaskedLM.from_pretrained(options.worker, config=config, n_prompt_tokens=n_positions)
        self.model.eval().to(options.device)
        self.words = self.model.roberta.embeddings.word_embeddings.weight

    def scores(self, ids: torch.Tensor, mask: torch.Tensor, at: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
        """(B, V) at the mask position; soft (1 or B, n, D)."""
        self.model.set_prompt_embedding(soft.expand(len(ids), -1, -1))
        return self.model(input_ids=ids, attention_mask=mask, mask_pos=at)["logits"]


class Peer:
    """Prompts on one mini-batch; what the official loop prepares outside an evaluation is prepared here."""

    def __init__(self, model: Any, inputs: Mapping[str, np.ndarray], options: argparse.Namespace) -> None:
        self.model, self.options, self.device = model, options, options.device

        def tensor(name: str) -> torch.Tensor:
            return torch.from_numpy(inputs[name]).to(self.device)

        self.text, self.labels, self.label_ids = tensor("text_ids"), tensor("labels"), tensor("label_ids")
        self.batch, self.n = len(self.text), inputs["prompt_ids"].shape[1]
        self.prompt, self.offset = tensor("prompt_ids"), tensor("prompt_offset")  # (1, n), (1, n, D)
        self.candidates, self.at = tensor("candidates"), tensor("answer_position") + self.n
        self.mask = torch.ones(self.batch, self.text.shape[1] + self.n, dtype=torch.long, device=self.device)
        width, std = self.model.words.shape[1], float(self.model.words.detach().float().std())
        self.projection = torch.randn(self.n * width, DIM, device=self.device) * (SCALE * std / DIM**0.5)
        self.alpha = torch.full((self.n, len(self.candidates)), 1 / len(self.candidates))
        self.z = torch.zeros(DIM, device=self.device)

    def scores(self, prompt: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
        """(B, C) for one prompt (1, n)."""
        ids = torch.cat([self.text[:, :1], prompt.expand(self.batch, -1), self.text[:, 1:]], dim=1)
        return self.model.scores(ids, self.mask, self.at, soft)[:, self.label_ids].float()

    def losses(self, prompt: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(B,) for one prompt of candidates (n,) and z (B, d), each row's own as in the official code."""
        soft = torch.nn.functional.linear(z, self.projection).reshape(len(z), self.n, -1)
        scores = self.scores(self.candidates[prompt.to(self.device)][None], soft)
        return torch.nn.functional.cross_entropy(scores, self.labels, reduction="none")

    def loss(self) -> dict[str, Any]:
        return {"logits": self.scores(self.prompt, self.offset).tolist()}

    def iteration(self) -> dict[str, Any]:
        return {"loss": self.bbt_step() if self.options.method == "bbt" else self.zo_pog_step()}

    def zo_pog_step(self) -> float:
        """20 prompts and the policy gradient, then 10 pairs; the mean of the 40 losses."""
        seen = []
        p = torch.nn.functional.gumbel_softmax(self.alpha.log(), tau=1.0)
        prompts = torch.distributions.Categorical(p).sample((POLICY_SAMPLES,))  # (I, n)
        rows = self.z.expand(self.batch, -1)
        values = torch.stack([self.losses(prompt, rows).mean() for prompt in prompts]).cpu()
        seen += values.tolist()
        score = (torch.nn.functional.one_hot(prompts, len(self.candidates)) - p) / self.alpha  # (I, n, N)
        gradient = ((values - values.mean())[:, None, None] * score).sum(dim=0) / (POLICY_SAMPLES - 1)
        self.alpha = (self.alpha - ETA_ALPHA * gradient).clamp_min(1e-11)

        p = torch.nn.functional.gumbel_softmax(self.alpha.log(), tau=1.0)
        estimates = []
        for prompt in torch.distributions.Categorical(p).sample((PAIRS,)):
            u = torch.randn(self.batch, DIM, device=self.device)
            minus, plus = (self.losses(prompt, rows + sign * MU * u) for sign in (-1, 1))
            estimates.append(((plus - minus)[:, None] * u / (2 * MU)).mean(dim=0))
            seen += [plus.mean().item(), minus.mean().item()]
        self.z = self.z - ETA_Z * torch.stack(estimates).mean(dim=0)
        return float(np.mean(seen))

    def bbt_step(self) -> float:
        prompt = torch.arange(self.n) % len(self.candidates)
        points = torch.randn(POPULATION, DIM, device=self.device)
        return float(np.mean([self.losses(prompt, z.expand(self.batch, -1)).mean().item() for z in points]))

    def run(self) -> dict[str, Any]:
        price = POPULATION if self.options.method == "bbt" else POLICY_SAMPLES + 2 * PAIRS
        found = []
        for _ in range(self.options.budget // price):
            found.append(self.iteration()["loss"])
            self.losses(self.alpha.argmax(dim=1), self.z.expand(self.batch, -1))  # a dev score
        return {"loss": found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=Path, required=True, help="folder with a model and inputs.npz")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--n-positions", type=int, help="as in inputs.npz")
    parser.add_argument("--method", choices=["zo-pog", "bbt"], default="zo-pog")
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--official", type=Path, help="ZO-PoG's repository, for its model code")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    transformers.utils.logging.set_verbosity_error()
    with np.load(options.worker / "inputs.npz") as file:
        inputs = dict(file)
    if options.official is None:
        transformers.utils.logging.disable_progress_bar()
        model: Any = HuggingFaceModel(options)
    else:
        model = OfficialModel(options, inputs["prompt_ids"].shape[1])
    peer = Peer(model, inputs, options)
    about = {
        "runtime": "PyTorch",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "attention": "official" if options.official else options.attention,
        "dtype": options.dtype,
    }
    print(json.dumps(about), flush=True)
    jobs = {"loss": peer.loss, "iteration": peer.iteration, "run": peer.run}
    for line in sys.stdin:
        start = time.perf_counter()
        with torch.no_grad():
            answer = jobs[line.strip()]()
        if options.device == "cuda":
            torch.cuda.synchronize()
        print(json.dumps({"seconds": time.perf_counter() - start, **answer}), flush=True)


if __name__ == "__main__":
    main()
