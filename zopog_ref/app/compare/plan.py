"""What a comparison consists of, checked before any of it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.tasks.encoding import label_targets
from zopog_models.tasks.template import Task, replace_template
from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say
from zopog_ref.app.run.config import Machine, Precision, RunConfig, Served, read_run
from zopog_ref.app.run.experiment import Experiment, prepare
from zopog_ref.app.run.presets import SEARCHLESS, Preset
from zopog_ref.app.tune.ending import reserved
from zopog_ref.app.tune.models import open_model
from zopog_ref.app.tune.outlay import few_steps
from zopog_ref.app.tune.readings import check_scores
from zopog_ref.search import step_price

MANUAL = "manual"  # the row of the template alone
CENTRED = "manual + centred"
READ = "manual + readout"  # the row that a search has to beat


@dataclass(frozen=True)
class Variant:
    """A method with its settings: a row of the table."""

    name: str  # the method's, with ":SETTINGS" where they were chosen
    method: str
    settings: str
    preset: Preset


@dataclass(frozen=True)
class Plan:
    """Tasks x methods x seeds on one budget."""

    out: Path
    tasks: dict[str, tuple[str | None, Task]]  # name -> (how it was given, with its own template; task)
    variants: list[Variant]
    seeds: list[int]
    shots: int
    budget: int
    model: str
    device: str = "cpu"
    fewer: Precision | None = None  # None: fp32
    readout: str = "none"
    readout_tokens: int | None = None
    remote: Served | None = None
    wire: Mapping[str, Any] = field(default_factory=dict)  # this and the next as of `Machine`
    most: bool = False

    @property
    def machine(self) -> Machine:
        """What carries each run out here, and where its model is served."""
        address = None if self.remote is None else self.model
        return Machine(self.device, address=address, wire=self.wire, most=self.most)

    def cells(self) -> list[Cell]:
        """Every cell, seed by seed: when one is interrupted early, whole seeds are done rather than whole methods."""
        return [
            Cell(
                task,
                variant.name,
                seed,
                self._folder(task, variant, seed),
                self._run(task, variant, seed),
                self.machine,
            )
            for seed in self.seeds
            for task in self.tasks
            for variant in self.variants
        ]

    def _folder(self, task: str, variant: Variant, seed: int) -> Path:
        return self.out / "runs" / task / variant.name.replace(":", "-") / str(seed)

    def _run(self, name: str, variant: Variant, seed: int) -> RunConfig:
        source, task = self.tasks[name]
        several = task.templates if self.readout != "none" or variant.method in SEARCHLESS else ()
        return RunConfig(
            task, source, self.model, variant.preset, variant.settings, seed, self.shots, "numpy", precision=self.fewer,
            readout=None if self.readout == "none" and variant.method not in SEARCHLESS else self.readout,
            remote=self.remote, readout_tokens=self.readout_tokens, templates=several if len(several) > 1 else None,
        )  # fmt: skip


def check_data(plan: Plan) -> FrozenModel:
    """Load the model and build each task's first run: shots, label words, candidates, every row of every file.

    Errors: whatever a run would stumble over before its first call.
    """
    remote = plan.remote
    model = (
        load_model(plan.model, device=plan.device)
        if remote is None
        else open_model(plan.model, plan.machine, remote=remote)
    )
    check_scores(plan.readout, model.scores)
    few: dict[str, None] = {}
    for _, task in plan.tasks.values():
        experiment = prepare(model, task, plan.variants[0].preset, plan.seeds[0], plan.shots)
        for template in task.templates:
            label_targets(replace_template(task, template), model)
        for cell in plan.cells():
            if cell.task == task.name:
                here = replace(experiment, preset=cell.config.preset)
                _check_budget(here, cell.config)
                few |= dict.fromkeys(few_steps(here, cell.config))
    for line in few:
        say(line)
    return model


def _check_budget(experiment: Experiment, config: RunConfig) -> None:
    """Errors: InputError for a budget that does not pay a step beside the readout."""
    if config.method in SEARCHLESS:
        return
    preset, rows, kept_back = experiment.preset, len(experiment.train.labels), reserved(experiment, config)
    price = step_price(experiment.method(), experiment.ledger(), rows, preset.batch_size)
    if preset.budget < price + kept_back:
        raise InputError(
            f"--budget is {preset.budget} calls; one step of {config.method} costs {price} and the readout "
            f"{kept_back}: raise it, or use --readout none"
        )


def check_started(plan: Plan) -> None:
    """Errors: InputError when a cell's folder holds a run that is not the one of this plan."""
    for cell in plan.cells():
        if not (cell.folder / "config.json").exists():
            continue
        wanted, found = cell.config.named(), read_run(cell.folder)[0].named()
        if changed := [name for name in wanted if found.get(name) != wanted[name]]:
            was = ", ".join(f"{name} {quoted(found.get(name))} (now {wanted[name]!r})" for name in changed)
            raise InputError(f"{cell.folder} was started with {was}: choose another --out, or give what it had")
