"""The engine on SQLite: pragmas, transactions, and errors that say the next step."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from ledger_suite import claimed, output, registered
from sqlalchemy.engine import Engine

from bos_core.index.database import connect, make_engine, migrate, reading, shown, writing
from bos_core.index.ledger import Ledger
from bos_core.index.tables import TASK
from bos_core.objects.errors import OptionError, StorageError
from bos_core.objects.task import TaskState


@contextmanager
def powerless() -> Iterator[None]:
    """Drop root's rights, which would ignore file modes."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_pragmas(engine: Engine) -> None:
    with reading(engine) as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 30_000}


def test_a_block_that_fails_writes_nothing(engine: Engine, ledger: Ledger) -> None:
    (task,) = registered(ledger)

    def half() -> None:
        with writing(engine) as connection:
            connection.execute(sa.update(TASK).values(message="half"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert ledger.task(task).message == ""


def test_read_then_write_is_one_step(engine: Engine, ledger: Ledger) -> None:
    """Without the write lock from the start, a reader that turns writer fails or overwrites."""
    (task,) = registered(ledger)
    row = sa.select(TASK.c.subtasks).where(TASK.c.id == task)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                with writing(engine) as connection:
                    count = connection.execute(row).scalar_one()
                    connection.execute(sa.update(TASK).where(TASK.c.id == task).values(subtasks=count + 1))
        except BaseException as error:
            errors.append(error)

    before = ledger.task(task).subtasks
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ledger.task(task).subtasks == before + 40


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://h/d", "sqlite://", "sqlite:///:memory:"])
def test_bad_urls_are_findings(url: str) -> None:
    with pytest.raises(OptionError) as error:
        make_engine(url)
    assert error.value.findings[0].field == "database_url"


def test_the_password_is_hidden() -> None:
    assert "secret" not in shown("postgresql://bos:secret@h/d")


def test_no_permission_for_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    with powerless(), pytest.raises(StorageError, match=r"BOS_HOME|access is refused"):
        connect(f"sqlite:///{folder / 'sub' / 'index.sqlite'}")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StorageError, match="not a sound SQLite database"):
        connect(f"sqlite:///{path}")


def test_disk_full_loses_nothing(tmp_path: Path) -> None:
    """SQLite's own page limit gives the error of a full disk."""
    engine = make_engine(f"sqlite:///{tmp_path / 'index.sqlite'}")

    @sa.event.listens_for(engine, "connect")
    def _limit(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA max_page_count = 300")

    migrate(engine)
    ledger = Ledger(engine)
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    many = [output(task, attempt, f"n{k}") for k in range(5000)]
    with pytest.raises(StorageError, match="disk is full; free some space"):
        ledger.finish(task, attempt, TaskState.SUCCESS, many)
    assert ledger.task(task).state is TaskState.EXECUTING
    assert ledger.task_outputs(task) == []
    ledger.finish(task, attempt, TaskState.SUCCESS, many[:1])
    engine.dispose()
