"""A workspace of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bos_core.access.workspace import Workspace
from bos_core.objects.settings import Settings

# The suite is shared with tests/integration, which runs it on PostgreSQL.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("submission_suite", "extension_suite")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    opened = Workspace._open(Settings.load(home=tmp_path / "home", user="ada"))
    yield opened
    opened.engine.dispose()
