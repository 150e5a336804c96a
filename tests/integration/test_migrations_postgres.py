"""The history of the schema on a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from migration_suite import *  # noqa: F403
from sqlalchemy.engine import Engine

from bos_core.index.database import make_engine


@pytest.fixture
def empty(services: dict[str, Any]) -> Iterator[Engine]:
    server, name = services["postgresql"]["url"], f"migrations_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    engine = make_engine(server.rpartition("/")[0] + f"/{name}")
    yield engine
    engine.dispose()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
