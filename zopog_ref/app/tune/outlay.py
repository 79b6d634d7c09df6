"""What is said of a run: which tokens are scored, where the prompt stands, few steps; of an endpoint what it costs;
and, after the first step, which label words it did not return."""

from zopog_models.runners.chunks import ChunkRunner
from zopog_models.served.spending import Prices, Usage
from zopog_models.served.text_runner import TextRunner
from zopog_models.tasks.label_words import words_said
from zopog_ref.app.run.auto_settings import FEW_STEPS, RULES
from zopog_ref.app.run.config import RunConfig
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.presets import AUTO, SEARCHLESS
from zopog_ref.app.tune.auto import KEPT, TOGETHER
from zopog_ref.app.tune.ending import reserved
from zopog_ref.search import step_price

__all__ = ["few_steps", "missing_words", "planned", "words_and_position"]

_MANY = 0.2  # of texts without a label word, from which on it is said


def words_and_position(experiment: Experiment) -> list[str]:
    """The label words' tokens, and what a prompt after the text keeps in memory: a line each."""
    task, model = experiment.task, experiment.model
    lines = [said] if (said := words_said(task, model)) else []
    times = experiment.ledger().forwards
    if times > 1:
        lines.append(
            f"label words of several tokens: each prompt on a mini-batch is {times} forward passes, {times} calls"
        )
    if experiment.position == "after" and isinstance(model.runner, ChunkRunner) and model.runner.reuse is not None:
        needed = model.runner.reuse.token_bytes * experiment.text_tokens
        limit = model.runner.reuse.kept.limit
        more = "" if needed <= limit else f", of which {limit / 2**20:,.0f} MB are kept and the rest is computed again"
        lines.append(
            f"the prompt stands after the text: keys and values of the rows take {needed / 2**20:,.0f} MB{more}"
        )
    return lines


def few_steps(experiment: Experiment, config: RunConfig) -> list[str]:
    """A line where the budget pays for too few steps to learn much."""
    if config.method in SEARCHLESS:
        return []
    preset, kept_back = experiment.preset, reserved(experiment, config)
    price = step_price(experiment.method(), experiment.ledger(), len(experiment.train.labels), preset.batch_size)
    steps = (preset.budget - kept_back) // price
    if not 0 < steps < FEW_STEPS:
        return []
    enough = f"--budget {FEW_STEPS * price + kept_back} pays for {FEW_STEPS}"
    cheaper = ", --settings auto has cheaper ones" if config.method in RULES and config.settings != "auto" else ""
    several = "1 step" if steps == 1 else f"{steps} steps"
    return [f"{config.method}: {preset.budget} calls are {several} of {price}, which is few: {enough}{cheaper}"]


def planned(experiment: Experiment, config: RunConfig) -> list[str]:
    """At most how many requests, tokens and dollars, a line. Equal questions are asked once."""
    runner, remote, preset = experiment.model.runner, config.remote, experiment.preset
    if remote is None or not isinstance(runner, TextRunner):
        return []
    test = 0 if experiment.test is None else len(experiment.test.labels)
    rows, dev, prompts, asked = len(experiment.train.labels), len(experiment.dev.labels), 0, 0
    if config.method not in SEARCHLESS:
        method, ledger = experiment.method(), experiment.ledger()
        left = preset.budget - reserved(experiment, config)
        steps = max(0, left) // step_price(method, ledger, rows, preset.batch_size)
        prompts, batch = len(method.prompts(method.init())), min(rows, preset.batch_size)
        every = 1 if method.full_batch else -(-rows // preset.batch_size)
        asked = (
            steps * method.calls_per_step * (rows if method.full_batch else batch) + -(-steps // every) * prompts * dev
        )
    if config.method == AUTO:  # whatever is asked about the training rows is a call
        asked = preset.budget * min(rows, preset.batch_size) + (TOGETHER + sum(KEPT.values())) * (dev + test)
    else:
        asked += (len(config.templates or (1,)) + prompts) * (rows + dev + test)
    requests = -(-asked // runner.chunk_rows)
    tokens = experiment.mean_tokens + (preset.n_positions if prompts else 0) + _around(experiment, runner)
    usage = Usage(round(asked * tokens), asked * runner.written)
    line = f"planned: at most {requests:,} requests, about {usage.read:,} tokens read and {usage.written:,} written"
    if remote.price_in is not None and remote.price_out is not None:
        cost = Prices(remote.price_in, remote.price_out).cost(usage)
        line += f", ${cost:,.2f}"
        if remote.budget_usd is not None and cost > remote.budget_usd:
            line += (
                f"; --budget-usd is {remote.budget_usd:g}: the run stops when that is spent, and can go on with more"
            )
    return [line]


def _around(experiment: Experiment, runner: TextRunner) -> float:
    """Tokens that the server puts around a row, such as its chat template: what it said of the probe, less that row."""
    spent, answers = runner.requests.spending, len(runner.requests.log.answers())
    if not answers or spent.unsaid:
        return 0.0
    return max(0.0, spent.usage.read / answers - len(experiment.first_rows(1).texts[0]))


def missing_words(experiment: Experiment) -> list[str]:
    """A line where label words are missing in many of the answers so far."""
    runner = experiment.model.runner
    if not isinstance(runner, TextRunner):
        return []
    found = runner.coverage()
    missing = {word: n for word, n in found.get("not_returned", {}).items() if n > _MANY * found["rows"]}
    told = ", ".join(f"{word} in {n} of {found['rows']}" for word, n in missing.items())
    advice = "such a word teaches nothing: choose another, ask for more with --top-logprobs, or try --answers labels"
    return [f"label words that the endpoint did not return: {told}; {advice}"] if missing else []
