"""Every named error of the package.

`UnusableInput` is the base of all that say: what was given cannot be used. Whoever gave it can mend it, so the command
line exits with code 2. `ServiceError` and `ClusterError` are no such errors: the same question may be answered later.
"""

__all__ = [
    "BakeError",
    "CapReached",
    "CheckpointError",
    "ClusterError",
    "HubError",
    "PromptError",
    "PromptMismatch",
    "ProviderError",
    "Refused",
    "RepeatedColumn",
    "RepeatedKey",
    "ServiceError",
    "SetupError",
    "Stopped",
    "TaskError",
    "TensorFileError",
    "UnusableFile",
    "UnusableInput",
    "VocabularyError",
]


class UnusableInput(ValueError):
    """What was given cannot be used. The message says what was given, what was expected, and what to do."""


class UnusableFile(UnusableInput):
    """A file that cannot be read, or should not be. The message names it and says why."""


class RepeatedKey(UnusableInput):
    """A map has a key twice."""


class TensorFileError(UnusableInput):
    """A `.safetensors` file is damaged, or its header does not describe its bytes."""


class CheckpointError(UnusableInput):
    """A folder is not a model that this package can run. The message says what is missing or wrong."""


class HubError(CheckpointError):
    """The hub does not have a model, or it cannot be fetched now."""


class SetupError(CheckpointError):
    """An address, a key or a model cannot be used. Nothing has been asked of it yet."""


class ProviderError(UnusableInput, RuntimeError):
    """A package is missing, or the device that was asked for does not compute. The message says what to install."""


class TaskError(UnusableInput):
    """A task file, a template, a label or a data row cannot be used. The message says which and why."""


class RepeatedColumn(TaskError):
    """A table has a column twice that is to be read."""


class VocabularyError(UnusableInput):
    """The texts cannot give as many candidates as were asked for."""


class PromptError(UnusableInput):
    """A prompt folder is damaged or incomplete."""


class PromptMismatch(UnusableInput):
    """A prompt was tuned for another model, tokenizer or injection point."""


class BakeError(UnusableInput):
    """A prompt cannot be baked, or the baked file does not answer as `predict` does."""


class ServiceError(OSError):
    """A server gave no usable answer: it is unreachable, fails for too long, or answers what cannot be."""


class Refused(ServiceError):
    """A server will not answer this question, whoever asks and when: HTTP 400, 422 or 451."""


class CapReached(ServiceError):
    """The next request could cost more than is left of `--budget-usd`."""


class Stopped(ServiceError):
    """Somebody asked to stop while a question waited for its answer."""


class ClusterError(OSError):
    """The cluster cannot go on: no replica is left, or one question killed every replica that was asked."""
