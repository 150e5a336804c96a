"""Servers and containers for real: two Docker daemons and this machine, watched by a monitor's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from docker_daemon import IMAGE, DockerDaemon
from fault_proxy import FaultProxy

from bos_core.index.containers import ContainerIndex, ContainerTree
from bos_core.index.database import connect
from bos_core.objects.container import ContainerSpec, ServerKind, ServerState
from bos_core.objects.settings import HostOptions, Settings
from bos_core.scheduling import docker_source
from bos_core.scheduling.container_monitor import look_now
from bos_core.scheduling.docker_source import DockerSource, check_hosts

WAIT_S_MAX = 60.0
BUSY = "sh -c 'while :; do :; done'"


@dataclass
class Monitor:
    """A monitor in a process of its own, and the index that it writes."""

    settings: Settings
    log: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.index = ContainerIndex(connect(self.settings.database))

    def start(self) -> None:
        command = (sys.executable, "-m", "bos_core.scheduling.run_monitor")
        environment = os.environ | self.settings.environment()
        with self.log.open("ab") as log:
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def until(self, true: Callable[[ContainerTree], Any], ended: bool = False) -> Any:
        """Wait until something holds of the tree; return what `true` returned."""
        end = time.monotonic() + WAIT_S_MAX
        while not (found := true(self.index.tree(0.0 if ended else None))):
            assert time.monotonic() < end, f"{self.log.read_text()}\n{self.index.tree(0.0)}"
            time.sleep(0.05)
        return found

    def ended(self, name: str) -> Any:
        """Wait until a container has left the tree; return it as it ended."""
        self.until(lambda tree: name not in names(tree))
        return self.until(lambda tree: node(tree, name), ended=True).container


def node(tree: ContainerTree, name: str) -> Any:
    return next((n for s in tree.servers for n in s.containers if n.container.name == name), None)


def names(tree: ContainerTree) -> set[str]:
    return {n.container.name for s in tree.servers for n in s.containers}


def quota(tree: ContainerTree, name: str) -> tuple[float, int] | None:
    found = node(tree, name)
    return found and (found.container.cpu_cores, found.container.memory_mb)


def server(tree: ContainerTree, daemon: DockerDaemon) -> Any:
    return next((n.server for n in tree.servers if n.server.address == daemon.url), None)


@pytest.fixture(scope="module")
def daemons() -> Iterator[tuple[DockerDaemon, DockerDaemon]]:
    with DockerDaemon() as first, DockerDaemon() as second:
        yield first, second


@pytest.fixture(scope="module")
def monitor(
    daemons: tuple[DockerDaemon, DockerDaemon], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitor]:
    home = tmp_path_factory.mktemp("home")
    hosts = [{"url": daemons[0].url, "name": "one"}, {"url": daemons[1].url, "name": "two"}]
    monitor = Monitor(Settings.load(home=home, container_hosts=hosts), home / "monitor.log")
    monitor.start()
    yield monitor
    monitor.kill()


@pytest.fixture
def first(daemons: tuple[DockerDaemon, DockerDaemon]) -> DockerDaemon:
    return daemons[0]


def test_two_daemons_are_two_servers_whatever_docker_calls_them(
    monitor: Monitor, daemons: tuple[DockerDaemon, DockerDaemon]
) -> None:
    tree = monitor.until(lambda t: t if sum(s.is_up for s in t.servers) == 3 else None)
    docker = [n.server for n in tree.servers if n.server.kind is ServerKind.DOCKER]
    assert {s.name for s in docker} == {"one", "two"}
    assert {s.address for s in docker} == {d.url for d in daemons}
    assert len({n.server.id for n in tree.servers}) == 3


def test_what_a_server_is_made_of_is_collected(monitor: Monitor, first: DockerDaemon) -> None:
    found = monitor.until(lambda tree: server(tree, first))
    assert found.cpu_cores == os.cpu_count()
    assert found.memory_mb == pytest.approx(psutil.virtual_memory().total / 1e6, rel=0.01)
    assert found.memory_limit_mb == found.memory_mb - 1024
    info = first.client.info()
    assert found.attributes["os"]["kernel"] == f"linux {info['KernelVersion']}"
    assert found.attributes["software"]["Docker"] == info["ServerVersion"]
    assert found.attributes["hardware"]["architecture"] == info["Architecture"]
    machine = monitor.until(lambda t: [n.server for n in t.servers if n.server.kind is ServerKind.MACHINE])[0]
    assert machine.attributes["software"]["Python"] == sys.version.split()[0]
    assert {"hardware", "os", "software"} <= machine.attributes.keys()


def test_a_container_has_instance_quota_image_and_permissions_and_leaves_when_it_is_killed(
    monitor: Monitor, first: DockerDaemon, tmp_path: Path
) -> None:
    spec = ContainerSpec(name="worker", image=IMAGE, cpu_cores=0.5, memory_mb=64, slots=("unit_commitment",))
    started = first.run(
        spec.name,
        BUSY,
        labels=spec.marked_labels,
        mem_limit=spec.memory_mb * 10**6,
        cpu_period=100_000,
        cpu_quota=50_000,
        cap_drop=["ALL"],
        read_only=True,
        user="1000",
        volumes={str(tmp_path): {"bind": "/data", "mode": "ro"}},
    )
    found = monitor.until(lambda tree: (n := node(tree, "worker")) and n.use and n)
    container = found.container
    assert container.id == started.id[:12]
    assert [(i.service, i.address) for i in container.instances] == [("dask-worker", container.id)]
    assert (container.cpu_cores, container.memory_mb) == (spec.cpu_cores, spec.memory_mb)
    assert container.image == IMAGE
    assert container.image_digest == first.client.images.get(IMAGE).id
    access = container.attributes["access"]
    assert access["user"] == "1000"
    assert access["capabilities"] == "-ALL"
    assert access["root file system"] == "read-only"
    assert access["mounts"] == f"{tmp_path} at /data, read-only"
    assert [c.id for c in monitor.index.tree().executors("unit_commitment")] == [container.id]
    assert monitor.index.tree().executors("active_dispatch") == []
    assert monitor.until(lambda tree: 0.0 < node(tree, "worker").use.cpu_cores < 1.0)
    started.kill()
    assert monitor.ended("worker").message == "killed (exit code 137)"
    assert monitor.index.holders([f"{container.id}/1/5.0"])[f"{container.id}/1/5.0"][0].image == IMAGE


def test_a_quota_that_is_changed_and_a_pause_are_seen(monitor: Monitor, first: DockerDaemon) -> None:
    started = first.run("changing", mem_limit=64 << 20, memswap_limit=64 << 20)
    monitor.until(lambda tree: quota(tree, "changing") == (0.0, 67))
    started.update(cpu_period=100_000, cpu_quota=150_000, mem_limit=32 << 20, memswap_limit=32 << 20)
    monitor.until(lambda tree: quota(tree, "changing") == (1.5, 33))
    started.pause()
    monitor.until(lambda tree: node(tree, "changing").container.state == "paused")
    started.unpause()
    monitor.until(lambda tree: node(tree, "changing").container.state == "running")
    started.remove(force=True)
    monitor.ended("changing")


@pytest.mark.parametrize(
    ("name", "command", "options", "message"),
    [
        ("well", "true", {}, "exit code 0"),
        ("badly", "sh -c 'exit 3'", {}, "exit code 3"),
        ("greedy", "dd if=/dev/zero of=/dev/null bs=64M count=1", {"mem_limit": 16 << 20}, "out of memory"),
        ("greedy-child", "sh -c 'dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 2'", {"mem_limit": 16 << 20},
         "out of memory"),
        ("removed", "sh -c 'sleep 1; exit 4'", {"remove": True}, "exit code 4"),
    ],
)  # fmt: skip
def test_how_a_container_ended_is_told(
    monitor: Monitor, first: DockerDaemon, name: str, command: str, options: dict[str, Any], message: str
) -> None:
    first.run(name, command, **options)
    assert monitor.until(lambda tree: node(tree, name), ended=True)
    assert monitor.ended(name).message.startswith(message)


def test_a_daemon_that_is_killed_is_lost_and_comes_back(
    monitor: Monitor, daemons: tuple[DockerDaemon, DockerDaemon]
) -> None:
    _, second = daemons
    second.run("survivor", labels={"bos.service": "dask-worker"})
    monitor.until(lambda tree: node(tree, "survivor"))
    second.kill()
    lost = monitor.until(lambda tree: (s := server(tree, second)).state is ServerState.LOST and s)
    assert "start Docker or correct the URL" in lost.message
    assert node(monitor.index.tree(), "survivor") is not None
    assert monitor.index.tree().executors("any") == []
    assert server(monitor.index.tree(), daemons[0]).state is ServerState.UP
    findings = check_hosts(monitor.settings.container_hosts)
    assert [f.ids for f in findings] == [("two",)]
    assert "cannot reach" in str(findings[0])
    second.start()
    monitor.until(lambda tree: server(tree, second).state is ServerState.UP)
    monitor.ended("survivor")
    assert check_hosts(monitor.settings.container_hosts) == []


def test_a_daemon_that_hangs_is_lost_until_it_answers(monitor: Monitor, first: DockerDaemon) -> None:
    assert first._process is not None
    first._process.send_signal(signal.SIGSTOP)
    try:
        monitor.until(lambda tree: server(tree, first).state is ServerState.LOST)
    finally:
        first._process.send_signal(signal.SIGCONT)
    monitor.until(lambda tree: server(tree, first).state is ServerState.UP)


def test_what_ended_while_the_monitor_was_away_leaves_the_tree(monitor: Monitor, first: DockerDaemon) -> None:
    away, removed = first.run("away"), first.run("removed-while-away")
    monitor.until(lambda tree: {"away", "removed-while-away"} <= names(tree))
    monitor.kill()
    away.kill()
    removed.remove(force=True)
    monitor.start()
    assert monitor.ended("away").message == "killed (exit code 137)"
    assert monitor.ended("removed-while-away").message == "gone when looked at again"


def test_an_index_that_is_away_is_named_and_what_it_missed_is_written_later(
    new_database: Callable[[], AbstractContextManager[str]], first: DockerDaemon, tmp_path: Path
) -> None:
    with new_database() as url:
        at = urlsplit(url)
        proxy = FaultProxy(at.hostname or "", at.port or 0)
        through = url.replace(f":{at.port}/", f":{proxy.port}/")
        settings = Settings.load(home=tmp_path, database_url=through, container_hosts=[first.url])
        monitor = Monitor(settings, tmp_path / "monitor.log")
        monitor.index = ContainerIndex(connect(url))
        monitor.start()
        monitor.until(lambda tree: server(tree, first))
        proxy.refuse()
        started = first.run("meanwhile")
        monitor.until(lambda tree: "containers are not recorded" in monitor.log.read_text())
        proxy.heal()
        monitor.until(lambda tree: "meanwhile" in names(tree))
        monitor.until(lambda tree: "containers are recorded again" in monitor.log.read_text())
        assert monitor.processes[0].poll() is None
        assert at.password not in monitor.log.read_text()
        monitor.kill()
        proxy.refuse()
        monitor.start()
        assert monitor.processes[1].wait() == 1
        assert monitor.log.read_text().splitlines()[-1].startswith("containers are not watched: ")
        started.remove(force=True)
        monitor.index.engine.dispose()
        proxy.close()


def test_without_a_monitor_the_servers_are_looked_at_now(first: DockerDaemon, tmp_path: Path) -> None:
    started = first.run("glanced", BUSY, cpu_period=100_000, cpu_quota=50_000)
    hosts = [first.url, f"unix://{tmp_path}/nobody.sock"]
    settings = Settings.load(home=tmp_path, container_hosts=hosts)
    tree = look_now(settings, ContainerIndex(connect(settings.database)))
    found = node(tree, "glanced")
    started.remove(force=True)
    assert found is not None
    assert found.use is not None
    assert 0.0 < found.use.cpu_cores < 1.0
    (lost,) = [n.server for n in tree.servers if not n.is_up]
    assert lost.address == hosts[1]
    assert "no such file" in lost.message


def test_counters_of_a_daemon_elsewhere_are_asked_of_it(
    first: DockerDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = first.run("asked", BUSY, cpu_period=100_000, cpu_quota=20_000)
    near, far = DockerSource(HostOptions(url=first.url)), DockerSource(HostOptions(url=first.url))
    near.look(0.0)
    monkeypatch.setattr(docker_source, "cgroup_of", lambda pid: None)
    far.look(0.0)
    read, asked = near.measure(1).readings[started.id[:12]], far.measure(1).readings[started.id[:12]]
    again = near.measure(2).readings[started.id[:12]]
    assert read.cpu_s <= asked.cpu_s <= again.cpu_s
    assert asked.memory_mb == pytest.approx(read.memory_mb, abs=1.0)
    near.close()
    far.close()
    started.remove(force=True)


def test_a_daemon_that_is_named_twice_is_found(first: DockerDaemon) -> None:
    other = first.url.replace("unix:///", "unix:////")
    (finding,) = check_hosts((HostOptions(url=first.url), HostOptions(url=other)))
    assert finding.problem == f"is the same Docker daemon as {first.url}"


def test_settings_of_hosts_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, first: DockerDaemon) -> None:
    monkeypatch.setenv("BOS_CONTAINER_HOSTS", json.dumps([first.url]))
    assert Settings.load().container_hosts == (HostOptions(url=first.url),)
