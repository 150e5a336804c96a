"""Real services for integration tests: PostgreSQL, an S3 server and Neo4j, started by infra/services.

A service that cannot be started fails the tests; nothing is skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from bos_core.access.store import ResultStore
from bos_core.index import ontology_tables as tables
from bos_core.index.database import connect
from bos_core.index.ledger import Ledger
from bos_core.objects.settings import StoreOptions

ROOT = Path(__file__).parents[2]
_SHARED = {
    "index": (
        "ledger_suite",
        "container_suite",
        "lineage_suite",
        "scenario_suite",
        "migration_suite",
        "ontology_suite",
        "graph_suite",
    ),
    "access": ("store_suite", "commit_suite", "hostile_suite", "scenario_versions_suite"),
    "programs": ("submission_suite", "extension_suite"),
}

# The suites of the unit tests run here once more, on the real services.
for _room, _suites in _SHARED.items():
    sys.path.insert(0, str(ROOT / "tests" / "unit" / _room))
    pytest.register_assert_rewrite(*_suites)
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("one_run", "docker_daemon")


def _services(command: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "infra" / "services")
    return subprocess.run([sys.executable, script, command], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def services() -> Iterator[dict[str, Any]]:
    """Addresses and credentials of the services; stopped again if they did not run before."""
    ran = _services("status").returncode == 0
    started = _services("start")
    if started.returncode:
        pytest.fail(f"infra/services start failed:\n{started.stderr}", pytrace=False)
    yield json.loads(started.stdout)
    if not ran:
        _services("stop")


@pytest.fixture(scope="session")
def new_database(services: dict[str, Any]) -> Callable[[], AbstractContextManager[str]]:
    """Make a database for the length of a block; gives its URL."""
    server = services["postgresql"]["url"]

    @contextmanager
    def make() -> Iterator[str]:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        yield server.rpartition("/")[0] + f"/{name}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    return make


@pytest.fixture(scope="session")
def postgresql_url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """URL of a database of this session's own."""
    with new_database() as url:
        yield url


@pytest.fixture(scope="session")
def _postgresql_engine(postgresql_url: str) -> Iterator[Engine]:
    engine = connect(postgresql_url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(_postgresql_engine: Engine) -> Engine:
    """An empty index on PostgreSQL."""
    names = ", ".join(f'"{t.name}"' for t in tables.METADATA.sorted_tables)
    with _postgresql_engine.begin() as connection:
        connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    return _postgresql_engine


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine)


@pytest.fixture(scope="session")
def s3_options(services: dict[str, Any]) -> StoreOptions:
    s3 = {name: value for name, value in services["s3"].items() if name in StoreOptions.model_fields}
    return StoreOptions(**s3, attempts_max=2)


@pytest.fixture(scope="session")
def graph_settings(services: dict[str, Any]) -> dict[str, str]:
    neo4j = services["neo4j"]
    return {"graph_url": neo4j["url"], "graph_user": neo4j["user"], "graph_password": neo4j["password"]}


@pytest.fixture
def s3_url(services: dict[str, Any]) -> str:
    """An empty prefix."""
    return f"s3://{services['s3']['bucket']}/{uuid.uuid4().hex}"


@pytest.fixture
def store(s3_url: str, s3_options: StoreOptions) -> ResultStore:
    return ResultStore(s3_url, s3_options)
