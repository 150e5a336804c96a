"""The task ledger: what must run, who runs it, what came of it. Fenced, leased, idempotent.

`claim` and `finish` are the only ways into and out of execution. A claim raises the attempt, the fence number;
`finish` names it, so the outcome of an executor that lost its lease is refused. Leases run by the clock of the
database.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping
from sqlalchemy.exc import IntegrityError

from bos_core.index.database import DatabaseClock, insert_new, pieces, reading, writing
from bos_core.index.records import (
    AlreadyDone,
    Busy,
    Claim,
    LogLine,
    OutboxEntry,
    Output,
    StepReport,
    TaskRecord,
    TaskSetRecord,
)
from bos_core.index.tables import DEPENDENCY, LOG, OUTBOX, OUTPUT, PROJECT, TASK, TASK_SET, USER
from bos_core.objects.errors import (
    FencedError,
    IllegalTransitionError,
    LedgerError,
    NotFoundError,
    raise_if_any,
)
from bos_core.objects.task import LEGAL_MOVES, Receipt, Task, TaskSetContext, TaskState
from bos_core.objects.text import check_texts, is_storable, storable

__all__ = [
    "AlreadyDone",
    "Busy",
    "Claim",
    "Ledger",
    "LogLine",
    "OutboxEntry",
    "Output",
    "StepReport",
    "TaskRecord",
    "TaskSetRecord",
]

MESSAGE_LENGTH_MAX = 10_000
_NOW = DatabaseClock()
_FINAL = (TaskState.SUCCESS.value, TaskState.FAILED.value)

# What every claim and finish executes is built once: building a statement takes longer than SQLite executes it.
_OF_TASK = TASK.c.id == sa.bindparam("of_task")
_OWNED = sa.update(TASK).where(_OF_TASK, TASK.c.attempt == sa.bindparam("fence"), TASK.c.state == "executing")
_LEASE_END = _NOW + sa.bindparam("lease", type_=sa.Float)
_TAKE = (
    sa.update(TASK)
    .where(_OF_TASK, TASK.c.state.in_(("pending", "retrying")))
    .values(
        state="executing",
        attempt=TASK.c.attempt + 1,
        holder=sa.bindparam("taker"),
        lease_until_s=_LEASE_END,
        memory_mb=sa.bindparam("reserved"),
        started_s=_NOW,
        finished_s=None,
        message="",
    )
    .returning(TASK.c.attempt)
)
_EXPIRE = (
    sa.update(TASK)
    .where(_OF_TASK, TASK.c.state == "executing", TASK.c.lease_until_s < _NOW)
    .values(state="retrying", lease_until_s=None, memory_mb=0)
)
_RENEW = _OWNED.values(lease_until_s=_LEASE_END)
_FINISH = _OWNED.values(
    state=sa.bindparam("end"),
    lease_until_s=None,
    memory_mb=0,
    finished_s=_NOW,
    wall_s=sa.bindparam("wall"),
    io_s=sa.bindparam("io"),
    peak_rss_mb=sa.bindparam("peak"),
    message=sa.bindparam("said"),
)
_OUTPUT_VALUES = ("name", "attempt", "address", "sha256", "content_digest", "rows", "bytes")
_INSERT_OUTPUT = sa.insert(OUTPUT)
_ANNOUNCE = sa.insert(OUTBOX).values(created_s=_NOW)
_TASK_FIELDS = [field.name for field in fields(TaskRecord)]
_TASKS = sa.select(*(TASK.c[name] for name in _TASK_FIELDS))
_ONE_TASK = _TASKS.where(_OF_TASK)
_COLUMNS = sa.cast(OUTPUT.c.columns, sa.Text)
_OUTPUTS = (
    sa.select(OUTPUT.c.task, *(OUTPUT.c[name] for name in _OUTPUT_VALUES), _COLUMNS, TASK.c.chunk)
    .join(TASK, TASK.c.id == OUTPUT.c.task)
    .where(TASK.c.state == "success")
    .order_by(TASK.c.step, TASK.c.chunk, TASK.c.id, OUTPUT.c.name)
)


class Ledger:
    """The task ledger on one database.

    Parameters
    ----------
    engine : Engine
        From `bos_core.index.database.connect`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # --- task sets

    def open_task_set(self, context: TaskSetContext, parameters: Mapping[str, Any] | None = None) -> TaskSetRecord:
        """Register a business request; opening it again changes nothing.

        Raises
        ------
        LedgerError
            If the trace id belongs to another request.
        InputError
            If a text of the request cannot be kept.
        """
        raise_if_any(check_texts("request", {**context.as_dict(), "parameters": parameters or {}}))
        with writing(self.engine) as connection:
            for table, name in ((USER, context.user), (PROJECT, context.project)):
                connection.execute(insert_new(self.engine, table).values(name=name, created_s=_NOW))
            values = {**context.as_dict(), "parameters": dict(parameters or {}), "state": "pending", "message": ""}
            connection.execute(insert_new(self.engine, TASK_SET).values(**values, created_s=_NOW))
            record = _task_set(connection, context.trace_id)
        if record.context != context:
            raise LedgerError(
                f"trace id {context.trace_id} belongs to {record.context}; start a new run with another one"
            )
        return record

    def task_set(self, trace_id: str) -> TaskSetRecord:
        """Return a task set by its trace id, or by the unambiguous start of it.

        Raises
        ------
        NotFoundError
            If there is none, or more than one.
        """
        with reading(self.engine) as connection:
            return _task_set(connection, trace_id)

    def task_sets(self, limit: int = 50) -> list[TaskSetRecord]:
        """Return the newest task sets first."""
        query = sa.select(TASK_SET).order_by(TASK_SET.c.created_s.desc(), TASK_SET.c.trace_id).limit(limit)
        with reading(self.engine) as connection:
            return [_task_set_record(row) for row in connection.execute(query).mappings()]

    def set_task_set_state(self, trace_id: str, state: TaskState, message: str = "") -> None:
        """Record the state of the whole request; final states get a finish time."""
        values = {"state": state.value, "message": _message(message)}
        finished = _NOW if state.value in _FINAL else None
        with writing(self.engine) as connection:
            query = sa.update(TASK_SET).where(TASK_SET.c.trace_id == trace_id)
            if connection.execute(query.values(**values, finished_s=finished)).rowcount != 1:
                raise NotFoundError(f"no task set {trace_id}; `bos ps` lists the known ones")

    # --- tasks

    def register(self, tasks: Sequence[Task]) -> list[str]:
        """Insert all task rows of a step in one transaction; rows that exist are left as they are.

        Returns
        -------
        list of str
            The task ids, in order.

        Raises
        ------
        NotFoundError
            If a task set was not opened.
        """
        texts = ({"chunk": task.input.chunk, "parameters": task.input.parameters} for task in tasks)
        raise_if_any([finding for some in texts for finding in check_texts("task", some)])
        rows = [_task_values(task) for task in tasks]
        needs = [{"task": task.id, "needs": other} for task in tasks for other in task.depends_on]
        try:
            with writing(self.engine) as connection:
                for chunk in pieces(rows):
                    connection.execute(insert_new(self.engine, TASK).values(created_s=_NOW), chunk)
                for chunk in pieces(needs):
                    connection.execute(insert_new(self.engine, DEPENDENCY), chunk)
        except IntegrityError as error:
            sets = ", ".join(sorted({task.task_set for task in tasks}))
            raise NotFoundError(f"task set {sets} is not open; call open_task_set first") from error
        return [row["id"] for row in rows]

    def claim(
        self, task_id: str, holder: str, lease_s: float = 600.0, memory_mb: int = 0
    ) -> Claim | AlreadyDone | Busy:
        """Take a task for execution: state, attempt, lease and memory reservation in one transaction.

        An executing task whose lease has run out is taken over (executing, retrying, executing).

        Parameters
        ----------
        task_id, holder : str
            Which task; who executes (service instance, host and process).
        lease_s : float
            How long the claim holds without `renew`.
        memory_mb : int
            Memory reserved for the execution.

        Raises
        ------
        NotFoundError
            If the task was not registered.
        """
        if not holder or lease_s <= 0:
            raise LedgerError("a claim needs a holder and a lease_s above 0; give both")
        with writing(self.engine) as connection:
            attempt = _take(connection, task_id, holder, lease_s, memory_mb)
            if attempt is None and _expire(connection, task_id):
                attempt = _take(connection, task_id, holder, lease_s, memory_mb)
            if attempt is not None:
                return Claim(task_id, attempt)
            record = _task(connection, task_id)
            if record.state.value in _FINAL:
                return AlreadyDone(record.receipt())
            now = connection.execute(sa.select(_NOW)).scalar_one()
        return Busy(task_id, record.holder, max(0.0, (record.lease_until_s or now) - now))

    def renew(self, task_id: str, attempt: int, lease_s: float = 600.0) -> None:
        """Extend the lease of an attempt that is still executing.

        Raises
        ------
        FencedError
            If the attempt no longer owns the task.
        """
        values = {"of_task": task_id, "fence": attempt, "lease": lease_s}
        with writing(self.engine) as connection:
            if connection.execute(_RENEW, values).rowcount != 1:
                raise _fenced(connection, task_id, attempt)

    def finish(
        self,
        task_id: str,
        attempt: int,
        state: TaskState,
        outputs: Sequence[Output] = (),
        wall_s: float = 0.0,
        io_s: float = 0.0,
        peak_rss_mb: float = 0.0,
        message: str = "",
    ) -> Receipt:
        """End an attempt; with success, its outputs and the outbox entry join the same transaction.

        Finishing the same attempt in the same state again returns the stored receipt: a caller that lost its
        connection during the commit may simply repeat.

        Raises
        ------
        FencedError
            If the attempt no longer owns the task: drop the outcome.
        IllegalTransitionError
            If `state` cannot follow executing, or outputs come without success.
        """
        if state not in LEGAL_MOVES[TaskState.EXECUTING] or (outputs and state is not TaskState.SUCCESS):
            raise IllegalTransitionError(f"an attempt with {len(outputs)} outputs cannot finish as {state}")
        said = _message(message)
        values = {"end": state.value, "wall": wall_s, "io": io_s, "peak": peak_rss_mb, "said": said}
        with writing(self.engine) as connection:
            if connection.execute(_FINISH, {"of_task": task_id, "fence": attempt, **values}).rowcount != 1:
                record = _task(connection, task_id)
                if record.attempt == attempt and record.state is state:
                    return record.receipt(executed=True)
                raise _fenced(connection, task_id, attempt)
            if outputs:
                connection.execute(_INSERT_OUTPUT, [_output_values(output) for output in outputs])
            payload = {"attempt": attempt, "state": state.value, "outputs": [o.address for o in outputs]}
            _announce(connection, "task", task_id, payload)
        return Receipt(task_id, state, attempt, True, wall_s, io_s, peak_rss_mb, said)

    def fail_waiting(self, task_ids: Collection[str], message: str) -> int:
        """Fail tasks that will never start (cancelled, or their predecessor failed); return how many."""
        query = sa.update(TASK).where(
            TASK.c.id.in_(sa.bindparam("ids", expanding=True)), TASK.c.state.in_(("pending", "retrying"))
        )
        values = {"state": "failed", "message": _message(message), "finished_s": _NOW}
        with writing(self.engine) as connection:
            return sum(
                connection.execute(query.values(**values), {"ids": piece}).rowcount
                for piece in pieces(sorted(task_ids))
            )

    def release_dead(self, trace_id: str, dead: Collection[str]) -> list[str]:
        """Move executing tasks of `dead` holders to retrying; return their ids.

        The dead are named, not the living: who claims a task meanwhile keeps it.
        """
        query = (
            sa.update(TASK)
            .where(TASK.c.task_set == trace_id, TASK.c.state == "executing", TASK.c.holder.in_(sorted(dead)))
            .values(state="retrying", lease_until_s=None, memory_mb=0, finished_s=_NOW, message="holder is gone")
            .returning(TASK.c.id)
        )
        with writing(self.engine) as connection:
            return sorted(connection.execute(query).scalars())

    def reset_failed(self, trace_id: str, step: str | None = None) -> list[str]:
        """Let failed tasks run again (``--resume``); return their ids."""
        query = sa.update(TASK).where(TASK.c.task_set == trace_id, TASK.c.state == "failed")
        if step is not None:
            query = query.where(TASK.c.step == step)
        query = query.values(state="retrying", finished_s=None)
        with writing(self.engine) as connection:
            return sorted(connection.execute(query.returning(TASK.c.id)).scalars())

    # --- readers

    def task(self, task_id: str) -> TaskRecord:
        """Return one task.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        with reading(self.engine) as connection:
            return _task(connection, task_id)

    def tasks(
        self, trace_id: str, step: str | None = None, states: Collection[TaskState] | None = None
    ) -> list[TaskRecord]:
        """Return the tasks of a task set, by step and chunk."""
        query = _TASKS.where(TASK.c.task_set == trace_id).order_by(TASK.c.step, TASK.c.chunk, TASK.c.id)
        if step is not None:
            query = query.where(TASK.c.step == step)
        if states is not None:
            query = query.where(TASK.c.state.in_([state.value for state in states]))
        with reading(self.engine) as connection:
            return [_task_record(row) for row in connection.execute(query)]

    def depends_on(self, task_id: str) -> list[str]:
        """Return the ids of the tasks that must succeed first."""
        query = sa.select(DEPENDENCY.c.needs).where(DEPENDENCY.c.task == task_id).order_by(DEPENDENCY.c.needs)
        with reading(self.engine) as connection:
            return list(connection.execute(query).scalars())

    def counts(self, trace_id: str, step: str | None = None) -> dict[TaskState, int]:
        """Return how many tasks are in each state; every state is present."""
        query = (
            sa.select(TASK.c.state, sa.func.count())
            .where(TASK.c.task_set == trace_id, *([TASK.c.step == step] if step is not None else []))
            .group_by(TASK.c.state)
        )
        with reading(self.engine) as connection:
            found = {str(state): int(count) for state, count in connection.execute(query)}
        return {state: found.get(state.value, 0) for state in TaskState}

    def outputs(
        self, trace_id: str, step: str | None = None, name: str | None = None, hours: slice | None = None
    ) -> list[Output]:
        """Return the committed outputs of successful tasks, by chunk; given hours, of tasks that work on some."""
        conditions = [TASK.c.task_set == trace_id]
        if step is not None:
            conditions.append(TASK.c.step == step)
        if name is not None:
            conditions.append(OUTPUT.c.name == name)
        if hours is not None:
            conditions.append(TASK.c.parameters["start"].as_integer() < hours.stop)
            conditions.append(TASK.c.parameters["stop"].as_integer() > hours.start)
        return self._outputs(*conditions)

    def task_outputs(self, task_id: str) -> list[Output]:
        """Return the committed outputs of one task."""
        return self._outputs(TASK.c.id == task_id)

    def _outputs(self, *conditions: sa.ColumnElement[bool]) -> list[Output]:
        query = _OUTPUTS.where(*conditions)
        with reading(self.engine) as connection:
            return [_output(row) for row in connection.execute(query)]

    def reserved_mb(self) -> dict[str, int]:
        """Return the memory reserved by each holder of a live lease."""
        query = (
            sa.select(TASK.c.holder, sa.func.sum(TASK.c.memory_mb))
            .where(TASK.c.state == "executing", TASK.c.lease_until_s > _NOW)
            .group_by(TASK.c.holder)
        )
        with reading(self.engine) as connection:
            return {str(holder): int(total) for holder, total in connection.execute(query)}

    def report(self, trace_id: str) -> list[StepReport]:
        """Aggregate each step by SQL, in order of first start (steps that never started come last)."""
        done = TASK.c.state == "success"

        def over_done(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
            return sa.func.coalesce(sa.func.sum(sa.case((done, column), else_=0)), 0)

        query = (
            sa.select(
                TASK.c.step,
                sa.func.count().label("tasks"),
                over_done(TASK.c.subtasks).label("subtasks"),
                over_done(TASK.c.wall_s).label("wall_s_sum"),
                sa.func.coalesce(sa.func.avg(sa.case((done, TASK.c.wall_s))), 0.0).label("wall_s_mean"),
                over_done(TASK.c.io_s).label("io_s_sum"),
                sa.func.max(TASK.c.peak_rss_mb).label("peak_rss_mb_max"),
                sa.func.sum(TASK.c.attempt).label("attempts"),
                sa.func.min(TASK.c.started_s).label("started_s"),
                sa.func.max(TASK.c.finished_s).label("finished_s"),
                *(
                    sa.func.sum(sa.case((TASK.c.state == state.value, 1), else_=0)).label(f"n_{state.value}")
                    for state in TaskState
                ),
            )
            .where(TASK.c.task_set == trace_id)
            .group_by(TASK.c.step)
            .order_by(sa.func.coalesce(sa.func.min(TASK.c.started_s), 1e15), TASK.c.step)
        )
        with reading(self.engine) as connection:
            return [_step_report(row) for row in connection.execute(query).mappings()]

    # --- log and outbox

    def log(self, lines: Iterable[LogLine]) -> None:
        """Append lines to the task set's log."""
        rows = [{k: v for k, v in asdict(line).items() if k != "created_s"} for line in lines]
        rows = [{**row, "logger": storable(row["logger"]), "message": _message(row["message"])} for row in rows]
        with writing(self.engine) as connection:
            for piece in pieces(rows):
                connection.execute(sa.insert(LOG).values(created_s=_NOW), piece)

    def logs(self, trace_id: str, task_id: str | None = None, limit: int = 10_000) -> list[LogLine]:
        """Return log lines, oldest first."""
        query = sa.select(LOG).where(LOG.c.trace_id == trace_id)
        if task_id is not None:
            query = query.where(LOG.c.task == task_id)
        query = query.order_by(LOG.c.sequence).limit(limit)
        with reading(self.engine) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [LogLine(**{k: v for k, v in row.items() if k != "sequence"}) for row in rows]

    def outbox(self, limit: int = 1000, after: int = 0) -> list[OutboxEntry]:
        """Return entries that the graph has not taken yet, oldest first, beginning after a sequence number."""
        waiting = sa.select(OUTBOX).where(OUTBOX.c.drained_s.is_(None), OUTBOX.c.sequence > after)
        query = waiting.order_by(OUTBOX.c.sequence).limit(limit)
        with reading(self.engine) as connection:
            return [
                OutboxEntry(row["sequence"], row["kind"], row["key"], row["payload"])
                for row in connection.execute(query).mappings()
            ]

    def mark_drained(self, sequences: Collection[int]) -> None:
        """Record that the graph has taken these entries."""
        query = sa.update(OUTBOX).where(OUTBOX.c.sequence.in_(sa.bindparam("ids", expanding=True)))
        with writing(self.engine) as connection:
            for piece in pieces(sorted(sequences)):
                connection.execute(query.values(drained_s=_NOW), {"ids": piece})


