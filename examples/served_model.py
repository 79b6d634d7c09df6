"""A prompt for a model that somebody else serves, over the Open Inference Protocol.

python examples/served_model.py kserve+http://HOST:PORT/v2/models/NAME TOKENIZER_FOLDER [RUN_FOLDER]

TOKENIZER_FOLDER holds the model's config.json and tokenizer.json, no weights. docs/remote.md: how a model is served.
"""

import json
import os
import sys
from pathlib import Path

from zopog_ref.app.command_line import main

address, tokenizer = sys.argv[1:3]
out = Path(sys.argv[3] if len(sys.argv) > 3 else "runs/served")
budget = os.environ.get("ZOPOG_EXAMPLE_BUDGET", "400")

model = ["--model", address, "--tokenizer", tokenizer]
small = ["--settings", "embedded", "--n-positions", "5", "--n-candidates", "20", "--shots", "4", "--batch-size", "8"]
wire = ["--concurrency", "2", "--timeout", "30"]  # two requests at once, each given up after 30 s and asked again
code = main(["tune", "--task", "supersense", *model, *wire, *small, "--budget", budget, "--out", str(out)])
assert code == 0

result = json.loads((out / "result.json").read_text(encoding="utf-8"))
print(result["calls"], "calls in", result["requests"], "requests; every answer is in", out)
