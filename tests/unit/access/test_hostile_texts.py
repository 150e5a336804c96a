"""Hostile texts on SQLite, ladybug and a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_suite import *  # noqa: F403

from bos_core.access.workspace import Workspace
from bos_core.index.graph import GraphStore
from bos_core.index.graph_ladybug import LadybugGraph
from bos_core.objects.settings import Settings


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(Settings(home=tmp_path))


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[GraphStore]:
    store = LadybugGraph(tmp_path / "graph.lbug")
    yield store
    store.close()
