"""What is read again of a finished run's result.json, checked."""

from pathlib import Path
from typing import Any, Self

from zopog_ref.app.run.folder import read_json
from zopog_ref.app.run.typed_json import ABSENT, Part, Seconds, Share, Whole


class Scores(Part):
    """On the test rows."""

    rows: Whole
    truncated: Whole
    accuracy: Share
    majority: Share
    macro_f1: Share


class Answered(Part):
    """A way to read a run's prompts: what it cost, the search included."""

    name: str
    calls: Whole
    dev_nll: float
    readout: str = ABSENT  # its kind; a tuned prompt as it is has none


class Accuracies(Part):
    """What a live table shows of a run: of what is deployed and, where it has readouts, of the tuned prompt."""

    dev_accuracy: Share
    test_accuracy: Share | None
    tuned_accuracy: Share | None = ABSENT
    tuned_readout_accuracy: Share | None = ABSENT

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Of a run folder. Errors: InputError for a file that is missing or is not what a run writes."""
        path = folder / "result.json"
        return cls.from_json(read_json(path, f"{path} is missing"), path)


class Result(Accuracies):
    """What a comparison shows of a run."""

    method: str
    calls: Whole
    sequences: Whole
    tokens: Whole
    seconds: Seconds
    best_step: Whole
    stop_reason: str
    dev_loss: float | None
    test_metrics: Scores | None
    manual_metrics: Scores | None
    prompt_tokens: list[list[str]]
    tuned_tokens: list[list[str]] = ABSENT
    deployed: str = ABSENT
    answers: list[Answered] = ABSENT  # none in a run without a readout


def read_result(folder: Path) -> dict[str, Any]:
    """All of result.json. Errors: InputError for one that is missing or is not what a run writes."""
    path = folder / "result.json"
    found = read_json(path, f"{path} is missing")
    Result.from_json(found, path)
    return found