def _message(text: str) -> str:
    """Return what is kept of a message."""
    return storable(text[:MESSAGE_LENGTH_MAX])


def _take(connection: Connection, task_id: str, holder: str, lease_s: float, memory_mb: int) -> int | None:
    values = {"of_task": task_id, "taker": holder, "lease": lease_s, "reserved": memory_mb}
    return connection.execute(_TAKE, values).scalar_one_or_none()


def _expire(connection: Connection, task_id: str) -> bool:
    return bool(connection.execute(_EXPIRE, {"of_task": task_id}).rowcount)


def _fenced(connection: Connection, task_id: str, attempt: int) -> FencedError:
    record = _task(connection, task_id)
    return FencedError(
        f"attempt {attempt} of task {task_id} lost its claim: attempt {record.attempt} is {record.state} "
        f"(holder {record.holder or 'none'}); drop this outcome"
    )


def _announce(connection: Connection, kind: str, key: str, payload: Mapping[str, Any]) -> None:
    connection.execute(_ANNOUNCE, {"kind": kind, "key": key, "payload": payload})


def _task(connection: Connection, task_id: str) -> TaskRecord:
    row = connection.execute(_ONE_TASK, {"of_task": task_id}).one_or_none() if is_storable(task_id) else None
    if row is None:
        raise NotFoundError(f"no task {task_id}; register it first, or list tasks with `bos ps`")
    return _task_record(row)


