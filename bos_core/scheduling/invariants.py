"""What must be true of the co-scheduling machine after each event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bos_core.objects.errors import BosError
from bos_core.scheduling.events import Queue
from bos_core.scheduling.fleet_state import ContainerState, Phase
from bos_core.scheduling.task_table import EXECUTING

if TYPE_CHECKING:
    from bos_core.scheduling.machine import Machine


class InvariantError(BosError):
    """The machine contradicts itself: a defect, never a consequence of what it was told."""


def violations(machine: Machine, rows: tuple[ContainerState, ...] | None = None) -> Iterator[str]:
    """Yield what is broken; of some containers and their servers, or of all and of all tasks."""
    looked_at = machine.fleet.snapshot() if rows is None else rows
    for row in looked_at:
        yield from _of_container(machine, row)
    for server in {row.server for row in looked_at}:
        yield from _of_server(machine, server)
    if rows is None:
        yield from _of_reservations(machine)
        yield from _of_tasks(machine)


def _of_container(machine: Machine, row: ContainerState) -> Iterator[str]:
    if row.container not in machine.fleet.containers:
        return
    if (row.container in machine.fleet.idle) != row.is_idle:
        yield f"container {row.container} is wrongly counted as {'busy' if row.is_idle else 'idle'}"
    if not row.task:
        return
    place = machine.tasks.row_of[row.task]
    if row.phase is not Phase.RUNNING:
        yield f"container {row.container} is {row.phase} and executes {row.task}"
    if machine.tasks.state[place] != EXECUTING or machine.tasks.container[place] != row.container:
        yield f"container {row.container} executes {row.task}, which does not execute there"
    if machine.tasks.attempt[place] != row.attempt:
        yield f"container {row.container} executes an old attempt of {row.task}"
    if (machine.tasks.request[place].queue is Queue.TRIAL) != row.trial:
        kind = "trial" if row.trial else "launched"
        yield f"{kind} container {row.container} executes {row.task} of the other kind"


def _of_server(machine: Machine, server: str) -> Iterator[str]:
    state = machine.fleet.servers[server]
    cpu, memory = machine.fleet.reserved.get(server, (0.0, 0))
    if state.is_up and (memory > state.memory_mb or cpu > state.cpu_cores + 1e-6):
        if all(row.phase is Phase.STOPPING for row in machine.fleet.of_server(server)):
            return  # what ran there before the server joined
        limits = f"{state.cpu_cores:g} cores and {state.memory_mb} MB"
        yield f"server {server} has reserved {cpu:g} cores and {memory} MB of {limits}"


def _of_reservations(machine: Machine) -> Iterator[str]:
    sums: dict[str, int] = dict.fromkeys(machine.fleet.reserved, 0)
    for row in machine.fleet.containers.values():
        sums[row.server] += row.memory_mb
    for server, memory in sums.items():
        if memory != machine.fleet.reserved[server][1]:
            yield f"server {server} counts {machine.fleet.reserved[server][1]} MB as reserved, not {memory} MB"


def _of_tasks(machine: Machine) -> Iterator[str]:
    tasks = machine.tasks
    for place in (tasks.state == EXECUTING).nonzero()[0].tolist():
        row = machine.fleet.containers.get(tasks.container[place])
        if row is None or row.task != tasks.request[place].task:
            yield f"task {tasks.request[place].task} executes nowhere"
        if tasks.blockers[place]:
            yield f"task {tasks.request[place].task} executes before what it needs has succeeded"
