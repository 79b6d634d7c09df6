"""The same numbers from several processes: bit for bit, with workers killed, with nothing left behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import SENTENCES, write_model
from zopog_models import FrozenModel, FrozenModelOracle, ProviderError, encode, label_ids, load_model, make_task
from zopog_models.cluster import ray_connection
from zopog_models.cluster.ray_connection import RayConnection
from zopog_models.cluster.runner import ClusterError, open_cluster

pytest.importorskip("ray", reason="several workers need ray (extra cluster)")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own: sockets it leaves to the collector, defaults to come
N_POSITIONS, DIM = 4, 7
TASK = make_task("{text} it was {mask}", {"good": "great", "bad": "terrible"})


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("cluster") / "tiny-bert", "bert")


@pytest.fixture(scope="module")
def spread(connection: RayConnection, encoder: Path) -> Iterator[FrozenModel]:
    with open_cluster(encoder, workers=2) as model:
        yield model


def oracle_of(model: Any) -> FrozenModelOracle:
    rng = np.random.default_rng(5)
    projection = rng.normal(0, 0.3, (N_POSITIONS * model.embedding_size, DIM)).astype(np.float32)
    encoded = encode([(text,) for text in SENTENCES], TASK, model, N_POSITIONS)
    return FrozenModelOracle(model, encoded, label_ids(TASK, model), np.arange(20, 50), projection, N_POSITIONS)


def query(count: int, per_example: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = len(SENTENCES)
    z = rng.normal(size=(count, rows, DIM) if per_example else (count, DIM))
    return rng.integers(0, 30, (count, N_POSITIONS)), z, np.arange(rows)


@pytest.mark.parametrize("per_example", [False, True])
def test_the_same_bits_as_one_process(spread: FrozenModel, encoder: Path, per_example: bool) -> None:
    asked = query(9, per_example)
    expected = oracle_of(load_model(encoder, threads=1)).logits(*asked)
    assert np.array_equal(oracle_of(spread).logits(*asked), expected)
    assert len(set(spread.runner.replicas.pids)) == 2
    assert os.getpid() not in spread.runner.replicas.pids


def test_thinned_and_reduced_networks_too(spread: FrozenModel, encoder: Path) -> None:
    alone = load_model(encoder, threads=1)
    mask = np.random.default_rng(1).integers(0, 2, alone.hidden_units)
    asked = query(3)
    thin = oracle_of(alone).thinned(mask).logits(*asked)
    assert np.array_equal(oracle_of(spread).thinned(mask).logits(*asked), thin)
    assert np.array_equal(
        oracle_of(spread.reduced("int8")).logits(*asked), oracle_of(alone.reduced("int8")).logits(*asked)
    )


def test_a_decoder_and_its_prefixes(connection: RayConnection, tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "tiny-gpt2", "gpt2")
    asked = query(3)
    with open_cluster(folder, workers=2) as model:
        answer = oracle_of(model).logits(*asked)
    assert np.array_equal(answer, oracle_of(load_model(folder, threads=1)).logits(*asked))


@pytest.mark.parametrize("how", ["ray.kill", "SIGKILL"])
def test_a_worker_killed_in_the_middle(spread: FrozenModel, encoder: Path, how: str) -> None:
    """Nothing is lost, and the caller, whose ledger counts questions, asks once."""
    box, asked = oracle_of(spread), query(400)
    expected = oracle_of(load_model(encoder, threads=1)).logits(*asked)
    before, replicas = spread.runner.replicas.replaced, spread.runner.replicas
    sound, sent = replicas.run, []

    def run(*arguments: Any) -> Any:
        sent.append(0)
        if len(sent) == 3:  # chunks are under way, and many wait
            if how == "SIGKILL":
                os.kill(replicas.pids[0], signal.SIGKILL)
            else:
                spread.runner.connection.ray.kill(replicas.handles[0])
        return sound(*arguments)

    replicas.run = run  # type: ignore[method-assign]
    try:
        assert np.array_equal(box.logits(*asked), expected)
    finally:
        del replicas.run  # type: ignore[method-assign]
    assert replicas.replaced == before + 1
    assert len(set(replicas.pids)) == 2


def test_rows_that_kill_every_worker_are_an_error(spread: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: without a limit, what kills its worker would be sent for ever."""
    replicas, ray = spread.runner.replicas, spread.runner.connection.ray
    sound = replicas._take

    def take() -> Any:
        place = sound()
        ray.kill(place.handle)
        with contextlib.suppress(ray.exceptions.RayActorError):  # it is told, and dies a little later
            while True:
                ray.get(place.handle.about.remote())
        return place

    monkeypatch.setattr(replicas, "_take", take)
    with pytest.raises(ClusterError, match="3 replicas died of the same rows"):
        replicas.run("rows", "logits", [])
    monkeypatch.undo()
    assert replicas.run("rows", "logits", []) == []


def test_it_is_not_read_in_place(spread: FrozenModel) -> None:
    assert spread.why_not_bound == "its rows are read by other processes"


