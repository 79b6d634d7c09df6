"""The frozen language model of a prompt-learning run, as a black box: NumPy, ONNX Runtime, tokenizers, no PyTorch."""

import logging

from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.errors import (
    CheckpointError,
    ClusterError,
    PromptError,
    PromptMismatch,
    ProviderError,
    ServiceError,
    SetupError,
    TaskError,
    TensorFileError,
    UnusableInput,
    VocabularyError,
)
from zopog_models.files.tensor_file import read_metadata, read_tensors, write_tensors
from zopog_models.frozen.device_oracle import DeviceOracle
from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.frozen.oracle import FrozenModelOracle
from zopog_models.prompts.bundle import Prompt, PromptReadout, load_prompt, save_prompt
from zopog_models.prompts.predicting import Prediction, predict
from zopog_models.runners.bound import DeviceMemory
from zopog_models.tasks.encoding import Encoded, encode, label_ids, label_targets
from zopog_models.tasks.task_files import Rows, embedded_tasks, few_shot, load_task, read_rows
from zopog_models.tasks.template import Task, make_task
from zopog_models.tasks.vocabulary import pmi_candidates

__all__ = [
    "CheckpointError",
    "ClusterError",
    "DeviceMemory",
    "DeviceOracle",
    "Encoded",
    "FrozenModel",
    "FrozenModelOracle",
    "Prediction",
    "Prompt",
    "PromptError",
    "PromptMismatch",
    "PromptReadout",
    "ProviderError",
    "Rows",
    "ServiceError",
    "SetupError",
    "Task",
    "TaskError",
    "TensorFileError",
    "UnusableInput",
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

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until somebody listens


def __dir__() -> list[str]:
    """What completion offers."""
    return sorted(__all__)
