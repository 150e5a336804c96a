"""The container tree: what a second of sampling costs, how soon a killed container is gone, how much is kept."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from databases import disk, new_postgresql
from frame import OURS, Accuracy, Bench, Row
from timing import Timing, best_of

from bos_core.index.containers import ContainerIndex
from bos_core.index.database import connect, reading
from bos_core.index.tables import USE_SECOND
from bos_core.objects.container import Changes, Container, Sample, Server, ServerKind
from bos_core.objects.settings import HostOptions, Settings
from bos_core.scheduling.docker_source import DockerSource

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from docker_daemon import DockerDaemon

TITLE = "Servers and containers: cost of sampling, a killed container, what is kept"
PACKAGES = ("docker", "psutil", "sqlalchemy", "psycopg")
SIZE = "containers"
COUNTS = (10, 50, 300)
SECONDS = 20
KILLS = 20
KILLS_AMONG = 50
AT_ONCE = 32
HOUR_S = 3600


def run(bench: Bench, budget_s: float) -> None:
    """Measure one daemon with more and more containers, and the tables of an hour."""
    bench.settings |= {
        "containers": "sleeping, one process each, on one Docker daemon of this machine",
        "monitor": f"its whole process, mean of {SECONDS} s",
        "daemon": "CPU cores that the Docker daemon itself takes meanwhile",
    }
    with new_postgresql() as url, tempfile.TemporaryDirectory(dir=disk()) as folder, DockerDaemon() as daemon:
        databases = {f"{OURS} on SQLite": "", f"{OURS} on PostgreSQL": url}
        there = 0
        for count in COUNTS:
            with bench.doing(f"starting containers, up to {count}"), ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: daemon.run(), range(count - there)))
            there = count
            _look(bench, daemon, count)
            for tool, database in databases.items():
                _watch(bench, daemon, count, tool, Settings(home=Path(folder), database_url=database))
            if count == KILLS_AMONG:
                _kill(bench, daemon, Settings(home=Path(folder)))
    with tempfile.TemporaryDirectory(dir=disk()) as folder, new_postgresql() as url:
        for tool, database in (
            (f"{OURS} on SQLite", f"sqlite:///{folder}/index.sqlite"),
            (f"{OURS} on PostgreSQL", url),
        ):
            with bench.peer(tool, "an hour of samples"):
                _keep(bench, tool, ContainerIndex(connect(database)))


def _look(bench: Bench, daemon: DockerDaemon, count: int) -> None:
    """Read all counters once: from control groups, and by asking the daemon."""
    source, client, process = DockerSource(HostOptions(url=daemon.url)), daemon.client, _process(daemon)
    ids = [container.id for container in source.look(0.0).containers if container.is_live]
    ours, measured = best_of(lambda: source.measure(0))
    group, panel = f"counters of {count} containers", "reading counters"
    bench.add(
        Row(group, count, OURS, "look", ours, panel=panel, reference=True, note="Files of the control groups.")
    )
    with ThreadPoolExecutor(AT_ONCE) as pool, bench.peer("Docker's stats"):

        def ask(id: str) -> float:
            memory = client.api.stats(id, stream=False, one_shot=True)["memory_stats"]
            return float(memory["usage"] - memory["stats"].get("total_inactive_file", 0)) / 1e6

        before = process.cpu_times()
        theirs, answers = best_of(lambda: list(pool.map(ask, ids)), runs_max=2, warm_up=False)
        daemon_s = (_busy_s(process) - before.user - before.system) / theirs.runs
        apart = max(abs(a - measured.readings[i].memory_mb) for i, a in zip(ids, answers, strict=True))
        note = f"The daemon itself takes {daemon_s:.2g} s more a look. {AT_ONCE} questions at once."
        accuracy = (Accuracy("memory, MB", apart, 1.0),)
        bench.add(Row(group, count, "Docker's stats", "look", theirs, accuracy, note=note, panel=panel))
    source.close()


def _watch(bench: Bench, daemon: DockerDaemon, count: int, tool: str, settings: Settings) -> None:
    """Let the monitor's process run for a while."""
    with bench.peer(tool, f"{count} containers"), _monitor(settings, daemon) as monitor:
        index = ContainerIndex(connect(settings.database))
        _until(lambda: _in_tree(index) >= count)
        time.sleep(3.0)  # what a start costs does not count
        ends = _process(daemon)
        first = (_busy_s(monitor), _busy_s(ends), _rows(index), time.monotonic())
        time.sleep(SECONDS)
        last = (_busy_s(monitor), _busy_s(ends), _rows(index), time.monotonic())
        cpu_s, daemon_s, rows, wall_s = (b - a for a, b in zip(first, last, strict=True))
        figures = {"rows_an_hour": int(rows / wall_s * HOUR_S), "memory_mb": monitor.memory_info().rss / 1e6}
        note = (
            f"{figures['rows_an_hour']:,} rows of samples an hour; {figures['memory_mb']:.0f} MB; "
            f"the daemon {1e3 * daemon_s / wall_s:.1f} ms CPU a second."
        )
        times = Timing(cpu_s / wall_s, 1.0, SECONDS)
        group = f"a second of watching {count} containers"
        first_tool = tool.endswith("SQLite")
        bench.add(Row(group, count, tool, "second", times, (), figures, note, "watching", first_tool))
        index.engine.dispose()


