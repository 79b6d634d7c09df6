"""Pretrains the embedded masked language model on the WordNet text, from scratch.

    python -m embedded_build.pretrain [--steps N] [--seed S] [--precision bf16] [--device cpu] [--out DIR]

The number of steps is fixed, all randomness is seeded; floating-point sums differ between machines
and thread counts, so the committed weights, not a second run's, are the reference.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertForMaskedLM

from embedded_build.batches import IGNORE, Batch, Batching, batches, masked
from embedded_build.corpus import all_held_out, build
from embedded_build.paths import MODEL
from embedded_build.tasks import held_out
from embedded_build.tokenizer import MAX_POSITIONS, VOCABULARY
from embedded_build.wordnet import load

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": MAX_POSITIONS,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.05,  # BERT's 0.02 is made for width 768
    "pad_token_id": 0,
}
STEPS = 16_000
PEAK_RATE = 2e-3
WARM_UP = 0.02  # of the steps
WEIGHT_DECAY = 0.01


def rate(step: int, steps: int) -> float:
    """Linear warm-up to PEAK_RATE, then linear decay to 0 at the last step."""
    warm = max(1, round(WARM_UP * steps))
    return PEAK_RATE * min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def masked_loss(model: BertForMaskedLM, batch: Batch, device: str, precision: str) -> torch.Tensor:
    """Mean cross-entropy at the masked positions; the vocabulary-wide head is computed only there."""
    ids, positions, mask, targets = (
        torch.from_numpy(a).to(device) for a in (batch.ids, batch.positions, batch.attention_mask, batch.targets)
    )
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16"):
        hidden = model.bert(input_ids=ids, position_ids=positions, attention_mask=mask)[0]  # (B, L, D)
        chosen = (targets.flatten() != IGNORE).nonzero()[:, 0]  # (M,)
        filled = torch.nn.functional.pad(chosen, (0, -len(chosen) % 128))  # few shapes, as in `masked`
        logits = model.cls(hidden.flatten(0, 1)[filled])[: len(chosen)]  # (M, V)
    return torch.nn.functional.cross_entropy(logits.float(), targets.flatten()[chosen])


def held_out_batches(tokenizer: Tokenizer, count: int = 12) -> list[Batch]:
    """Masked dev definitions of `supersense`, always the same: text that pretraining never sees."""
    dev = [s.definition for chosen in held_out(load())["dev"].values() for s in chosen]
    rows = sorted((e.ids for e in tokenizer.encode_batch(dev, add_special_tokens=False)), key=len)
    rng = np.random.default_rng(1)
    size = -(-len(rows) // count)
    groups = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [masked(group, Batching(), VOCABULARY, rng, offsets=False) for group in groups]


@torch.no_grad()
def held_out_loss(model: BertForMaskedLM, groups: list[Batch], device: str) -> float:
    """Mean masked-token loss over the held-out batches, in float32."""
    total = count = 0.0
    for batch in groups:
        here = int((batch.targets != IGNORE).sum())
        total += here * float(masked_loss(model, batch, device, "fp32"))
        count += here
    return total / count


def save(model: BertForMaskedLM, folder: Path) -> None:
    """config.json and model.safetensors, as transformers writes them: the tied decoder is not repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = ["BertForMaskedLM"]
    config = json.loads(model.config.to_json_string(use_diff=False))
    keep = [*SHAPE, "architectures", "model_type", "tie_word_embeddings",
            "hidden_dropout_prob", "attention_probs_dropout_prob"]  # fmt: skip
    text = json.dumps({key: config[key] for key in sorted(keep)} | {"dtype": "float32"}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    tensors = {
        name: value.detach().float().cpu().contiguous()
        for name, value in model.state_dict().items()
        if name not in tied and not name.endswith("position_ids")
    }
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # it is created for its owner only


def pretrain(steps: int, seed: int, precision: str, device: str, out: Path) -> None:
    """The whole run; a checkpoint in `out` every tenth of the steps and at the end."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    wordnet = load()
    sections = {
        name: [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]
        for name, lines in build(wordnet, all_held_out(wordnet)).items()
    }
    # eager: in bfloat16 the fused CPU attention's backward pass takes more than half of a step
    config = BertConfig(**SHAPE, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager")
    model = BertForMaskedLM(config).to(device).train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
        lr=PEAK_RATE, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    stream = batches(sections, Batching(), VOCABULARY, seed)
    dev = held_out_batches(tokenizer)
    began, tokens, mean = time.monotonic(), 0, 9.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        batch = next(stream)
        loss = masked_loss(model, batch, device, precision)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        tokens += int(batch.attention_mask.sum())
        mean += 0.01 * (loss.item() - mean)
        last = step + 1 == steps
        checkpoint = last or (step + 1) % max(1, steps // 10) == 0
        if checkpoint or (step + 1) % max(1, steps // 60) == 0:
            seconds = time.monotonic() - began
            line = f"step {step + 1:6} tokens {tokens / 1e6:6.1f} M seconds {seconds:6.0f} loss {mean:.3f}"
            if checkpoint:
                line += f" held-out loss {held_out_loss(model, dev, device):.3f}"
                save(model, out)
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=MODEL)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pretrain(options.steps, options.seed, options.precision, options.device, options.out)


if __name__ == "__main__":
    main()
