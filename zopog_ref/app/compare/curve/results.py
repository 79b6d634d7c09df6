"""curve.json as dataclasses: what every method has to show for how many calls."""

from zopog_ref.app.compare.results import Chosen, Failed, Reading
from zopog_ref.app.run.typed_json import ABSENT, Json

METRICS = {"accuracy": True, "nll": False}  # and whether higher is better


class Mean(Json):
    """Over seeds and test rows, with the ends of its interval, clipped to what is possible; each: a seed's own.

    tied: the highest row of this budget, or one whose paired difference to it has an interval that includes zero.
    frontier: nothing in the whole table is better for as few calls, or as good for fewer.
    """

    mean: float
    low: float
    high: float
    each: list[float]
    tied: bool
    frontier: bool


class Gain(Json):
    """Paired difference to the manual prompt with a readout on the same budget, with the ends of its interval."""

    mean: float
    low: float
    high: float
    p: float


class At(Json):
    """A row on one budget. calls: spent, the search included, mean over the seeds. run: of which budget the run is."""

    budget: int
    run: int
    calls: float
    templates: int
    seeds: list[int]
    accuracy: Mean
    nll: Mean
    against_readout: Gain = ABSENT


class Row(Json):
    """A method read one way. least: calls that a run of it costs at least."""

    name: str
    of: str
    reading: Reading
    least: int
    at: list[At]

    @property
    def baseline(self) -> bool:
        """Whether nothing was searched for it."""
        return self.reading.startswith("manual")

    def on(self, budget: int) -> At | None:
        """What it has to show on a budget; None where that does not pay it, or it was not run."""
        return next((point for point in self.at if point.budget == budget), None)


class CurveTask(Json):
    """A task: its rows, and how many runs of each budget are missing."""

    name: str
    description: str
    templates: list[str]
    labels: dict[str, str]
    test_rows: int
    majority: float
    unfinished: dict[str, int]
    rows: list[Row]

    def ranked(self, budget: int) -> list[Row]:
        """The highest accuracy on this budget first; those without one last."""
        return sorted(self.rows, key=lambda row: -at.accuracy.mean if (at := row.on(budget)) else 1.0)


class Curve(Json):
    """The whole file."""

    format: int
    budgets: list[int]
    level: float
    shots: int
    seeds: list[int]
    model: str
    precision: str
    readout: str
    methods: list[Chosen]
    tasks: list[CurveTask]
    failed: list[Failed]
    versions: dict[str, str]
