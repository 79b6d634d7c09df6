"""What `zopog compare --curve` consists of: the same comparison on several budgets, a run of its own for each.

A run stands where the comparison on its budget has it, in OUT/calls-BUDGET. It begins with the steps of the same run on
the budget before, which are the same (`run/growing.py`). The template alone searches nothing: it reads as many of the
task's templates as the budget pays, and is run again only where these are more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.compare.plan import Plan, Variant, check_candidates, check_started, costs, first_runs
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.presets import TEMPLATE_ALONE
from zopog_ref.methods import METHODS

SEARCH_TEMPLATES = 1  # that a search reads beside its own prompt: more would take from what it may spend


@dataclass(frozen=True)
class Point:
    """A run on one of the budgets. templates: how many of the task's it reads."""

    budget: int
    templates: int
    cell: Cell


@dataclass(frozen=True)
class CurvePlan:
    """A comparison, the budgets with the smallest first, and by (task, row's method) the least that a run can cost."""

    each: Plan
    budgets: Sequence[int]
    least: Mapping[tuple[str, str], int]

    def points(self) -> list[Point]:
        """Every run that its budget pays, the smallest budgets first."""
        found: list[Point] = []
        for budget in self.budgets:
            plan = self.at(budget)
            for seed in plan.seeds:
                for task in plan.tasks:
                    for variant in plan.variants:
                        count = self.templates(task, variant, budget)
                        if count > self.templates(task, variant, self._before(budget)) or _again(variant, count):
                            found.append(self._point(plan, task, variant, seed, count))
        return found

    def cells(self) -> list[Cell]:
        """The runs, by names that tell budgets apart."""
        return [replace(p.cell, method=f"{p.cell.method}, {p.budget:,} calls") for p in self.points()]

    def templates(self, task: str, variant: Variant, budget: int) -> int:
        """How many of the task's templates a run reads; 0 where the budget does not pay it."""
        least = self.least[task, variant.name]
        if budget < least:
            return 0
        if variant.method in METHODS:
            return SEARCH_TEMPLATES
        known = max(1, len(self.each.tasks[task][1].templates))
        return min(known, budget // least) if variant.method == TEMPLATE_ALONE else known

    def at(self, budget: int) -> Plan:
        """The comparison on one budget."""
        variants = [variant.at(budget) for variant in self.each.variants]
        return replace(self.each, budget=budget, variants=variants, out=self.each.out / f"calls-{budget}")

    def _before(self, budget: int) -> int:
        return max((other for other in self.budgets if other < budget), default=0)

    def _point(self, plan: Plan, task: str, variant: Variant, seed: int, count: int) -> Point:
        cell = plan.cell(task, variant, seed, count)
        before = self._before(plan.budget)
        if variant.method in METHODS and self.templates(task, variant, before):  # it begins with the shorter's steps
            shorter = self.at(before).cell(task, variant, seed).folder
            cell = replace(cell, machine=replace(cell.machine, shorter=shorter))
        return Point(plan.budget, count, cell)


def _again(variant: Variant, templates: int) -> bool:
    """Whether more calls are another run: of every search that is paid for."""
    return variant.method != TEMPLATE_ALONE and templates > 0


def checked(each: Plan, budgets: Sequence[int]) -> CurvePlan:
    """The curve, after the model was loaded and each task's first run was built.

    Errors: as `check_data` and `check_started`; InputError where no budget pays anything.
    """
    model, experiments = first_runs(each)
    for task, experiment in experiments.items():
        if experiment.test is None:
            raise InputError(f"the task {task} has no test rows: a curve needs them, so give --test, or more rows")
    least = {}
    for task, variant in product(each.tasks, each.variants):
        cost = {}  # settings that are made for a budget cost less on a small one
        for budget in budgets:
            alone = each.cell(task, variant.at(budget), each.seeds[0], SEARCH_TEMPLATES)
            cost[budget] = sum(costs(experiments[task], alone.config))
        paid = [calls for budget, calls in cost.items() if calls <= budget]
        least[task, variant.name] = min(paid or cost.values())
    if budgets[-1] < min(least.values()):
        raise InputError(
            f"--budgets ends with {budgets[-1]} calls, and the cheapest of these runs costs {min(least.values())}"
        )
    plan = CurvePlan(each, budgets, least)
    check_candidates(check_started([point.cell for point in plan.points()]), model)
    return plan
