"""From a run's configuration to the objects that run it: model, few-shot splits, candidates, oracle, method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zopog_models.frozen.device_oracle import DeviceOracle
from zopog_models.frozen.model import FrozenModel
from zopog_models.frozen.oracle import FrozenModelOracle
from zopog_models.frozen.uploading_oracle import UploadingOracle
from zopog_models.prompts.bundle import Prompt, shared_source
from zopog_models.prompts.predicting import chosen, votes
from zopog_models.prompts.readout import PromptReadout, word_columns
from zopog_models.runners.bound import DeviceMemory
from zopog_models.runners.rows import ModelRows
from zopog_models.tasks.encoding import Encoded, encode, label_targets
from zopog_models.tasks.label_words import forwards
from zopog_models.tasks.template import Task
from zopog_models.tasks.vocabulary import pmi_candidates
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.presets import SEARCHLESS, Preset, learns_tokens_alone
from zopog_ref.app.run.splits import Drawn, draw
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.backend import NUMPY
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods import method_class
from zopog_ref.objective import Journal, Ledger, ModelObjective, answered, cross_entropy, log_sum_exp
from zopog_ref.read_loss import features
from zopog_ref.search import DevScore
from zopog_ref.zeroth_order import projection

INT64 = NDArray[np.int64]
Bound = TypeVar("Bound", bound=DeviceOracle)


@dataclass
class Experiment(Drawn):
    """Everything a run needs, built from its configuration alone: its rows, and what is done with them."""

    model: FrozenModel
    task: Task
    preset: Preset
    seed: int
    candidates: INT64  # (N,) token ids
    labels: INT64 | NDArray[np.float32]  # (C,) token ids of the label words, or (C, D) embeddings of phrases
    truncated: dict[str, int]  # rows cut to the model's positions, for each split
    _encoded: dict[str, Encoded]
    _projection: NDArray[np.float32]  # A (n D, d)
    reduced: FrozenModel | None = None  # the model in fewer bits, for what it may answer (see reduce)
    differences: bool = False  # whether it may answer prompts that differ in z
    backend: Any = NUMPY  # where the mathematics of its run happens
    answers: Path | None = None  # the folder where `auto` keeps what it was answered
    should_stop: Callable[[], bool] = lambda: False  # asked by `auto` before every question
    _oracles: dict[str, FrozenModelOracle] = field(default_factory=dict)

    def method(self) -> Method:
        """The method with its settings; a fresh state comes from its init()."""
        return method_of(self.preset, self.seed)

    def ledger(self) -> Ledger:
        """An empty ledger of the preset's budget, a call being one prompt on one mini-batch, asked once."""
        return Ledger(self.preset.budget, batch_size=self.preset.batch_size, forwards=forwards(self.labels))

    @property
    def position(self) -> str:
        """Where the prompts of the search stand."""
        return self.task.position if self.preset.method_name not in SEARCHLESS else "before"

    @property
    def text_tokens(self) -> int:
        """Of all training and dev rows, up to the end of their texts."""
        return int(sum(encoded.text_end.sum() for encoded in self._encoded.values()))

    @property
    def mean_tokens(self) -> float:
        """Of a training row, without its prompt."""
        return float(self._encoded["train"].lengths.mean())

    def objective(self, ledger: Ledger, journal: Journal | None = None) -> ModelObjective:
        """The training loss, charged to the ledger: the preset's, or the one that the method must see."""
        return ModelObjective(self._oracle("train"), self.train.labels, ledger, self.loss, journal)

    @property
    def loss(self) -> str:
        """The training loss by name: the one that the method must see, or the preset's."""
        return self.method().loss or self.preset.loss

    def reduce(self, model: FrozenModel, differences: bool) -> None:
        """Let a model in fewer bits answer: training prompts that share one z, dev scores, and, with differences, all
        other training prompts as well. The final scores stay the full model's."""
        self.reduced, self.differences = model, differences
        self._oracles.clear()

    def dev_score(self, prompts: Sequence[WeightedPrompt]) -> DevScore:
        """The task's metric and the cross-entropy on the dev rows, of what would be deployed: mean or votes.

        Votes may give the right class none: their cross-entropy is taken of (M p + 1) / (M + C), which is finite.
        """
        oracle, rows = self._oracle("dev"), np.arange(len(self.dev.labels))
        tokens, z = np.stack([p.tokens for p in prompts]), np.stack([p.z for p in prompts])
        logits = answered(oracle.logits(tokens, z, rows)).astype(np.float64)  # (M, rows, C)
        for m, prompt in enumerate(prompts):
            if prompt.readout is not None:  # as its training loss was read
                logits[m] = features(logits[m]) @ prompt.readout
        weights = np.array([p.weight for p in prompts]) / sum(p.weight for p in prompts)
        if self.method().predictive == "votes":
            each = votes(logits)  # (M, rows, C)
            count, classes = len(prompts), logits.shape[-1]
            mixture = np.log((count * np.tensordot(weights, each, axes=1) + 1) / (count + classes))  # (rows, C)
        else:
            each = np.exp(logits - log_sum_exp(logits)[..., None])
            mixture = np.log(np.tensordot(weights, each, axes=1))  # (rows, C)
        loss = cross_entropy(mixture, self.dev.labels).mean()
        metrics = classification_metrics(self.dev.labels, chosen(mixture, each), list(self.task.labels))
        return DevScore(metrics[self.task.metric], float(loss))

    def deployable(self, prompts: Sequence[WeightedPrompt]) -> Prompt:
        """The prompts as token ids and finished embedding offsets A z: all that deployment needs."""
        n, width = self.preset.n_positions, self.model.embedding_size
        offsets = np.stack([(self._projection @ p.z.astype(np.float32)).reshape(n, width) for p in prompts])
        ids = np.stack([self.candidates[p.tokens] for p in prompts])
        prompt = self._prompt(ids, offsets, np.array([p.weight for p in prompts]), self.method().predictive)
        return prompt if prompts[0].readout is None else replace(prompt, readout=self._readout(prompts[0].readout))

    def _readout(self, theta: NDArray[np.float64]) -> PromptReadout:
        """Theta (C + 1, C) of `read_loss`, as a prompt on disk has it: of one prompt, since such methods have one."""
        classes = theta.shape[1]
        words = word_columns(np.asarray(self.labels))
        centred = np.eye(classes) - 1 / classes
        about = {"rows": len(self.train.labels), "inside": "objective"}
        return PromptReadout("labels", (centred @ theta[:-1],), theta[-1], (words,), about=about)

    def first_rows(self, count: int) -> ModelRows:
        """The first training rows with no prompt before them, which is what a probe asks about."""
        encoded, nothing = self._encoded["train"], np.zeros((1, 0), np.int64)
        ids, place = encoded.ids[:count], encoded.answer_position[:count]
        return ModelRows(self.model.description, ids, place, nothing, None, np.zeros(len(ids), np.int64), self.labels)

    def manual(self) -> Prompt:
        """The manual prompt: the template alone, no prompt tokens. The zero point of every comparison."""
        width = self.model.embedding_size
        return self._prompt(np.zeros((1, 0), np.int64), np.zeros((1, 0, width), np.float32), np.ones(1))

    def _prompt(
        self, ids: INT64, offsets: NDArray[np.float32], weights: NDArray[np.float64], predictive: str = "mean"
    ) -> Prompt:
        return Prompt(
            ids=ids,
            offsets=offsets,
            weights=weights / weights.sum(),
            label_ids=self.labels,
            template=self.task.template,
            labels=self.task.labels,
            injection=self.model.injection,
            model=self.model.name,
            model_sha256=self.model.sha256,
            tokenizer_sha256=self.model.tokenizer_sha256,
            predict=predictive,
            pooling=self.model.pooling,
            source=shared_source(self.model.source),
            position=self.task.position if ids.shape[1] else "before",
        )

    def _oracle(self, split: str) -> FrozenModelOracle:
        if split not in self._oracles:
            self._oracles[split] = self.oracle_of(self.model, split, self.reduced)
        return self._oracles[split]

    def oracle_of(self, model: FrozenModel, split: str, reduced: FrozenModel | None = None) -> FrozenModelOracle:
        """The rows of a split as another model of the same tokens reads them."""
        questions, position = self._questions(split), self.task.position
        return FrozenModelOracle(model, *questions, reduced=reduced, differences=self.differences, position=position)

    def bound_oracle(self, memory: DeviceMemory) -> DeviceOracle:
        """The training rows, read where the arrays of a device lie. Errors: ValueError when the model cannot."""
        return self._bound(DeviceOracle, memory)

    def bound_objective(self, memory: DeviceMemory, ledger: Ledger, journal: Journal | None = None) -> ModelObjective:
        """`objective` for mathematics on the host and a model bound on a device. Errors: as `bound_oracle`."""
        oracle = self._bound(UploadingOracle, memory)
        return ModelObjective(oracle, self.train.labels, ledger, self.loss, journal)

    def _bound(self, kind: type[Bound], memory: DeviceMemory) -> Bound:
        questions = self._questions("train")
        return kind(self.model, *questions, memory=memory, reduced=self.reduced, differences=self.differences)

    def _questions(self, split: str) -> tuple[Encoded, Any, INT64, NDArray[np.float32], int]:
        """What any oracle is told of a split's rows and the run's prompts."""
        return self._encoded[split], self.labels, self.candidates, self._projection, self.preset.n_positions


