"""The graph that stands in for the others."""

from __future__ import annotations

import pytest
from graph_suite import *  # noqa: F403

from bos_core.index.graph_memory import MemoryGraph


@pytest.fixture
def store() -> MemoryGraph:
    return MemoryGraph()
