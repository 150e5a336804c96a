"""The engine behind the index: SQLite by default, PostgreSQL by changing one URL.

Every access runs in `reading` or `writing`; both turn driver errors into `StorageError` with the next step.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from bos_core.index import tables
from bos_core.objects.errors import Finding, IllegalTransitionError, OptionError, StorageError

REVISION = "0005"
"""What this program needs; the newest of `bos_core.index.migrations`."""
ROWS_AT_ONCE = 500
"""Rows or ids in one statement: SQLite takes 32,766 parameters, PostgreSQL 65,535."""
BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
CONNECTIONS_PER_PROCESS = 2
"""Kept small: every task container holds its own pool, and a PostgreSQL server takes 100 by default."""

_T = TypeVar("_T")
_WRITE = "bos_write"
_CREATE_LOCK = 0x626F73


class DatabaseClock(FunctionElement[float]):
    """Seconds since 1970 by the clock of the database, so that leases do not depend on the hosts' clocks."""

    type = sa.Float()
    inherit_cache = True


@compiles(DatabaseClock, "sqlite")
def _sqlite_clock(element: DatabaseClock, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DatabaseClock, "postgresql")
def _postgresql_clock(element: DatabaseClock, compiler: Any, **kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def shown(url: str | URL) -> str:
    """Return the URL with its password hidden."""
    parsed = make_url(url)
    return parsed.set(drivername=parsed.get_backend_name()).render_as_string(hide_password=True)


def connect(url: str) -> Engine:
    """Return an engine whose tables exist.

    Parameters
    ----------
    url : str
        ``sqlite:////folder/index.sqlite`` or ``postgresql://user:password@host/database``.

    Raises
    ------
    OptionError
        If the URL is neither.
    StorageError
        If the database cannot be reached or written, or holds a newer schema.
    """
    engine = make_engine(url)
    migrate(engine)
    return engine


def make_engine(url: str) -> Engine:
    """Return an engine without touching the database."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise _bad_url("is not a database URL") from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed)
    if parsed.get_backend_name() == "postgresql":
        engine = sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=CONNECTIONS_PER_PROCESS,
            max_overflow=8,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "bos"},
        )
        return engine
    raise _bad_url(f"names the unknown database {parsed.get_backend_name()!r}")


def _bad_url(problem: str) -> OptionError:
    remedy = "use sqlite:////folder/index.sqlite or postgresql://user:password@host/database"
    return OptionError((Finding("setting", (), problem, remedy, "database_url"),))


def _sqlite_engine(url: URL) -> Engine:
    path = Path(url.database or "")
    if not url.database or url.database == ":memory:":
        raise _bad_url("names no SQLite file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {path.parent} of the index: {error.strerror}; set BOS_HOME or "
            "BOS_DATABASE_URL to a place you may write"
        ) from error
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # the driver must not open transactions of its own
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write takes the lock at once: upgrading a read lock later can deadlock.
        immediate = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run a block in one read transaction."""
    with _translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run a block in one write transaction: all of it or nothing."""
    with (
        _translated(engine),
        engine.connect().execution_options(**{_WRITE: True}) as connection,
        connection.begin(),
    ):
        yield connection


def insert_new(engine: Engine, table: sa.Table) -> Any:
    """Return an INSERT that leaves rows that exist as they are."""
    return _insert(engine, table).on_conflict_do_nothing()


def insert_or_replace(engine: Engine, table: sa.Table) -> Any:
    """Return an INSERT that gives rows that exist the new values."""
    insert = _insert(engine, table)
    keys = [column.name for column in table.primary_key]
    values = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=values)


def _insert(engine: Engine, table: sa.Table) -> Any:
    module: Any = postgresql if engine.dialect.name == "postgresql" else sqlite
    return module.insert(table)


def pieces(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Return rows or ids in pieces that one statement can take."""
    return (rows[first : first + ROWS_AT_ONCE] for first in range(0, len(rows), ROWS_AT_ONCE))


def migrate(engine: Engine) -> None:
    """Bring the database to this program's schema, with its data; do nothing where it is there.

    Raises
    ------
    StorageError
        If a newer program has changed the schema.
    """
    with reading(engine) as connection:
        found = _revision(connection)
    if found == REVISION:
        return
    from alembic.util import CommandError

    from bos_core.index.migrations import upgrade

    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})
        found = _revision(connection)
        if found == REVISION:
            return
        try:
            upgrade(connection)
        except CommandError as error:
            raise StorageError(
                f"the index {shown(engine.url)} has schema revision {found}, which this program does not know (it "
                f"has {REVISION}): a newer one has changed it; use that program, or a new database"
            ) from error


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        message = str(error.orig)
        if tables.ILLEGAL_MOVE in message:
            raise IllegalTransitionError(message.splitlines()[0]) from error
        raise
    except DBAPIError as error:
        problem, remedy = _explain(str(error.orig), getattr(error.orig, "sqlstate", None))
        raise StorageError(f"index {shown(engine.url)}: {problem}; {remedy}") from error


_EXPLANATIONS: tuple[tuple[str, str, str], ...] = (
    ("disk is full|no space left|53100", "the disk is full", "free some space and run again with --resume"),
    (
        "unable to open database|readonly database|permission denied|42501|25006",
        "access is refused",
        "check the owner and mode of the file and its folder, or the rights of the database user",
    ),
    ("database is locked", "another process holds it for too long", "end that process or use PostgreSQL"),
    (
        "file is not a database|malformed|disk image",
        "the file is not a sound SQLite database",
        "restore it from a backup or name another file in BOS_DATABASE_URL",
    ),
    (
        "disk i/o error",
        "it cannot be read or written, as when its disk is full or taken away",
        "free some space in its folder, then run again with --resume",
    ),
    (
        "password authentication failed|no password supplied|role .* does not exist|28P01|28000",
        "the user or password is refused",
        "correct the user and password in BOS_DATABASE_URL",
    ),
    ("database .* does not exist|3D000", "the database does not exist", "create it (createdb) or correct the URL"),
    ("too many (clients|connections)|53300", "it has no free connection", "raise max_connections of the server"),
    (
        "connection refused|could not translate|timeout|not known|name or service|closed the connection|"
        "connection failed|connection is lost|57P0|terminating connection|server closed|08006|could not connect",
        "it cannot be reached",
        "start the database server or correct host and port in BOS_DATABASE_URL",
    ),
)


def _explain(message: str, state: str | None) -> tuple[str, str]:
    text = f"{message} {state or ''}"
    for pattern, problem, remedy in _EXPLANATIONS:
        if re.search(pattern, text, re.IGNORECASE):
            return problem, remedy
    first = message.strip().splitlines()[0] if message.strip() else "unknown error"
    return first, "see the server's log; `bos doctor` checks the index"
