"""A workspace on SQLite and a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from bos_core.access.store import ResultStore
from bos_core.index.database import connect
from bos_core.index.ledger import Ledger

# The suites are shared with tests/integration, which runs them on S3 and PostgreSQL.
for _room in ("access", "index"):
    sys.path.insert(0, str(Path(__file__).parents[1] / _room))
pytest.register_assert_rewrite(
    "store_suite", "commit_suite", "ledger_suite", "hostile_suite", "scenario_versions_suite"
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(str(tmp_path / "store"))
