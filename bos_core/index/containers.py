"""The container index: server, container, service instance, and what they used; written by a monitor.

A second's use is kept for an hour, then as the mean and maximum of its minute for a week: the tables are bounded.
Both moves work on what the tables hold: a monitor that was away or killed changes nothing but their time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, Row

from bos_core.index.database import DatabaseClock, insert_new, insert_or_replace, pieces, reading, writing
from bos_core.index.tables import CONTAINER, SERVER, SERVICE_INSTANCE, TASK, TASK_SET, USE_MINUTE, USE_SECOND
from bos_core.objects.container import (
    ENDED,
    LIVE_STATES,
    Changes,
    Container,
    Sample,
    Server,
    ServerKind,
    ServerState,
    ServiceInstance,
)
from bos_core.objects.errors import NotFoundError
from bos_core.objects.task import TaskState

SECONDS_KEPT_S = 3_600
MINUTES_KEPT_S = 7 * 86_400
MINUTE_S = 60
MINUTES_AT_ONCE = 10
"""So many minutes are condensed in one transaction: after a long absence nobody waits for hours of them."""
FRESH_S = 5
"""A sample that is older says nothing of now."""
START_TOLERANCE_S = 1.5
"""When a process began follows from the time of boot, which the kernel corrects by whole seconds."""


@dataclass(frozen=True)
class TaskInHand:
    """A task that a container executes."""

    id: str
    trace_id: str
    step: str
    chunk: str
    holder: str


@dataclass(frozen=True)
class ContainerNode:
    """A container in the tree.

    Attributes
    ----------
    container : Container
    use : Sample or None
        The newest; None when there is none of the last seconds.
    tasks : tuple of TaskInHand
        What it executes.
    """

    container: Container
    use: Sample | None = None
    tasks: tuple[TaskInHand, ...] = ()


@dataclass(frozen=True)
class ServerNode:
    """A server in the tree, with its containers by name."""

    server: Server
    use: Sample | None = None
    containers: tuple[ContainerNode, ...] = ()

    @property
    def reserved_mb(self) -> int:
        """The sum of the memory quotas of its live containers."""
        return sum(node.container.memory_mb for node in self.containers if node.container.is_live)

    @property
    def is_up(self) -> bool:
        """Whether it was reached when it was last tried."""
        return self.server.state is ServerState.UP


@dataclass(frozen=True)
class ContainerTree:
    """Servers, their containers and the service instances in them, at one moment.

    Attributes
    ----------
    servers : tuple of ServerNode
        By name.
    at_s : float
        When it was read, by the clock of the database.
    sampled_s : float or None
        When a monitor took the newest sample; None when there is none.
    """

    servers: tuple[ServerNode, ...]
    at_s: float = 0.0
    sampled_s: float | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether a monitor has written samples in the last seconds."""
        return self.sampled_s is not None and self.at_s - self.sampled_s <= FRESH_S

    def find(self, name: str) -> ServerNode | ContainerNode:
        """Return a server or container by its name, id or address, or the start of a container's id.

        Raises
        ------
        NotFoundError
            If nothing has it, or several have.
        """
        nodes: list[tuple[ServerNode | ContainerNode, str, tuple[str, ...]]] = []
        for server in self.servers:
            known = server.server
            nodes.append((server, f"{known.name} {known.address}".strip(), (known.name, known.id, known.address)))
            for node in server.containers:
                own = node.container
                nodes.append((node, f"{own.name} {own.id}", (own.name, own.id)))
        found = [node for node in nodes if name in node[2]]
        found = found or [node for node in nodes if node[2][1].startswith(name)]
        if len(found) != 1:
            names = ", ".join(label for _, label, _ in found or nodes) or "nothing"
            raise NotFoundError(
                f"several servers or containers are called {name!r}: {names}; give the id or address"
                if found
                else f"no server or container is called {name!r}; there is: {names}"
            )
        return found[0][0]

    def executors(self, slot: str, mode: Any = "launched") -> list[Container]:
        """Return the containers that may run a program of a slot, on servers that are up."""
        nodes = [node for server in self.servers if server.is_up for node in server.containers]
        return [node.container for node in nodes if not node.container.refusal(slot, mode)]