def test_an_error_of_the_model_is_that_error(spread: FrozenModel) -> None:
    with pytest.raises(ValueError, match="do not fit into the model's"):
        spread.logits([np.full(99, 9)], np.array([2]), np.zeros((1, 0), int), None, np.array([0]), np.array([5]))


def test_a_node_with_other_weights_is_refused(
    connection: RayConnection, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zopog_models.checkpoints.checkpoint import Checkpoint

    folder = tmp_path / "other"
    shutil.copytree(encoder, folder)
    monkeypatch.setattr(Checkpoint, "model_sha256", "0" * 64)  # what this process believes
    with pytest.raises(ValueError, match="every node needs the same model folder"):
        open_cluster(folder, workers=1)


def test_too_small_a_cluster(connection: RayConnection, encoder: Path) -> None:
    with pytest.raises(ProviderError, match="the workers need 5 CPUs and the cluster has 4"):
        open_cluster(encoder, workers=5)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        open_cluster(encoder, workers=0)
    with pytest.raises(ValueError, match="device must be one of"):
        open_cluster(encoder, workers=1, device="tpu")
    with pytest.raises(ValueError, match="injection must be one of"):
        open_cluster(encoder, workers=1, injection="nowhere")


class Late:
    """A Ray whose processes find each other at the third time."""

    __version__ = "0"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.util = types.SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str, **settings: Any) -> None:
        self.asked.append("init")
        if self.asked.count("init") < 3 or address != "local":
            raise Exception("timed out during startup")

    def shutdown(self) -> None:
        self.asked.append("shutdown")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}


def test_a_cluster_that_starts_late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another's cluster is asked once."""
    late = Late()
    monkeypatch.setattr(ray_connection, "require_ray", lambda: late)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert RayConnection(cpus=2).started
    assert late.asked == ["init", "shutdown", "init", "shutdown", "init"]
    monkeypatch.setattr(ray_connection, "_STARTS", 2)
    late.asked.clear()
    with pytest.raises(ClusterError, match=r"Ray \(local\) did not start: timed out during startup"):
        RayConnection(cpus=2)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    late.asked.clear()
    with pytest.raises(ClusterError, match=r"Ray \(auto\) did not start"):
        RayConnection(cpus=2)
    assert late.asked == ["init", "shutdown"]


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ProviderError, match=r'pip install "ray>=2\.40"'):
        ray_connection.require_ray()


OWN_CLUSTER = """
import sys
import ray  # somebody else's import comes first: Ray reads its settings then
from zopog_models.cluster.runner import open_cluster
with open_cluster(sys.argv[1], workers=1) as model:
    print(ray.util.get_node_ip_address(), *model.runner.replicas.pids, flush=True)
    sys.stdin.read()
"""


DEAD_CLUSTER = """
import os, signal, sys
import ray._private.worker
from zopog_models.cluster.runner import ClusterError, open_cluster
model = open_cluster(sys.argv[1], workers=1)
connection, replicas = model.runner.connection, model.runner.replicas
folder = connection._folder
for process in ray._private.worker._global_node.all_processes["raylet"]:
    os.kill(process.process.pid, signal.SIGKILL)
os.kill(replicas.pids[0], signal.SIGKILL)
try:
    replicas.run("rows", "logits", [])
except ClusterError as error:
    print(error)
model.close()
print(os.path.exists(folder))
"""


def test_a_cluster_that_dies_is_named_and_leaves_no_folder(encoder: Path) -> None:
    """Scheduler and worker both: no other worker can be put in the place, and nobody waits ten minutes for one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", DEAD_CLUSTER, str(encoder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (
        "no replica is left" in done.stdout or "no node of the Ray cluster" in done.stdout or "head node" in done.stdout
    )
    assert done.stdout.split()[-1] == "False"  # Ray itself says a word or two


def test_a_cluster_of_its_own(encoder: Path) -> None:
    """In a process of its own: it listens to this machine alone, says nothing on stdout, and leaves no process behind."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", OWN_CLUSTER, str(encoder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address, pid = process.stdout.readline().split()
        family = {process.pid, *descendants(process.pid)}
        heard = listening(family)
        rest, _ = process.communicate()
    assert (address, process.returncode, rest) == ("127.0.0.1", 0, "")
    if Path("/proc/net/tcp").exists():
        assert len(heard) >= 3  # the directory, the scheduler, the worker
        assert set(heard) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    until = time.monotonic() + 120
    while any(Path(f"/proc/{one}").exists() for one in {int(pid), *family}):
        assert time.monotonic() < until, f"of {family} some are still there"
        time.sleep(0.05)


def descendants(pid: int) -> set[int]:
    """Processes that come from one, as Linux tells."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def listening(pids: set[int]) -> list[str]:
    """Addresses on which these processes wait for connections."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table, kind, width in (("tcp", socket.AF_INET, 4), ("tcp6", socket.AF_INET6, 16)):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:  # LISTEN
                raw = bytes.fromhex(words[1].partition(":")[0])
                parts = [raw[i : i + 4][::-1] for i in range(0, width, 4)]  # each word in this machine's order
                found.append(socket.inet_ntop(kind, b"".join(parts)))
    return found
