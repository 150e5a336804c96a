"""What the co-scheduling machine asks for: frozen messages that somebody else carries out.

A verdict is the end of the machine's road for a task, or the limit of the resources: a value with the shortfall in
figures, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from bos_core.scheduling.events import Queue


class Reason(StrEnum):
    """Why the machine gives a task up."""

    PROGRAM_FAILED = "program failed"
    OUT_OF_MEMORY = "out of memory"
    QUARANTINED = "quarantined"
    """It brought down one container after another."""
    ATTEMPTS = "attempts"
    """It was lost too often."""
    PREDECESSOR_FAILED = "predecessor failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class StartContainer:
    """Start a container with this quota; swap is never added."""

    container: str
    server: str
    trial: bool
    cpu_cores: float
    memory_mb: int


@dataclass(frozen=True)
class StopContainer:
    """Stop a container; `ContainerStopped` is awaited before its memory is given to another."""

    container: str
    server: str
    why: str


@dataclass(frozen=True)
class ResizeContainer:
    """Change the quota of a running, idle container."""

    container: str
    server: str
    cpu_cores: float
    memory_mb: int


@dataclass(frozen=True)
class AssignTask:
    """Run a task in a container: its state is executing from now on, in this attempt."""

    task: str
    attempt: int
    container: str
    memory_mb: int


@dataclass(frozen=True)
class RetryTask:
    """An attempt came to nothing; the task waits for its next one, with at least `memory_mb`."""

    task: str
    attempt: int
    memory_mb: int
    why: str


@dataclass(frozen=True)
class CompleteTask:
    """A task succeeded."""

    task: str
    attempt: int


@dataclass(frozen=True)
class FailTask:
    """A task will not succeed.

    Attributes
    ----------
    task : str
    attempt : int
        0: it never ran.
    reason : Reason
    detail : str
        What happened, in words.
    needed_mb, largest_mb : int
        Of an out-of-memory verdict: what it needs at least, and the most that a container may have.
    containers : tuple of str
        Those that the task brought down.
    """

    task: str
    attempt: int
    reason: Reason
    detail: str = ""
    needed_mb: int = 0
    largest_mb: int = 0
    containers: tuple[str, ...] = ()

    @property
    def shortfall_mb(self) -> int:
        """Memory that is missing."""
        return max(0, self.needed_mb - self.largest_mb)


@dataclass(frozen=True)
class RefuseTask:
    """A queue is full: submit the task again when `QueueOpen` says so."""

    task: str
    queue: Queue
    limit: int


@dataclass(frozen=True)
class QueueOpen:
    """A queue that refused tasks takes `room` more: submit them again, in order, until one is refused."""

    queue: Queue
    room: int


@dataclass(frozen=True)
class ShortOfResources:
    """All that R_limit allows is in use, and deadlines will still be missed.

    Attributes
    ----------
    late : int
        Tasks that will miss their deadline.
    missing_cpu_cores : float
    missing_memory_mb : int
        What more would have to be there for them.
    """

    late: int
    missing_cpu_cores: float
    missing_memory_mb: int


Instruction: TypeAlias = (
    StartContainer
    | StopContainer
    | ResizeContainer
    | AssignTask
    | RetryTask
    | CompleteTask
    | FailTask
    | RefuseTask
    | QueueOpen
    | ShortOfResources
)
