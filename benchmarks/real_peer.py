"""A call on a real decoder, here and in transformers: the scores of two label words on the same rows, as ratios.

    python benchmarks/real_peer.py --model SmolLM2-135M-Instruct.Q4_1.gguf --data sst2/test.tsv --peer-python PYTHON
        [--precision fp32] [--peer-dtype float32] [--peer-rows 32] [--peer-shares] [--n 10] [--rows 32] [--cpu-time]

--model: FILE.gguf of an architecture that is Llama's; transformers gets its weights dequantised to float32. PYTHON has
torch and transformers. Both are processes of their own that are asked in turn, with --threads each; with one thread
they are bound to one core. --cpu-time: processor time of each in user mode, for a machine that is not quiet.

transformers is used as its pages say: SDPA, rows sorted by length and padded on the left, --peer-rows at once, no cache
written, logits of the last position alone. --peer-shares: it computes the keys and values of the prompt once, too.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def transformers_side(folder: Path, a: argparse.Namespace) -> Callable[[], np.ndarray]:
    import torch
    import transformers

    torch.set_num_threads(a.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, a.peer_dtype), attn_implementation="sdpa"
    ).eval()
    words = model.get_input_embeddings()
    with np.load(folder / "inputs.npz") as file:
        rows, offset = [file[f"row{i}"] for i in range(a.rows)], torch.from_numpy(file["prompt_offset"])
        prompt, labels = torch.from_numpy(file["prompt_ids"]), file["label_ids"]
    order = sorted(range(a.rows), key=lambda i: len(rows[i]))

    def call() -> np.ndarray:
        found = np.empty((a.rows, len(labels)), np.float32)
        soft = words(prompt) + offset.to(words.weight.dtype)  # (1, n, D)
        for start in range(0, a.rows, a.peer_rows):
            part = order[start : start + a.peer_rows]
            longest = max(len(rows[i]) for i in part)
            pad = torch.tensor([longest - len(rows[i]) for i in part])
            ids = torch.from_numpy(np.stack([np.pad(rows[i], (longest - len(rows[i]), 0)) for i in part]))
            shown = torch.arange(longest) >= pad[:, None]
            own, many = words(ids), soft.expand(len(part), -1, -1)
            mask = torch.cat([shown.new_ones(len(part), a.n), shown], 1)
            cache = None
            if a.peer_shares and a.n:
                cache = model(inputs_embeds=soft, use_cache=True, logits_to_keep=1).past_key_values
                cache.batch_repeat_interleave(len(part))
            else:  # the prompt stands right before each row's own tokens
                own = torch.stack([torch.cat([x[:p], s, x[p:]]) for x, s, p in zip(own, many, pad)])
                mask = torch.arange(longest + a.n) >= pad[:, None]
            positions = (mask.long().cumsum(1) - 1).clamp_min(0)[:, -own.shape[1] :]
            out = model(inputs_embeds=own, attention_mask=mask.long(), position_ids=positions, past_key_values=cache,
                        use_cache=cache is not None, logits_to_keep=1)  # fmt: skip
            found[part] = out.logits[:, -1, labels].float().numpy()
        return found

    def without_gradients() -> np.ndarray:
        with torch.no_grad():
            return call()

    return without_gradients


def our_side(folder: Path, a: argparse.Namespace) -> Callable[[], np.ndarray]:
    from zopog_models import load_model

    model = load_model(a.model, threads=a.threads)
    model = model if a.precision == "fp32" else model.reduced(a.precision)
    with np.load(folder / "inputs.npz") as file:
        inputs = {name: file[name] for name in ("prompt_ids", "prompt_offset", "label_ids")}
        rows = [file[f"row{i}"] for i in range(a.rows)]
    last, index = np.array([len(row) - 1 for row in rows]), np.zeros(a.rows, np.int64)
    return lambda: model.logits(rows, last, prompt_index=index, **inputs)


def work(a: argparse.Namespace) -> None:
    """A side: says ready, then answers each line."""
    if a.threads == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    call = (our_side if a.side == "ours" else transformers_side)(a.folder, a)
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        start, used = time.perf_counter(), os.times().user
        logits = call()
        seconds = os.times().user - used if a.cpu_time else time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "logits": logits.tolist()}), flush=True)


def write_inputs(folder: Path, a: argparse.Namespace) -> None:
    """The model as transformers reads it, and the call."""
    from zopog_models import encode, load_model, make_task
    from zopog_models.checkpoints.gguf import open_gguf
    from zopog_models.files.tensor_file import write_tensors

    opened = open_gguf(Path(a.model))
    write_tensors(folder / "model.safetensors", opened.tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(opened.config | {"architectures": ["LlamaForCausalLM"]}))
    model = load_model(a.model, threads=1)
    with open(a.data, encoding="utf-8", newline="") as file:
        texts = [(row["text"],) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][: a.rows]
    task = make_task(a.template, {"0": "bad", "1": "good"})
    encoded, rng = encode(texts, task, model, a.n), np.random.default_rng(0)
    print(f"{len(texts)} rows of {encoded.lengths.mean():.1f} tokens ({encoded.lengths.min()} to "
          f"{encoded.lengths.max()}), one prompt of {a.n}, {a.threads} threads")  # fmt: skip
    np.savez(
        folder / "inputs.npz",
        prompt_ids=rng.integers(0, model.vocab_size, (1, a.n)),
        prompt_offset=rng.normal(0, model.embedding_std, (1, a.n, model.embedding_size)).astype(np.float32),
        label_ids=np.array([model.tokenizer.token_to_id(word) for word in ("Ġbad", "Ġgood")]),
        **{f"row{i}": row for i, row in enumerate(encoded.ids)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "peer-python"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--template", default="{text} It was {mask}")
    parser.add_argument("--precision", choices=("fp32", "bf16", "int8"), default="fp32")
    parser.add_argument("--peer-dtype", choices=("float32", "bfloat16"), default="float32")
    for name, default in (("n", 10), ("rows", 32), ("peer-rows", 32), ("rounds", 9), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peer-shares", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--side", choices=("ours", "transformers"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side:
        return work(a)
    from zopog_ref.app.bench.sides import Side, in_turn

    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), a)
        own = [*sys.argv, "--folder", folder, "--side"]
        with Side([sys.executable, *own, "ours"]) as ours, Side([a.peer_python, *own, "transformers"]) as theirs:
            answers = in_turn({"ours": ours, "transformers": theirs}, "call", a.rounds, warm_up=1)
    seconds = {name: np.array([answer["seconds"] for answer in given]) for name, given in answers.items()}
    for name, values in seconds.items():
        print(f"{name:<13} median {1e3 * np.median(values):8.1f} ms {'of processor time ' * a.cpu_time}a call")
    low, middle, high = np.percentile(seconds["transformers"] / seconds["ours"], [25, 50, 75])
    print(f"transformers {a.peer_dtype} / ours {a.precision}: {middle:.2f} ({low:.2f} to {high:.2f}), {a.rounds} pairs")
    mine, other = (np.array(answers[name][0]["logits"]) for name in ("ours", "transformers"))
    told = np.corrcoef(mine @ [-1, 1], other @ [-1, 1])[0, 1]  # good less bad, which a label's probability comes from
    print(f"largest difference of a logit {np.abs(mine - other).max():.1e}, logits up to {np.abs(other).max():.1f}")
    print(f"correlation of the two labels' difference {told:.4f}")


if __name__ == "__main__":
    main()
