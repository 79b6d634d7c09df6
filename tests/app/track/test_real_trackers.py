"""`zopog tune --track NAME` with the real packages, offline: what they kept is read back with their own readers."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="zopog tune writes a page")

from tests.app.conftest import SMALL

# Each prints {"steps": {step: calls}, "accuracy": test_accuracy of the result, "seed": a setting, or null}.
READERS = {
    "mlflow": """
import json, mlflow
client = mlflow.MlflowClient()
[experiment] = [e for e in client.search_experiments() if e.name == "zopog"]
[run] = client.search_runs([experiment.experiment_id])
assert run.info.status == "FINISHED" and run.info.run_name == "run"
steps = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "calls")}
print(json.dumps({"steps": steps, "accuracy": run.data.metrics["result.test_accuracy"], "seed": run.data.params["seed"]}))
""",
    "tensorboard": """
import json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator("run/tensorboard", size_guidance={"tensors": 0})
found.Reload()
value = lambda event: float(event.tensor_proto.float_val[0])
steps = {e.step: value(e) for e in found.Tensors("calls")}
print(json.dumps({"steps": steps, "accuracy": value(found.Tensors("result/test_accuracy")[-1]), "seed": None}))
""",
    "wandb": """
import glob, json, struct
from wandb.proto import wandb_internal_pb2
[path] = glob.glob("run/wandb/offline-run-*/run-*.wandb")

def entries():  # LevelDB's log format after a header of 7 bytes: blocks of 32 KiB; a checksum, a length, a kind, the bytes
    data, at, parts = open(path, "rb").read(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield parts
            parts = b""

steps, accuracy, seed = {}, None, None
for data in entries():
    record = wandb_internal_pb2.Record()
    record.ParseFromString(data)
    values = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
    if "calls" in values:
        steps[int(values["_step"])] = values["calls"]
    for item in record.summary.update:
        if (item.key or ".".join(item.nested_key)) == "result.test_accuracy":
            accuracy = json.loads(item.value_json)
    for item in [*record.run.config.update, *record.config.update]:
        if item.key == "seed":
            seed = json.loads(item.value_json)
print(json.dumps({"steps": steps, "accuracy": accuracy, "seed": seed}))
""",
    "trackio": """
import glob, json, sqlite3
[path] = glob.glob("trackio/zopog.db")
rows = sqlite3.connect(path).execute("select step, metrics from metrics where run_name = 'run' order by id").fetchall()
found = [(step, json.loads(metrics)) for step, metrics in rows]
steps = {step: values["calls"] for step, values in found if "calls" in values}
[accuracy] = [values["result.test_accuracy"] for _, values in found if "result.test_accuracy" in values]
[config] = [json.loads(c) for (c,) in sqlite3.connect(path).execute("select config from configs where run_name = 'run'")]
print(json.dumps({"steps": steps, "accuracy": accuracy, "seed": config["seed"]}))
""",
}


@pytest.mark.parametrize("name", READERS)
def test_what_the_tracker_kept_is_the_run_s_curve_and_result(name: str, small_task: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed: pip install {name}")
    offline = {
        "WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "WANDB_SILENT": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path),
        "GRADIO_ANALYTICS_ENABLED": "False", "DO_NOT_TRACK": "true",
    }  # fmt: skip
    plain = [*SMALL[: SMALL.index("--readout")], "--readout", "labels", "--threads", "1"]
    command = ["-m", "zopog_ref", "tune", "--task", small_task, *plain, "--out", "run", "--track", name]

    def python(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=tmp_path, env=os.environ | offline, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert "goes on without it" not in done.stderr
        return done.stdout

    python(*command)
    kept = json.loads(python("-c", READERS[name]).splitlines()[-1])
    curve = [json.loads(line) for line in (tmp_path / "run" / "curve.jsonl").read_text("utf-8").splitlines()]
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert {int(step): calls for step, calls in kept["steps"].items()} == {row["step"]: row["calls"] for row in curve}
    assert kept["accuracy"] == pytest.approx(result["test_accuracy"])
    assert kept["seed"] is None or int(kept["seed"]) == result["seed"]
