"""zopog export: a Hugging Face folder, a GGUF file, or a model on the hub, as an ONNX file, without PyTorch."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from zopog_models.families.sentence import POOLINGS
from zopog_models.graph import INJECTIONS, PRECISIONS
from zopog_models.prompts.export import export
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import show, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="MODEL",
        help="embedded, a folder, FILE.gguf, or org/name[@revision] on the hub",
    )
    parser.add_argument("--out", required=True, type=Path, help="the .onnx file; its weights go to FILE.onnx.data")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="fp32")
    parser.add_argument(
        "--injection", choices=INJECTIONS, help="where the soft prompt is added (default: the family's)"
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="read the model as a sentence-embedding model")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    """Write the two files and say what they are."""
    started = time.monotonic()
    try:
        written = export(
            arguments.checkpoint,
            arguments.out,
            precision=arguments.precision,
            injection=arguments.injection,
            pooling=arguments.pooling,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    seconds = time.monotonic() - started
    if arguments.json:
        report = asdict(written) | {"model": str(written.model), "data": str(written.data)}
        show_json(report | {"seconds": round(seconds, 3)}, indent=2)
    else:
        size = (written.model_bytes + written.data_bytes) / 1e6
        show(
            f"{written.model} and {written.data.name}: {written.family} {written.precision}, {size:.1f} MB, "
            f"soft prompt at {written.injection}, {seconds:.1f} s"
        )
    return 0
