"""The tasks of the co-scheduling machine: a row a task, an array a column, so that a cycle is array arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bos_core.objects.task import TaskState, check_move
from bos_core.scheduling.events import Queue, TaskSubmitted

STATES = tuple(TaskState)
QUEUES = tuple(Queue)
_CODE = {state: code for code, state in enumerate(STATES)}
PENDING, EXECUTING, SUCCESS, FAILED, RETRYING = (_CODE[s] for s in TaskState)

_COLUMNS: dict[str, type] = {
    "state": np.int8,
    "attempt": np.int32,
    "queue": np.int8,
    "group": np.int32,
    "blockers": np.int32,
    "oom_kills": np.int32,
    "floor_mb": np.int64,
    "criticality": np.float64,
    "submitted_s": np.float64,
    "deadline_s": np.float64,
}


@dataclass
class TaskTable:
    """Tasks by row. A row's `group` are the tasks that the forecast cannot tell apart.

    Attributes
    ----------
    request : list of TaskSubmitted
    container : list of str
        Where a row executes; empty elsewhere.
    state, attempt, queue, group, blockers, oom_kills, floor_mb, criticality, submitted_s, deadline_s : (row,)
        `blockers` counts the predecessors that have not succeeded; `floor_mb` is memory that an attempt was killed
        at, and more; a deadline is infinite where there is none.
    crashed : dict of int to tuple of str
        Containers that a row brought down other than by memory.
    """

    request: list[TaskSubmitted] = field(default_factory=list)
    container: list[str] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)
    crashed: dict[int, tuple[str, ...]] = field(default_factory=dict)
    followers: dict[str, list[int]] = field(default_factory=dict)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(QUEUES), len(STATES)), np.int64))
    """Rows by queue and state."""

    def __post_init__(self) -> None:
        self._columns: dict[str, NDArray[Any]] = {name: np.zeros(64, kind) for name, kind in _COLUMNS.items()}

    def __len__(self) -> int:
        return len(self.request)

    def __getattr__(self, name: str) -> NDArray[Any]:
        columns = self.__dict__.get("_columns", {})
        if name not in columns:
            raise AttributeError(name)
        column: NDArray[Any] = columns[name]
        return column[: len(self.request)]

    def add(self, request: TaskSubmitted, group: int, now_s: float) -> int:
        """Add a pending task and return its row."""
        row = len(self.request)
        if row == self._columns["state"].size:
            self._columns = {
                name: np.concatenate((old, np.zeros_like(old))) for name, old in self._columns.items()
            }
        self.request.append(request)
        self.container.append("")
        self.row_of[request.task] = row
        queue = QUEUES.index(request.queue)
        values = {
            "state": PENDING, "queue": queue, "group": group, "floor_mb": request.memory_mb,
            "criticality": request.criticality, "submitted_s": now_s,
            "deadline_s": np.inf if request.deadline_s is None else request.deadline_s,
        }  # fmt: skip
        for name, value in values.items():
            self._columns[name][row] = value
        self.counts[queue, PENDING] += 1
        for needed in request.depends_on:
            other = self.row_of.get(needed)
            if other is None or self.state[other] != SUCCESS:
                self._columns["blockers"][row] += 1
                self.followers.setdefault(needed, []).append(row)
        return row

    def move(self, row: int, state: TaskState) -> None:
        """Change the state of a row; raises IllegalTransitionError unless the ledger would allow it."""
        column = self._columns["state"]
        old = int(column[row])
        check_move(STATES[old], state)
        column[row] = _CODE[state]
        queue = self._columns["queue"][row]
        self.counts[queue, old] -= 1
        self.counts[queue, _CODE[state]] += 1

    def ready(self) -> NDArray[np.int64]:
        """Return the rows that could start: pending or retrying, and all that they need has succeeded."""
        state = self.state
        return np.flatnonzero(((state == PENDING) | (state == RETRYING)) & (self.blockers == 0))

    def waiting(self, queue: Queue) -> int:
        """Return how many tasks of a queue wait, ready or not."""
        return int(self.counts[QUEUES.index(queue), [PENDING, RETRYING]].sum())
