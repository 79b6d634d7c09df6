"""Where a run's mathematics happens, by name: NumPy, or the GPU kernels. The kernels are imported when asked for."""

from typing import Any

from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.backend import NUMPY
from zopog_ref.method import Method
from zopog_ref.objective import Journal, Ledger, Objective

BACKENDS = ("numpy", "cupy")


def on_backend(backend: Any, experiment: Experiment, ledger: Ledger, journal: Journal) -> tuple[Method, Objective]:
    """The experiment's method and objective with the mathematics on the backend.

    A model on the backend's own device is read there, and nothing goes back to the host between the mathematics and the
    model; then no journal is kept, for that would be a copy of every loss: a step that is killed is computed again. Any
    other model is read through the host, which is said with the reason.
    """
    method = experiment.method()
    if backend is NUMPY:
        return method, experiment.objective(ledger, journal)
    from zopog_kernels import DeviceObjective, HostObjective

    method.backend = backend
    if reason := not_bound(backend, experiment):
        say(f"the model is read through the host, every query waits for it: {reason}")
        return method, HostObjective(experiment.objective(ledger, journal), backend)
    oracle = experiment.bound_oracle(backend.device)
    labels = experiment.train.labels
    return method, DeviceObjective(oracle.logits, labels, ledger, backend, experiment.loss, oracle.lengths)


def not_bound(backend: Any, experiment: Experiment) -> str:
    """Why the model cannot be read where the backend's arrays lie, or ""."""
    from zopog_kernels.objective import LOSSES

    model, reduced = experiment.model, experiment.reduced
    if model.device != backend.device.kind:
        return f"it is on device {model.device}, the mathematics on {backend.device.kind}"
    if experiment.loss not in LOSSES:
        return f"the loss {experiment.loss!r} has no kernel"
    return model.why_not_bound or (reduced.why_not_bound if reduced is not None else "")


def open_backend(name: str, method: Method) -> Any:
    """The backend, if the method can run there. Cheap: nothing is compiled yet.

    Errors: InputError when the method runs in NumPy only, or CuPy or a GPU is missing (it says what to install).
    """
    if name == "numpy":
        return NUMPY
    if not method.has_kernels:
        raise InputError(f"--backend {name}: {type(method).__name__} runs in NumPy only; zo-pog and bdpl have kernels")
    from zopog_kernels import BackendUnavailable, cupy_backend

    try:
        return cupy_backend()
    except BackendUnavailable as error:
        raise InputError(str(error)) from error


def stream_of(backend: Any, device: str) -> int | None:
    """The stream that a model on this device has to compute on, so that its arrays can be the backend's."""
    return None if backend is NUMPY or backend.device.kind != device else backend.device.stream
