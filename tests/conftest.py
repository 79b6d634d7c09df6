"""Slow tests: what a build runs after the README's `make test`, with `make test-slow`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
# Real kills and full disks, fuzzing, other processes' clusters and servers; and the same claims at many seeds or draws.
_SLOW_FOLDERS = {"faults", "fuzz"}
_SLOW_FILES = {
    "test_cluster.py", "test_workers.py", "test_matrix.py", "test_remote.py", "test_remote_completions.py",
    "test_tune_remote.py", "test_mutants.py", "test_compare.py", "test_calibration.py", "test_bench.py",
    "test_compilers.py", "test_embedded_build.py", "test_verify_model.py", "test_precision.py", "test_memory.py", "test_real_trackers.py",
}  # fmt: skip
_SLOW_NAMES = {
    "test_ten_seeds_raise_no_false_alarm",
    "test_conventions_of_scikit_learn",
    "test_six_kills_of_the_command_change_nothing",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(_HERE)
        name = getattr(item, "originalname", None) or item.name
        if place.parts[0] in _SLOW_FOLDERS or place.name in _SLOW_FILES or name in _SLOW_NAMES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def connection() -> Iterator[Any]:
    """A small Ray cluster of this machine, started once."""
    pytest.importorskip("ray", reason="several workers need ray (extra cluster)")
    from zopog_models.cluster.ray_connection import RayConnection

    with RayConnection(cpus=4, object_store_bytes=80 * 2**20) as connection:
        yield connection
