"""The frozen language model of a prompt-learning run, as a black box: NumPy, ONNX Runtime, tokenizers, no PyTorch."""

from .bound import DeviceMemory
from .bundle import Prediction, Prompt, PromptError, PromptMismatch, load_prompt, predict, save_prompt
from .checkpoint import CheckpointError, load_checkpoint
from .device_oracle import DeviceOracle
from .encoding import Encoded, encode, label_ids, label_targets
from .oracle import FrozenModelOracle
from .runtime import FrozenModel, load_model
from .session import ProviderError
from .task import Rows, embedded_tasks, few_shot, load_task, read_rows
from .template import Task, TaskError, make_task
from .tensor_file import TensorFileError, read_metadata, read_tensors, write_tensors
from .vocabulary import VocabularyError, pmi_candidates

__all__ = [
    "CheckpointError",
    "DeviceMemory",
    "DeviceOracle",
    "Encoded",
    "FrozenModel",
    "FrozenModelOracle",
    "Prediction",
    "Prompt",
    "PromptError",
    "PromptMismatch",
    "ProviderError",
    "Rows",
    "Task",
    "TaskError",
    "TensorFileError",
    "VocabularyError",
    "embedded_tasks",
    "encode",
    "few_shot",
    "label_ids",
    "label_targets",
    "load_checkpoint",
    "load_model",
    "load_prompt",
    "load_task",
    "make_task",
    "pmi_candidates",
    "predict",
    "read_metadata",
    "read_rows",
    "read_tensors",
    "save_prompt",
    "write_tensors",
]
