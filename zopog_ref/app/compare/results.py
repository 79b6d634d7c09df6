"""compare.json as dataclasses: every number of a comparison, read, checked and written.

A field whose default is ABSENT is left out of the file where there is nothing to say: what needs test rows when there
were none, what only some methods have. The only numbers that differ between two runs of the same comparison stand
under the name `seconds`.
"""

from typing import Any, Literal

from zopog_ref.app.compare.paired import Estimate
from zopog_ref.app.run.typed_json import ABSENT, Json


class Spread(Json):
    """Mean and standard deviation over the seeds (None for one seed), and each."""

    mean: float | None
    std: float | None
    each: list[float | None]


class SignTest(Json):
    """Rows of one seed that only the method, or only the other, answers right; p of McNemar's test."""

    wins: int
    losses: int
    p: float


class Gain(Estimate):
    """A difference to the manual prompt, as it is or with a readout.

    these_runs: with the seeds taken as given, on common test rows.
    """

    p_holm: float
    these_runs: Estimate = ABSENT
    each_seed: list[SignTest] = ABSENT


class Standing(Estimate):
    """A method's mean under one metric, and where it stands among the others."""

    p_best: float
    among_best: bool
    against_best: Estimate | None
    against_manual: Gain = ABSENT
    against_readout: Gain = ABSENT  # to the manual prompt with a readout: what the calls bought beyond it


class Metric(Json):
    """One metric: the best method, every method's standing, and differences[i][j], row minus column."""

    higher_is_better: bool
    best: str
    methods: dict[str, Standing]
    differences: list[list[Estimate | None]]


class Statistics(Json):
    """Of one task. All intervals are at `level`."""

    level: float
    methods: list[str]
    same_test_rows: bool
    metrics: dict[str, Metric]


class Bins(Json):
    """Rows by confidence; None for the means of an empty bin."""

    rows: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


class Rejection(Json):
    """Accuracy of the surest rows, by the share of rows answered."""

    coverage: list[float]
    accuracy: list[float]


class Uncertainty(Json):
    """What zopog_ref.app.scores.uncertainty.uncertainty_metrics gives."""

    ece: float
    nll: float
    nll_clipped: int
    brier: float
    auroc_errors: float | None
    rejection_area: float
    entropy: float
    confidence: float
    reliability: Bins
    rejection: Rejection
    mutual_information: float = ABSENT


class Predictives(Json):
    """Uncertainty of the mean prediction, and of the votes where there are several prompts."""

    mean: Uncertainty
    votes: Uncertainty = ABSENT


class Test(Json):
    """What zopog_ref.app.scores.metrics.classification_metrics gives."""

    accuracy: float
    majority: float
    macro_f1: float
    matthews: float
    rows: int
    classes: list[str]
    confusion: list[list[int]]
    unanswered: int = ABSENT


class Text(Json):
    """A prompt's tokens, its share of all prompts, and the learned probability of each token."""

    tokens: list[str]
    weight: float
    probabilities: list[float] = ABSENT


class Learned(Json):
    """The heaviest texts of a run, how many differ, and the likeliest tokens of each position where it has them."""

    texts: list[Text]
    distinct: int
    positions: list[list[tuple[str, float]]] | None


Reading = Literal["manual", "manual + centred", "manual + readout", "tuned", "tuned + readout"]
BASELINES: tuple[Reading, ...] = ("manual", "manual + centred", "manual + readout")


class Run(Json):
    """One cell, read one way. The manual prompt's has no folder, and nothing of what only a run has.

    readout: its kind; deployed: whether the run deploys this reading. calls: of this reading, the search included.
    """

    seed: int
    folder: str = ABSENT
    readout: str = ABSENT
    deployed: bool = ABSENT
    calls: int
    sequences: int = ABSENT
    tokens: int = ABSENT
    stop_reason: str = ABSENT
    best_step: int | None = ABSENT
    seconds: float = ABSENT
    dev_accuracy: float = ABSENT
    dev_loss: float | None = ABSENT
    curve: list[tuple[int, float, float | None]]  # calls, dev metric, dev loss
    prompts: int
    prompt: Learned = ABSENT
    test: Test = ABSENT
    uncertainty: Predictives = ABSENT


class Method(Json):
    """A method on a task, read one way: its runs by seed, means over them, and spreads of what the test rows say.

    name: of the row, such as "bbt + readout"; of: the method's, or manual.
    """

    name: str
    of: str
    reading: Reading
    cells: list[Run]
    calls: float
    sequences: float = ABSENT
    tokens: float = ABSENT
    seconds: float = ABSENT
    confusion: list[list[int]] = ABSENT
    accuracy: Spread = ABSENT
    macro_f1: Spread = ABSENT
    matthews: Spread = ABSENT
    ece: Spread = ABSENT
    nll: Spread = ABSENT
    brier: Spread = ABSENT
    auroc_errors: Spread = ABSENT
    rejection_area: Spread = ABSENT
    entropy: Spread = ABSENT

    @property
    def best_first(self) -> list[Run]:
        """Its runs, the highest test accuracy first."""
        return sorted(self.cells, key=lambda run: -run.test.accuracy if run.test else 0.0)

    @property
    def baseline(self) -> bool:
        """Whether nothing was searched for it."""
        return self.reading in BASELINES


class TaskResult(Json):
    """A task. rows, majority and truncated are those of the test; statistics is None without one."""

    name: str
    description: str
    template: str
    templates: list[str] = ABSENT  # where the baselines read several together
    metric: str
    labels: dict[str, str]
    rows: int
    majority: float | None
    truncated: int
    methods: list[Method]
    statistics: Statistics | None

    @property
    def accuracy(self) -> Metric:
        """Where the methods stand; there are test rows."""
        assert self.statistics is not None
        return self.statistics.metrics["accuracy"]

    @property
    def ranked(self) -> list[Method]:
        """The highest test accuracy first."""
        return sorted(self.methods, key=lambda method: -((method.accuracy and method.accuracy.mean) or 0.0))

    @property
    def searched(self) -> list[Method]:
        """A row of every method that searches: with its readout where it has one, the highest accuracy first."""
        return [m for m in self.ranked if m.reading == "tuned + readout" or (m.reading == "tuned" and not self.read(m))]

    def read(self, method: Method) -> bool:
        """Whether the method has a row with a readout."""
        return any(other.of == method.of and other.reading == "tuned + readout" for other in self.methods)


class Chosen(Json):
    """A method's settings: own are its class's; n, N, d as in the paper."""

    name: str
    method: str
    settings: str
    about: str
    own: dict[str, Any]
    n: int
    N: int
    d: int
    scale: float
    batch_size: int
    loss: str


class Failed(Json):
    """A cell that could not be finished, and why."""

    task: str
    method: str
    seed: int
    error: str


class Comparison(Json):
    """The whole file."""

    format: int
    budget: int
    shots: int
    seeds: list[int]
    model: str
    precision: str
    precision_scope: str | None
    readout: str
    methods: list[Chosen]
    tasks: list[TaskResult]
    failed: list[Failed]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the fields."""
        found = super().to_json()
        cells = [method["cells"] for task in found["tasks"] for method in task["methods"]]
        for cell in (cell for each in cells for cell in each if "folder" not in cell):
            rest = {name: cell.pop(name) for name in ("curve", "prompts", "test", "uncertainty") if name in cell}
            cell |= {"prompts": rest.pop("prompts")} | rest  # the manual prompt's row has always had its curve here
        return found
