"""The index on SQLite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from bos_core.index.database import connect
from bos_core.index.ledger import Ledger

# The suites are shared with tests/integration, which runs them on PostgreSQL.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite(
    *("ledger_suite", "lineage_suite", "scenario_suite", "migration_suite", "ontology_suite", "graph_suite"),
    "container_suite",
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine)
