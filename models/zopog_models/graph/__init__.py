"""ONNX graphs built from tensors: no tracing, no PyTorch, no `onnx` package."""

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.graph import decoder, encoder
from zopog_models.graph.builder import PRECISIONS, GraphBuilder
from zopog_models.graph.projection import build_projection

__all__ = ["INJECTIONS", "PRECISIONS", "GraphBuilder", "build", "build_projection", "check_injection"]

INJECTIONS = encoder.INJECTIONS


def check_injection(checkpoint: Checkpoint, injection: str) -> None:
    """Raises ValueError for a place where this architecture adds no soft prompt."""
    (decoder if isinstance(checkpoint.architecture, DecoderArchitecture) else encoder).check_injection(injection)


def build(
    checkpoint: Checkpoint,
    injection: str | None = None,
    *,
    first: int = 1,
    reuse: bool = False,
    keeps: bool = False,
    graph: GraphBuilder | None = None,
) -> tuple[bytes, dict[str, np.ndarray]]:
    """The ONNX model (without weights) and its weights: `encoder.build` or `decoder.build`, by the architecture.

    injection: None is the family's default; first, reuse and keeps: of a decoder, see there; graph: an empty builder.
    """
    injection = checkpoint.family.injections[0] if injection is None else injection
    if isinstance(checkpoint.architecture, DecoderArchitecture):
        return decoder.build(checkpoint, injection, first=first, reuse=reuse, keeps=keeps, graph=graph)
    return encoder.build(checkpoint, injection, graph=graph)
