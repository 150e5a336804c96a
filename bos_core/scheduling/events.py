"""What the co-scheduling machine is told: frozen messages, each with all that it needs to know.

Memory is in MB (10^6 bytes), CPU in cores, times in seconds. An event that speaks of an attempt, a container or a
server that the machine has given up is stale; the machine passes over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Queue(StrEnum):
    """The queues of the pool; programs on trial have one of their own, and containers of their own."""

    URGENT = "urgent"
    NORMAL = "normal"
    TRIAL = "trial"


class KillForm(StrEnum):
    """How an out-of-memory kill was recognised."""

    DAEMON = "the container daemon reports an out-of-memory kill"
    EXIT_CODE = "the container ended with exit code 137 that nobody asked for"
    CHILD = "the cgroup counts a kill although the container lives on"


@dataclass(frozen=True)
class TaskSubmitted:
    """A task that shall run.

    Attributes
    ----------
    task, task_set : str
    slot, program : str
        Execution logic; tasks of one program with equal features are forecast alike.
    queue : Queue
    features : tuple of (str, float)
        What duration and memory depend on, above 0: buses, hours, contingencies, ...
    criticality : float
        Business criticality within the queue, above 0.
    deadline_s : float or None
        When the task must be complete, by the machine's clock.
    memory_mb : int
        What its owner knows it to need; 0 leaves that to the forecast.
    depends_on : tuple of str
        Tasks that must succeed first.
    subtasks : int
        Rows of the result that the task accounts for.
    """

    task: str
    task_set: str = ""
    slot: str = ""
    program: str = ""
    queue: Queue = Queue.NORMAL
    features: tuple[tuple[str, float], ...] = ()
    criticality: float = 1.0
    deadline_s: float | None = None
    memory_mb: int = 0
    depends_on: tuple[str, ...] = ()
    subtasks: int = 1


@dataclass(frozen=True)
class TaskCancelled:
    """A user no longer wants a task."""

    task: str


@dataclass(frozen=True)
class TaskStarted:
    """A container began with a task."""

    task: str
    attempt: int
    container: str


@dataclass(frozen=True)
class TaskFinished:
    """A task succeeded; its outputs are committed. `oom_kills` is the counter of the container's cgroup."""

    task: str
    attempt: int
    container: str
    wall_s: float
    peak_memory_mb: float
    oom_kills: int = 0


@dataclass(frozen=True)
class TaskFailed:
    """A program ended with an error; `oom_kills` is the counter of the container's cgroup."""

    task: str
    attempt: int
    container: str
    message: str
    oom_kills: int = 0


@dataclass(frozen=True)
class ContainerStarted:
    """A container runs, with this quota."""

    container: str


@dataclass(frozen=True)
class ContainerStartFailed:
    """A container did not come up; nothing of it is left."""

    container: str
    message: str


@dataclass(frozen=True)
class ContainerStopped:
    """A container has ended and holds no memory any more; whoever ended it."""

    container: str
    exit_code: int
    oom_killed: bool = False


@dataclass(frozen=True)
class ContainerLost:
    """A container cannot be reached; whether it still runs, nobody knows. Its memory stays reserved."""

    container: str


@dataclass(frozen=True)
class QuotaChanged:
    """A running container has this quota now."""

    container: str
    cpu_cores: float
    memory_mb: int


@dataclass(frozen=True)
class MemorySampled:
    """What a container holds, and how many kills its cgroup has counted."""

    container: str
    memory_mb: float
    oom_kills: int = 0


@dataclass(frozen=True)
class FoundContainer:
    """A container that already ran when its server joined."""

    container: str
    cpu_cores: float
    memory_mb: int


@dataclass(frozen=True)
class ServerJoined:
    """A server can take containers, up to these limits (its capacity less what BOS leaves alone)."""

    server: str
    cpu_cores: float
    memory_mb: int
    containers: tuple[FoundContainer, ...] = ()


@dataclass(frozen=True)
class ServerLost:
    """A server cannot be reached: what ran there is given up."""

    server: str


@dataclass(frozen=True)
class Tick:
    """A scheduling cycle is due."""


Event: TypeAlias = (
    TaskSubmitted
    | TaskCancelled
    | TaskStarted
    | TaskFinished
    | TaskFailed
    | ContainerStarted
    | ContainerStartFailed
    | ContainerStopped
    | ContainerLost
    | QuotaChanged
    | MemorySampled
    | ServerJoined
    | ServerLost
    | Tick
)
