"""Lineage by SQL: what a task needed, and what was made from versions, tasks and programs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from bos_core.index.database import pieces, reading
from bos_core.index.tables import CHUNK, DEPENDENCY, OUTPUT, TASK, TASK_SET, VERSION
from bos_core.objects.task import TaskState


@dataclass(frozen=True)
class StepUse:
    """Tasks of one step of a run that work on the same version.

    Attributes
    ----------
    trace_id, step, scenario_version : str
        Run, step, id of the version that the tasks read.
    tasks, succeeded, outputs, rows, bytes : int
        Counts; outputs, rows and bytes are of committed results.
    """

    trace_id: str
    step: str
    scenario_version: str
    tasks: int
    succeeded: int
    outputs: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Downstream:
    """All that was made from something.

    Attributes
    ----------
    versions, tasks, trace_ids : frozenset of str
        Ids of scenario versions, of tasks, and of runs (also of those that have no task yet).
    """

    versions: frozenset[str]
    tasks: frozenset[str]
    trace_ids: frozenset[str]


class Lineage:
    """Where things come from and what became of them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def upstream(self, task_id: str) -> list[str]:
        """Return the ids of all tasks that a task needed, directly or through others, nearest first."""
        found: dict[str, None] = {}
        frontier = {task_id}
        with reading(self.engine) as connection:
            while frontier:
                query = sa.select(DEPENDENCY.c.needs).where(_among(DEPENDENCY.c.task))
                needs = _column(connection, query, frontier)
                frontier = needs - found.keys() - {task_id}
                found.update(dict.fromkeys(sorted(frontier)))
        return list(found)

    def downstream(self, versions: Collection[str] = (), tasks: Collection[str] = ()) -> Downstream:
        """Return what was made from these versions and tasks, themselves not included.

        A version is made from its parents and from the tasks of the step that wrote it; a task from the version
        that it reads, a version that its parameters name as another source, and the tasks that it needs; a run
        from the version that it is pinned to.
        """
        given_versions, given_tasks = frozenset(versions), frozenset(tasks)
        all_versions, all_tasks, runs = set(given_versions), set(given_tasks), set[str]()
        new_versions, new_tasks = set(given_versions), set(given_tasks)
        with reading(self.engine) as connection:
            while new_versions or new_tasks:
                made = _versions_of(connection, new_versions, new_tasks) - all_versions
                used = _tasks_of(connection, new_versions, new_tasks) - all_tasks
                pinned = TASK_SET.c.parameters["scenario_version"].as_string()
                runs |= _column(connection, sa.select(TASK_SET.c.trace_id).where(_among(pinned)), new_versions)
                new_versions, new_tasks = made, used
                all_versions |= made
                all_tasks |= used
            runs |= _column(connection, sa.select(TASK.c.task_set).where(_among(TASK.c.id)), all_tasks)
        return Downstream(
            frozenset(all_versions - given_versions), frozenset(all_tasks - given_tasks), frozenset(runs)
        )

    def steps(self, tasks: Collection[str]) -> list[StepUse]:
        """Count tasks and their committed results by run, step and version read, in order of creation."""
        results = (
            sa.select(
                OUTPUT.c.task,
                sa.func.count().label("outputs"),
                sa.func.sum(OUTPUT.c.rows).label("rows"),
                sa.func.sum(OUTPUT.c.bytes).label("bytes"),
            )
            .group_by(OUTPUT.c.task)
            .subquery()
        )
        keys = (TASK.c.task_set, TASK.c.step, TASK.c.scenario_version)
        query = (
            sa.select(
                *keys,
                sa.func.min(TASK.c.created_s),
                sa.func.count(),
                sa.func.sum(sa.case((TASK.c.state == "success", 1), else_=0)),
                *(sa.func.coalesce(sa.func.sum(results.c[name]), 0) for name in ("outputs", "rows", "bytes")),
            )
            .select_from(TASK.outerjoin(results, results.c.task == TASK.c.id))
            .where(_among(TASK.c.id))
            .group_by(*keys)
        )
        first: dict[tuple[str, str, str], float] = {}
        sums: dict[tuple[str, str, str], list[int]] = {}
        with reading(self.engine) as connection:
            for row in _rows(connection, query, tasks):
                key = (str(row[0]), str(row[1]), str(row[2]))
                first[key] = min(first.get(key, row[3]), row[3])
                sums[key] = [a + int(b) for a, b in zip(sums.get(key, [0] * 5), row[4:], strict=True)]
        ordered = sorted(sums, key=lambda key: (first[key], key))
        return [StepUse(*key, *sums[key]) for key in ordered]

    def tasks_of_program(self, digest: str, slot: str = "", name: str = "") -> list[str]:
        """Return the ids of the tasks that a program's code carried out; a digest may be the start of one."""
        conditions = [TASK.c.program_digest.startswith(digest, autoescape=True)]
        conditions += [TASK.c.slot == slot] if slot else []
        conditions += [TASK.c.program == name] if name else []
        with reading(self.engine) as connection:
            return list(connection.execute(sa.select(TASK.c.id).where(*conditions).order_by(TASK.c.id)).scalars())

    def states_of_program(self, slot: str, name: str, digest: str) -> dict[TaskState, int]:
        """Count the tasks of a program's code by the state that they are in."""
        query = (
            sa.select(TASK.c.state, sa.func.count())
            .where(TASK.c.slot == slot, TASK.c.program == name, TASK.c.program_digest == digest)
            .group_by(TASK.c.state)
        )
        with reading(self.engine) as connection:
            return {TaskState(state): int(count) for state, count in connection.execute(query)}

    def tasks_starting_with(self, prefix: str) -> list[str]:
        """Return the ids of at most two tasks whose id starts so."""
        query = sa.select(TASK.c.id).where(TASK.c.id.startswith(prefix, autoescape=True)).limit(2)
        with reading(self.engine) as connection:
            return list(connection.execute(query).scalars())

    def output_at(self, address: str) -> tuple[str, str] | None:
        """Return (task, name) of the committed output that lies at an address, None where there is none."""
        query = sa.select(OUTPUT.c.task, OUTPUT.c.name).where(OUTPUT.c.address == address)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (str(row.task), str(row.name))

    def versions_with(self, digest: str) -> list[tuple[str, str]]:
        """Return (version, key) of everything that a chunk of content is part of, oldest version first."""
        query = (
            sa.select(CHUNK.c.version, CHUNK.c.key)
            .join(VERSION, VERSION.c.id == CHUNK.c.version)
            .where(CHUNK.c.digest == digest)
            .order_by(VERSION.c.created_s, VERSION.c.number)
        )
        with reading(self.engine) as connection:
            return [(str(version), str(key)) for version, key in connection.execute(query)]


