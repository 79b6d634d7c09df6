"""prompt/README.md: what the prompt is for, what it scores, and what it must not be used for."""

from zopog_models.files.quoting import quoted
from zopog_ref.app.report.html import elsewhere
from zopog_ref.app.tune.finished import Finished
from zopog_ref.app.tune.result import taught_said

_TERMS = "NLL: mean -log p of the right class. ECE: how far confidence is from the share of right answers."


def card(run: Finished) -> str:
    """Markdown. Names from files are quoted, so that nothing in them is markup."""
    config, found, result = run.config, run.found, run.result
    model = quoted(elsewhere(config.model))
    labels = ", ".join(f"{quoted(value)} = {quoted(word)}" for value, word in config.task.labels.items())
    rows = ["| prompt | calls | test accuracy | 95% interval | NLL | ECE |", "|---|---|---|---|---|---|"]
    for row in run.answers:
        if "accuracy" in row:
            low, high = row["interval"]
            name = f"**{row['name']}** (this prompt)" if row["name"] == run.name else row["name"]
            numbers = f"{row['accuracy']:.1%} | {low:.1%} to {high:.1%} | {row['nll']:.3f} | {row['ece']:.3f}"
            rows.append(f"| {name} | {row['calls']} | {numbers} |")
    rows += ["", f"{_TERMS} Of both, less is better."] if len(rows) > 2 else []
    scores = rows if len(rows) > 2 else [f"No test rows were left. Accuracy on dev: {result['dev_accuracy']:.1%}."]
    data = [
        f"- {name}: {len(split.rows)} rows of {quoted(split.file.rpartition('/')[2])}, sha256 `{split.sha256}`"
        for name, split in found.splits.items()
    ]
    limits = [
        "It answers with the labels above and with nothing else; a text of another kind gets one of them too.",
        "It works with exactly this model and tokenizer; another one is refused.",
        "The intervals are over test rows, for one seed. Another seed or another source of texts may differ more.",
        *run.warnings(),
    ]
    return "\n".join([
        f"# A prompt for {quoted(config.task.name)}",
        "",
        f"{quoted(config.task.description)}. " * bool(config.task.description)
        + f"Template: {quoted(config.task.template)}. Labels: {labels}.",
        "",
        f"Method {config.method}, seed {config.seed}, {result['calls']} calls. Deployed: {run.name}.",
        "",
        f"Model: {model}, sha256 `{found.model_sha256}`; tokenizer sha256 `{found.tokenizer_sha256}`.",
        "",
        "## Scores",
        "",
        *scores,
        "",
        "## Data",
        "",
        *data,
        *(f"- {line}" for line in taught_said(run)),
        "",
        "## Limits",
        "",
        *(f"- {line}" for line in limits),
        "",
    ])  # fmt: skip
