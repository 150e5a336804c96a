"""Control groups of Linux, version 1 and 2: what a container uses and may use, read from files, without a daemon.

Source: the kernel's ``Documentation/admin-guide/cgroup-v1`` and ``cgroup-v2.rst``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bos_core.scheduling.container_watch import Reading

ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")
_MB = 1e6
_UNLIMITED_BYTES = 1 << 60
"""Version 1 writes the largest multiple of a page for "no limit"."""


@dataclass(frozen=True)
class Cgroup:
    """The control group of a process.

    Attributes
    ----------
    cpu, memory : Path
        Folders of the two controllers; one and the same in version 2.
    tops : tuple of Path
        Where the two hierarchies begin.
    unified : bool
        Version 2.
    """

    cpu: Path
    memory: Path
    tops: tuple[Path, Path]
    unified: bool

    def read(self) -> Reading:
        """Return the counters; memory is what cannot simply be dropped, as `docker stats` counts it.

        Raises
        ------
        OSError
            When the group is gone.
        """
        if self.unified:
            cpu_s = _number(self.cpu / "cpu.stat", b"usage_usec ") / 1e6
            used, cache = int((self.memory / "memory.current").read_bytes()), b"inactive_file "
        else:
            cpu_s = int((self.cpu / "cpuacct.usage").read_bytes()) / 1e9
            used, cache = int((self.memory / "memory.usage_in_bytes").read_bytes()), b"total_inactive_file "
        dropped = _number(self.memory / "memory.stat", cache)
        return Reading(cpu_s, max(0, used - dropped) / _MB, time.monotonic())

    def cpu_cores_max(self) -> float | None:
        """Return the cores that the group and those above it may use; None without a limit."""
        found = []
        for folder in _upward(self.cpu, self.tops[0]):
            if self.unified:
                quota, _, period = _text(folder / "cpu.max").partition(" ")
            else:
                quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            if quota.isdigit() and period.isdigit():
                found.append(int(quota) / int(period))
        return min(found, default=None)

    def memory_mb_max(self) -> float | None:
        """Return the memory that the group and those above it may use; None without a limit."""
        name = "memory.max" if self.unified else "memory.limit_in_bytes"
        limits = [_text(folder / name) for folder in _upward(self.memory, self.tops[1])]
        found = [int(limit) / _MB for limit in limits if limit.isdigit() and int(limit) < _UNLIMITED_BYTES]
        return min(found, default=None)


def cgroup_of(pid: int | str, root: Path = ROOT, proc: Path = PROC) -> Cgroup | None:
    """Return the control group of a process; None where there is none to be read.

    Parameters
    ----------
    pid : int or "self"
    root, proc : Path
        Where the control groups and the processes are mounted.
    """
    paths: dict[str, str] = {}
    for line in _text(proc / str(pid) / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), path.strip("/"))
    if (root / "cgroup.controllers").exists() and "" in paths:
        return _readable(Cgroup(root / paths[""], root / paths[""], (root, root), True))
    if "cpuacct" in paths and "memory" in paths:
        tops = root / "cpuacct", root / "memory"
        return _readable(Cgroup(tops[0] / paths["cpuacct"], tops[1] / paths["memory"], tops, False))
    return None


def _readable(group: Cgroup) -> Cgroup | None:
    try:
        group.read()
    except (OSError, ValueError):  # of another namespace, or the root, which has no limits and counts nothing
        return None
    return group


def _upward(folder: Path, top: Path) -> Iterator[Path]:
    while folder != top and top in folder.parents:
        yield folder
        folder = folder.parent
    yield top


def _number(path: Path, key: bytes) -> int:
    """Return the number that follows a key at the start of a line."""
    content = b"\n" + path.read_bytes()
    start = content.index(b"\n" + key) + 1 + len(key)
    return int(content[start : content.find(b"\n", start)])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
