"""The frozen model of a run, wherever it computes: here, on Ray actors, or behind a server."""

from zopog_models.frozen.model import TEMPERATURE, FrozenModel, load_model
from zopog_ref.app.run.config import Machine, Served
from zopog_ref.app.run.folder import say
from zopog_ref.app.tune.served import open_served


def open_model(
    source: str,
    machine: Machine,
    *,
    pooling: str | None = None,
    temperature: float | None = None,
    remote: Served | None = None,
    stream: int | None = None,
) -> FrozenModel:
    """Open it; whoever opened it closes it. stream: as of `load_model`."""
    temperature = TEMPERATURE if temperature is None else temperature
    if remote is not None:
        return open_served(source, remote, pooling, temperature)
    if machine.workers is not None:
        from zopog_models.cluster.model import open_cluster

        return open_cluster(
            source, workers=machine.workers, threads=machine.threads or 1, device=machine.device, pooling=pooling,
            temperature=temperature, notify=say,
        )  # fmt: skip
    return load_model(
        source, device=machine.device, threads=machine.threads, pooling=pooling, temperature=temperature, stream=stream
    )
