"""ONNX Runtime's telemetry is off before it is imported, wherever it is imported from, unless the user decided."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ASKED = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
            sys.meta_path.remove(self)
sys.meta_path.insert(0, Watch())
"""
WAYS = {
    "a session": "from zopog_models.runners.session import require_device; require_device('cpu')",
    "a model": "from zopog_models import load_model; load_model('embedded', threads=1)",
    "doctor": "from zopog_ref.app.doctor.command import try_providers; try_providers()",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0"), ("", "")])
def test_telemetry_is_off_before_the_import(way: str, given: str | None, found: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    command = [sys.executable, "-c", ASKED + WAYS[way]]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[0] == found


def test_nobody_else_imports_it() -> None:
    """What is shipped; doctor looks at a module that is imported by then."""
    importers = set()
    for room in ("zopog_ref", "models/zopog_models"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
                names += [a.value for a in node.args if isinstance(a, ast.Constant)] if called else []
                if any(str(name).split(".")[0] == "onnxruntime" for name in names):
                    importers.add(path.relative_to(ROOT).as_posix())
    assert importers == {"models/zopog_models/runners/onnx_runtime.py"}
