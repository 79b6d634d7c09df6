"""How many cores this process may use: its affinity, and the CPU quota of its control groups.

A container with a quota of two CPUs on a machine of 64 sees 64 cores. 64 threads there are throttled together, so a
default number of threads comes from here. Linux alone has control groups; elsewhere their files do not exist.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Where version 1 mounts the controller, relative to the root of the file system.
_VERSION_1 = ("sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpu")


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least 1; a quota of 1.5 CPUs counts as 2.

    root: where /proc and /sys are read, for the tests.
    """
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([visible, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group of this process may use; a group without a limit gives none."""
    for controllers, group in _groups(root):
        if controllers == "":  # version 2
            for folder in _upwards(root / "sys/fs/cgroup", group):
                yield from _quotient(_numbers(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for mount in _VERSION_1:
                for folder in _upwards(root / mount, group):
                    yield from _quotient(
                        [*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us")]
                    )


def _groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """(controllers, path) of this process's control groups; the controllers of version 2 are ""."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, found, path = rest.partition(":")
        if found and path.startswith("/") and ".." not in PurePosixPath(path).parts:
            yield controllers, PurePosixPath(path)


def _upwards(mount: Path, group: PurePosixPath) -> Iterator[Path]:
    """The group's folder and all above it, since each of their limits holds. In a container the mount is the group."""
    for path in (group, *group.parents):
        yield mount / path.relative_to("/")


def _numbers(path: Path) -> list[float]:
    """The numbers of a file; none where there is no such file or it says "max"."""
    try:
        return [float(word) for word in path.read_text("utf-8").split()]
    except (OSError, ValueError):
        return []


def _quotient(numbers: list[float]) -> Iterator[float]:
    """quota / period; -1 is version 1's word for no limit."""
    if len(numbers) == 2 and numbers[0] > 0 and numbers[1] > 0:
        yield numbers[0] / numbers[1]
