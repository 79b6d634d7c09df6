"""ONNX graphs built from tensors: no tracing, no PyTorch, no `onnx` package."""

import numpy as np

from ..checkpoint import Checkpoint
from ..families.decoder import DecoderArchitecture
from . import decoder, encoder
from .builder import PRECISIONS, GraphBuilder
from .decoder import build_prefix
from .projection import build_projection

__all__ = ["INJECTIONS", "PRECISIONS", "GraphBuilder", "build", "build_prefix", "build_projection"]

INJECTIONS = encoder.INJECTIONS


def build(
    checkpoint: Checkpoint,
    injection: str | None = None,
    *,
    first: int = 1,
    reuse: bool = False,
    graph: GraphBuilder | None = None,
) -> tuple[bytes, dict[str, np.ndarray]]:
    """The ONNX model (without weights) and its weights: `encoder.build` or `decoder.build`, by the architecture.

    injection: None is the family's default; first and reuse: of a decoder, see there; graph: an empty builder.
    """
    injection = checkpoint.family.injections[0] if injection is None else injection
    if isinstance(checkpoint.architecture, DecoderArchitecture):
        return decoder.build(checkpoint, injection, first=first, reuse=reuse, graph=graph)
    return encoder.build(checkpoint, injection, graph=graph)
