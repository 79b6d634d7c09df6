"""The papers' tasks on files as GLUE publishes them and in our own form; each is refused where it does not fit."""

from pathlib import Path

import numpy as np
import pytest

from zopog_models import FrozenModel, TaskError, encode
from zopog_models.tasks.published_tasks import load_published, published_tasks
from zopog_models.tasks.task_files import read_rows

# task -> (a GLUE file's header and two rows, the texts, the classes)
GLUE = {
    "mnli": ("index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n0\tf\tA \"b\"\tC\tneutral\tneutral\n1\tf\tD\tE\tx\tcontradiction\n",
             [('A "b"', "C"), ("D", "E")], [1, 2]),
    "snli": ("gold_label\tsentence1_parse\tsentence1\tsentence2\nentailment\t(x)\tA\tB\n-\t(x)\tno\tgold\ncontradiction\t(x)\tC\tD\n",
             [("A", "B"), ("C", "D")], [0, 2]),
    "qnli": ("index\tquestion\tsentence\tlabel\n0\tA?\tB\tentailment\n1\tC?\tD\tnot_entailment\n", [("A?", "B"), ("C?", "D")], [0, 1]),
    "rte": ("index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n1\tC\tD\tentailment\n", [("A", "B"), ("C", "D")], [1, 0]),
    "wnli": ("index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n1\tC\tD\t0\n", [("A", "B"), ("C", "D")], [1, 0]),
    "cola": ("gj04\t1\t\tOne sentence.\ngj04\t0\t*\tSentence one not.\n", [("One sentence.",), ("Sentence one not.",)], [1, 0]),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tA\tB\n0\t7\t8\tC\tD\n", [("A", "B"), ("C", "D")], [1, 0]),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tA?\tB?\t0\n4\t5\t6\tC?\tD?\t1\n", [("A?", "B?"), ("C?", "D?")], [0, 1]),
    "sst2": ("sentence\tlabel\nbad film \t0\nfine film \t1\n", [("bad film ",), ("fine film ",)], [0, 1]),
}  # fmt: skip
ONE, TWO = "text\tlabel\n{0}\t{2}\n{1}\t{3}\n", "text_a\ttext_b\tlabel\n{0}\tb\t{2}\n{1}\tb\t{3}\n"


def files(folder: Path, content: str, *, test: str = "dev.tsv") -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("train.tsv", test):
        (folder / name).write_text(content, "utf-8")
    return folder


@pytest.mark.parametrize("name", GLUE)
def test_files_as_they_are_published(tmp_path: Path, name: str) -> None:
    content, texts, classes = GLUE[name]
    task = load_published(name, files(tmp_path, content, test="dev_matched.tsv" if name == "mnli" else "dev.tsv"))
    for path in (task.train, task.test):
        assert path is not None
        rows = read_rows(path, task)
        assert rows.texts == texts
        assert rows.labels.tolist() == classes


@pytest.mark.parametrize("name", published_tasks())
def test_our_own_form(tmp_path: Path, name: str) -> None:
    published = published_tasks()[name]
    values = list(published.task.labels)
    content = (ONE if len(published.task.slots) == 1 else TWO).format("one", "two", values[0], values[-1])
    task = load_published(name, files(tmp_path, content, test=published.test[0]))
    assert task.train is not None
    rows = read_rows(task.train, task)
    assert [row[0] for row in rows.texts] == ["one", "two"]
    assert rows.labels.tolist() == [0, len(values) - 1]


@pytest.mark.parametrize("name", published_tasks())
def test_the_template_reads_as_the_paper_has_it(model: FrozenModel, name: str) -> None:
    """[first token] . S1 [sep] S2 ... [mask] ... [sep], and the prompt's place before it all."""
    task = published_tasks()[name].task
    encoded = encode([("good",) * len(task.slots)], task, model, 5)
    ids = encoded.ids[0]
    assert (ids[0], ids[-1]) == (model.cls_id, model.sep_id)
    assert (ids == model.mask_id).sum() == 1
    assert ids[encoded.answer_position[0]] == model.mask_id
    pairs_of_zo_pog = len(task.slots) == 2 and not name.startswith("bbt-")
    assert (ids == model.sep_id).sum() == (2 if pairs_of_zo_pog else 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rte", "index\tsentence1\tlabel\n0\tA\tentailment\n", "columns are of no form that task 'rte' knows: text_a, text_b, label; sentence1, sentence2, label"),
        ("cola", "one\ttwo\n", "columns are of no form"),
        ("sst2", "", "no form|is empty"),
    ],
)  # fmt: skip
def test_a_file_of_no_known_form(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_published(name, files(tmp_path, content))


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"is no folder; task 'rte' needs one with train.tsv"):
        load_published("rte", tmp_path / "none")
    with pytest.raises(TaskError, match=r"has no train.tsv, which task 'rte' needs"):
        load_published("rte", tmp_path)
    (tmp_path / "train.tsv").write_text(GLUE["rte"][0])
    with pytest.raises(TaskError, match=r"has no dev\.tsv"):
        load_published("rte", tmp_path)
    (tmp_path / "dev.tsv").write_text("index\tsentence1\tsentence2\n0\tA\tB\n")  # as GLUE's test files: no labels
    with pytest.raises(TaskError, match="missing column label"):
        load_published("rte", tmp_path)


def test_a_label_that_is_no_class_is_refused_but_for_those_to_skip(tmp_path: Path) -> None:
    """The twin of SNLI's rows without a gold label: the same rows in MNLI are an error that names the line."""
    content = GLUE["snli"][0]
    task = load_published("mnli", files(tmp_path, content))
    assert task.train is not None
    with pytest.raises(TaskError, match=r"line 3: unknown label '-'"):
        read_rows(task.train, task)


def test_metrics_and_labels_are_usable() -> None:
    for name, published in published_tasks().items():
        assert published.task.name == name
        assert len(set(published.task.labels.values())) == len(published.task.labels)
        assert np.isin([len(form.text) for form in published.forms], [len(published.task.slots)]).all()
