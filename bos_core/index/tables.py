"""The tables of the index. Times are seconds since 1970 by the database's clock.

The five task states, their legal moves and the fence number are constraints of the database as well: a CHECK and
a trigger, both written from `bos_core.objects.task.LEGAL_MOVES`, guard every UPDATE whoever makes it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from bos_core.objects.task import LEGAL_MOVES, TaskState

METADATA = sa.MetaData()
ILLEGAL_MOVE = "illegal task state move"

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_IN_ORDER_OF_KEY = {"sqlite_with_rowid": False}
"""Rows that come in order of their key are appended, and dropped from the other end; no index beside the table."""
_STATES = ", ".join(f"'{state.value}'" for state in TaskState)


def _json() -> Any:
    return Field(default_factory=dict, sa_type=_JSON, nullable=False)


def _key(target: str, **options: Any) -> Any:
    return Field(foreign_key=target, **options)


class Row(SQLModel):
    """Base of all rows; its own metadata keeps other users of SQLModel out of the index."""

    metadata: ClassVar[sa.MetaData] = METADATA


class UserAccount(Row, table=True):
    """Who asks."""

    __tablename__: ClassVar[Any] = "user_account"

    name: str = Field(primary_key=True)
    created_s: float


class Project(Row, table=True):
    """What task sets are asked for."""

    __tablename__: ClassVar[Any] = "project"

    name: str = Field(primary_key=True)
    created_s: float


class Server(Row, table=True):
    """A machine that runs containers."""

    __tablename__: ClassVar[Any] = "server"

    id: str = Field(primary_key=True)
    name: str
    kind: str = "machine"
    address: str = ""
    state: str = "up"
    message: str = ""
    cpu_cores: float = 0.0
    memory_mb: int = 0
    memory_reserve_mb: int = 0
    attributes: dict[str, Any] = _json()
    monitor: str = ""
    seen_s: float


class Container(Row, table=True):
    """A container on a server, with its quota."""

    __tablename__: ClassVar[Any] = "container"

    id: str = Field(primary_key=True)
    server: str = _key("server.id", index=True)
    name: str
    image: str = ""
    image_digest: str = ""
    state: str = "created"
    mode: str = "launched"
    slots: list[str] = Field(default_factory=list, sa_type=_JSON, nullable=False)
    cpu_cores: float = 0.0
    memory_mb: int = 0
    attributes: dict[str, Any] = _json()
    started_s: float | None = None
    ended_s: float | None = Field(default=None, index=True)
    message: str = ""
    seen_s: float


class ServiceInstance(Row, table=True):
    """The endpoint in a container that executes tasks."""

    __tablename__: ClassVar[Any] = "service_instance"

    id: str = Field(primary_key=True)
    container: str = _key("container.id", index=True)
    service: str
    address: str = ""
    state: str = "up"
    seen_s: float


class UseSecond(Row, table=True):
    """What a server or container used in the second before `at_s`."""

    __tablename__: ClassVar[Any] = "use_second"
    __table_args__: ClassVar[Any] = _IN_ORDER_OF_KEY

    at_s: int = Field(primary_key=True, sa_type=sa.BigInteger)
    subject: str = Field(primary_key=True)
    cpu_cores: float = Field(sa_type=sa.REAL)
    memory_mb: float = Field(sa_type=sa.REAL)


class UseMinute(Row, table=True):
    """Means and maxima of the minute that begins at `at_s`."""

    __tablename__: ClassVar[Any] = "use_minute"
    __table_args__: ClassVar[Any] = _IN_ORDER_OF_KEY

    at_s: int = Field(primary_key=True, sa_type=sa.BigInteger)
    subject: str = Field(primary_key=True)
    cpu_cores: float = Field(sa_type=sa.REAL)
    cpu_cores_max: float = Field(sa_type=sa.REAL)
    memory_mb: float = Field(sa_type=sa.REAL)
    memory_mb_max: float = Field(sa_type=sa.REAL)
    samples: int


class Scenario(Row, table=True):
    """A line of versions with a name."""

    __tablename__: ClassVar[Any] = "scenario"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    project: str = _key("project.name")
    owner: str = _key("user_account.name")
    description: str = ""
    versions: int = 0
    created_s: float


class TaskSet(Row, table=True):
    """One business request."""

    __tablename__: ClassVar[Any] = "task_set"
    __table_args__ = (sa.CheckConstraint(f"state IN ({_STATES})", name="task_set_state"),)

    trace_id: str = Field(primary_key=True)
    business: str
    user: str = _key("user_account.name")
    project: str = _key("project.name")
    scenario: str
    parameters: dict[str, Any] = _json()
    state: str = TaskState.PENDING.value
    message: str = ""
    created_s: float
    finished_s: float | None = None


class Task(Row, table=True):
    """The minimal schedulable unit."""

    __tablename__: ClassVar[Any] = "task"
    __table_args__ = (
        sa.CheckConstraint(f"state IN ({_STATES})", name="task_state"),
        sa.CheckConstraint("attempt >= 0 AND subtasks >= 0 AND memory_mb >= 0", name="task_counts"),
        sa.CheckConstraint(
            "state <> 'executing' OR (holder <> '' AND lease_until_s IS NOT NULL)", name="task_executing_is_leased"
        ),
        sa.Index("task_by_step", "task_set", "step", "state"),
        sa.UniqueConstraint("task_set", "step", "slot", "program_digest", "input_digest", "chunk"),
    )

    id: str = Field(primary_key=True)
    task_set: str = _key("task_set.trace_id")
    step: str
    slot: str
    program: str
    program_version: str
    program_digest: str
    chunk: str
    input_digest: str
    scenario_version: str
    parameters: dict[str, Any] = _json()
    subtasks: int
    state: str = TaskState.PENDING.value
    attempt: int = 0
    holder: str = ""
    lease_until_s: float | None = None
    memory_mb: int = 0
    created_s: float
    started_s: float | None = None
    finished_s: float | None = None
    wall_s: float = 0.0
    io_s: float = 0.0
    peak_rss_mb: float = 0.0
    message: str = ""


class TaskDependency(Row, table=True):
    """Which task needs which other task first."""

    __tablename__: ClassVar[Any] = "task_dependency"

    task: str = _key("task.id", primary_key=True)
    needs: str = Field(primary_key=True, index=True)


class TaskOutput(Row, table=True):
    """Where a task's committed output lies."""

    __tablename__: ClassVar[Any] = "task_output"

    task: str = _key("task.id", primary_key=True)
    name: str = Field(primary_key=True)
    attempt: int
    address: str = Field(unique=True)
    sha256: str
    content_digest: str
    rows: int = Field(sa_type=sa.BigInteger)
    bytes: int = Field(sa_type=sa.BigInteger)
    columns: dict[str, Any] = _json()


