"""The frozen language model of a prompt-learning run, as a black box: NumPy, ONNX Runtime, tokenizers, no PyTorch."""

from .checkpoint import CheckpointError, load_checkpoint
from .encoding import Encoded, encode, label_ids
from .oracle import FrozenModelOracle
from .runtime import FrozenModel, load_model
from .session import ProviderError
from .task import Rows, embedded_tasks, few_shot, load_task, read_rows
from .template import Task, TaskError, make_task
from .tensor_file import TensorFileError, read_metadata, read_tensors, write_tensors

__all__ = [
    "CheckpointError",
    "Encoded",
    "FrozenModel",
    "FrozenModelOracle",
    "ProviderError",
    "Rows",
    "Task",
    "TaskError",
    "TensorFileError",
    "embedded_tasks",
    "encode",
    "few_shot",
    "label_ids",
    "load_checkpoint",
    "load_model",
    "load_task",
    "make_task",
    "read_metadata",
    "read_rows",
    "read_tensors",
    "write_tensors",
]
