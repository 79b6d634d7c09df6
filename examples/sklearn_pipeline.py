"""PromptClassifier as the last step of a scikit-learn pipeline, and its cross-validated accuracy."""

import os
import re

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from zopog_ref import PromptClassifier

animals = ["feline", "dog", "horse", "bird", "snake", "whale"]
foods = ["soup", "cake", "bread", "cheese", "pie", "stew"]
texts = [f"<b>a {size} {noun}</b>" for noun in animals + foods for size in ("small", "large")]
labels = np.repeat(["animal", "food"], 12)


def without_tags(rows: list[str]) -> list[str]:
    """Your own cleaning: what the model reads is what you give it."""
    return [re.sub(r"<[^>]+>", "", row) for row in rows]


classifier = PromptClassifier(
    template="{text} . it is a kind of {mask} .",
    budget=int(os.environ.get("ZOPOG_EXAMPLE_BUDGET", "800")),
    random_state=42,
    method_options={"n_positions": 5, "n_candidates": 10},
)
pipeline = make_pipeline(FunctionTransformer(without_tags), classifier)
folds = StratifiedKFold(2, shuffle=True, random_state=0)
accuracy = cross_val_score(pipeline, texts, labels, cv=folds, error_score="raise")
print("accuracy of each fold:", accuracy)

pipeline.fit(texts, labels)
for row in pipeline.predict_proba(["<i>a loaf of rye bread</i>", "<i>a bird of prey</i>"]):
    print(dict(zip(pipeline.classes_.tolist(), row.round(3).tolist())))
