"""Our model behind an inference server: a folder for MLServer, which speaks the Open Inference Protocol.

    python -m zopog_models.serving MODEL FOLDER --name NAME
    mlserver start FOLDER

`mlserver_runtime` is what MLServer runs; it needs mlserver and onnxruntime, nothing else of this package.
"""

import json
from pathlib import Path

from zopog_models.files.atomic import write_atomically
from zopog_models.frozen.model import load_model
from zopog_models.prompts.export import export

__all__ = ["write_mlserver_folder"]

RUNTIME = "zopog_models.serving.mlserver_runtime.FrozenModelRuntime"


def write_mlserver_folder(source: str | Path, folder: str | Path, name: str, *, port: int = 8080) -> Path:
    """model.onnx, its weights, model-settings.json and settings.json, for `mlserver start FOLDER`.

    The settings let the server listen on this machine alone. What a client has to know of the model and cannot see
    stands in its metadata: sha256, embedding_std, injection. Raises as `load_model` and `export`.
    """
    folder = Path(folder)
    exported = export(source, folder / "model.onnx")
    model = load_model(source, threads=1)
    about = {"sha256": exported.sha256, "embedding_std": model.embedding_std, "injection": exported.injection}
    settings = {"name": name, "implementation": RUNTIME, "parameters": {"uri": "./model.onnx", "extra": about}}
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_endpoint": None,
        "parallel_workers": 0,  # ONNX Runtime leaves Python while it computes: threads are enough
        "debug": False,
    }
    for file, content in (("model-settings.json", settings), ("settings.json", server)):
        write_atomically(folder / file, [(json.dumps(content, indent=2) + "\n").encode()])
    return folder
