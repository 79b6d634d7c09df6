"""The example of CONTRIBUTING: one class and one line are a model that the oracle and `zopog tune` can use."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import SMALL
from tests.models.tiny_models import SENTENCES
from zopog_models import FrozenModel, FrozenModelOracle, encode, label_ids, make_task
from zopog_models.errors import SetupError
from zopog_models.runners.runner import Scores
from zopog_models.served.addresses import OPENERS, open_served

N, DIM = 3, 5
TASK = make_task("{text} it was {mask} .", {"good": "great", "bad": "terrible"})


@pytest.fixture
def bag(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrozenModel]:
    monkeypatch.delitem(OPENERS, "bag+", raising=False)  # put back what was there when the test ends
    from tests.models.runners.example import open_bag

    OPENERS["bag+"] = open_bag
    with open_served("bag+here", bert_folder) as model:
        yield model


def test_the_oracle_asks_it(bag: FrozenModel) -> None:
    """Against the definition, written out for one row: prompt vectors, offsets A z, text vectors, their mean."""
    rng = np.random.default_rng(1)
    encoded, labels = encode([(text,) for text in SENTENCES], TASK, bag, N), label_ids(TASK, bag)
    projection = rng.normal(0, 0.3, (N * bag.embedding_size, DIM)).astype(np.float32)
    oracle = FrozenModelOracle(bag, encoded, labels, np.arange(20, 50), projection, N)
    tokens, z, rows = rng.integers(0, 30, (2, N)), rng.normal(size=(2, DIM)), np.array([4, 0, 2])
    found = oracle.logits(tokens, z, rows)
    vectors = bag.runner.vectors
    for k in range(2):
        prompt = vectors[20 + tokens[k]] + (projection @ z[k]).reshape(N, -1)
        for b, row in enumerate(rows):
            mean = np.concatenate([prompt, vectors[encoded.ids[row]]]).mean(axis=0)
            assert np.abs(found[k, b] - vectors[labels] @ mean).max() < 1e-4
    assert np.abs(found[0] - found[1]).max() > 1e-3  # the prompt is read


def test_it_says_what_it_can_do(bag: FrozenModel) -> None:
    assert (bag.scores, bag.source, bag.sha256, bag.providers) == (Scores.ANY, "bag+here", "bag:here", ("NumPy",))
    assert (bag.can_thin, bag.why_not_bound, bag.runner.report()) == (False, "it is served elsewhere", {})
    with pytest.raises(ValueError, match="cannot be thinned"):
        bag.thinned(np.ones(bag.hidden_units))
    with pytest.raises(ValueError, match="precision is the server's, not 'int8'"):
        bag.reduced("int8")
    with pytest.raises(ValueError, match="it is served elsewhere"):
        bag.run_bound({}, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no sentence-embedding model"):
        bag.embeddings([np.array([2, 3])])


def test_its_address_is_known_by_the_registration_alone(bag: FrozenModel, bert_folder: Path) -> None:
    del OPENERS["bag+"]
    with pytest.raises(
        SetupError, match=r"'bag\+here' is no address of a served model; expected kserve\+, completions"
    ):
        open_served("bag+here", bert_folder)


def test_zopog_tune_uses_it(
    bag: FrozenModel, bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zopog_ref.app.command_line import main

    pairs = [f"{SENTENCES[i % 8]} {SENTENCES[(3 * i + 1) % 8]}\t{i % 2}\n" for i in range(40)]
    rows = "text\tlabel\n" + "".join(pairs)
    (tmp_path / "train.tsv").write_text(rows)
    files = ["--train", str(tmp_path / "train.tsv"), "--tokenizer", str(bert_folder), "--out", str(tmp_path / "run")]
    task = ["--template", TASK.template, "--labels", "0=great,1=terrible"]
    small = SMALL[: SMALL.index("--threads")]  # the server's affair
    code = main(["tune", "--model", "bag+here", *files, *task, *small, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"] == "bag+here"
