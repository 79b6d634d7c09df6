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
    """The experiment's method and objective with the mathematics on the backend, where the method has kernels.

    A model on the backend's own device is read there, and nothing goes back to the host between the mathematics and the
    model; then no journal is kept, for that would be a copy of every loss: a step that is killed is computed again.
    A method without kernels uploads its prompts and points, and each query copies scores back. Any other model is read
    through the host, which is said with the reason.
    """
    method = experiment.method()
    if backend is NUMPY:
        return method, experiment.objective(ledger, journal)
    if not method.has_kernels:
        if reason := not_bound(backend, experiment):
            say(f"the model is read through the host, A z with it: {reason}")
            return method, experiment.objective(ledger, journal)
        return method, experiment.bound_objective(backend.device, ledger, journal)
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
    if experiment.loss not in LOSSES and experiment.method().has_kernels:
        return f"the loss {experiment.loss!r} has no kernel"
    return model.why_not_bound or (reduced.why_not_bound if reduced is not None else "")


def open_backend(name: str, method: Method, device: str) -> Any:
    """The backend, if anything of the run can be there. Cheap: nothing is compiled yet.

    Errors: InputError when CuPy or a GPU is missing (it says what to install), or the method's mathematics is NumPy's
    and the model is elsewhere or read as thinned networks, so that the backend would have nothing to do.
    """
    if name == "numpy":
        return NUMPY
    kernels = "zo-pog and bdpl have kernels, without --readout-folds"
    numpy_only = f"--backend {name}: {type(method).__name__} runs in NumPy only ({kernels})"
    if method.thins:
        raise InputError(f"{numpy_only}, and its thinned networks are read through the host: leave out --backend")
    from zopog_kernels import BackendUnavailable, cupy_backend

    try:
        backend = cupy_backend()
    except BackendUnavailable as error:
        raise InputError(str(error)) from error
    if not method.has_kernels and backend.device.kind != device:
        raise InputError(
            f"{numpy_only}, and the model is on device {device}: add --device {backend.device.kind}, so that it is "
            "read where A z is computed, or leave out --backend"
        )
    return backend


def stream_of(backend: Any, device: str) -> int | None:
    """The stream that a model on this device has to compute on, so that its arrays can be the backend's."""
    return None if backend is NUMPY or backend.device.kind != device else backend.device.stream
