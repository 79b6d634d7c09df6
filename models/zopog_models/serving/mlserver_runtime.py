"""What MLServer runs: the graph of `zopog export` in ONNX Runtime. Imported by MLServer, never by this package."""

import asyncio
from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataTensor,
    Parameters,
    ResponseOutput,
)
from mlserver.utils import get_model_uri

from zopog_models.runners.onnx_runtime import onnx_runtime

ort = onnx_runtime()

_DATATYPES = {"tensor(int64)": "INT64", "tensor(float)": "FP32"}


class FrozenModelRuntime(MLModel):
    """One ONNX file; a request's inputs are the graph's inputs, its output the logits."""

    async def load(self) -> bool:
        """Open model.onnx, beside which its weights stand."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # requests bring the parallelism, and so one row's bits never depend on it
        path = await get_model_uri(self.settings, wellknown_filenames=["model.onnx"])
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [_described(node) for node in self._session.get_inputs()]
        self.outputs = [_described(node) for node in self._session.get_outputs()]
        return True

    async def metadata(self) -> MetadataModelResponse:
        """Inputs and outputs, and what a client cannot see: sha256, embedding_std, injection."""
        parameters = self.settings.parameters
        extra = (parameters and parameters.extra) or {}
        return MetadataModelResponse(
            name=self.name,
            versions=[self.version] if self.version else [],
            platform="onnxruntime",
            inputs=self.inputs,
            outputs=self.outputs,
            parameters=Parameters(**extra),
        )

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """logits (R, C). A request that does not fit is the client's error (400), never the server's (500)."""
        known = {node.name: _DATATYPES[node.type] for node in self._session.get_inputs()}
        feeds: dict[str, np.ndarray] = {}
        for tensor in payload.inputs:
            if known.get(tensor.name) != tensor.datatype:
                raise InferenceError(f"input {tensor.name} {tensor.datatype} is unknown; there are {known}")
            try:
                feeds[tensor.name] = NumpyCodec.decode_input(tensor)
            except (ValueError, TypeError) as error:
                raise InferenceError(f"input {tensor.name}: {error}") from error
        wanted = [output.name for output in payload.outputs or []] or ["logits"]
        try:
            found = await asyncio.to_thread(self._session.run, wanted, feeds)
        except Exception as error:  # a missing input, another shape, an id outside the vocabulary
            raise InferenceError(str(error)) from error
        outputs = [
            ResponseOutput(name=name, shape=list(array.shape), datatype="FP32", data=array.ravel().tolist())
            for name, array in zip(wanted, found, strict=True)
        ]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


def _described(node: Any) -> MetadataTensor:
    """Name, datatype and shape, -1 for a size that is free."""
    shape = [size if isinstance(size, int) else -1 for size in node.shape]
    return MetadataTensor(name=node.name, datatype=_DATATYPES[node.type], shape=shape)
