"""Hostile texts on PostgreSQL, Neo4j and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_suite import *  # noqa: F403
from sqlalchemy.engine import Engine

from bos_core.access.workspace import Workspace
from bos_core.index.graph import GraphStore
from bos_core.index.graph_neo4j import Neo4jGraph
from bos_core.objects.settings import Settings, StoreOptions


@pytest.fixture
def workspace(
    tmp_path: Path, engine: Engine, postgresql_url: str, s3_url: str, s3_options: StoreOptions
) -> Workspace:
    return Workspace.open(
        Settings.load(home=tmp_path, database_url=postgresql_url, store_url=s3_url, store_options=s3_options)
    )


@pytest.fixture
def graph(graph_settings: dict[str, str]) -> Iterator[GraphStore]:
    store = Neo4jGraph(*graph_settings.values())
    yield store
    store.close()
