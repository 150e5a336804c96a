"""What a monitor does with changes that cannot be written, and which processes are containers."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bos_core.objects.container import EXECUTOR, Changes, Container, Sample, Server, ServerKind
from bos_core.objects.errors import StorageError
from bos_core.scheduling import container_monitor
from bos_core.scheduling.container_monitor import LONGEST_S, Writer
from bos_core.scheduling.process_source import FLOW_RUN, Process, ProcessSource, containers_of

HOME = "/home/of/bos"


class Index:
    """Takes changes, or fails with what it is told to."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.written: list[Changes] = []

    def write(self, changes: Changes) -> None:
        if self.fails is not None:
            raise self.fails
        self.written.append(changes)


def sample(at_s: int) -> Changes:
    return Changes(samples=(Sample("s", at_s, 0.5, 1.0),))


def test_what_cannot_be_written_waits_is_named_once_and_is_written_later() -> None:
    index = Index()
    writer = Writer(index.write)
    assert writer.offer(sample(1), 0.0) == ""
    index.fails = StorageError("index is down; start it")
    said = [writer.offer(sample(second), float(second)) for second in range(2, 9)]
    assert said[0] == "containers are not recorded: index is down; start it (it is tried again)"
    assert set(said[1:]) == {""}
    index.fails = None
    assert writer.offer(Changes(), 100.0) == "containers are recorded again"
    assert [s.at_s for s in index.written[-1].samples] == list(range(2, 9))
    assert writer.offer(Changes(), 101.0) == ""
    assert len(index.written) == 2


def test_of_a_container_that_waits_only_the_last_state_is_written() -> None:
    index = Index()
    index.fails = StorageError("down")
    writer = Writer(index.write)
    server = Server("s", "s", ServerKind.DOCKER)
    for state in ("created", "running", "exited"):
        writer.offer(Changes((server,), (Container("a", "s", "a", state=state),)), 0.0)
    index.fails = None
    writer.offer(Changes(), 1000.0)
    assert [c.state for c in index.written[-1].containers] == ["exited"]


def test_it_is_tried_ever_later_and_no_more_samples_wait_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_monitor, "SAMPLES_WAITING_MAX", 50)
    tried: list[float] = []
    now_s = 0.0

    def write(changes: Changes) -> None:
        tried.append(now_s)
        raise StorageError("down")

    writer = Writer(write)
    for second in range(1000):
        now_s = float(second)
        writer.offer(sample(second), now_s)
    gaps = [after - before for before, after in itertools.pairwise(tried)]
    assert gaps[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert set(gaps[6:]) == {LONGEST_S}
    assert len(writer.waiting.samples) <= 50 + LONGEST_S
    assert writer.waiting.samples[-1].at_s == 999


def process(pid: int, parent: int, service: str = "", home: str = HOME) -> Process:
    marks = {"BOS_HOME": home} | ({"BOS_SERVICE": service} if service else {})
    return Process(pid, parent, 100.0, marks)


def found(*processes: Process) -> dict[int, tuple[str, set[int]]]:
    by_pid = {p.pid: p for p in processes}
    return {pid: (service, set(pids)) for pid, (service, pids) in containers_of(by_pid, HOME).items()}


def test_a_marked_process_counts_with_what_it_starts() -> None:
    tree = (process(10, 1, "monitor"), process(11, 10, "monitor"), process(12, 11), process(20, 1))
    assert found(*tree) == {10: ("monitor", {10, 11, 12})}


def test_workers_are_containers_of_their_own_and_who_started_them_runs_a_flow() -> None:
    tree = (process(5, 1), process(10, 5), process(11, 10, EXECUTOR), process(12, 10, EXECUTOR), process(13, 12))
    assert found(*tree) == {10: (FLOW_RUN, {10}), 11: (EXECUTOR, {11}), 12: (EXECUTOR, {12, 13})}


def test_a_flow_under_a_marked_worker_pool_is_told_apart() -> None:
    tree = (process(5, 1, "prefect-worker"), process(10, 5, "prefect-worker"), process(11, 10, EXECUTOR))
    assert found(*tree) == {5: ("prefect-worker", {5}), 10: (FLOW_RUN, {10}), 11: (EXECUTOR, {11})}


def test_other_homes_and_orphans_are_nobody() -> None:
    assert found(process(10, 1, "monitor", home="/other"), process(11, 10)) == {}
    assert found(process(11, 1, EXECUTOR)) == {11: (EXECUTOR, {11})}


@pytest.mark.parametrize(("service", "found"), [("prefect-worker", FLOW_RUN), (EXECUTOR, EXECUTOR)])
def test_what_prefect_starts_is_a_flow_run_and_its_workers_are_workers(
    tmp_path: Path, service: str, found: str
) -> None:
    marks = {"BOS_HOME": str(tmp_path), "BOS_SERVICE": service, "PREFECT__FLOW_RUN_ID": "1"}
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, env=os.environ | marks, stdin=subprocess.PIPE) as child:
        source, end = ProcessSource(tmp_path), time.monotonic() + 30
        while f"{found}-{child.pid}" not in {c.name for c in source.look(0.0).containers}:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert child.stdin is not None
        child.stdin.close()


def test_a_process_of_a_home_comes_and_goes(tmp_path: Path) -> None:
    environment = os.environ | {
        "BOS_HOME": str(tmp_path),
        "BOS_SERVICE": EXECUTOR,
        "BOS_QUOTA_CPU_CORES": "1",
        "BOS_QUOTA_MEMORY_MB": "300",
    }
    source = ProcessSource(tmp_path)
    assert source.look(0.0).containers == ()
    with subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE) as child:
        end = time.monotonic() + 30
        looked = source.look(0.0)
        # Who starts a worker runs a flow: here the test itself.
        while {c.name for c in looked.containers} != {f"{EXECUTOR}-{child.pid}", f"{FLOW_RUN}-{os.getpid()}"}:
            assert time.monotonic() < end, looked
            time.sleep(0.05)
            looked = source.look(0.0)
        worker = next(c for c in looked.containers if c.executes)
        assert (worker.cpu_cores, worker.memory_mb) == (1.0, 300)
        assert source.measure(1).readings[worker.id].memory_mb > 1.0
        assert child.stdin is not None
        child.stdin.close()
    assert source.look(1.0).containers == ()
    assert looked.server.attributes["software"]["Python"] == sys.version.split()[0]
    assert looked.server.attributes["hardware"]["logical cores"] == str(os.cpu_count())
