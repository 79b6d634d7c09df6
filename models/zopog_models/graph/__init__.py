"""ONNX graphs built from tensors: no tracing, no PyTorch, no `onnx` package."""

from .encoder import INJECTIONS, build
from .projection import build_projection

__all__ = ["INJECTIONS", "build", "build_projection"]
