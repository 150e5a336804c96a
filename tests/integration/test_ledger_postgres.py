"""The index on a real PostgreSQL: the suites of the unit tests, and what only a server can do wrong."""

from __future__ import annotations

import psycopg
import pytest
from ledger_suite import *  # noqa: F403
from ledger_suite import claimed, let_lease_run_out, output, registered
from scenario_suite import *  # noqa: F403
from sqlalchemy.engine import Engine

from bos_core.index.database import connect, make_engine
from bos_core.index.ledger import Ledger
from bos_core.objects.errors import StorageError
from bos_core.objects.task import TaskState


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("://bos:", "://bos:wrong"), "user or password is refused"),
        (lambda url: url.rpartition("/")[0] + "/nowhere", "does not exist"),
        (lambda url: url.rpartition(":")[0] + ":1/bos", "cannot be reached"),
    ],
)
def test_an_unusable_server_is_explained_without_the_password(
    postgresql_url: str, change: object, words: str
) -> None:
    assert callable(change)
    url = change(postgresql_url)
    with pytest.raises(StorageError, match=words) as error:
        connect(url)
    password = url.split(":")[2].split("@")[0]
    assert password not in str(error.value)
    assert "***" in str(error.value)


def test_a_connection_that_the_server_drops_is_replaced(
    ledger: Ledger, engine: Engine, postgresql_url: str
) -> None:
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert ledger.finish(task, attempt, TaskState.SUCCESS, [output(task, attempt)]).executed


def test_a_commit_cut_off_by_the_server_may_be_repeated(ledger: Ledger, postgresql_url: str) -> None:
    """The caller cannot know whether the commit arrived: repeating must be safe in both cases."""
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    ledger.finish(task, attempt, TaskState.SUCCESS, [output(task, attempt)])
    other = Ledger(make_engine(postgresql_url))
    again = other.finish(task, attempt, TaskState.SUCCESS, [output(task, attempt)])
    other.engine.dispose()
    assert again.state is TaskState.SUCCESS
    assert len(ledger.task_outputs(task)) == 1


def test_leases_run_by_the_clock_of_the_database(
    ledger: Ledger, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    (task,) = registered(ledger)
    claimed(ledger, task, "h1", 60)
    assert (ledger.task(task).lease_until_s or 0) > 1.6e9
    let_lease_run_out(engine, task)
    assert claimed(ledger, task, "h2", 60) == 2


def test_a_read_only_database_is_explained(ledger: Ledger, engine: Engine, postgresql_url: str) -> None:
    (task,) = registered(ledger)
    read_only = Ledger(make_engine(postgresql_url + "?options=-c%20default_transaction_read_only%3Don"))
    with pytest.raises(StorageError, match="access is refused"):
        read_only.claim(task, "h", 60)
    read_only.engine.dispose()
