"""What is wrong with a run, said before anything is loaded or asked."""

from zopog_models.cluster.ray_connection import require_ray
from zopog_models.runners.local import REDUCED
from zopog_models.served.addresses import is_served, reads_text_alone
from zopog_ref import search
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import Machine, RunConfig, Served
from zopog_ref.app.run.experiment import method_of
from zopog_ref.app.run.presets import SEARCHLESS, learns_tokens_alone
from zopog_ref.app.run.typed_json import whole
from zopog_ref.app.tune.options import option
from zopog_ref.objective import LOSSES, Ledger


def check_run(config: RunConfig, machine: Machine) -> None:
    """A new run. Errors: InputError, MissingPackage."""
    check_precision(config, machine)
    check_numbers(config)
    check_served(config, machine)
    if config.temperature is not None and not 0 < config.temperature < float("inf"):
        raise InputError(f"--temperature is {config.temperature}; it must be a positive number")


def check_workers(machine: Machine, model: str) -> None:
    """Errors: InputError, ProviderError."""
    if machine.workers is None:
        return
    for name in ("workers", "threads"):
        if (value := getattr(machine, name)) is not None and value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    if is_served(model):
        raise InputError(f"--workers: {model} runs where it is served; --concurrency asks it several things")
    require_ray()


def check_precision(config: RunConfig, machine: Machine) -> None:
    """Errors: InputError for a precision that the device has not."""
    if config.precision is None:
        return
    name, device = config.precision.precision, machine.device
    if REDUCED.get(name) != device:
        fitting = ", ".join(other for other, where in REDUCED.items() if where == device)
        raise InputError(
            f"--precision {name:.100} is for --device {REDUCED.get(name)}; on {device} there is: {fitting}"
        )


def check_numbers(config: RunConfig) -> None:
    """Errors: InputError, MissingPackage."""
    preset, seed, shots = config.preset, config.seed, 1 if config.shots is None else config.shots
    searches = config.method not in SEARCHLESS
    for name in (*(("n_positions", "n_candidates", "dim") if searches else ()), "batch_size", "budget"):
        if getattr(preset, name) < 1:
            raise InputError(f"{option(name)} is {getattr(preset, name)}; it must be at least 1")
        if not whole(getattr(preset, name)):
            raise InputError(f"{option(name)} is {getattr(preset, name)}; it must be less than 2^53")
    if preset.loss not in LOSSES:
        raise InputError(f"--loss is {preset.loss!r:.100}; choose one of {', '.join(LOSSES)}")
    if shots < 1:
        raise InputError(f"--shots is {shots}; it must be at least 1")
    if not 0 <= seed < 1 << 64:
        raise InputError(f"--seed is {seed}; it must be in [0, 2^64)")
    ledger = Ledger(preset.budget, batch_size=preset.batch_size)
    if not searches:
        return
    try:
        method = method_of(preset, seed)
    except ValueError as error:  # a setting that does not fit n, N or d
        raise InputError(str(error)) from error
    if method.loss not in (None, preset.loss):
        raise InputError(f"--loss is {preset.loss!r}, but {config.method} sees only the {method.loss!r} loss")
    cost = search.step_price(method, ledger, shots * len(config.task.labels), preset.batch_size)
    if preset.budget < cost:
        raise InputError(f"--budget is {preset.budget} calls and one step costs {cost}: raise it, or use fewer samples")


def check_served(config: RunConfig, machine: Machine) -> None:
    """Errors: InputError for what a served model does not do."""
    if config.remote is None:
        return
    unusual = {"device": machine.device != "cpu", "threads": machine.threads, "precision": config.precision}
    for name, given in unusual.items():
        if given:
            raise InputError(f"{option(name)} is the server's affair: leave it out with --model {config.model}")
    if config.remote.budget_usd is not None and config.model.startswith("kserve+"):
        raise InputError("--budget-usd: this protocol counts no tokens, so there is nothing to keep to: leave it out")
    if config.task.summed_pieces:
        raise InputError(
            "--label-words sum is for a decoder that is computed here: a server gives the scores of one token"
        )
    if config.task.position == "after":
        _check_after(config, config.remote)
    if reads_text_alone(config.model):
        _require_tokens_alone(config)
        searches = config.method not in SEARCHLESS
        if searches and config.remote.answers == "labels" and config.preset.loss != "error":
            raise InputError(
                f"--answers labels: what is answered says right or wrong and no more: the loss is error, not "
                f"{config.preset.loss} (--loss error)"
            )
        if config.pooling:
            raise InputError("--pooling: a text endpoint answers with words, not with sentence embeddings")


def _check_after(config: RunConfig, remote: Served) -> None:
    """Errors: InputError where a served model cannot read the prompt after the text."""
    if config.model.startswith("kserve+"):
        raise InputError("--prompt-position after: what is served there is a graph that puts the prompt in front")
    if remote.prompt_in == "system":
        raise InputError("--prompt-position after: with --prompt-in system the prompt stands where no text is")
    if not learns_tokens_alone(config.preset):
        raise InputError(
            "--prompt-position after: a server is sent embeddings of a row's beginning alone; learn tokens alone there "
            "(zo-pog --zeroth-order off, bdpl, random-search --sigma 0)"
        )


def _require_tokens_alone(config: RunConfig) -> None:
    """A text has no room for A z. Errors: InputError, which says what to set."""
    name = config.method
    if learns_tokens_alone(config.preset):
        return
    advice = {"zo-pog": ": add --zeroth-order off", "random-search": ": add --sigma 0"}
    raise InputError(
        f"{name} learns a continuous prompt, and this endpoint reads text alone"
        + advice.get(name, "; bdpl, zo-pog --zeroth-order off and random-search --sigma 0 learn tokens alone")
    )
