"""What can be done with a finished run: the commands, as its report and the terminal show them."""

import shlex
from pathlib import Path

from zopog_ref.app.run.config import RunConfig
from zopog_ref.app.tune.models import named_again

__all__ = ["deploying", "next_said"]


def deploying(path: Path, config: RunConfig) -> list[str]:
    """The commands that use the prompt, which work as they stand.

    A served model is named again, for texts go there, and so are the variables of its keys. It cannot be baked, nor can
    a prompt after the text, nor label words of several tokens.
    """
    place, task = shlex.quote(str(path)), config.task
    commands = [f'zopog predict {place}{named_again(config)} --text "..."']
    if config.remote is None and task.position == "before" and not task.summed_pieces:
        commands.append(f"zopog bake {place} --out tuned.onnx")
    return [*commands, f"zopog push {place} org/name --dry-run"]


def next_said(path: Path, config: RunConfig) -> str:
    """The commands that come next, a line each."""
    predict, *others = deploying(path, config)
    lines = [predict, f"zopog show {shlex.quote(str(path))}", *(one for one in others if " bake " in one)]
    return "\n".join(f"{'next:' if not i else '':8s}{line}" for i, line in enumerate(lines))
