"""A call with the prompt before the text and after it, side by side: seconds, their ratio, and the logits.

    python benchmarks/prompt_position.py --model FOLDER --data sst2/test.tsv [--template '{text} It was {mask}']
        [--n 10] [--rows 32] [--prompts 1] [--each] [--rounds 9] [--threads 1] [--cpu-time]

FOLDER: a decoder's, or FILE.gguf. --data: a TSV with a column `text`, whose first rows are read. --each: every row has
a prompt of its own, as with a direction for every example; otherwise a prompt is read with all rows. After the text the
rows' keys and values are there already: the first call, which computes them, is said apart. --cpu-time counts the
process's processor time, for a machine that is not quiet.
"""

import argparse
import csv
import time

import numpy as np

from zopog_models import encode, load_model, make_task
from zopog_models.runners.prefix import PrefixReuse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--template", default="{text} It was {mask}")
    for name, default in (("n", 10), ("rows", 32), ("prompts", 1), ("rounds", 9), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    a = parser.parse_args()
    model = load_model(a.model, threads=a.threads)
    with open(a.data, encoding="utf-8", newline="") as file:
        texts = [(row["text"],) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][: a.rows]
    encoded = encode(texts, make_task(a.template, {"0": "bad", "1": "good"}), model, a.n)
    prompts, rng = len(texts) if a.each else a.prompts, np.random.default_rng(0)
    times = 1 if a.each else prompts
    index = np.arange(prompts) if a.each else np.repeat(np.arange(prompts), len(texts))
    inputs = {
        "text_ids": encoded.ids * times,
        "answer_position": np.tile(encoded.answer_position, times),
        "prompt_ids": rng.integers(0, model.vocab_size, (prompts, a.n)),
        "prompt_offset": rng.normal(0, model.embedding_std, (prompts, a.n, model.embedding_size)).astype(np.float32),
        "prompt_index": index,
        "label_ids": np.array([5, 6]),
    }
    places = {"before": None, "after": np.tile(encoded.text_end, times)}
    clock = time.process_time if a.cpu_time else time.perf_counter
    start = clock()
    model.logits(**inputs, prompt_place=places["after"])
    first, seconds, logits = clock() - start, {"before": [], "after": []}, {}
    for round_ in range(a.rounds + 1):  # the first is not counted
        for way in sorted(seconds, reverse=bool(round_ % 2)):
            start = clock()
            logits[way] = model.logits(**inputs, prompt_place=places[way])
            if round_:
                seconds[way].append(clock() - start)
    # The row as a whole, the prompt among its tokens where the text ends, nothing kept: offsets cannot be written so.
    ids = [np.concatenate([row[:at], inputs["prompt_ids"][p], row[at:]])
           for row, at, p in zip(inputs["text_ids"], places["after"], index)]  # fmt: skip
    plain, nothing = inputs | {"prompt_offset": None}, np.zeros((1, 0), int)
    kept = model.logits(**plain, prompt_place=places["after"])
    whole = model.logits(ids, np.array([len(row) - 1 for row in ids]), nothing, None, np.zeros(len(ids), int), [5, 6])
    ratios = np.array(seconds["before"]) / np.array(seconds["after"])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    reuse = model.runner.reuse
    assert isinstance(reuse, PrefixReuse)
    length, head = encoded.lengths.mean(), encoded.text_end.mean()
    print(f"{model.name}, {len(index)} rows of {length:.1f} tokens, {head:.1f} of them up to the text's end")
    print(f"{prompts} prompts of {a.n}, {a.threads} threads")
    for way, values in seconds.items():
        print(f"prompt {way:<6} the text   median {1e3 * np.median(values):8.1f} ms a call")
    print(f"ratio {middle:.2f} ({low:.2f} to {high:.2f}), {a.rounds} pairs; the first call {1e3 * first:.1f} ms")
    print(f"kept: {reuse.kept.bytes / 2**20:.1f} MB of at most {reuse.kept.limit / 2**20:.0f}")
    largest, up_to = np.abs(kept - whole).max(), np.abs(whole).max()
    print(f"largest difference from the whole row {largest:.1e}, logits up to {up_to:.1f}")


if __name__ == "__main__":
    main()
