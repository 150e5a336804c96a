"""Task sets and tasks: the unit of a business request and the unit of scheduling (Fig. 2 of the paper)."""

from __future__ import annotations

import contextvars
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from bos_core.objects.errors import IllegalTransitionError


class TaskState(StrEnum):
    """The five canonical states."""

    PENDING = "pending"
    EXECUTING = "executing"
    SUCCESS = "success"
    FAILED = "failed"
    RETRYING = "retrying"


LEGAL_MOVES: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.PENDING: frozenset({TaskState.EXECUTING, TaskState.FAILED}),
    TaskState.EXECUTING: frozenset({TaskState.SUCCESS, TaskState.FAILED, TaskState.RETRYING}),
    TaskState.RETRYING: frozenset({TaskState.EXECUTING, TaskState.FAILED}),
    TaskState.FAILED: frozenset({TaskState.RETRYING}),
    TaskState.SUCCESS: frozenset(),
}
"""Legal moves. ``failed -> retrying`` is the user's resume; a success is final."""

PREFECT_STATES: Mapping[str, TaskState] = {
    "SCHEDULED": TaskState.PENDING,
    "PENDING": TaskState.PENDING,
    "PAUSED": TaskState.PENDING,
    "RUNNING": TaskState.EXECUTING,
    "CANCELLING": TaskState.EXECUTING,
    "COMPLETED": TaskState.SUCCESS,
    "FAILED": TaskState.FAILED,
    "CANCELLED": TaskState.FAILED,
    "CRASHED": TaskState.RETRYING,
}
"""How Prefect's state types read in the ledger's words; a crash (out of memory, lost node) is retried."""


def check_move(old: TaskState, new: TaskState) -> None:
    """Raise IllegalTransitionError unless ``old -> new`` is a legal move."""
    if new not in LEGAL_MOVES[old]:
        legal = ", ".join(sorted(LEGAL_MOVES[old])) or "none, it is final"
        raise IllegalTransitionError(f"task state {old} -> {new} is not legal; legal moves: {legal}")


@dataclass(frozen=True)
class TaskSetContext:
    """What a business request hands down to each of its tasks and to each of their log lines.

    Attributes
    ----------
    trace_id : str
        Globally unique id of the request (UUID).
    user, project, scenario : str
        Who asked, for which project, starting from which scenario.
    business : str
        The kind of request, e.g. ``"planning-chain"``.
    """

    trace_id: str
    user: str
    project: str
    scenario: str
    business: str

    def as_dict(self) -> dict[str, str]:
        """Return the context as plain strings, fit for tags, environments and log records."""
        return {
            "trace_id": self.trace_id,
            "user": self.user,
            "project": self.project,
            "scenario": self.scenario,
            "business": self.business,
        }


@dataclass(frozen=True)
class ProgramRef:
    """Standardized execution logic: which program fills the slot, pinned by digest."""

    slot: str
    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class TaskInput:
    """Standardized input: attribute data of the task and a reference to ontology data.

    Attributes
    ----------
    scenario_version : str
        Id of the immutable scenario version that is read.
    input_digest : str
        Digest of that version's content and of the parameters.
    chunk : str
        Partition of the work, e.g. ``"hours=0000-0023"``; unique within slot and task set.
    parameters : mapping
        Program parameters after validation (JSON types).
    """

    scenario_version: str
    input_digest: str
    chunk: str
    parameters: Mapping[str, object] = field(default_factory=dict)


TASK_NAMESPACE = uuid.UUID("6b0d9c0e-3f8a-5f5e-9a52-9d6f2b0f7c11")


@dataclass(frozen=True)
class Task:
    """The minimal schedulable unit, with its four standard interfaces.

    `input` (task attributes + ontology reference), `program` (execution logic); output and state live in
    the ledger because they change.
    """

    task_set: str
    step: str
    input: TaskInput
    program: ProgramRef
    subtasks: int = 1
    depends_on: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Deterministic id: running a flow again cannot register the same work twice."""
        parts = [self.task_set, self.step, self.program.slot, self.program.digest]
        parts += [self.input.input_digest, self.input.chunk, *self.depends_on]
        key = "\x1f".join(parts)
        return str(uuid.uuid5(TASK_NAMESPACE, key))


@dataclass(frozen=True)
class Receipt:
    """What a finished task hands back through Dask: small, the data stay in the store."""

    task_id: str
    state: TaskState
    attempt: int
    executed: bool
    wall_s: float
    io_s: float
    peak_rss_mb: float
    message: str = ""


_context: contextvars.ContextVar[TaskSetContext | None] = contextvars.ContextVar("bos_task_set", default=None)
_task_id: contextvars.ContextVar[str] = contextvars.ContextVar("bos_task_id", default="")


@contextmanager
def task_set_scope(context: TaskSetContext, task_id: str = "") -> Iterator[None]:
    """Attach `context` (and the task) to every log record made inside the block."""
    token, task_token = _context.set(context), _task_id.set(task_id)
    try:
        yield
    finally:
        _context.reset(token)
        _task_id.reset(task_token)


def current_context() -> TaskSetContext | None:
    """Return the task-set context of the running code, if any."""
    return _context.get()


class ContextFilter(logging.Filter):
    """Put trace id, user, project, scenario and task id on every log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; never drop a record."""
        context = _context.get()
        for key, value in (context.as_dict() if context else {}).items():
            setattr(record, f"bos_{key}", value)
        record.bos_task_id = _task_id.get()
        return True