def _versions_of(connection: Connection, versions: set[str], tasks: set[str]) -> set[str]:
    """Return the children of versions, merges among them, and the versions that tasks, or their steps, wrote."""
    found = _column(connection, sa.select(VERSION.c.id).where(_among(VERSION.c.parent)), versions)
    found |= _column(connection, sa.select(VERSION.c.id).where(_among(VERSION.c.merged)), versions)
    found |= _column(connection, sa.select(VERSION.c.id).where(_among(VERSION.c.made_by_task)), tasks)
    by_step = (
        sa.select(VERSION.c.id)
        .join(TASK, sa.and_(TASK.c.task_set == VERSION.c.trace_id, TASK.c.step == VERSION.c.step))
        .where(_among(TASK.c.id))
        .distinct()
    )
    return found | _column(connection, by_step, tasks)


def _tasks_of(connection: Connection, versions: set[str], tasks: set[str]) -> set[str]:
    """Return the tasks that read versions, and those that need tasks."""
    source = TASK.c.parameters["source"].as_string()
    found = _column(connection, sa.select(TASK.c.id).where(_among(TASK.c.scenario_version)), versions)
    found |= _column(connection, sa.select(TASK.c.id).where(_among(source)), versions)
    return found | _column(connection, sa.select(DEPENDENCY.c.task).where(_among(DEPENDENCY.c.needs)), tasks)


def _among(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return column.in_(sa.bindparam("ids", expanding=True))


def _rows(connection: Connection, query: sa.Select[Any], ids: Collection[str]) -> Iterable[Sequence[Any]]:
    for piece in pieces(sorted(ids)):
        yield from connection.execute(query, {"ids": piece})


def _column(connection: Connection, query: sa.Select[Any], ids: Collection[str]) -> set[str]:
    return {str(row[0]) for row in _rows(connection, query, ids)}