def _task_set(connection: Connection, trace_id: str) -> TaskSetRecord:
    if not is_storable(trace_id):
        raise NotFoundError(f"run {trace_id!r} is unknown; `bos ps` lists the known ones")
    query = sa.select(TASK_SET).where(TASK_SET.c.trace_id.startswith(trace_id, autoescape=True)).limit(2)
    rows = connection.execute(query).mappings().all()
    exact = [row for row in rows if row["trace_id"] == trace_id]
    if not trace_id or len(exact or rows) != 1:
        what = "is not unique, give more of it" if len(rows) > 1 else "is unknown; `bos ps` lists the known ones"
        raise NotFoundError(f"run {trace_id!r} {what}")
    return _task_set_record((exact or rows)[0])


def _task_record(row: sa.Row[Any]) -> TaskRecord:
    values = dict(zip(_TASK_FIELDS, row, strict=True))
    return TaskRecord(**{**values, "state": TaskState(values["state"])})


def _task_set_record(row: RowMapping) -> TaskSetRecord:
    return TaskSetRecord(**{**row, "state": TaskState(row["state"])})


def _output(row: sa.Row[Any]) -> Output:
    """Return the output of a row of `_OUTPUTS`."""
    task, name, attempt, address, sha256, content_digest, rows, size, columns, chunk = row
    return Output(task, name, attempt, address, sha256, content_digest, rows, size, _columns(columns), chunk)


