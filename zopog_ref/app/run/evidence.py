"""What a run found when it started, by which it can be repeated: model, tokenizer, rows, candidates."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from zopog_ref.app.errors import InputError
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.splits import Split
from zopog_ref.app.run.typed_json import TokenId, damage_named, from_fields

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """What a run found when it started: it can be repeated where the same is found again."""

    model_sha256: str
    tokenizer_sha256: str
    splits: Mapping[str, Split]
    candidates: tuple[TokenId, ...]
    injection: str = ""
    label_ids: tuple[TokenId, ...] | None = None  # None: a sentence-embedding model, whose labels are phrases

    @classmethod
    def of(cls, experiment: Experiment) -> "Evidence":
        """What is found now."""
        model = experiment.model
        return cls(
            model.sha256,
            model.tokenizer_sha256,
            experiment.splits,
            tuple(experiment.candidates.tolist()),
            model.injection,
            None if model.pooling else tuple(experiment.labels[experiment.labels >= 0].tolist()),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], path: Path) -> "Evidence":
        """What config.json says of it. Errors: InputError."""
        with damage_named(path):
            return from_fields(cls, {f.name: values[f.name] for f in fields(cls) if f.name in values})

    def check_same(self, now: "Evidence") -> None:
        """Errors: InputError when model, tokenizer, data or candidates are no longer those of the start."""
        changed = [what for what, then in self._parts().items() if then != now._parts().get(what)]
        if changed:
            raise InputError(
                f"this run cannot be continued: {', '.join(changed)} changed since it was started; restore them, "
                "or start a new run"
            )

    def _parts(self) -> dict[str, object]:
        rows = {f"{name} rows": (split.sha256, split.rows) for name, split in self.splits.items()}
        return {"model": self.model_sha256, "tokenizer": self.tokenizer_sha256, **rows, "candidates": self.candidates}
