"""What the ledger hands out: frozen values, never live rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bos_core.objects.task import Receipt, TaskSetContext, TaskState


@dataclass(frozen=True)
class Claim:
    """The task is yours: name this `attempt` when you finish it."""

    task_id: str
    attempt: int


@dataclass(frozen=True)
class AlreadyDone:
    """The task has ended (success, or failed and not reset); here is its receipt, compute nothing."""

    receipt: Receipt


@dataclass(frozen=True)
class Busy:
    """Somebody else holds a live lease."""

    task_id: str
    holder: str
    remaining_s: float


@dataclass(frozen=True)
class Output:
    """A committed output of a task.

    Attributes
    ----------
    task_id, chunk, name, attempt : str, str, str, int
        Whose output it is.
    address : str
        Where the file lies, relative to the result store's root.
    sha256, content_digest : str
        Of the file's bytes; of its content whatever wrote it and in whichever attempt.
    rows, bytes : int
    columns : mapping
        Column name to ``{"type", "unit"}``.
    """

    task_id: str
    name: str
    attempt: int
    address: str
    sha256: str
    content_digest: str
    rows: int
    bytes: int
    columns: Mapping[str, Any] = field(default_factory=dict)
    chunk: str = ""


@dataclass(frozen=True)
class TaskRecord:
    """A task as the ledger knows it now."""

    id: str
    task_set: str
    step: str
    slot: str
    program: str
    program_version: str
    program_digest: str
    chunk: str
    input_digest: str
    scenario_version: str
    parameters: Mapping[str, Any]
    subtasks: int
    state: TaskState
    attempt: int
    holder: str
    lease_until_s: float | None
    memory_mb: int
    created_s: float
    started_s: float | None
    finished_s: float | None
    wall_s: float
    io_s: float
    peak_rss_mb: float
    message: str

    def receipt(self, executed: bool = False) -> Receipt:
        """Return the receipt of the last attempt."""
        return Receipt(
            self.id,
            self.state,
            self.attempt,
            executed,
            self.wall_s,
            self.io_s,
            self.peak_rss_mb,
            self.message,
        )


@dataclass(frozen=True)
class TaskSetRecord:
    """A business request as the ledger knows it now."""

    trace_id: str
    business: str
    user: str
    project: str
    scenario: str
    parameters: Mapping[str, Any]
    state: TaskState
    message: str
    created_s: float
    finished_s: float | None

    @property
    def request(self) -> dict[str, Any]:
        """The request as it was asked, without what was pinned when it was opened."""
        return {name: value for name, value in self.parameters.items() if name != "scenario_version"}

    @property
    def context(self) -> TaskSetContext:
        """The context that its tasks inherit."""
        return TaskSetContext(self.trace_id, self.user, self.project, self.scenario, self.business)


@dataclass(frozen=True)
class StepReport:
    """One step of a task set, aggregated by SQL over its task rows: the raw material of Table 6.

    Sums and means are over successful tasks; `states` counts all. `started_s` and `finished_s` are the first start
    and the last end.
    """

    step: str
    tasks: int
    subtasks: int
    states: Mapping[TaskState, int]
    wall_s_sum: float
    wall_s_mean: float
    io_s_sum: float
    peak_rss_mb_max: float
    attempts: int
    started_s: float | None
    finished_s: float | None

    @property
    def wall_s_mean_subtask(self) -> float:
        """Mean time of a subtask; 0 without subtasks."""
        return self.wall_s_sum / self.subtasks if self.subtasks else 0.0

    @property
    def elapsed_s(self) -> float:
        """Time from the first start to the last end; 0 before that."""
        if self.started_s is None or self.finished_s is None:
            return 0.0
        return self.finished_s - self.started_s


@dataclass(frozen=True)
class LogLine:
    """A line of the task set's log."""

    trace_id: str
    task: str
    attempt: int
    level: str
    logger: str
    message: str
    created_s: float = 0.0


@dataclass(frozen=True)
class OutboxEntry:
    """Something the graph must still learn."""

    sequence: int
    kind: str
    key: str
    payload: Mapping[str, Any]