def _kill(bench: Bench, daemon: DockerDaemon, settings: Settings) -> None:
    """Kill containers and wait until the tree has them no more."""
    with bench.doing("killing containers"), _monitor(settings, daemon):
        index, waited = ContainerIndex(connect(settings.database)), []
        for number in range(KILLS):
            waited.append(_gone_after_s(index, daemon.run(f"victim-{number}")))
        bench.facts["from_docker_kill_to_gone_from_the_tree"] = {
            "containers": KILLS_AMONG,
            "kills": KILLS,
            "median_s": statistics.median(waited),
            "longest_s": max(waited),
        }
        index.engine.dispose()


def _gone_after_s(index: ContainerIndex, container: Any) -> float:
    _until(lambda: container.id[:12] in _ids(index))
    started = time.monotonic()
    container.kill()
    _until(lambda: container.id[:12] not in _ids(index))
    return time.monotonic() - started


def _keep(bench: Bench, tool: str, index: ContainerIndex) -> None:
    """Fill an hour of the largest case; add a second to it, read it, condense a minute."""
    count = COUNTS[-1]
    containers = tuple(Container(f"{k:012x}", "s", f"c{k}") for k in range(count))
    index.apply(Changes((Server("s", "s", ServerKind.DOCKER),), containers))
    now_s = int(index.clock_s()) // 60 * 60

    def second(at_s: int) -> tuple[Sample, ...]:
        return tuple(Sample(c.id, at_s, 0.01 * (k % 7), 100.0 + k) for k, c in enumerate(containers))

    with bench.doing(f"{tool}: an hour of samples"):
        for first in range(now_s - HOUR_S, now_s, 60):
            samples = tuple(s for at_s in range(first, first + 60) for s in second(at_s))
            index.apply(Changes(samples=samples))
    coming = iter(range(now_s, now_s + HOUR_S))
    minutes = iter(range(now_s + 60, now_s + HOUR_S, 60))
    works: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("write a second", lambda: index.apply(Changes(samples=second(next(coming))))),
        ("read the tree", index.tree),
        ("read the hour of one container", lambda: index.use(containers[0].id, now_s - HOUR_S, now_s + HOUR_S)),
        ("condense a minute", lambda: index.condense(next(minutes))),
    )
    first_tool = tool.endswith("SQLite")
    for what, work in works:
        times, _ = best_of(work, runs_max=10)
        group = f"{what}, {count} containers, {count * HOUR_S:,} samples there"
        bench.add(Row(group, count, tool, "time", times, panel="tables", reference=first_tool))
    index.engine.dispose()


@contextmanager
def _monitor(settings: Settings, daemon: DockerDaemon) -> Iterator[psutil.Process]:
    hosts = {"container_hosts": (HostOptions(url=daemon.url),)}
    environment = os.environ | settings.model_copy(update=hosts).environment()
    with subprocess.Popen(
        (sys.executable, "-m", "bos_core.scheduling.run_monitor"), env=environment, stdout=subprocess.DEVNULL
    ) as process:
        yield psutil.Process(process.pid)
        process.kill()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120.0
    while not true():
        if time.monotonic() > end:
            raise RuntimeError("RuntimeError: the monitor does not see it")
        time.sleep(0.01)


def _ids(index: ContainerIndex) -> set[str]:
    return {node.container.id for server in index.tree().servers for node in server.containers}


def _in_tree(index: ContainerIndex) -> int:
    return len(_ids(index))


def _rows(index: ContainerIndex) -> int:
    with reading(index.engine) as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(USE_SECOND)).scalar_one())


def _process(daemon: DockerDaemon) -> psutil.Process:
    return psutil.Process(int((daemon.root / "pid").read_text()))


def _busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