@dataclass(frozen=True)
class Use:
    """What a server or container used over time: second by second, and by minutes what is older.

    Attributes
    ----------
    at_s : list of int
        Where the second ends, or the minute begins.
    span_s : list of int
        1 or 60.
    cpu_cores, memory_mb : list of float
        Means.
    cpu_cores_max, memory_mb_max : list of float
        Maxima of the span.
    """

    at_s: list[int] = field(default_factory=list)
    span_s: list[int] = field(default_factory=list)
    cpu_cores: list[float] = field(default_factory=list)
    cpu_cores_max: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    memory_mb_max: list[float] = field(default_factory=list)


class ContainerIndex:
    """Reads and writes the container index.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # --- what a monitor writes

    def clock_s(self) -> float:
        """Return the time by the clock of the database."""
        with reading(self.engine) as connection:
            return float(connection.execute(sa.select(DatabaseClock())).scalar_one())

    def watched(self, monitor: str) -> Changes:
        """Return the servers of a monitor and their live containers, as they were last written."""
        with reading(self.engine) as connection:
            servers = [
                _server(r) for r in connection.execute(sa.select(SERVER).where(SERVER.c.monitor == monitor))
            ]
            live = _containers(connection, [server.id for server in servers], None)
        return Changes(tuple(servers), tuple(live))

    def apply(self, changes: Changes) -> None:
        """Write changes, all in one transaction; writing them again changes nothing."""
        now_s = self.clock_s() if changes.containers else 0.0
        replaced: tuple[tuple[sa.Table, list[dict[str, Any]]], ...] = (
            (SERVER, [asdict(server) for server in changes.servers]),
            (CONTAINER, [_container_row(container, now_s) for container in changes.containers]),
            (SERVICE_INSTANCE, list(_instance_rows(changes.containers, now_s))),
        )
        with writing(self.engine) as connection:
            for table, rows in replaced:
                for part in pieces(rows):
                    connection.execute(insert_or_replace(self.engine, table), list(part))
            for samples in pieces(changes.samples):
                connection.execute(insert_new(self.engine, USE_SECOND), [asdict(sample) for sample in samples])

    def condense(self, now_s: float) -> int:
        """Replace seconds older than an hour by their minutes; forget minutes, and strangers, older than a week.

        Ended containers of BOS stay: the ledger names them as holders of tasks.

        Returns
        -------
        int
            How many rows of seconds were replaced.
        """
        end_s = int(now_s - SECONDS_KEPT_S) // MINUTE_S * MINUTE_S
        replaced = 0
        while (first := self._oldest_second()) is not None and first < end_s:
            replaced += self._condense(first, min(end_s, (first // MINUTE_S + MINUTES_AT_ONCE) * MINUTE_S))
        forgotten_s = now_s - MINUTES_KEPT_S
        ours = sa.select(SERVICE_INSTANCE.c.container)
        strangers = sa.and_(CONTAINER.c.ended_s < forgotten_s, CONTAINER.c.id.not_in(ours))
        with writing(self.engine) as connection:
            connection.execute(sa.delete(USE_MINUTE).where(USE_MINUTE.c.at_s < forgotten_s))
            connection.execute(sa.delete(CONTAINER).where(strangers))
        return replaced

    def _oldest_second(self) -> int | None:
        with reading(self.engine) as connection:
            return connection.execute(sa.select(sa.func.min(USE_SECOND.c.at_s))).scalar()

    def _condense(self, first_s: int, end_s: int) -> int:
        second = USE_SECOND.c
        within = sa.and_(second.at_s >= first_s, second.at_s < end_s)
        # A literal: PostgreSQL takes two parameters for two expressions, and then misses one in GROUP BY.
        minute = sa.cast(second.at_s - second.at_s % sa.literal_column(str(MINUTE_S)), sa.BigInteger)
        means = (
            sa.select(
                minute,
                second.subject,
                sa.func.avg(second.cpu_cores),
                sa.func.max(second.cpu_cores),
                sa.func.avg(second.memory_mb),
                sa.func.max(second.memory_mb),
                sa.func.count(),
            )
            .where(within)
            .group_by(minute, second.subject)
        )
        with writing(self.engine) as connection:
            connection.execute(insert_new(self.engine, USE_MINUTE).from_select(list(USE_MINUTE.c), means))
            return int(connection.execute(sa.delete(USE_SECOND).where(within)).rowcount)

    # --- what everybody reads

    def tree(self, ended_since_s: float | None = None) -> ContainerTree:
        """Return the tree as it is now.

        Parameters
        ----------
        ended_since_s : float, optional
            Also the containers that ended since then; default: live ones only.
        """
        with reading(self.engine) as connection:
            now_s = float(connection.execute(sa.select(DatabaseClock())).scalar_one())
            known = sa.select(SERVER).where(SERVER.c.state != ServerState.REMOVED.value)
            servers = [_server(row) for row in connection.execute(known.order_by(SERVER.c.name, SERVER.c.address))]
            containers = _containers(connection, [server.id for server in servers], ended_since_s)
            newest = sa.select(USE_SECOND).where(USE_SECOND.c.at_s >= now_s - FRESH_S).order_by(USE_SECOND.c.at_s)
            use = {row.subject: Sample(*_sample(row)) for row in connection.execute(newest)}
            sampled_s = connection.execute(sa.select(sa.func.max(USE_SECOND.c.at_s))).scalar()
            tasks = _tasks_in_hand(connection)
        return tree_of(servers, containers, use, tasks, now_s, sampled_s)

    def tasks_in_hand(self) -> list[TaskInHand]:
        """Return the tasks that somebody executes."""
        with reading(self.engine) as connection:
            return _tasks_in_hand(connection)

    def use(self, subject: str, first_s: float, end_s: float) -> Use:
        """Return what a server or container used from a time on, before another.

        Parameters
        ----------
        subject : str
            Id of the server or container.
        first_s, end_s : float
            Seconds since 1970.
        """
        parts = []
        for table, span_s in ((USE_MINUTE, MINUTE_S), (USE_SECOND, 1)):
            cpu, memory = table.c.cpu_cores, table.c.memory_mb
            maxima = (cpu, memory) if span_s == 1 else (table.c.cpu_cores_max, table.c.memory_mb_max)
            parts.append(
                sa.select(table.c.at_s, sa.literal(span_s), cpu, maxima[0], memory, maxima[1])
                .where(table.c.subject == subject, table.c.at_s >= first_s, table.c.at_s < end_s)
                .order_by(table.c.at_s)
            )
        with reading(self.engine) as connection:
            rows = [row for part in parts for row in connection.execute(part)]
        return Use(*([list(column) for column in zip(*rows, strict=True)] if rows else []))

    def holders(self, holders: Iterable[str]) -> dict[str, tuple[Container, Server]]:
        """Return the containers, live or ended, in which processes ran that the ledger names as holders of tasks.

        Parameters
        ----------
        holders : iterable of str
            ``host/pid/start``.

        Returns
        -------
        dict
            Container and server by holder; without those that no monitor has seen.
        """
        with reading(self.engine) as connection:
            return {h: found for h in set(holders) if (found := _holder(connection, h)) is not None}


def tree_of(
    servers: Iterable[Server],
    containers: Iterable[Container],
    use: Mapping[str, Sample],
    tasks: Sequence[TaskInHand] = (),
    at_s: float = 0.0,
    sampled_s: float | None = None,
) -> ContainerTree:
    """Put a tree together; containers come by name, the live ones first."""
    nodes: dict[str, list[ContainerNode]] = {}
    for container in sorted(containers, key=lambda c: (not c.is_live, c.name, c.id)):
        held = tuple(task for task in tasks if _runs_in(container.id, task.holder))
        nodes.setdefault(container.server, []).append(ContainerNode(container, use.get(container.id), held))
    return ContainerTree(
        tuple(ServerNode(server, use.get(server.id), tuple(nodes.get(server.id, ()))) for server in servers),
        at_s,
        sampled_s,
    )


def _container_row(container: Container, seen_s: float) -> dict[str, Any]:
    row = {name: value for name, value in asdict(container).items() if name != "instances"}
    return row | {"slots": list(container.slots), "seen_s": seen_s}


def _instance_rows(containers: Iterable[Container], seen_s: float) -> Iterable[dict[str, Any]]:
    for container in containers:
        for instance in container.instances:
            yield {
                "id": f"{container.id}/{instance.service}",
                "container": container.id,
                "service": instance.service,
                "address": instance.address,
                "state": "up" if container.state == "running" else "down",
                "seen_s": seen_s,
            }


def _server(row: Row[Any]) -> Server:
    values = dict(row._mapping)
    return Server(**values | {"kind": ServerKind(values["kind"]), "state": ServerState(values["state"])})


def _container(row: Row[Any], instances: tuple[ServiceInstance, ...]) -> Container:
    values = {name: value for name, value in row._mapping.items() if name != "seen_s"}
    return Container(**values | {"slots": tuple(values["slots"]), "instances": instances})


def _containers(connection: Connection, servers: Sequence[str], ended_since_s: float | None) -> list[Container]:
    wanted: sa.ColumnElement[bool] = CONTAINER.c.state.in_(LIVE_STATES)
    if ended_since_s is not None:
        wanted = sa.or_(wanted, sa.and_(CONTAINER.c.state == ENDED, CONTAINER.c.ended_s >= ended_since_s))
    wanted = sa.and_(wanted, CONTAINER.c.server.in_(servers))
    instances: dict[str, list[ServiceInstance]] = {}
    joined = sa.select(SERVICE_INSTANCE).join(CONTAINER, CONTAINER.c.id == SERVICE_INSTANCE.c.container)
    for row in connection.execute(joined.where(wanted).order_by(SERVICE_INSTANCE.c.service)):
        instances.setdefault(row.container, []).append(ServiceInstance(row.service, row.address))
    found = connection.execute(sa.select(CONTAINER).where(wanted))
    return [_container(row, tuple(instances.get(row.id, ()))) for row in found]


def _tasks_in_hand(connection: Connection) -> list[TaskInHand]:
    runs = sa.select(TASK_SET.c.trace_id).where(TASK_SET.c.state == TaskState.EXECUTING.value)
    executing = sa.select(TASK.c.id, TASK.c.task_set, TASK.c.step, TASK.c.chunk, TASK.c.holder).where(
        TASK.c.task_set.in_(runs), TASK.c.state == TaskState.EXECUTING.value
    )
    return [TaskInHand(*row) for row in connection.execute(executing)]


def _sample(row: Row[Any]) -> tuple[str, int, float, float]:
    return row.subject, row.at_s, row.cpu_cores, row.memory_mb


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _holder(connection: Connection, holder: str) -> tuple[Container, Server] | None:
    host, process = holder.partition("/")[0], holder.rpartition("/")[0]
    wanted = sa.or_(CONTAINER.c.id == host, CONTAINER.c.id.like(f"{_escaped(process)}/%", escape="\\"))
    for row in connection.execute(sa.select(CONTAINER).where(wanted)):
        if _runs_in(row.id, holder):
            server = connection.execute(sa.select(SERVER).where(SERVER.c.id == row.server)).one()
            return _container(row, ()), _server(server)
    return None


def _runs_in(container: str, holder: str) -> bool:
    """Whether a holder of the ledger is a process in a container, or is itself the process that counts as one."""
    host, _, _ = holder.partition("/")
    if container == host:
        return True
    (own, _, own_start), (other, _, start) = container.rpartition("/"), holder.rpartition("/")
    try:
        return own == other and abs(float(own_start) - float(start)) <= START_TOLERANCE_S
    except ValueError:
        return False