@lru_cache(maxsize=256)
def _columns(text: str) -> Mapping[str, Any]:
    """Return the columns of an output; outputs with the same share one mapping."""
    columns: Mapping[str, Any] = json.loads(text)
    return columns


def _output_values(output: Output) -> dict[str, Any]:
    return {"task": output.task_id, "columns": output.columns} | {
        name: getattr(output, name) for name in _OUTPUT_VALUES
    }


def _step_report(row: RowMapping) -> StepReport:
    values: dict[str, Any] = dict(row)
    states = {state: int(values.pop(f"n_{state.value}")) for state in TaskState}
    values |= {key: int(values[key]) for key in ("tasks", "subtasks", "attempts")}
    return StepReport(**values, states=states)


def _task_values(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "task_set": task.task_set,
        "step": task.step,
        "slot": task.program.slot,
        "program": task.program.name,
        "program_version": task.program.version,
        "program_digest": task.program.digest,
        "chunk": task.input.chunk,
        "input_digest": task.input.input_digest,
        "scenario_version": task.input.scenario_version,
        "parameters": dict(task.input.parameters),
        "subtasks": task.subtasks,
        "state": "pending",
        "attempt": 0,
        "holder": "",
        "memory_mb": 0,
        "wall_s": 0.0,
        "io_s": 0.0,
        "peak_rss_mb": 0.0,
        "message": "",
    }
