"""The graph for a GPU: ONNX Runtime's own operators, biases that change nothing left out; the CPU has them too."""

from pathlib import Path

import numpy as np
import pytest

from tests.models.prompts.test_export import FAMILIES, inputs_for, write
from tests.models.tiny_decoders import FAMILY_NAMES
from zopog_models import load_checkpoint, load_model
from zopog_models.graph import build, builder
from zopog_models.runners import local


def fused(monkeypatch: pytest.MonkeyPatch, multiple: int = 4) -> None:
    """What a session on CUDA gets, on the CPU."""
    plain = builder.GraphBuilder

    def graph(*given, **named):
        return plain(*given, **{**named, "fused": True})

    monkeypatch.setattr(local, "GraphBuilder", graph)
    monkeypatch.setitem(local.MULTIPLE, "cpu", multiple)
    monkeypatch.setitem(local.REDUCED, "fp16", "cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_the_same(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "model", family)
    inputs = inputs_for(folder, family)
    plain = load_model(folder, threads=1).logits(**inputs)
    fused(monkeypatch)
    model = load_model(folder, threads=1)
    assert np.abs(model.logits(**inputs) - plain).max() < 2e-5
    assert np.corrcoef(model.reduced("fp16").logits(**inputs).ravel(), plain.ravel())[0, 1] > 0.999


def host_nodes(model: bytes) -> list[str]:
    """Operators that ONNX Runtime computes on the host for a GPU and that read an input: then the GPU would wait.

    Its rule: what follows a Shape and reads nothing but such values, constants and the graph's own inputs.
    """
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(model).graph
    constants, inputs = {item.name for item in graph.initializer}, {item.name for item in graph.input}
    on_host: set[str] = set()
    wrong = []
    for node in graph.node:
        given = {name for name in node.input if name}
        if node.op_type == "Shape":
            on_host.update(node.output)
        elif given & on_host and given <= on_host | constants | inputs:
            on_host.update(node.output)
            if given & inputs:
                wrong.append(f"{node.op_type} {node.name}")
    return wrong


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in FAMILY_NAMES])
def test_no_input_is_copied_to_the_host(tmp_path: Path, family: str) -> None:
    """Of what is read where it lies, encoders. Seen on a GPU: answer_position + n went to the host, six times a step."""
    folder = write(tmp_path / "model", family)
    model = load_model(folder, threads=1)
    about, checkpoint = model.description, model.runner.checkpoint
    for precision in ("fp32", "fp16"):
        graph = builder.GraphBuilder(precision=precision, fused=True)
        built = build(checkpoint, about.injection, first=about.first, reuse=about.decoder, graph=graph)
        assert host_nodes(built[0]) == []


def test_a_sum_of_an_input_and_a_shape_is_seen() -> None:
    """The twin: what the graphs had."""
    g = builder.GraphBuilder()
    ids, place = g.input("ids", np.int64, ("R", "n")), g.input("place", np.int64, ("R",))
    g.output(g.op("Add", place, g.op("Shape", ids, start=1, end=2)), "moved", np.int64, ("R",))
    assert len(host_nodes(g.model_bytes("sum", {}))) == 1


@pytest.mark.parametrize(("family", "precision"), [("roberta", "fp16"), ("roberta", "fp32"), ("mpnet", "fp16")])
def test_what_a_session_on_cuda_computes_with(tmp_path: Path, family: str, precision: str) -> None:
    """Lengths in place of a mask in fp16 alone, and where no mask says more; one operator for sums and norms."""
    onnx = pytest.importorskip("onnx")
    checkpoint = load_checkpoint(write(tmp_path / "model", family))
    graph = builder.GraphBuilder(precision=precision, fused=True)
    nodes = onnx.load_from_string(build(checkpoint, first=1, graph=graph)[0]).graph.node
    by_length = (family, precision) == ("roberta", "fp16")
    attention = [list(node.input) for node in nodes if node.op_type == "Attention"]
    layers = checkpoint.architecture.layers
    assert len(attention) == layers
    for given in attention:
        assert (given[3] == "", len(given) == 7) == (by_length, by_length)
    assert sum(node.op_type == "SkipLayerNormalization" for node in nodes) == 2 * layers
    plain = onnx.load_from_string(build(checkpoint, first=1)[0]).graph.node
    assert not any(node.domain for node in plain)
