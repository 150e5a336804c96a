"""The history of the schema, on whatever database `empty` is; shared with tests/integration."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ledger_suite import claimed, output, registered
from sqlalchemy.engine import Engine

from bos_core.index.database import REVISION, migrate, reading, writing
from bos_core.index.ledger import Ledger
from bos_core.index.migrations import revisions, upgrade
from bos_core.index.ontology_tables import METADATA
from bos_core.index.tables import TASK
from bos_core.objects.errors import IllegalTransitionError, StorageError
from bos_core.objects.task import TaskState

FIRST = "0001"

_ROWS_OF_FIRST: tuple[tuple[str, dict[str, Any]], ...] = (
    ("user_account", {"name": "ada", "created_s": 1.0}),
    ("project", {"name": "grid-2030", "created_s": 1.0}),
    ("server", {"id": "s1", "name": "one", "state": "up", "attributes": '{"cores": 2}', "seen_s": 2.0}),
    ("container", {"id": "c1", "server": "s1", "name": "worker", "image": "", "state": "created",
                   "mode": "launched", "cpu_cores": 1.0, "memory_mb": 512, "attributes": "{}", "seen_s": 2.0}),
    ("service_instance", {"id": "i1", "container": "c1", "service": "n1", "address": "tcp://", "state": "up",
                          "seen_s": 2.0}),
    ("scenario", {"id": "x1", "name": "base", "project": "grid-2030", "owner": "ada", "description": "",
                  "versions": 1, "created_s": 3.0}),
    ("task_set", {"trace_id": "t1", "business": "planning-chain", "user": "ada", "project": "grid-2030",
                  "scenario": "base@1", "parameters": '{"hours": 168}', "state": "executing", "message": "",
                  "created_s": 3.0}),
    ("task", {"id": "k1", "task_set": "t1", "step": "n1", "slot": "n1", "program": "p", "program_version": "1",
              "program_digest": "d", "chunk": "hours=0000-0023", "input_digest": "in",
              "scenario_version": "v1", "parameters": '{"start": 0, "stop": 24}', "subtasks": 24,
              "state": "pending", "attempt": 0, "holder": "", "memory_mb": 0, "created_s": 3.0, "wall_s": 0.0,
              "io_s": 0.0, "peak_rss_mb": 0.0, "message": ""}),
    ("task_dependency", {"task": "k1", "needs": "k0"}),
    ("task_output", {"task": "k1", "name": "pairs", "attempt": 1, "address": "a/b.parquet", "sha256": "s",
                     "content_digest": "c", "rows": 3_000_000_000, "bytes": 10, "columns": "{}"}),
    ("task_log", {"trace_id": "t1", "task": "k1", "attempt": 0, "level": "INFO",
                  "logger": "bos", "message": "it's begun", "created_s": 3.0}),
    ("outbox", {"kind": "task", "key": "k1", "payload": "{}", "created_s": 3.0}),
    ("scenario_version", {"id": "v1", "scenario": "x1", "number": 1, "trace_id": "", "step": "", "message": "",
                          "digest": "dd", "created_s": 3.0}),
    ("scenario_chunk", {"version": "v1", "key": "table/bus", "digest": "ee", "rows": 5, "bytes": 6,
                        "detail": "{}"}),
    ("program", {"slot": "n1", "name": "p", "digest": "d", "version": "1", "title": "T", "description": "",
                 "type": "algorithm", "elements": "[]", "references": "[]", "parameters": "{}",
                 "storage_address": "", "created_s": 3.0}),
)  # fmt: skip

_ROWS_OF_ONTOLOGY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ontology_content", {"digest": "ee", "name": "region", "rows": 1, "stored_s": 4.0}),
    ("t_region", {"content": 1, "id": "r1", "name": "North", "system": "s"}),
)

_ROWS_OF_MERGES = tuple(
    (table, row | {"parent": None, "merged": "v1", "author": "ada"} if table == "scenario_version" else row)
    for table, row in (*_ROWS_OF_FIRST, *_ROWS_OF_ONTOLOGY)
)

_ROWS_OF_PROGRAMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("program_change", {"sequence": 1, "repository": "custom", "commit": "c0", "slot": "n1", "name": "p",
                        "action": "added", "version": "1.0.0", "digest": "d", "declaration": "{}",
                        "author": "ada", "message": "first", "created_s": 5.0}),
)  # fmt: skip

_NEW_IN_CONTAINERS: dict[str, dict[str, Any]] = {
    "server": {"kind": "docker", "address": "unix:///d", "message": "", "monitor": "vm", "cpu_cores": 2.0,
               "memory_mb": 8000, "memory_reserve_mb": 1024},
    "container": {"image_digest": "sha256:a", "message": "", "slots": '["n1"]', "started_s": 2.0, "ended_s": 3.0},
}  # fmt: skip
_ROWS_OF_CONTAINERS = (
    *((table, row | _NEW_IN_CONTAINERS.get(table, {})) for table, row in _ROWS_OF_MERGES),
    ("use_second", {"at_s": 3_000_000_000, "subject": "c1", "cpu_cores": 0.5, "memory_mb": 10.0}),
    ("use_minute", {"at_s": 3_000_000_000, "subject": "c1", "cpu_cores": 0.5, "cpu_cores_max": 1.0,
                    "memory_mb": 10.0, "memory_mb_max": 11.0, "samples": 60}),
)  # fmt: skip

ROWS = {
    FIRST: _ROWS_OF_FIRST,
    "0002": (*_ROWS_OF_FIRST, *_ROWS_OF_ONTOLOGY),
    "0003": _ROWS_OF_MERGES,
    "0004": (*_ROWS_OF_MERGES, *_ROWS_OF_PROGRAMS),
    "0005": (*_ROWS_OF_CONTAINERS, *_ROWS_OF_PROGRAMS),
}
"""A row of every table that a revision knows, as a program of that time wrote it; texts of JSON are JSON."""


def fill(engine: Engine, revision: str) -> None:
    """Write the rows of a revision."""
    json = "CAST(:{} AS JSONB)" if engine.dialect.name == "postgresql" else ":{}"
    with writing(engine) as connection:
        for table, row in ROWS[revision]:
            values = ", ".join((json if str(value)[:1] in ("{", "[") else ":{}").format(name)
                               for name, value in row.items())  # fmt: skip
            names = ", ".join(f'"{name}"' for name in row)
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)


def counts(engine: Engine) -> dict[str, int]:
    with reading(engine) as connection:
        return {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in METADATA.sorted_tables
        }


def at(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        upgrade(connection, revision)


def test_the_program_names_the_newest_revision() -> None:
    assert revisions()[-1] == REVISION
    assert set(ROWS) == set(revisions())


def test_the_history_ends_at_the_tables_of_the_program(empty: Engine) -> None:
    migrate(empty)
    with reading(empty) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


@pytest.mark.parametrize("revision", revisions())
def test_data_of_every_revision_is_carried_forward(empty: Engine, revision: str) -> None:
    at(empty, revision)
    fill(empty, revision)
    migrate(empty)
    written = {table for table, _ in ROWS[revision]}
    assert {name: count for name, count in counts(empty).items() if name in written} == dict.fromkeys(written, 1)
    ledger = Ledger(empty)
    assert ledger.task("k1").parameters == {"start": 0, "stop": 24}
    assert ledger.task_set("t1").user == "ada"
    (task,) = registered(ledger)
    ledger.finish(task, claimed(ledger, task), TaskState.SUCCESS, [output(task, 1)])
    with pytest.raises(IllegalTransitionError), writing(empty) as connection:
        connection.execute(sa.update(TASK).where(TASK.c.id == task).values(state="pending"))


def test_a_database_from_before_revisions_is_adopted(empty: Engine) -> None:
    at(empty, FIRST)
    with writing(empty) as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
        connection.execute(sa.text("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO schema_version VALUES (1)"))
    fill(empty, FIRST)
    migrate(empty)
    assert counts(empty)["task_output"] == 1
    with reading(empty) as connection:
        assert MigrationContext.configure(connection).get_current_revision() == REVISION
        assert not sa.inspect(connection).has_table("schema_version")


def test_a_newer_schema_is_refused_and_stays(empty: Engine) -> None:
    migrate(empty)
    with writing(empty) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="has schema revision 9999, which this program does not know"):
        migrate(empty)
    with reading(empty) as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "9999"


def test_a_migration_that_fails_leaves_nothing(empty: Engine) -> None:
    with writing(empty) as connection:
        connection.execute(sa.text("CREATE TABLE task_log (other INTEGER)"))
    with pytest.raises(StorageError, match="task_log"):
        migrate(empty)
    with reading(empty) as connection:
        assert sa.inspect(connection).get_table_names() == ["task_log"]
