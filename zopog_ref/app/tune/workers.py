"""Several workers on the command line: `zopog tune --workers N`, the model's rows spread over Ray actors."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zopog_models.cluster.ray_connection import require_ray
from zopog_models.frozen.model import FrozenModel
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.folder import say
from zopog_ref.app.tune.served import is_remote

_OPENED = "opened_cluster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's option."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="spread the model's rows over N Ray actors of --threads cores (default 1) or one GPU each; the numbers "
        "stay the same (docs/scale.md)",
    )


def check_options(arguments: argparse.Namespace) -> None:
    """What is wrong, before the model is loaded. Errors: InputError, ProviderError."""
    if arguments.workers is None:
        return
    for name in ("workers", "threads"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    if is_remote(arguments.model):
        raise InputError(f"--workers: {arguments.model} runs where it is served; --concurrency asks it several things")
    require_ray()


def open_on_workers(source: str, arguments: argparse.Namespace, pooling: str | None, temperature: float) -> FrozenModel:
    """The model on --workers actors, until `ended_workers` is left."""
    from zopog_models.cluster.runner import open_cluster

    model = open_cluster(
        source, workers=arguments.workers, threads=arguments.threads or 1, device=arguments.device, pooling=pooling,
        temperature=temperature, notify=say,
    )  # fmt: skip
    setattr(arguments, _OPENED, model)
    return model


@contextmanager
def ended_workers(arguments: argparse.Namespace) -> Iterator[None]:
    """No worker outlives the command, however it ends."""
    try:
        yield
    finally:
        model: Any = vars(arguments).pop(_OPENED, None)
        if model is not None:
            model.close()
