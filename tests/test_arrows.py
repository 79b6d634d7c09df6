"""The house plan: who may import whom. A broken arrow, or a circle, is a failing test."""

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
    "methods": {"numpy", "zopog_ref", "cma", "cmaes", "threadpoolctl"},
    "app": {
        "numpy",
        "zopog_ref",
        "zopog_models",
        "zopog_kernels",
        "sklearn",
        "jinja2",
        "rich",
        "scipy",
        "latex2mathml",
        "argcomplete",
        "huggingface_hub",
        "mlflow",
        "tensorboard",
        "wandb",
        "trackio",
    },
    "models": {
        "numpy",
        "zopog_models",
        "onnxruntime",
        "tokenizers",
        "onnx",
        "gguf",
        "jinja2",
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
    if parts[1:] == ("__main__.py",):  # the command line's door
        return "app"
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


# -- files: no circles, and no arrow up; an import that only a type checker reads counts as one --------------------------

Arrows = dict[str, set[str]]  # module -> modules of this repository that it imports

# The floors of a package, the lowest first. A room may import rooms of lower floors, and itself.
MODELS = (
    {"errors"},
    {"files"},
    {"families"},
    {"checkpoints"},
    {"graph", "tasks"},
    {"runners"},
    {"frozen"},
    {"served", "cluster", "prompts"},
    {"serving"},
)
APP = (
    {"errors", "output", "packages", "scores"},
    {"report", "run", "track"},
    {"tune"},
    {
        "bench",
        "classifier",
        "compare",
        "completion",
        "doctor",
        "export",
        "listings",
        "predict",
        "push",
        "show",
        "verify",
    },
    {"bake"},
    {"command_line"},
)
FLOORS = {"zopog_models": MODELS, "zopog_ref.app": APP}


def module_of(path: Path) -> str:
    """The name that a shipped file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] in ("models", "kernels") else parts
    return ".".join(parts).removesuffix(".__init__")


def arrows_of(sources: dict[str, str]) -> Arrows:
    """Who imports whom among these modules, wherever in a file the import stands."""
    found: Arrows = {}
    for module, source in sources.items():
        names: list[str] = []
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names += [f"{node.module}.{alias.name}" for alias in node.names]
        targets = set()
        for name in names:
            while name and name not in sources:
                name = name.rpartition(".")[0]
            targets.add(name)
        found[module] = targets - {module, ""}
    return found


def circles(arrows: Arrows) -> list[str]:
    """Modules that import themselves through others: what is left when leaves and roots are taken away."""
    left = {module: set(targets) for module, targets in arrows.items()}
    while True:
        leaves = {module for module, targets in left.items() if not targets & left.keys()}
        roots = left.keys() - {target for targets in left.values() for target in targets}
        if not leaves | roots:
            return sorted(left)
        left = {module: targets for module, targets in left.items() if module not in leaves | roots}


def upward(arrows: Arrows, package: str, floors: tuple[set[str], ...]) -> list[str]:
    """Arrows of a package between rooms that do not go down. The package's own __init__ may see everything."""
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    broken = []
    for module, targets in arrows.items():
        for target in sorted(targets):
            ends = [name.removeprefix(package + ".").split(".")[0] for name in (module, target)]
            if not all(name.startswith(package + ".") for name in (module, target)) or ends[0] == ends[1]:
                continue
            if floor[ends[0]] <= floor[ends[1]]:
                broken.append(f"{module} -> {target}")
    return broken


@pytest.fixture(scope="module")
def arrows() -> Arrows:
    return arrows_of({module_of(path): path.read_text("utf-8") for path in SHIPPED})


def test_there_is_no_circle(arrows: Arrows) -> None:
    assert circles(arrows) == []


@pytest.mark.parametrize("package", FLOORS)
def test_no_arrow_goes_up(arrows: Arrows, package: str) -> None:
    rooms = {module.removeprefix(package + ".").split(".")[0] for module in arrows if module.startswith(package + ".")}
    assert rooms <= set().union(*FLOORS[package]), "a room without a floor"
    assert upward(arrows, package, FLOORS[package]) == []


def test_a_circle_is_caught(arrows: Arrows) -> None:
    """The twins: a short one, one through three files, one that only a type checker sees."""
    one = {"p.a": "import p.b", "p.b": "from p import a", "p.c": "import p.a"}
    assert circles(arrows_of(one)) == ["p.a", "p.b"]
    three = {"p.a": "from p.b import x", "p.b": "def f():\n    from p.c import y", "p.c": "import p.a"}
    assert circles(arrows_of(three)) == ["p.a", "p.b", "p.c"]
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import X"
    assert circles(arrows_of({"p.a": typed, "p.b": "import p.a"})) == ["p.a", "p.b"]
    assert circles(arrows | {"zopog_models.errors": {"zopog_models.frozen.model"}}) != []


@pytest.mark.parametrize(
    ("package", "module", "target"),
    [
        ("zopog_models", "zopog_models.checkpoints.hub", "zopog_models.runners.session"),
        ("zopog_models", "zopog_models.tasks.encoding", "zopog_models.frozen.model"),
        ("zopog_models", "zopog_models.served.kserve", "zopog_models.cluster.runner"),  # on the same floor
        ("zopog_ref.app", "zopog_ref.app.run.config", "zopog_ref.app.tune.options"),
        ("zopog_ref.app", "zopog_ref.app.scores.metrics", "zopog_ref.app.run.folder"),
    ],
)
def test_an_arrow_up_is_caught(arrows: Arrows, package: str, module: str, target: str) -> None:
    broken = arrows | {module: arrows[module] | {target}}
    assert upward(broken, package, FLOORS[package]) == [f"{module} -> {target}"]


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
