"""What computing a prompt's keys and values apart gains over once a chunk: a policy step, in one process, in turn.

    python benchmarks/prefix_reuse.py [--shape mini] [--prompts 20] [--rows 32] [--n 50] [--text 50] [--rounds 11]

A GPT-2 with random weights, K prompts of n positions on the same rows of text. Prints seconds, the ratio of each pair
(median and quartiles), and the largest difference of a logit. --cpu-time counts the process's processor time instead of
the clock's, for a machine that is not quiet.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from zopog_models import FrozenModel, load_model, write_tensors
from zopog_models.families import FAMILIES, Config
from zopog_models.runners import prefix

SHAPES = {  # layers, width, heads, vocabulary
    "mini": (4, 256, 4, 8192),
    "base": (12, 768, 12, 50257),
}


def write_random_gpt2(folder: Path, shape: str) -> None:
    layers, width, heads, vocabulary = SHAPES[shape]
    config = {"model_type": "gpt2", "vocab_size": vocabulary, "n_embd": width, "n_layer": layers, "n_head": heads}
    config["n_positions"] = 1024
    family, rng = FAMILIES["gpt2"], np.random.default_rng(0)
    shapes = family.shapes(family.read(Config(folder / "config.json", config)))
    tensors = {name: rng.normal(0, 0.02, size).astype(np.float32) for name, size in shapes.items()}
    for name in tensors:
        tensors[name] += 1 if ".ln_" in name and name.endswith("weight") else 0
    write_tensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary_of_words = {f"w{i}": i for i in range(vocabulary)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary_of_words, "unk_token": "w0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="mini")
    for name, default in (("prompts", 20), ("rows", 32), ("n", 50), ("text", 50), ("rounds", 11)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_random_gpt2(Path(folder), arguments.shape)
        model = load_model(folder, threads=arguments.threads)
        measure(model, arguments)


def measure(model: FrozenModel, arguments: argparse.Namespace) -> None:
    rng = np.random.default_rng(1)
    count, rows, n = arguments.prompts, arguments.rows, arguments.n
    text = [rng.integers(0, model.vocab_size, arguments.text) for _ in range(rows)]
    inputs = {
        "text_ids": text * count,
        "answer_position": np.full(count * rows, arguments.text - 1),
        "prompt_ids": rng.integers(0, model.vocab_size, (count, n)),
        "prompt_offset": rng.normal(0, 0.1, (count, n, model.hidden_size)).astype(np.float32),
        "prompt_index": np.repeat(np.arange(count), rows),
        "label_ids": np.array([5, 6, 7]),
    }
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    seconds: dict[str, list[float]] = {"apart": [], "in each chunk": []}
    logits, limit = {}, prefix.TOKENS_PER_PASS
    for round_ in range(arguments.rounds + 1):  # the first is not counted
        for way in sorted(seconds, reverse=bool(round_ % 2)):
            prefix.TOKENS_PER_PASS = limit if way == "apart" else 2**31
            start = clock()
            logits[way] = model.logits(**inputs)
            if round_:
                seconds[way].append(clock() - start)
    ratios = np.array(seconds["in each chunk"]) / np.array(seconds["apart"])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    print(f"GPT-2 {arguments.shape}, {count} prompts of {n} on {rows} rows of {arguments.text} tokens, "
          f"{model.threads} threads; {platform.machine()}, {platform.system()}")  # fmt: skip
    for way, values in seconds.items():
        print(f"prompt's keys and values {way:<13}  median {1e3 * np.median(values):8.1f} ms")
    print(f"ratio {middle:.2f} ({low:.2f} to {high:.2f}), {arguments.rounds} pairs")
    largest = np.abs(logits["apart"] - logits["in each chunk"]).max()
    print(f"largest difference of a logit {largest:.1e}, logits up to {np.abs(logits['apart']).max():.1f}")


if __name__ == "__main__":
    main()
