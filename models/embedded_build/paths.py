"""Where the recipe reads and writes."""

from pathlib import Path

EMBEDDED = Path(__file__).resolve().parent.parent / "zopog_models" / "embedded"
TASKS = EMBEDDED / "tasks"
MODEL = EMBEDDED / "model"
