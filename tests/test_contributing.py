"""CONTRIBUTING.md is true: what its sections add joins as the page says, runs and is used by the command; its files exist."""

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.methods.test_matrix import SYNTHETIC, check_charges, check_result, check_resumes, needs_model
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.lines import evaluate
from zopog_ref.method import Method
from zopog_ref.methods import METHODS, method_class, settings_class

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SHAPE = ["--budget", "40", "--n-positions", "3", "--n-candidates", "20", "--dim", "5", "--shots", "2"]


def blocks(heading: str, language: str = "python") -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def as_module(monkeypatch: pytest.MonkeyPatch, name: str, written: str) -> ModuleType:
    """What the page has written, in the module where the page says that it stands."""
    package, _, last = name.rpartition(".")
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(importlib.import_module(package), last, module, raising=False)
    exec(compile(written, "CONTRIBUTING.md", "exec"), vars(module))
    return module


@pytest.fixture
def own_rows(tmp_path: Path) -> list[str]:
    """Options of a small task of one's own, and of a small run on it."""
    from tests.models.tiny_models import SENTENCES

    rows = [f"{SENTENCES[i % 8]} {SENTENCES[(3 * i + 1) % 8]}\t{i % 2}\n" for i in range(40)]
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "".join(rows))
    task = ["--template", "{text} it was {mask} .", "--labels", "0=animal,1=plant"]
    return ["--train", str(tmp_path / "train.tsv"), *task, *SHAPE, "--out", str(tmp_path / "run")]


def tune(*options: str) -> int:
    from zopog_ref.app.command_line import main

    return main(["tune", *options])


# -- a method -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mutation(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Method]]:
    """The page's method, where the page says that its file stands, named as the page names it."""
    written, joined, _ = blocks("A method")
    as_module(monkeypatch, "zopog_ref.methods.mutation", written)
    exec(joined, {})
    yield method_class("mutation")
    del METHODS["mutation"]


@pytest.mark.parametrize("problem", SYNTHETIC)
@pytest.mark.parametrize("check", [check_charges, check_result, check_resumes])
def test_the_method_passes_what_every_method_passes(mutation: type[Method], problem: str, check) -> None:
    check(mutation, SYNTHETIC[problem])


