"""zopog bake: model, prompt and label words in one ONNX file."""

import argparse
from dataclasses import asdict
from pathlib import Path

from zopog_models.frozen.model import load_model
from zopog_models.prompts.baking import Baked, bake
from zopog_models.prompts.comparing import TOLERANCE
from zopog_models.prompts.triton import write_repository
from zopog_models.served.addresses import is_served
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import show, show_json
from zopog_ref.app.predict import prompt_and_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("run", type=Path, help="a run folder, or the prompt folder inside it")
    parser.add_argument("--out", required=True, type=Path, help="the .onnx file")
    parser.add_argument("--triton", type=Path, metavar="DIR", help="write it into an inference server's repository too")
    parser.add_argument("--name", help="the model's name there (default: the file's)")
    parser.add_argument("--model", help="default: the model the prompt was tuned for")
    parser.add_argument(
        "--tolerance", type=float,
        help="how far its probabilities may be from those of zopog predict (default: what float32 rounds, "
        f"{TOLERANCE:g} or more by the model's depth and the size of its scores)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    """Write the file, compare it with predict, and say what a caller must know."""
    prompt, tuned = prompt_and_model(arguments.run, arguments.model)
    place = None
    if is_served(tuned.source):
        raise InputError(f"{tuned.source} is an address; baking needs the model itself: give its folder with --model")
    try:
        model = load_model(tuned.source, threads=arguments.threads, pooling=tuned.pooling, injection=prompt.injection)
        baked = bake(model, prompt, arguments.out, tolerance=arguments.tolerance)
        if arguments.triton is not None:
            place = write_repository(arguments.triton, arguments.name or arguments.out.stem, baked)
    except ValueError as error:
        raise InputError(str(error)) from error
    if arguments.json:
        report = asdict(baked) | {"path": str(baked.path), "data": None if baked.data is None else str(baked.data)}
        report["triton"] = None if place is None else str(place)
        show_json(report, indent=2)
    else:
        show(_summary(baked, place))
    return 0


def _summary(baked: Baked, place: Path | None) -> str:
    beside = "" if baked.data is None else f" and {baked.data.name}"
    several = "" if baked.prompts == 1 else f", entropy (rows), per_prompt (rows, {baked.prompts}, {len(baked.labels)})"
    recipes = [
        " ".join(repr(piece) if isinstance(piece, str) else str(piece) for piece in row)
        for row in baked.rows or [baked.row]
    ]
    templates = f"{len(baked.rows)} templates, " if baked.rows else ""
    lines = [
        f"{baked.path}{beside}: {baked.size / 1e6:.1f} MB, {baked.prompts} prompt{'s' * (baked.prompts > 1)}",
        f"differs from predict by at most {baked.difference:.1e} on {baked.checked} rows",
        f"inputs    input_ids, attention_mask (rows, {templates}length), int64",
        f"outputs   probabilities (rows, {len(baked.labels)}){several}, float32",
        f"labels    {', '.join(baked.labels)}",
        *(f"a row     {recipe}" for recipe in recipes),
        "          (numbers are token ids; texts are tokenised without special tokens, white space stripped)",
        f"tokenizer tokenizer.json of {baked.model}, sha256 {baked.tokenizer_sha256}",
        f"at most   {baked.max_length} tokens a row; pad on the right with any id, such as {baked.pad_id}, and mask 0",
    ]
    if baked.threshold is not None:
        bounds = ", ".join(f"{bound:.4g}" for bound in baked.threshold)
        lines.append(f"a set     of classes c with 1 - probabilities[c] at most {bounds}")
    return "\n".join(lines + ([] if place is None else [f"server    {place}"]))
