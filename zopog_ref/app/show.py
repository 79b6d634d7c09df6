"""zopog show, zopog report: what a finished run, or a prompt, is; in the terminal, and as a page."""

import argparse
from pathlib import Path

import numpy as np

from zopog_models.files.quoting import quoted
from zopog_models.prompts.bundle import load_prompt
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import show, show_json
from zopog_ref.app.run.folder import RunFolder
from zopog_ref.app.tune.finished import read_finished
from zopog_ref.app.tune.page import write_page
from zopog_ref.app.tune.result import learned_said, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder; of show, also a prompt folder")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    """Write the page, or show the run or the prompt."""
    folder: Path = arguments.run
    if arguments.command == "show" and not (folder / "config.json").exists():
        return _prompt(folder, arguments.json)
    found = read_finished(folder)
    if arguments.command == "report":
        lock = RunFolder(folder)
        lock.take_lock()  # who opens a run sweeps away what it takes for an unfinished write
        try:
            path = write_page(found)
        finally:
            lock.close()
        show_json({"report": str(path)}) if arguments.json else show(str(path))
    elif arguments.json:
        show_json(found.result, indent=2)
    else:
        show(f"{found.config.task.name}, {found.config.method}, model {found.config.model}, seed {found.config.seed}")
        show(table(found.result, folder), styled=True)
        show("\n".join([*learned_said(found), *found.warnings()]))
    return 0


def _prompt(folder: Path, as_json: bool) -> int:
    if not (folder / "prompt.safetensors").exists():
        raise InputError(f"{str(folder)!r} is neither a run folder nor a prompt folder")
    prompt = load_prompt(folder)
    offset = float(np.sqrt(np.square(prompt.offsets.astype(np.float64)).mean())) if prompt.offsets.size else 0.0
    about = {
        "model": prompt.model,
        "model_sha256": prompt.model_sha256,
        "template": prompt.template,
        "labels": dict(prompt.labels),
        "prompts": len(prompt.ids),
        "tokens": prompt.ids.tolist(),
        "offset_rms": offset,
        "readout": "none" if prompt.readout is None else prompt.readout.kind,
    }
    if as_json:
        show_json(about, indent=2)
    else:
        width = max(map(len, about))
        show(
            "\n".join(
                f"{name:<{width}}  {v if isinstance(v, (int, float)) else quoted(v)}" for name, v in about.items()
            )
        )
    return 0
