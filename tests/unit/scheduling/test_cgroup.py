"""Control groups of both versions, as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bos_core.scheduling.cgroup import cgroup_of


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def version_1(root: Path, proc: Path, limit: str = "536870912", quota: str = "150000") -> None:
    write(proc / "7", cgroup="5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n")
    for name in ("cpu", "cpuacct"):
        write(
            root / name / "docker" / "abc",
            **{
                "cpuacct__usage": "2500000000\n",
                "cpu__cfs_quota_us": f"{quota}\n",
                "cpu__cfs_period_us": "100000\n",
            },
        )
    write(
        root / "memory" / "docker" / "abc",
        memory__usage_in_bytes="30000000\n",
        memory__limit_in_bytes=f"{limit}\n",
        memory__stat="inactive_file 1\ncache 9\ntotal_inactive_file 10000000\n",
    )


def test_version_1(root: Path, proc: Path) -> None:
    version_1(root, proc)
    group = cgroup_of(7, root, proc)
    assert group is not None
    reading = group.read()
    assert (reading.cpu_s, reading.memory_mb) == (2.5, 20.0)
    assert group.cpu_cores_max() == 1.5
    assert group.memory_mb_max() == pytest.approx(536.870912)


def test_version_1_without_limits(root: Path, proc: Path) -> None:
    version_1(root, proc, limit="9223372036854771712", quota="-1")
    group = cgroup_of(7, root, proc)
    assert group is not None
    assert group.cpu_cores_max() is None
    assert group.memory_mb_max() is None


def test_version_2_takes_the_tightest_limit_on_the_way_up(root: Path, proc: Path) -> None:
    write(proc / "self", cgroup="0::/system.slice/a.scope\n")
    write(root, cgroup__controllers="cpu memory")
    write(root / "system.slice", cpu__max="100000 100000\n", memory__max="max\n")
    write(
        root / "system.slice" / "a.scope",
        cpu__max="max 100000\n",
        cpu__stat="usage_usec 1500000\nuser_usec 1\n",
        memory__current="8000000\n",
        memory__max="64000000\n",
        memory__stat="anon 1\ninactive_file 3000000\n",
    )
    group = cgroup_of("self", root, proc)
    assert group is not None
    assert group.unified
    assert (group.read().cpu_s, group.read().memory_mb) == (1.5, 5.0)
    assert group.cpu_cores_max() == 1.0
    assert group.memory_mb_max() == 64.0


def test_what_cannot_be_read_is_none(root: Path, proc: Path) -> None:
    assert cgroup_of(7, root, proc) is None
    write(proc / "7", cgroup="0::/\n")
    assert cgroup_of(7, root, proc) is None
    version_1(root, proc)
    (root / "memory" / "docker" / "abc" / "memory.stat").unlink()
    assert cgroup_of(7, root, proc) is None
