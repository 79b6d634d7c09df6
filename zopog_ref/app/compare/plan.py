"""What a comparison consists of, checked before any of it runs."""

from dataclasses import dataclass
from pathlib import Path

from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.tasks.template import Task
from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import Precision, RunConfig, read_run
from zopog_ref.app.run.experiment import prepare
from zopog_ref.app.run.presets import Preset

MANUAL = "manual"  # the row of the template alone


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
    tasks: dict[str, tuple[str, Task]]  # name -> (how it was given, task)
    variants: list[Variant]
    seeds: list[int]
    shots: int
    budget: int
    model: str
    device: str = "cpu"
    fewer: Precision | None = None  # None: fp32

    def cells(self) -> list[Cell]:
        """Every cell, seed by seed: when one is interrupted early, whole seeds are done rather than whole methods."""
        return [
            Cell(
                task, variant.name, seed, self._folder(task, variant, seed), self._run(task, variant, seed), self.device
            )
            for seed in self.seeds
            for task in self.tasks
            for variant in self.variants
        ]

    def _folder(self, task: str, variant: Variant, seed: int) -> Path:
        return self.out / "runs" / task / variant.name.replace(":", "-") / str(seed)

    def _run(self, name: str, variant: Variant, seed: int) -> RunConfig:
        source, task = self.tasks[name]
        return RunConfig(
            task, source, self.model, variant.preset, variant.settings, seed, self.shots, "numpy", precision=self.fewer
        )


def check_data(plan: Plan) -> FrozenModel:
    """Load the model and build each task's first run: shots, label words, candidates, every row of every file.

    Errors: whatever a run would stumble over before its first call.
    """
    model = load_model(plan.model, device=plan.device)
    for _, task in plan.tasks.values():
        prepare(model, task, plan.variants[0].preset, plan.seeds[0], plan.shots)
    return model


def check_started(plan: Plan) -> None:
    """Errors: InputError when a cell's folder holds a run that is not the one of this plan."""
    for cell in plan.cells():
        if not (cell.folder / "config.json").exists():
            continue
        wanted, found = cell.config.named(), read_run(cell.folder)[0].named()
        if changed := [name for name in wanted if found.get(name) != wanted[name]]:
            was = ", ".join(f"{name} {quoted(found.get(name))} (now {wanted[name]!r})" for name in changed)
            raise InputError(f"{cell.folder} was started with {was}: choose another --out, or give what it had")
