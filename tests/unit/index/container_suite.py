"""What every database under the container index must keep; run on SQLite here, on PostgreSQL in tests/integration.

Fixtures: `engine` (empty index), `ledger`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from ledger_suite import claimed, registered
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from bos_core.index.containers import (
    MINUTES_KEPT_S,
    SECONDS_KEPT_S,
    ContainerIndex,
    ContainerNode,
    ContainerTree,
    ServerNode,
)
from bos_core.index.database import reading
from bos_core.index.ledger import Ledger
from bos_core.index.tables import CONTAINER, USE_MINUTE, USE_SECOND
from bos_core.objects.container import (
    ENDED,
    EXECUTOR,
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

MACHINE = Server(
    "s1",
    "vm",
    ServerKind.MACHINE,
    cpu_cores=2.0,
    memory_mb=8_000,
    memory_reserve_mb=1_000,
    attributes={"hardware": {"processor": "P"}, "os": {"name": "Debian"}, "software": {"Python": "3.11"}},
    monitor="vm:/home",
    seen_s=10.0,
)
DAEMON = Server("s2", "vm", ServerKind.DOCKER, "unix:///d", cpu_cores=4.0, memory_mb=4_000, monitor="vm:/home")
WORKER = Container(
    "aaaaaaaaaaaa",
    "s2",
    "worker-1",
    image="bos:1",
    image_digest="sha256:1",
    instances=(ServiceInstance(EXECUTOR, "aaaaaaaaaaaa"),),
    slots=("unit_commitment",),
    cpu_cores=1.5,
    memory_mb=500,
    attributes={"access": {"user": "root", "mounts": "/data at /data, read-only"}},
    started_s=20.0,
)
STRANGER = Container("bbbbbbbbbbbb", "s2", "web", image="nginx", state="paused")
PROCESS = Container("vm/17/100.25", "s1", "dask-worker-17", instances=(ServiceInstance(EXECUTOR, "vm/17/100.25"),))
TREE = Changes((MACHINE, DAEMON), (WORKER, STRANGER, PROCESS))


@pytest.fixture
def index(engine: Engine) -> ContainerIndex:
    return ContainerIndex(engine)


def count(engine: Engine, table: sa.Table) -> int:
    with reading(engine) as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def samples(subject: str, seconds: range, cpu_cores: float = 0.5) -> tuple[Sample, ...]:
    return tuple(Sample(subject, at_s, cpu_cores, 100.0) for at_s in seconds)


def server(index: ContainerIndex, id: str) -> ServerNode:
    return next(node for node in index.tree().servers if node.server.id == id)


def container(tree: ContainerTree, name: str) -> ContainerNode:
    return next(n for s in tree.servers for n in s.containers if n.container.name == name)


def test_an_empty_index_is_an_empty_tree(index: ContainerIndex) -> None:
    tree = index.tree()
    assert tree.servers == ()
    assert not tree.is_fresh


def test_servers_containers_and_instances_come_back_as_they_were_written(index: ContainerIndex) -> None:
    index.apply(TREE)
    nodes = index.tree().servers
    assert [node.server for node in nodes] == [MACHINE, DAEMON]
    assert [node.container for node in nodes[0].containers] == [PROCESS]
    assert [node.container for node in nodes[1].containers] == [STRANGER, WORKER]
    assert nodes[1].reserved_mb == 500
    watched = index.watched("vm:/home")
    assert sorted(s.id for s in watched.servers) == ["s1", "s2"]
    assert {c.id for c in watched.containers} == {WORKER.id, STRANGER.id, PROCESS.id}
    assert not index.watched("another:/home")


def test_writing_changes_again_changes_nothing(index: ContainerIndex, engine: Engine) -> None:
    changes = replace(TREE, samples=samples("s2", range(100, 110)))
    index.apply(changes)
    before = index.tree().servers
    index.apply(changes)
    assert index.tree().servers == before
    assert count(engine, USE_SECOND) == 10


def test_a_container_that_ended_leaves_the_tree_and_can_still_be_asked_for(index: ContainerIndex) -> None:
    index.apply(TREE)
    ended = replace(WORKER, state=ENDED, ended_s=50.0, message="killed (exit code 137)")
    index.apply(Changes(containers=(ended,)))
    assert [n.container.name for n in server(index, "s2").containers] == ["web"]
    assert container(index.tree(ended_since_s=40.0), "worker-1").container == ended
    with pytest.raises(NotFoundError):
        index.tree(ended_since_s=60.0).find("worker-1")


def test_a_lost_server_is_in_the_tree_and_a_removed_one_is_not(index: ContainerIndex) -> None:
    index.apply(TREE)
    lost = replace(DAEMON, state=ServerState.LOST, message="connection refused")
    index.apply(Changes(servers=(lost, replace(MACHINE, state=ServerState.REMOVED))))
    (node,) = index.tree().servers
    assert node.server == lost
    assert not node.is_up
    assert index.tree().executors("unit_commitment") == []


def test_servers_and_containers_are_found_by_name_id_and_address(index: ContainerIndex) -> None:
    index.apply(TREE)
    tree = index.tree()
    assert [tree.find(name) for name in ("s1", "vm/17", "unix:///d")] == [
        tree.servers[0],
        tree.servers[0].containers[0],
        tree.servers[1],
    ]
    assert tree.find("worker-1") == tree.find("aaaaaaaaaaaa") == tree.find("aaa") == tree.servers[1].containers[1]
    with pytest.raises(NotFoundError, match=r"several .* called 'vm': vm, vm unix:///d; give the id or address"):
        tree.find("vm")
    with pytest.raises(NotFoundError, match="no server or container is called 'x'; there is: vm, dask-worker-17"):
        tree.find("x")
    with pytest.raises(NotFoundError, match="there is: nothing"):
        ContainerTree(()).find("x")


def test_containers_that_may_run_a_program_are_told_by_slot_and_mode(index: ContainerIndex) -> None:
    index.apply(TREE)
    tree = index.tree()
    assert {c.id for c in tree.executors("unit_commitment")} == {WORKER.id, PROCESS.id}
    assert [c.id for c in tree.executors("active_dispatch")] == [PROCESS.id]
    assert tree.executors("active_dispatch", "trial") == []
    assert STRANGER.refusal("active_dispatch") == "web executes no tasks"
    assert WORKER.refusal("active_dispatch") == "worker-1 takes programs of unit_commitment only"
    assert replace(WORKER, mode="trial").refusal("unit_commitment") == "worker-1 takes trial programs only"
    assert replace(WORKER, state="paused").refusal("unit_commitment") == "worker-1 is paused"


def test_the_newest_use_is_shown_and_an_old_one_is_not(index: ContainerIndex) -> None:
    now_s = int(index.clock_s())
    index.apply(replace(TREE, samples=(*samples(WORKER.id, range(now_s - 3, now_s)), Sample("s2", 100, 1.0, 1.0))))
    tree = index.tree()
    assert container(tree, "worker-1").use == Sample(WORKER.id, now_s - 1, 0.5, 100.0)
    assert server(index, "s2").use is None
    assert tree.is_fresh


def test_a_container_shows_the_tasks_that_it_executes(index: ContainerIndex, ledger: Ledger) -> None:
    index.apply(TREE)
    tasks = registered(ledger, 3)
    ledger.set_task_set_state(ledger.task(tasks[0]).task_set, TaskState.EXECUTING)
    claimed(ledger, tasks[0], "aaaaaaaaaaaa/7/33.10")
    claimed(ledger, tasks[1], "vm/17/100.26")
    tree = index.tree()
    assert [t.id for t in container(tree, "worker-1").tasks] == [tasks[0]]
    assert [t.id for t in container(tree, "dask-worker-17").tasks] == [tasks[1]]


@pytest.mark.parametrize(
    ("holder", "found"),
    [
        ("aaaaaaaaaaaa/7/33.10", WORKER),
        ("vm/17/100.25", PROCESS),
        ("vm/17/101.25", PROCESS),
        ("vm/17/900.00", None),
        ("vm/1_/100.25", None),
        ("vm/18/100.25", None),
        ("elsewhere/17/100.25", None),
        ("by hand", None),
        ("", None),
    ],
)
def test_a_holder_of_the_ledger_leads_to_its_container(
    index: ContainerIndex, holder: str, found: Container | None
) -> None:
    index.apply(TREE)
    index.apply(Changes(containers=(replace(WORKER, state=ENDED, ended_s=30.0),)))
    told = index.holders([holder]).get(holder)
    assert (told and (told[0].id, told[1].id)) == (found and (found.id, found.server))


def test_seconds_become_minutes_after_an_hour_and_are_forgotten_after_a_week(
    index: ContainerIndex, engine: Engine
) -> None:
    index.apply(replace(TREE, samples=(*samples("s1", range(6000, 6060)), *samples("s1", range(6060, 6090), 2.0))))
    index.apply(Changes(samples=(Sample("s1", 6030, 9.0, 900.0), Sample("s1", 6090, 4.0, 190.0))))
    assert index.condense(6000 + SECONDS_KEPT_S) == 0
    assert index.condense(6061 + SECONDS_KEPT_S) == 60
    assert index.condense(6121 + SECONDS_KEPT_S) == 31
    assert count(engine, USE_SECOND) == 0
    use = index.use("s1", 0, 10_000)
    assert use.at_s == [6000, 6060]
    assert use.span_s == [60, 60]
    assert use.cpu_cores == pytest.approx([0.5, 64 / 31])  # the second 6030 was written before
    assert use.cpu_cores_max == [0.5, 4.0]
    assert use.memory_mb_max == [100.0, 190.0]
    index.condense(6060 + MINUTES_KEPT_S)
    assert index.use("s1", 0, 10_000).at_s == [6060]
    assert count(engine, USE_MINUTE) == 1


def test_a_long_absence_is_made_up_for(index: ContainerIndex, engine: Engine) -> None:
    index.apply(Changes(samples=samples("s1", range(60_000, 60_000 + 3_000))))
    assert index.condense(10_000_000) == 3_000
    assert count(engine, USE_SECOND) == count(engine, USE_MINUTE) == 0
    assert index.condense(10_000_000) == 0


def test_use_is_told_in_seconds_and_in_minutes_where_it_is_older(index: ContainerIndex) -> None:
    index.apply(Changes(samples=(*samples("s1", range(6000, 6060)), *samples("s1", range(9700, 9702)))))
    index.condense(6061 + SECONDS_KEPT_S)
    use = index.use("s1", 6000, 9701)
    assert (use.at_s, use.span_s) == ([6000, 9700], [60, 1])
    assert index.use("nobody", 0, 10_000).at_s == []


def test_strangers_are_forgotten_and_containers_of_bos_are_not(index: ContainerIndex, engine: Engine) -> None:
    index.apply(TREE)
    ended: Any = [replace(c, state=ENDED, ended_s=50.0) for c in (WORKER, STRANGER)]
    index.apply(Changes(containers=tuple(ended)))
    index.condense(40.0 + MINUTES_KEPT_S)
    assert count(engine, CONTAINER) == 3
    index.condense(60.0 + MINUTES_KEPT_S)
    assert count(engine, CONTAINER) == 2
    assert "aaaaaaaaaaaa/1/1.0" in index.holders(["aaaaaaaaaaaa/1/1.0"])


def test_a_container_of_an_unknown_server_is_refused_whole(index: ContainerIndex, engine: Engine) -> None:
    with pytest.raises(IntegrityError):
        index.apply(Changes(containers=(WORKER,), samples=samples("s1", range(5))))
    assert count(engine, CONTAINER) == count(engine, USE_SECOND) == 0


def test_names_of_containers_are_texts_and_nothing_else(index: ContainerIndex) -> None:
    for number, text in enumerate(("'; DROP TABLE container; --", "%_\\", "ä\u202e\N{SNOWMAN}", "[bold]x[/]")):
        index.apply(Changes((DAEMON,), (replace(STRANGER, id=str(number), name=text, message=text),)))
        assert text in [n.container.name for n in server(index, "s2").containers]
