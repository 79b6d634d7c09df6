"""usable_cores on files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from zopog_models.frozen.model import load_model
from zopog_models.runners import cores as room
from zopog_models.runners.cores import usable_cores


@pytest.fixture(autouse=True)
def eight_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = {"proc/self/cgroup": "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n"}
CASES = {
    "no control groups": ({}, 8),
    "version 2 without a limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    "version 2": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
    "a part of a CPU counts as one": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
    "less than one CPU": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1),
    "more than there are": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8),
    "the least of a group and those above": (
        {
            "proc/self/cgroup": "0::/user.slice/job\n",
            "sys/fs/cgroup/user.slice/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/user.slice/job/cpu.max": "500000 100000\n",
        },
        2,
    ),
    "another group's limit": (
        {"proc/self/cgroup": "0::/mine\n", "sys/fs/cgroup/yours/cpu.max": "100000 100000\n"},
        8,
    ),
    "version 1": (
        V1
        | {
            "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000\n",
        },
        4,
    ),
    "version 1 in a container, where the mount is the group": (
        V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "25000\n"},
        2,
    ),
    "version 1 without a limit": (
        V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
        8,
    ),
    "nonsense": ({"proc/self/cgroup": "0::/\nx\n0::/../up\n", "sys/fs/cgroup/cpu.max": "two of them\n"}, 8),
    "a period of nothing": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 0\n"}, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_usable_cores(tmp_path: Path, case: str) -> None:
    files, expected = CASES[case]
    assert usable_cores(write(tmp_path, files)) == expected


def test_threads_default_to_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"})
    monkeypatch.setattr(room.usable_cores, "__defaults__", (tmp_path,))
    assert load_model("embedded").threads == 3
    assert load_model("embedded", threads=5).threads == 5  # what was asked for is given
    from zopog_ref.app.compare import command, schedule

    assert command.usable_cores() == schedule.usable_cores() == 3
