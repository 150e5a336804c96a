"""Servers and containers as the co-scheduling machine sees them: frozen rows, replaced when something changes.

A tuple of rows is therefore a consistent snapshot, made without copying them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a container is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESIZING = "resizing"
    STOPPING = "stopping"


@dataclass(frozen=True)
class ServerState:
    """A server with its limits, which containers may reserve together."""

    server: str
    cpu_cores: float
    memory_mb: int
    is_up: bool = True
    start_failures: int = 0
    next_start_s: float = 0.0


@dataclass(frozen=True)
class ContainerState:
    """A container with its reservation.

    Attributes
    ----------
    cpu_cores, memory_mb : float, int
        Its quota; while it is resized the larger of both, so that the sum of reservations never lies.
    target_cpu_cores, target_memory_mb : float, int
        Quota that it is resized to; that of the container at other times.
    phase : Phase
    draining : bool
        Stops as soon as its task ends, and takes no other.
    task, attempt : str, int
        What it executes; empty when idle.
    task_began : bool
        Whether the container has confirmed the start of the task.
    oom_kills : int
        Counter of its cgroup when the task was assigned.
    seen_kills : int
        The counter as last sampled.
    since_s : float
        When phase or task last changed.
    """

    container: str
    server: str
    trial: bool
    cpu_cores: float
    memory_mb: int
    target_cpu_cores: float
    target_memory_mb: int
    phase: Phase = Phase.STARTING
    draining: bool = False
    task: str = ""
    attempt: int = 0
    task_began: bool = False
    oom_kills: int = 0
    seen_kills: int = 0
    since_s: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether a task may be assigned to it."""
        return self.phase is Phase.RUNNING and not self.task and not self.draining

    @property
    def is_staying(self) -> bool:
        """Whether it will serve further tasks."""
        return self.phase is not Phase.STOPPING and not self.draining


class FleetState:
    """All servers and containers; reservations are kept up to date with each change."""

    def __init__(self) -> None:
        self.servers: dict[str, ServerState] = {}
        self.containers: dict[str, ContainerState] = {}
        self.idle: dict[str, ContainerState] = {}
        """The containers that may take a task, oldest first."""
        self.reserved: dict[str, tuple[float, int]] = {}
        """CPU cores and MB that the containers of a server reserve together."""

    def put(self, row: ContainerState) -> None:
        """Add a container, or replace it by its next state."""
        self._reserve(self.containers.get(row.container), -1)
        self._reserve(row, 1)
        self.containers[row.container] = row
        if row.is_idle:
            self.idle[row.container] = row
        else:
            self.idle.pop(row.container, None)

    def change(self, row: ContainerState, **changes: object) -> ContainerState:
        """Replace a container by one with these changes, and return that."""
        new = dataclasses.replace(row, **changes)  # type: ignore[arg-type]
        self.put(new)
        return new

    def remove(self, row: ContainerState) -> None:
        """Take out a container that has ended."""
        self._reserve(row, -1)
        del self.containers[row.container]
        self.idle.pop(row.container, None)

    def _reserve(self, row: ContainerState | None, sign: int) -> None:
        if row is not None:
            cpu, memory = self.reserved.get(row.server, (0.0, 0))
            self.reserved[row.server] = (cpu + sign * row.cpu_cores, memory + sign * row.memory_mb)

    def room(self, server: str) -> tuple[float, int]:
        """Return the CPU cores and MB of a server that nobody has reserved."""
        state, (cpu, memory) = self.servers[server], self.reserved.get(server, (0.0, 0))
        return state.cpu_cores - cpu, state.memory_mb - memory

    def admits(self, server: str, cpu_cores: float, memory_mb: int) -> bool:
        """Whether a reservation stays within the limits of a server that is up."""
        if not self.servers[server].is_up:
            return False
        cpu, memory = self.room(server)
        return cpu_cores <= cpu + 1e-9 and memory_mb <= memory

    def of_server(self, server: str) -> Iterator[ContainerState]:
        """Yield the containers of a server."""
        return (row for row in self.containers.values() if row.server == server)

    def snapshot(self) -> tuple[ContainerState, ...]:
        """Return all containers as they are now; later changes do not reach what was returned."""
        return tuple(self.containers.values())