class TaskLog(Row, table=True):
    """Log lines of a task set and of its tasks."""

    __tablename__: ClassVar[Any] = "task_log"

    sequence: int | None = Field(default=None, primary_key=True)
    trace_id: str = _key("task_set.trace_id", index=True)
    task: str = Field(default="", index=True)
    attempt: int = 0
    level: str
    logger: str = ""
    message: str
    created_s: float


class Outbox(Row, table=True):
    """What happened and must still reach the graph; drained in any order, applied idempotently."""

    __tablename__: ClassVar[Any] = "outbox"

    sequence: int | None = Field(default=None, primary_key=True)
    kind: str
    key: str
    payload: dict[str, Any] = _json()
    created_s: float
    drained_s: float | None = Field(default=None, index=True)


class ScenarioVersion(Row, table=True):
    """An immutable state of a scenario."""

    __tablename__: ClassVar[Any] = "scenario_version"
    __table_args__ = (sa.UniqueConstraint("scenario", "number"),)

    id: str = Field(primary_key=True)
    scenario: str = _key("scenario.id")
    number: int
    parent: str | None = _key("scenario_version.id", nullable=True, index=True)
    merged: str | None = _key("scenario_version.id", nullable=True, index=True)
    author: str = ""
    made_by_task: str | None = _key("task.id", nullable=True, index=True)
    trace_id: str = Field(default="", index=True)
    step: str = ""
    message: str = ""
    digest: str = Field(index=True)
    created_s: float