def test_the_method_s_settings_are_checked(mutation: type[Method]) -> None:
    assert settings_class("mutation") is mutation.Settings
    assert mutation.Settings().samples == 10
    for setting in ({"samples": 0}, {"sigma": float("nan")}, {"sigma": -1.0}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            mutation.Settings(**setting)


@needs_model
def test_the_command_runs_the_method(
    mutation: type[Method], own_rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from zopog_ref.app.run.presets import PRESETS

    assert tune("--method", "mutation", *own_rows, "--samples", "4") == 2  # a method without settings says so
    assert "mutation has no settings 'embedded': PRESETS in zopog_ref/app/run/presets.py" in capsys.readouterr().err
    exec(blocks("A method")[2], {})
    try:
        assert PRESETS["mutation", "embedded"].method == mutation.Settings()
        assert tune("--method", "mutation", *own_rows, "--samples", "4") == 0
    finally:
        del PRESETS["mutation", "embedded"], PRESETS["mutation", "paper"]
    assert "tuned (mutation)" in capsys.readouterr().out


# -- a row of the theory --------------------------------------------------------------------------------------------


def test_the_row_holds_and_catches_a_broken_estimator() -> None:
    [written] = blocks("A row of the theory")
    names: dict = {}
    exec(compile(written, "CONTRIBUTING.md", "exec"), names)
    line = names["LINE"]
    assert f"[{line.label}]" in line.function.__doc__
    assert [result.holds for result in evaluate([line], Bench(effort=TINY))] == [True]

    def bdpl(losses, tokens, alpha, p, tau):
        drawn = tokens[..., None] == range(alpha.shape[1])
        return ((losses - losses.mean())[:, None, None] * (2.0 * drawn - 1.0) / p).sum(axis=0) / (len(losses) - 1)

    assert [result.holds for result in evaluate([line], Bench(effort=TINY, policy=bdpl))] == [False]


# -- a model family -------------------------------------------------------------------------------------------------


@pytest.fixture
def toybert(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of the page's family, which joins as the page says."""
    pytest.importorskip("onnxruntime", reason="a model needs the extra cpu")
    from tests.models.tiny_models import write_model
    from zopog_models.families import FAMILIES

    written, joined = blocks("A model family")
    as_module(monkeypatch, "zopog_models.families.toybert", written)
    exec(joined, {})
    yield write_model(tmp_path / "toybert", "toybert")
    del FAMILIES["toybert"]


def toybert_scores(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], ids: Sequence[int], visible: Sequence[int],
    offset: np.ndarray, injection: str, flaws: Any, head: str = "relu",
) -> np.ndarray:  # fmt: skip
    """Plain NumPy: BERT's layers under the page's names, and a head of its own."""
    from tests.models.numpy_bert import activation, hidden_states, layer_norm

    parts = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"}
    renamed = {re.sub(r"(layer\.\d+)\.([qkv])\.", lambda m: f"{m[1]}.{parts[m[2]]}.", n): t for n, t in tensors.items()}
    x = hidden_states(config, renamed, ids, visible, offset, injection, flaws)
    h = {n.removeprefix("cls.predictions."): t.astype(np.float64) for n, t in tensors.items() if n.startswith("cls.")}
    x = activation(x @ h["transform.dense.weight"].T + h["transform.dense.bias"], head, flaws)
    norm = h["transform.LayerNorm.weight"], h["transform.LayerNorm.bias"]
    words = tensors["toybert.embeddings.word_embeddings.weight"]
    return layer_norm(x, norm, config["layer_norm_eps"]) @ words.T + h["bias"]


def test_the_family_computes_what_it_says(toybert: Path) -> None:
    from functools import partial

    from tests.models.graph.test_graph import case
    from tests.models.numpy_bert import label_logits
    from zopog_models import load_checkpoint, load_model

    checkpoint, inputs = load_checkpoint(toybert), case(5, 3)
    assert {name for name in checkpoint.tensors if ".0.q." in name} == {
        f"toybert.encoder.layer.0.q.{part}" for part in ("weight", "bias")
    }
    logits = load_model(toybert, threads=1).logits(**inputs)
    expected = label_logits(checkpoint.config, checkpoint.tensors, **inputs, forward=toybert_scores)
    assert np.abs(logits - expected).max() < 1e-5
    gelu = partial(toybert_scores, head="gelu")  # what config.json says, and the page's family does not do
    assert np.abs(logits - label_logits(checkpoint.config, checkpoint.tensors, **inputs, forward=gelu)).max() > 1e-2


def test_the_command_runs_the_family(toybert: Path, own_rows: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--model", str(toybert), "--method", "random-search", "--samples", "4", *own_rows) == 0
    assert "tuned (random-search)" in capsys.readouterr().out


# -- a black box ----------------------------------------------------------------------------------------------------


def test_the_black_box_is_the_one_that_the_tests_of_runners_run() -> None:
    assert blocks("A black box") == [(ROOT / "tests" / "models" / "runners" / "example.py").read_text("utf-8")]


@needs_model
def test_the_command_runs_the_black_box_from_outside(tmp_path: Path, own_rows: list[str]) -> None:
    """The page's own line of the shell, with a file of the page's own name beside it."""
    from tests.models.tiny_models import write_model

    (tmp_path / "my_box.py").write_text(blocks("A black box")[0], "utf-8")
    _, *given = shlex.split(blocks("A black box", "sh")[0].replace("\\\n", ""))
    given[given.index("FOLDER")] = str(write_model(tmp_path / "folder", "bert"))
    done = subprocess.run(
        [sys.executable, *given, *own_rows, "--method", "random-search", "--samples", "4"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tuned (random-search)" in done.stdout
    assert "model bag+here" in done.stderr
    for named, code in (([], 2), (["--model", "bag+here"], 0)):  # a folder alone sends texts nowhere
        asked = [sys.executable, *given[:2], "predict", own_rows[-1], *named, "--text", "a cat"]
        assert subprocess.run(asked, cwd=tmp_path, capture_output=True, check=False).returncode == code


# -- its files ------------------------------------------------------------------------------------------------------


def test_the_files_of_the_tables_exist() -> None:
    """Each path in a table's first column, but for those that hold a NAME or a pattern, which have a folder."""
    cells = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    named = [path for cell in cells for path in re.findall(r"`([\w/*]*[/.][\w/.*]*)`", cell)]
    assert len(named) > 30
    for path in named:
        looked_for = path if not re.search(r"NAME|\*", path) else str(Path(path).parent)
        found = [base / looked_for for base in (ROOT, ROOT / "tests" / "models", ROOT / "docs")]
        assert any(place.exists() for place in found), path


# -- what other pages say of files ------------------------------------------------------------------------------------

PAGES = sorted(p for pattern in ("*.md", "docs/**/*.md", "examples/*.md") for p in ROOT.glob(pattern))
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which speaks of what there was
EXAMPLES = {"my_box.py", "zopog_ref.methods.mutation", "zopog_models.families.toybert"}  # written by the page's reader
FOREIGN = {"run_glue_discrete_LM.py"}  # in the official code
CODE = ("zopog_ref", "models", "kernels", "tests", "examples", "benchmarks", "docs", ".ci")
PACKAGES = {"zopog_ref": ROOT, "zopog_models": ROOT / "models", "zopog_kernels": ROOT / "kernels"}


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a package, a module, or something that one of them speaks of."""
    first, *parts = dotted.split(".")
    place = PACKAGES[first] / first
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    source = place / f"{parts[0]}.py" if parts and (place / f"{parts[0]}.py").exists() else place / "__init__.py"
    inside = parts[1:] if source.name != "__init__.py" else parts
    return not inside or re.search(rf"\b{inside[0]}\b", source.read_text("utf-8")) is not None


def stale(text: str) -> list[str]:
    """Files and modules that a text names and nobody has; a file may be named by the last parts of its path."""
    here = [path.as_posix() for room in CODE for path in (ROOT / room).rglob("*.py")]
    files = {name for name in re.findall(r"(?<![\w*/.-])[\w./]+\.py\b", text) if "NAME" not in name}
    gone = {name for name in files if not any(path.endswith(f"/{name.lstrip('./')}") for path in here)}
    dotted = set(re.findall(rf"\b(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z]\w*)+", text))
    return sorted((gone | {name for name in dotted if not is_there(name)}) - EXAMPLES - FOREIGN)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_names_a_file_that_is_gone(page: Path) -> None:
    assert stale(page.read_text("utf-8")) == []


def test_a_name_that_is_gone_is_seen() -> None:
    assert stale("`task.py`, `app/run_folder.py`, `rows.py`, `app/run/folder.py`") == ["app/run_folder.py", "task.py"]
    assert stale("`zopog_models.cluster.model`, `zopog_models.cluster.runner.open_cluster`, `zopog_ref.perturb`") == [
        "zopog_models.cluster.model"
    ]
