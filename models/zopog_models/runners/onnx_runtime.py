"""The one place that imports ONNX Runtime.

From version 1.31 on it writes an identifier of the machine into the home folder and looks up a host of its maker's,
unless it is told not to before it is imported.
"""

import importlib
import os
from typing import Any

__all__ = ["TELEMETRY", "onnx_runtime"]

TELEMETRY = "ORT_DISABLE_TELEMETRY"  # an environment variable; whoever has set it has decided


def onnx_runtime() -> Any:
    """The module, with its telemetry off unless the user said otherwise. Raises ImportError."""
    os.environ.setdefault(TELEMETRY, "1")
    return importlib.import_module("onnxruntime")