class ScenarioChunk(Row, table=True):
    """One piece of a version's content; equal pieces of different versions share a file."""

    __tablename__: ClassVar[Any] = "scenario_chunk"

    version: str = _key("scenario_version.id", primary_key=True)
    key: str = Field(primary_key=True)
    digest: str = Field(index=True)
    rows: int = Field(sa_type=sa.BigInteger)
    bytes: int = Field(sa_type=sa.BigInteger)
    detail: dict[str, Any] = _json()


class Program(Row, table=True):
    """The custom program index: what fills which slot."""

    __tablename__: ClassVar[Any] = "program"

    slot: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)
    version: str
    title: str
    description: str = ""
    type: str
    elements: list[str] = Field(default_factory=list, sa_type=_JSON, nullable=False)
    references: list[str] = Field(default_factory=list, sa_type=_JSON, nullable=False)
    parameters: dict[str, Any] = _json()
    storage_address: str = ""
    created_s: float


class ProgramChange(Row, table=True):
    """What became of the programs that experts gave: every commit of both repositories, oldest first."""

    __tablename__: ClassVar[Any] = "program_change"

    sequence: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    repository: str
    commit: str
    slot: str
    name: str
    action: str
    version: str
    digest: str
    declaration: dict[str, Any] = _json()
    author: str
    message: str = ""
    created_s: float


USER = METADATA.tables["user_account"]
PROJECT = METADATA.tables["project"]
SERVER = METADATA.tables["server"]
CONTAINER = METADATA.tables["container"]
SERVICE_INSTANCE = METADATA.tables["service_instance"]
USE_SECOND = METADATA.tables["use_second"]
USE_MINUTE = METADATA.tables["use_minute"]
SCENARIO = METADATA.tables["scenario"]
TASK_SET = METADATA.tables["task_set"]
TASK = METADATA.tables["task"]
DEPENDENCY = METADATA.tables["task_dependency"]
OUTPUT = METADATA.tables["task_output"]
LOG = METADATA.tables["task_log"]
OUTBOX = METADATA.tables["outbox"]
VERSION = METADATA.tables["scenario_version"]
CHUNK = METADATA.tables["scenario_chunk"]
PROGRAM = METADATA.tables["program"]
PROGRAM_CHANGE = METADATA.tables["program_change"]


def _illegal() -> str:
    """SQL condition on OLD and NEW that is true for a change that no one may make."""
    moves = " OR ".join(
        f"(OLD.state = '{old.value}' AND NEW.state = '{new.value}')"
        for old, news in LEGAL_MOVES.items()
        for new in sorted(news)
    )
    raised = "CASE WHEN NEW.state = 'executing' AND OLD.state <> 'executing' THEN 1 ELSE 0 END"
    return f"(OLD.state <> NEW.state AND NOT ({moves})) OR NEW.attempt <> OLD.attempt + {raised}"


_SQLITE_TRIGGERS = (
    f"""CREATE TRIGGER task_moves BEFORE UPDATE OF state, attempt ON task WHEN {_illegal()}
BEGIN SELECT RAISE(ABORT, '{ILLEGAL_MOVE}'); END""",
    f"""CREATE TRIGGER task_born BEFORE INSERT ON task WHEN NEW.state <> 'pending' OR NEW.attempt <> 0
BEGIN SELECT RAISE(ABORT, '{ILLEGAL_MOVE}: a task is born pending'); END""",
)

_POSTGRESQL_TRIGGERS = (
    f"""CREATE OR REPLACE FUNCTION bos_task_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'pending' OR NEW.attempt <> 0 THEN
      RAISE EXCEPTION '{ILLEGAL_MOVE}: a task is born pending' USING ERRCODE = 'check_violation';
    END IF;
  ELSIF ({_illegal()}) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = '{ILLEGAL_MOVE}: ' || OLD.state || ' to ' || NEW.state || ' of task ' || OLD.id;
  END IF;
  RETURN NEW;
END $$""",
    """CREATE TRIGGER task_moves BEFORE INSERT OR UPDATE OF state, attempt ON task
FOR EACH ROW EXECUTE FUNCTION bos_task_moves()""",
)


def task_triggers(dialect: str) -> tuple[str, ...]:
    """Return the statements that make the triggers guarding the states of tasks."""
    return _POSTGRESQL_TRIGGERS if dialect == "postgresql" else _SQLITE_TRIGGERS
