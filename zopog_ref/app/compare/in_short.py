"""What the statistics of a task say, in sentences: the best row, what the calls bought, and with no readout."""

from collections.abc import Iterator

from zopog_ref.app.compare.plan import CENTRED, MANUAL, READ
from zopog_ref.app.compare.results import Gain, TaskResult
from zopog_ref.app.report.html import counted, points

_CHANCE = 0.05  # p, after Holm's correction
_NAMED = 5  # rows in a sentence
Sentence = tuple[str, str, str]  # what stands before a name, the name (bold), and after it


def findings(task: TaskResult, where: str) -> Iterator[Sentence]:
    """The sentences. where: begins the first."""
    if task.statistics is None:
        yield f"{task.name} has no test rows: there is nothing to compare on.", "", ""
        return
    standings, best = task.accuracy.methods, task.accuracy.best
    top, tied = standings[best], [name for name, s in standings.items() if s.among_best and name != best]
    names = ", ".join(tied) if len(tied) <= _NAMED else f"{len(tied)} others, which are marked below"
    told = f"not significantly worse: {names}." if tied else "nothing else is as good, at 95% confidence."
    ends = f" ends highest, at {top.mean:.1%} of {task.rows:,} test rows ({top.low:.1%} to {top.high:.1%}); {told}"
    yield where, best, ends
    yield from _bought(task)
    yield from _deployed(task)
    yield from _by_itself(task)
    nll = task.statistics.metrics["nll"]
    loss = f": {nll.methods[nll.best].mean:.3f} nats of negative log-likelihood a row."
    yield "The most honest probabilities are those of ", nll.best, loss


def _bought(task: TaskResult) -> Iterator[Sentence]:
    """What the searches' calls gave beyond the manual prompt with a readout, which takes a few."""
    standings, rows = task.accuracy.methods, [m for m in task.searched if m.name in task.accuracy.methods]
    found = [(m, gain) for m in rows if (gain := standings[m.name].against_readout)]
    if not found:
        return
    base = next(m for m in task.methods if m.name == READ)
    over = f"over {READ} at {counted(round(base.calls), 'call')} ({standings[READ].mean:.1%})"
    bought = [(m, gain) for m, gain in found if gain.p_holm <= _CHANCE and gain.mean > 0]
    for method, gain in bought:
        yield "", method.name, f"’s {method.calls:,.0f} calls bought {_points(gain)} {over}."
    if not (rest := [pair for pair in found if pair not in bought]):
        return
    method, gain = rest[0]
    if len(found) == 1:
        nothing = "nothing" if gain.mean <= 0 else "nothing that is more than chance"
        yield "", method.name, f"’s {method.calls:,.0f} calls bought {nothing} {over}: {_points(gain)}."
        return
    below = sum(gain.p_holm <= _CHANCE and gain.mean < 0 for _, gain in rest)
    worse = f" {below} of {len(found)} methods end below it by more than chance." if below else ""
    who = "No method’s calls bought anything" if not bought else "The other methods’ calls bought nothing"
    yield (
        f"{who} {over} by more than chance, after Holm’s correction.{worse} The nearest is ",
        method.name,
        f", {method.calls:,.0f} calls: {_points(gain)}.",
    )


def _deployed(task: TaskResult) -> Iterator[Sentence]:
    """What the dev rows chose."""
    own = [run for m in task.methods if not m.baseline for run in m.cells]
    runs = sum(len(m.cells) for m in task.searched)
    if any(run.deployed in (True, False) for run in own):
        chosen = sum(run.deployed is True for run in own)
        yield f"By the dev rows {chosen} of {counted(runs, 'run')} deploy what was searched for.", "", ""


def _by_itself(task: TaskResult) -> Iterator[Sentence]:
    """How the methods' own answers stand to the manual prompt's."""
    standings = task.accuracy.methods
    plain = [m.name for m in task.methods if m.reading == "tuned" and m.name in standings]
    gains = {name: gain for name in plain if (gain := standings[name].against_manual)}
    if not gains:
        return
    above = [name for name, gain in gains.items() if gain.p_holm <= _CHANCE and gain.mean > 0]
    under = [name for name, gain in gains.items() if gain.p_holm <= _CHANCE and gain.mean < 0]
    which = f"{len(above)} of {len(gains)} methods" if above else f"none of {counted(len(gains), 'method')}"
    start = "Without a readout, " if CENTRED in standings else ""
    beat = f"{which} {'beat' if len(above) > 1 else 'beats'} the manual prompt ({standings[MANUAL].mean:.1%})"
    names = f": {', '.join(above)}" if 0 < len(above) < len(gains) else ""
    rest = f" Below it: {', '.join(under)}." if under else ""
    sentence = f"{start}{beat} by more than chance, after Holm’s correction{names}.{rest}"
    yield sentence[0].upper() + sentence[1:], "", ""
    if CENTRED in standings:
        level = standings[CENTRED].mean
        higher = sum(standings[name].mean > level for name in gains)
        ends = f"{higher} of {len(gains)} end higher."
        yield f"Centring the manual prompt’s scores, with no label looked at, gives {level:.1%}: {ends}", "", ""


def _points(gain: Gain) -> str:
    """The difference with its interval, and why it may be chance though that leaves out zero."""
    alone = gain.p_holm > _CHANCE and not gain.low <= 0 <= gain.high
    why = f"; that interval leaves out zero, but is of this one difference: corrected for all, p is {gain.p_holm:.2f}"
    return f"{points(gain.mean)} points ({points(gain.low)} to {points(gain.high)})" + why * alone
