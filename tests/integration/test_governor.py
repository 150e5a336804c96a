"""The governor with real processes: memory that runs out, tasks that bring containers down, and its own death.

What ran is read from marker files that the tasks write, not from what the governor says.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bos_core.objects.task import Receipt, TaskState
from bos_core.scheduling.dask_runner import ADDRESS_VARIABLE, WorkOrder, governed_map
from bos_core.scheduling.governor_process import GovernorProcess
from bos_core.scheduling.lease import Lease, Queue
from bos_core.scheduling.supervisor import Backoff

LIMIT_MB, CORES = 3000, 2
"""R_limit; a program that was never seen gets 2,000 MB of it."""


@dataclass
class Running:
    """A governor and where its tasks leave their marks."""

    process: GovernorProcess
    directory: Path

    def run(self, orders: Sequence[WorkOrder], work: Callable[..., Receipt]) -> dict[str, Receipt]:
        found = governed_map(work, orders, str(self.directory), given_up=given_up)
        return {receipt.task_id: receipt for receipt in found}

    def marks(self, name: str) -> list[str]:
        """Return what executions of a task have left, a line each: when, and in which process."""
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []


def given_up(task_id: str, verdict: str) -> Receipt:
    return Receipt(task_id, TaskState.FAILED, 0, False, 0, 0, 0, verdict)


KEYS = {"key": "owner", "secret": "s1", "worker_key": "worker", "worker_secret": "s2"}
TASK_KEYS = {"task_key": "task", "task_secret": "s3"}


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    own = {
        "BOS_HOME": str(tmp_path / "home"),
        "BOS_WORKERS": str(CORES),
        "BOS_MEMORY_MB": str(LIMIT_MB),
        "BOS_STORE_OPTIONS": json.dumps(KEYS | TASK_KEYS),
    }
    process = GovernorProcess({**os.environ, **own}, tmp_path / "governor.log", Backoff(first_s=0.1))
    process.wait()
    monkeypatch.setenv(ADDRESS_VARIABLE, process.address)
    marks = tmp_path / "marks"
    marks.mkdir()
    yield Running(process, marks)
    process.stop()


def order(name: str, program: str = "small", **more: object) -> WorkOrder:
    return WorkOrder(name, "run", "slot", program, **more)  # type: ignore[arg-type]


def work(name: str, directory: str) -> Receipt:
    """Do what the name says, and leave a mark."""
    with (Path(directory) / name).open("a") as marks:
        marks.write(f"{time.monotonic()} {os.getpid()}\n")
    match name.split("-", maxsplit=1)[0]:
        case "hungry":
            held = bytearray(int(name.split("-")[1]) * 1_000_000)
            time.sleep(0.5)
            del held
        case "deadly":
            os._exit(3)
        case "slow":
            time.sleep(1.5)
        case "wrong":
            raise ValueError("no such bus")
        case _:
            time.sleep(0.1)
    return Receipt(name, TaskState.SUCCESS, 1, True, 0.1, 0, 0)


def test_every_task_runs_once_and_in_order(running: Running) -> None:
    first = [order(f"first-{k}") for k in range(6)]
    last = order("last-0", depends_on=tuple(o.task_id for o in first))
    found = running.run([*first, last], work)
    assert {r.state for r in found.values()} == {TaskState.SUCCESS}
    starts = {name: [float(m.split()[0]) for m in running.marks(name)] for name in found}
    assert {len(s) for s in starts.values()} == {1}
    assert starts["last-0"][0] > max(starts[o.task_id][0] for o in first)


def test_a_hungry_task_gets_more_memory_and_then_a_verdict(running: Running) -> None:
    """What a program that was never seen gets is enough for most, not for one, and for another nothing is."""
    names = ["hungry-2300", "hungry-5000", *(f"innocent-{k}" for k in range(8))]
    found = running.run([order(name) for name in names], work)
    assert found["hungry-2300"].state is TaskState.SUCCESS
    assert len(running.marks("hungry-2300")) >= 2
    verdict = found["hungry-5000"]
    assert verdict.state is TaskState.FAILED
    assert "given up, out of memory" in verdict.message
    assert f"{LIMIT_MB} MB are the most" in verdict.message
    innocent = [name for name in names if name.startswith("innocent")]
    assert {found[name].state for name in innocent} == {TaskState.SUCCESS}
    assert {len(running.marks(name)) for name in innocent} == {1}


def test_a_deadly_task_is_quarantined_after_two_containers(running: Running) -> None:
    names = ["deadly-0", *(f"innocent-{k}" for k in range(8))]
    found = running.run([order(name) for name in names], work)
    assert "given up, quarantined" in found["deadly-0"].message
    assert len(running.marks("deadly-0")) == 2
    assert {len(running.marks(name)) for name in names[1:]} == {1}
    assert {found[name].state for name in names[1:]} == {TaskState.SUCCESS}


def test_containers_get_the_key_of_tasks(running: Running) -> None:
    seen = running.run([order("environment-0")], tell_environment)["environment-0"].message
    found = {name: value for name, value in json.loads(seen).items() if name in KEYS | TASK_KEYS}
    assert found == {**dict.fromkeys(KEYS | TASK_KEYS, ""), "key": "task", "secret": "s3"}


def tell_environment(name: str, directory: str) -> Receipt:
    return Receipt(name, TaskState.SUCCESS, 1, True, 0, 0, 0, os.environ["BOS_STORE_OPTIONS"])


def test_an_error_of_the_program_reaches_the_sender(running: Running) -> None:
    with pytest.raises(ValueError, match="no such bus"):
        running.run([order("wrong-0")], work)


def test_a_container_killed_from_outside_costs_one_attempt(running: Running) -> None:
    killed: list[int] = []

    def kill_once(name: str) -> None:
        while not (marks := running.marks(name)):
            time.sleep(0.02)
        killed.append(int(marks[0].split()[1]))
        psutil.Process(killed[0]).kill()

    thread = threading.Thread(target=kill_once, args=("slow-0",))
    thread.start()
    found = running.run([order("slow-0"), *(order(f"other-{k}") for k in range(4))], work)
    thread.join()
    assert {r.state for r in found.values()} == {TaskState.SUCCESS}
    pids = [int(m.split()[1]) for m in running.marks("slow-0")]
    assert len(pids) == 2
    assert pids[0] == killed[0] != pids[1]


def test_a_killed_governor_loses_nothing_that_has_ended(running: Running) -> None:
    """Orders that had ended are not sent again; the others are, to the governor that took its place."""
    orders = [order(f"slow-{k}") for k in range(6)]
    found, ended_before = {}, set()
    receipts = governed_map(work, orders, str(running.directory), given_up=given_up)
    for receipt in receipts:
        found[receipt.task_id] = receipt
        if len(found) == 2:
            ended_before = set(found)
            governor = running.process.pid
            psutil.Process(governor).kill()
            while not running.process.watch().endswith("started again"):
                time.sleep(0.05)
    assert found.keys() == {o.task_id for o in orders}
    assert {len(running.marks(name)) for name in ended_before} == {1}
    family = [p for p in psutil.process_iter(["cmdline"]) if running.process.address in (p.info["cmdline"] or [])]
    assert len(family) <= CORES


def test_an_urgent_request_overtakes_what_waits(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    normal = threading.Thread(target=running.run, args=([order(f"slow-{k}") for k in range(8)], work))
    normal.start()
    while not list(running.directory.iterdir()):
        time.sleep(0.02)
    for name, value in Lease(Queue.URGENT).environment().items():
        monkeypatch.setenv(name, value)
    running.run([order("urgent-0")], work)
    normal.join()
    started = {p.name: float(running.marks(p.name)[0].split()[0]) for p in running.directory.iterdir()}
    before = [name for name in started if started[name] < started["urgent-0"]]
    assert len(before) < len(started) - 3