def method_of(preset: Preset, seed: int) -> Method:
    """The preset's method. Errors: MissingPackage when it needs one that is not installed."""
    p = preset
    return method_class(p.method_name)(p.n_positions, p.n_candidates, p.dim, p.method, seed)


def prepare(model: FrozenModel, task: Task, preset: Preset, seed: int, shots: int) -> Experiment:
    """Read the data, draw the few-shot splits (`splits.draw`), rank the candidates, encode."""
    return assemble(model, task, preset, seed, draw(task, seed, shots), fewer=True)


def assemble(
    model: FrozenModel, task: Task, preset: Preset, seed: int, drawn: Drawn, *, fewer: bool = False
) -> Experiment:
    """Rank the candidates of the drawn texts, encode the rows: an experiment on rows that are in memory already.

    fewer: where the texts hold fewer different tokens than the preset asks for, these are the candidates.
    """
    searches = preset.method_name not in SEARCHLESS
    if searches and task.position == "after" and model.why_not_after:
        raise InputError(f"--prompt-position after: {model.name!r} cannot, for {model.why_not_after}")
    labels = label_targets(task, model)
    if task.summed_pieces and model.why_not_summed:
        raise InputError(f"--label-words sum: {model.name!r} cannot, for {model.why_not_summed}")
    if searches and method_of(preset, seed).thins and not model.can_thin:
        raise InputError(
            f"{preset.method_name} reads thinned networks, which need an encoder; {model.name!r} is a decoder "
            f"({model.family}): choose another method, or --p-clip 0"
        )
    candidates = np.zeros(0, np.int64)
    if searches:
        size = preset.n_candidates  # more than the model has are a mistake of whoever asked
        candidates = pmi_candidates(drawn.texts, model, size, fewer=fewer and size <= model.vocab_size)
        preset = preset.changed(n_candidates=len(candidates))
    n, width = preset.n_positions, model.embedding_size
    std = 1.0 if learns_tokens_alone(preset) else model.embedding_std  # whose z is 0; a server may not say it
    encoded = {name: encode(getattr(drawn, name).texts, task, model, n) for name in ("train", "dev")}
    return Experiment(
        **vars(drawn),
        model=model,
        task=task,
        preset=preset,
        seed=seed,
        candidates=candidates,
        labels=labels,
        truncated={name: e.truncated for name, e in encoded.items()},
        _encoded=encoded,
        _projection=(
            projection(seed, n, width, preset.dim, scale=preset.scale, embedding_std=std)
            if searches
            else np.zeros((0, 0), np.float32)
        ),
    )
