"""What a comparison consists of, checked before any of it runs."""

from collections.abc import Mapping, Sequence
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
from zopog_ref.app.run.presets import SEARCHLESS, TEMPLATE_ALONE, Preset
from zopog_ref.app.tune.choices import chosen_preset
from zopog_ref.app.tune.ending import reserved
from zopog_ref.app.tune.models import open_model
from zopog_ref.app.tune.outlay import few_steps
from zopog_ref.app.tune.readings import check_scores, price
from zopog_ref.app.tune.refit import dev_price
from zopog_ref.methods import METHODS
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
    given: Mapping[str, Any] = field(default_factory=dict)  # what was said of single settings

    def at(self, budget: int) -> "Variant":
        """The same on this budget, for which the settings "auto" are made."""
        if self.settings == "auto" and self.method in METHODS:
            return replace(self, preset=chosen_preset(self.method, "auto", {**self.given, "budget": budget}))
        return replace(self, preset=self.preset.changed(budget=budget))


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
    refit: bool | None = None
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
            self.cell(task, variant, seed) for seed in self.seeds for task in self.tasks for variant in self.variants
        ]

    def cell(self, task: str, variant: Variant, seed: int, templates: int | None = None) -> Cell:
        """One run. templates: how many of the task's the manual prompt reads; None: all of them."""
        config, folder = self._run(task, variant, seed, templates), self._folder(task, variant, seed)
        return Cell(task, variant.name, seed, folder, config, self.machine)

    def _folder(self, task: str, variant: Variant, seed: int) -> Path:
        return self.out / "runs" / task / variant.name.replace(":", "-") / str(seed)

    def _run(self, name: str, variant: Variant, seed: int, templates: int | None) -> RunConfig:
        source, task = self.tasks[name]
        several = task.templates[:templates] if self.readout != "none" or variant.method in SEARCHLESS else ()
        return RunConfig(
            task, source, self.model, variant.preset, variant.settings, seed, self.shots, "numpy", precision=self.fewer,
            readout=None if self.readout == "none" and variant.method not in SEARCHLESS else self.readout,
            remote=self.remote, readout_tokens=self.readout_tokens, templates=several if len(several) > 1 else None,
            refit=self.refit,
        )  # fmt: skip


def check_data(plan: Plan) -> FrozenModel:
    """Load the model and build each task's first run: shots, label words, candidates, every row of every file.

    Errors: whatever a run would stumble over before its first call.
    """
    model, experiments = first_runs(plan)
    few: dict[str, None] = {}
    for cell in plan.cells():
        step, kept_back = costs(experiments[cell.task], cell.config)
        if cell.config.method in METHODS and plan.budget < step + kept_back:
            raise InputError(
                f"--budget is {plan.budget} calls; one step of {cell.config.method} costs {step} and the readout "
                f"{kept_back}: raise it, or use --readout none"
            )
        few |= dict.fromkeys(few_steps(replace(experiments[cell.task], preset=cell.config.preset), cell.config))
    for line in few:
        say(line)
    return model


def first_runs(plan: Plan) -> tuple[FrozenModel, dict[str, Experiment]]:
    """The model, and of each task the first run, built. Errors: as `check_data`."""
    remote = plan.remote
    model = (
        load_model(plan.model, device=plan.device)
        if remote is None
        else open_model(plan.model, plan.machine, remote=remote)
    )
    check_scores(plan.readout, model.scores)
    found = {}
    for name, (_, task) in plan.tasks.items():
        found[name] = prepare(model, task, plan.variants[0].preset, plan.seeds[0], plan.shots)
        for template in task.templates:
            label_targets(replace_template(task, template), model)
    return model, found


def costs(experiment: Experiment, config: RunConfig) -> tuple[int, int]:
    """Calls of a step, and of the readouts that are kept back from the budget; where nothing steps, of one prompt: of
    the template alone with what --refit asks for, since it is read as often as the budget pays it."""
    own = replace(experiment, preset=config.preset)
    if config.method not in METHODS:
        both = config.refit and config.method == TEMPLATE_ALONE
        return price(own, 1), dev_price(own, 1) if both else 0
    rows = len(own.train.labels)
    return step_price(own.method(), own.ledger(), rows, own.preset.batch_size), reserved(own, config)


def check_started(cells: Sequence[Cell]) -> list[tuple[Cell, int]]:
    """Runs that have fewer candidates than the plan, and how many: `check_candidates` asks their texts for the reason.

    Errors: InputError when a cell's folder holds a run that is not this one.
    """
    fewer = []
    for cell in cells:
        if not (cell.folder / "config.json").exists():
            continue
        wanted, found = cell.config.named(), read_run(cell.folder)[0]
        named, least = found.named(), found.preset.n_candidates
        changed = [name for name in {**wanted, **named} if named.get(name) != wanted.get(name)]
        if changed == ["n_candidates"] and least < cell.config.preset.n_candidates:
            fewer.append((cell, least))
        elif changed:
            raise _other(cell, {name: (named.get(name), wanted.get(name)) for name in changed})
    return fewer


def check_candidates(fewer: Sequence[tuple[Cell, int]], model: FrozenModel) -> None:
    """Errors: InputError when a run has fewer candidates than the plan asks for, and its texts hold more."""
    for cell, found in fewer:
        own = cell.config
        if own.shots is None or prepare(model, own.task, own.preset, own.seed, own.shots).preset.n_candidates != found:
            raise _other(cell, {"n_candidates": (found, own.preset.n_candidates)})


def _other(cell: Cell, changed: Mapping[str, tuple[object, object]]) -> InputError:
    was = ", ".join(f"{name} {quoted(found)} (now {wanted!r})" for name, (found, wanted) in changed.items())
    return InputError(f"{cell.folder} was started with {was}: choose another --out, or give what it had")
