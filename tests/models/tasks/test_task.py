"""task: files are read as they are, and every way they can be wrong has its message with the line."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from zopog_models import TaskError, embedded_tasks, few_shot, load_task, make_task, read_rows

ONE = make_task("{text} {mask}", {"0": "bad", "1": "good"})
TWO = make_task("{text_a} ? {mask} , {text_b}", {"yes": "yes", "no": "no"})


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    path = file(tmp_path, "a.tsv", 'text\tlabel\n"quoted\t0\nan "odd" one\r\t1\r\n\n\x85 \u2028line\t1')
    rows = read_rows(path, ONE)
    assert rows.texts == [('"quoted',), ('an "odd" one\r',), ("\x85 \u2028line",)]
    assert rows.labels.tolist() == [0, 1, 1]


def test_csv_has(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", 'label,other,text\n1,x,"one, ""two""\nthree"\n0,y,plain\n')
    rows = read_rows(path, ONE)
    assert rows.texts == [('one, "two"\nthree',), ("plain",)]
    assert rows.labels.tolist() == [1, 0]


def test_jsonl_labels_may_be_numbers(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", '{"text": "a\u2028b", "label": 1}\n\n{"label": "0", "text": "c", "more": null}\n')
    rows = read_rows(path, ONE)
    assert rows.texts == [("a\u2028b",), ("c",)]
    assert rows.labels.tolist() == [1, 0]


def test_two_texts_and_other_column_names(tmp_path: Path) -> None:
    path = file(tmp_path, "a.tsv", "id\ttext_b\ttext_a\tlabel\n7\tsecond\tfirst\tno\n")
    assert read_rows(path, TWO).texts == [("first", "second")]
    renamed = make_task("{text} {mask}", {"yes": "yes", "no": "no"}, text_columns=["text_b"])
    assert read_rows(path, renamed).texts == [("second",)]


def test_a_byte_order_mark_is_no_column(tmp_path: Path) -> None:
    path = file(tmp_path, "a.tsv", "\ufefftext\tlabel\na\t1\n")
    assert read_rows(path, ONE).texts == [("a",)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"", "is empty"),
        ("a.tsv", b"  \n", "is empty"),
        ("a.tsv", "text\tlabel\n", "holds no rows"),
        ("a.tsv", b"text\tlabel\na\t1\n\xff\t1\n", r"line 3: not UTF-8 .*; save it as UTF-8"),
        ("a.tsv", "text\tclass\na\t1\n", "missing column label; the header has: text, class"),
        ("a.tsv", "text \tlabel\na\t1\n", "missing column text; the header has: 'text ', label"),
        ("a.tsv", "text\tlabel\ra\t1\r", r"a\.tsv: its lines end in \\r alone"),
        ("a.tsv", "text\tlabel\na\t1\nb\t2\n", r"line 3: unknown label '2'; the task's labels: 0, 1"),
        ("a.tsv", "text\tlabel\na\t1\nb\n", r"line 3: 1 fields, the header has 2"),
        ("a.csv", 'text,label\na,1\n"b,1\n', r"line 3: unexpected end of data"),
        ("a.csv", 'text,label\n"a\nb",3\n', r"line 3: unknown label '3'"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{\n', r"line 2: not JSON"),
        ("a.jsonl", "[1]\n", r"line 1: expected a JSON object"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', r"line 1: column 'text' must be a string, got 3"),
        ("a.jsonl", '{"text": "a"}\n', r"line 1: column 'label' must be a string, got None"),
        ("a.xlsx", "x", "unknown kind of file '.xlsx'; give .tsv, .csv or .jsonl"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        read_rows(file(tmp_path, name, content), ONE)
    assert name in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"cannot read .*nothing.tsv: No such file"):
        read_rows(tmp_path / "nothing.tsv", ONE)
    with pytest.raises(TaskError, match="cannot read"):
        read_rows(tmp_path / "nothing.jsonl", ONE)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{text} {mask} {mask}", r"must contain \{mask\} exactly once"),
        ("it was {mask}", r"must contain \{text\} once"),
        ("{text} {text} {mask}", r"must contain \{text\} once"),
        ("{text_a} {mask}", r"must contain \{text\} once"),
        ("{text} {text_a} {mask}", r"must contain \{text\} once"),
        ("{text} {mask} {colour}", r"must contain \{text\} once"),
        ("{text} {mask} {}", r"must contain \{text\} once"),
    ],
)
def test_templates_that_cannot_be_used(template: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make_task(template, {"0": "bad", "1": "good"})


def test_other_settings_that_cannot_be_used() -> None:
    with pytest.raises(TaskError, match="at least two labels"):
        make_task("{text} {mask}", {"0": "bad"})
    with pytest.raises(TaskError, match="label '1' needs a label word"):
        make_task("{text} {mask}", {"0": "bad", "1": " "})
    with pytest.raises(TaskError, match="unknown metric 'bleu'; known: accuracy"):
        make_task("{text} {mask}", {"0": "bad", "1": "good"}, metric="bleu")
    with pytest.raises(TaskError, match="text_columns"):
        make_task("{text} {mask}", {"0": "bad", "1": "good"}, text_columns=["a", "b"])


TOML = """
name = "mine"
template = "{text} {mask}"
train = "train.tsv"
[labels]
b = "bad"
a = "good"
"""


def test_a_task_file(tmp_path: Path) -> None:
    task = load_task(file(tmp_path, "my.toml", TOML))
    assert task.name == "mine"
    assert list(task.labels) == ["b", "a"]  # the order is that of the classes
    assert task.train == tmp_path / "train.tsv"
    assert task.dev is None
    assert load_task(file(tmp_path, "unnamed.toml", TOML.replace('name = "mine"', ""))).name == "unnamed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("template = ", "is not TOML"),
        ('template = "{text} {mask}"', "'labels' is missing"),
        (TOML.replace("train =", "trian ="), "unknown keys trian; known: description"),
        (TOML.replace('"train.tsv"', "3"), "'train' must be a str, got 3"),
        (TOML.replace('"bad"', "3"), "label 'b' needs a label word, got 3"),
        (TOML.replace("{mask}", "{mask} {mask}"), "exactly once"),
        ("", "is empty"),
    ],
)
def test_task_files_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(file(tmp_path, "my.toml", content))


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(
        TaskError, match=r"unknown task 'nope'; embedded tasks: hyponym, organism, supersense; or give a .toml"
    ):
        load_task("nope")
    assert [task.name for task in embedded_tasks()] == ["hyponym", "organism", "supersense"]
    assert load_task("supersense").test == embedded_tasks()[2].test


def test_few_shot_takes_the_first_of_each_class() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    order = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    assert few_shot(labels, 2, order).tolist() == [9, 8, 7, 6, 5, 4]
    assert few_shot(labels, 3, order).tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1][:9]


def test_few_shot_names_the_poor_class() -> None:
    labels, order = np.array([0, 0, 1, 0]), np.arange(4)
    with pytest.raises(TaskError, match="class 1 has 1 rows, but 2 shots were asked for"):
        few_shot(labels, 2, order)
    with pytest.raises(TaskError, match="class 'plant' has 0 rows"):
        few_shot(labels, 1, order, names=["animal", "food", "plant"])
    with pytest.raises(TaskError, match="shots must be at least 1"):
        few_shot(labels, 0, order)


def test_quoted_tsv_is_read_where_the_task_says_so(tmp_path: Path) -> None:
    path = file(tmp_path, "a.tsv", '"text"\t"label"\n"with a\ttab and ""marks"""\t"0"\nplain\t1\n')
    quoted = make_task("{text} {mask}", {"0": "bad", "1": "good"}, quoting="double")
    assert read_rows(path, quoted).texts == [('with a\ttab and "marks"',), ("plain",)]
    with pytest.raises(TaskError, match=r'missing column text, label; .*"text", "label".*; .*quoting = "double"'):
        read_rows(path, ONE)
    with pytest.raises(TaskError, match=r'unknown label \'"0"\'.*quoting = "double"'):
        read_rows(file(tmp_path, "b.tsv", 'text\tlabel\n"a"\t"0"\n'), ONE)
    with pytest.raises(TaskError, match=r'line 2: 3 fields, the header has 2; .*quoting = "double"'):
        read_rows(file(tmp_path, "c.tsv", 'text\tlabel\n"a\tb"\t0\n'), ONE)
    plain = make_task("{text} {mask}", {"0": "bad", "1": "good"}, quoting="none")
    assert read_rows(file(tmp_path, "d.csv", 'text,label\n"a",0\n'), plain).texts == [('"a"',)]
    toml = file(tmp_path, "t.toml", 'template = "{text} {mask}"\nquoting = "double"\nlabels = {0 = "a", 1 = "b"}\n')
    assert load_task(toml).quoting == "double"
    with pytest.raises(TaskError, match="unknown quoting 'maybe'"):
        make_task("{text} {mask}", {"0": "bad", "1": "good"}, quoting="maybe")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "text\tlabel\ttext\na\t0\tb\n", "the column 'text' is there twice; rename one"),
        ("a.csv", "label,text,label\n0,a,1\n", "the column 'label' is there twice"),
        ("a.jsonl", '{"text": "a", "label": 0, "text": "b"}\n', "line 1: the key 'text' is there twice"),
        ("a.jsonl", '{"text": "a", "label": 0, "more": {"x": 1, "x": 2}}\n', "line 1: the key 'x' is there twice"),
    ],
)
def test_repeated_keys(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_rows(file(tmp_path, name, content), ONE)


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="is a git-lfs pointer"):
        read_rows(file(tmp_path, "a.tsv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), ONE)


def test_repeated_columns_that_nobody_asked_for(tmp_path: Path) -> None:
    assert read_rows(file(tmp_path, "a.csv", "x,text,label,x\n1,a,0,2\n"), ONE).texts == [("a",)]


def test_repeated_labels(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"of the labels the key '1' is there twice"):
        make_task("{text} {mask}", {1: "bad", "1": "good", "2": "fine"})  # type: ignore[dict-item]
    toml = file(tmp_path, "t.toml", 'template = "{text} {mask}"\n[labels]\n0 = "a"\n"0" = "b"\n')
    with pytest.raises(TaskError, match="is not TOML"):
        load_task(toml)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_gzip(tmp_path: Path, name: str) -> None:
    content = {"a.tsv": "text\tlabel\na\t1\n", "a.csv": 'text,label\n"a",1\n', "a.jsonl": '{"text": "a", "label": 1}'}[
        name
    ]
    path = file(tmp_path, f"{name}.gz", gzip.compress(content.encode()))
    assert read_rows(path, ONE).texts == [("a",)]
    damaged = file(tmp_path, f"b{name[1:]}.GZ", path.read_bytes()[:-5])
    with pytest.raises(TaskError, match="is not gzip, or damaged"):
        read_rows(damaged, ONE)
    with pytest.raises(TaskError, match="is not gzip"):
        read_rows(file(tmp_path, f"c{name[1:]}.gz", content), ONE)


def test_a_gzip_bomb_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zopog_models.tasks.data_files.MAX_DATA_BYTES", 100_000)
    path = file(tmp_path, "a.tsv.gz", gzip.compress(b"text\tlabel\n" + b"a" * 200_000))
    with pytest.raises(TaskError, match="unpacked more than 100000 bytes"):
        read_rows(path, ONE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.json", r"unknown kind of file '.json'; give .tsv, .csv or .jsonl \(or .parquet\): write one object a line"),
        ("a.xlsx", "'.xlsx'.*: save the sheet as .csv"),
        ("a.gz", "unknown kind of file ''"),
        ("a.tar.gz", "unknown kind of file '.tar'"),
        ("a.zip", "'.zip'.*: unpack it"),
    ],
)
def test_the_suffix_is_looked_at_first(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_rows(file(tmp_path, name, b"\x00\xff\xfe"), ONE)


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path, "a.parquet", b"PAR1 and nothing")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(TaskError, match=r"reading .parquet needs pyarrow: pip install pyarrow, or save"):
            read_rows(path, ONE)
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    with pytest.raises(TaskError, match=r"is not Parquet, or damaged"):
        read_rows(path, ONE)
    parquet.write_table(pa.table({"label": [1, 0], "n": [1.5, 2.5], "text": ["ü", "b"]}), path)
    rows = read_rows(path, ONE)
    assert rows.texts == [("ü",), ("b",)]
    assert rows.labels.tolist() == [1, 0]
    parquet.write_table(pa.table({"text": ["a", None], "label": [1, 0]}), path)
    with pytest.raises(TaskError, match="line 2: column 'text' must be a string, got None"):
        read_rows(path, ONE)
    parquet.write_table(pa.table({"sentence": ["a"], "label": [1]}), path)
    with pytest.raises(TaskError, match="missing column text; the header has: sentence, label; name the columns"):
        read_rows(path, ONE)
