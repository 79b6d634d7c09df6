"""The house plan: who may import whom. A broken arrow is a failing test."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = set(sys.stdlib_module_names)
# room -> what it may import besides the standard library and itself
ALLOWED = {
    "core": {"numpy", "zopog_ref"},
    "methods": {"numpy", "zopog_ref", "cma", "cmaes"},
    "app": {"numpy", "zopog_ref", "zopog_models", "zopog_kernels", "sklearn"},
    "models": {
        "numpy",
        "zopog_models",
        "onnxruntime",
        "tokenizers",
        "onnx",
        "huggingface_hub",
        "openvino",
        "urllib3",
        "mlserver",
        "pyarrow",
    },
    "kernels": {"numpy", "zopog_kernels", "cupy"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    if parts[0] in ("models", "kernels"):
        return parts[0]
    return parts[1] if parts[1] in ("app", "methods") else "core"


def imported(source: str) -> set[str]:
    """Top-level names a source imports, wherever in the file the import stands; zopog_ref.app counts as its own."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {"." * node.level + (node.module or "")}
    return names


def broken_arrows(room: str, source: str) -> list[str]:
    broken = []
    for name in sorted(imported(source)):
        inside = name.startswith(".") or name.split(".")[0] in STANDARD | ALLOWED[room]
        into_the_app = (
            room in ("core", "methods") and name.lstrip(".").removeprefix("zopog_ref.").split(".")[0] == "app"
        )
        if into_the_app or not inside:
            broken.append(name)
    return broken


ROOMS = ("zopog_ref", "models/zopog_models", "kernels/zopog_kernels")
SHIPPED = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows(path: Path) -> None:
    assert broken_arrows(room_of(path), path.read_text("utf-8")) == []


def test_there_is_something_to_check() -> None:
    assert {room_of(path) for path in SHIPPED} == set(ALLOWED)


@pytest.mark.parametrize(
    ("room", "line"),
    [("core", "import zopog_models"), ("core", "from zopog_ref.app import tune"), ("core", "from .app import tune"), ("core", "import onnxruntime"),
     ("core", "import cma"), ("methods", "from zopog_ref.app import tune"), ("methods", "import torch"),
     ("core", "def f():\n    import torch"), ("models", "from zopog_ref import score"), ("models", "import torch.nn"),
     ("app", "import torch"), ("core", "import zopog_kernels"), ("models", "import transformers"),
     ("kernels", "from zopog_ref import perturb"), ("kernels", "import zopog_models"), ("kernels", "import torch")],
)  # fmt: skip
def test_a_broken_arrow_is_caught(room: str, line: str) -> None:
    assert broken_arrows(room, line)


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(output.stdout.split())


def test_importing_the_core_loads_numpy_and_nothing_else() -> None:
    loaded = modules_after("import zopog_ref") - modules_after("import numpy")
    assert loaded - STANDARD == {"zopog_ref"}


def test_importing_the_models_needs_no_torch_and_no_core() -> None:
    loaded = modules_after("import zopog_models")
    assert not loaded & {"torch", "transformers", "zopog_ref", "onnx"}


def test_importing_the_kernels_loads_numpy_and_nothing_else() -> None:
    loaded = modules_after("import zopog_kernels") - modules_after("import numpy")
    assert loaded - STANDARD == {"zopog_kernels"}
